//! Manual resolution of a conflict, in a separate worktree under the common git folder, with git's
//! own conflict state. The canonical branch stays as is until all conflicts are resolved. For
//! example:
//!
//! ```text
//! reverse-sync --resolve feature 4f1c…  -> .git/xtask/resolve with conflict markers
//! git add setup/a                          (in that worktree)
//! reverse-sync --continue               -> the commits land on the canonical branch
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::cherry_pick::{PathChange, list_changes_between};
use super::cherry_pick_range::{CherryPickItem, CherryPickOutcome, cherry_pick_commits};
use super::commit_messages::{BRANCH_TRAILER, COMMIT_TRAILER};
use super::fast_forward_branch::{
    CanonicalBranch, fast_forward_canonical, list_earlier_picks, locate_canonical_branch,
};
use super::resolution_state::{
    RemainingCommit, ResolutionState, damaged_record_error, is_resolving, load_record,
    newer_record_error, parse_id, read_record, remove_record, update_kept_ref, write_record,
};
use super::retry::{MAX_ATTEMPTS, back_off};
use super::source::{
    SelectedCommit, check_path_names, find_source_branch, managed_path_filter, read_source_pins,
    take_pinned,
};
use xtask_base::conflict_markers::{count_conflict_markers, first_marker_line};
use xtask_base::date::Date;
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::lock::Lock;
use xtask_base::record::LoadedRecord;
use xtask_git::Tools;
use xtask_git::reflog_messages::REVERSE_SYNC;
use xtask_git::{AllPaths, FileMode, Id, NewCommit, ReplayedCommit, Repo, Signature, TreeEntry};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;
use xtask_sync::pins::BranchPins;

/// Time to wait for another process that resolves.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Outcome of continuing a resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolveOutcome {
    /// All commits are on the canonical branch.
    Landed {
        /// Number of new commits.
        commits: usize,
        /// New canonical commit.
        tip: Id,
    },
    /// No changes are left: the canonical branch already has them.
    NothingLeft,
    /// A commit conflicts and waits for resolution.
    Conflict {
        commit: Id,
        /// Worktree of the conflict.
        folder: PathBuf,
        /// One line per conflict.
        descriptions: Vec<String>,
    },
}

/// Returns the path of the worktree for resolving conflicts.
#[must_use]
pub fn resolve_worktree_path(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("resolve")
}

/// Takes the lock against concurrent resolutions in this repository.
fn lock_resolution(repo: &Repo, tools: &Tools<'_>) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    let path = repo.shared_state_folder().join("reverse-sync.lock");
    Lock::acquire(&path, &who, LOCK_WAIT, |holder| (tools.on_wait)(holder))
}

/// Checks out the conflict of `series` for manual resolution.
pub fn open_conflict(
    repo: &Repo,
    ground: &CanonicalBranch,
    source: &str,
    picks: &[SelectedCommit],
    series: &CherryPickOutcome,
    tools: &Tools<'_>,
) -> Result<ResolveOutcome> {
    let _alone = lock_resolution(repo, tools)?;
    if is_resolving(repo) {
        return Err(Error::unable("another conflict is being resolved")
            .with_detail(resolve_worktree_path(repo).display().to_string())
            .with_hint("`cargo xtask reverse-sync --continue` or `--abort` ends it"));
    }
    // A worktree without a record is of unknown origin.
    set_worktree_aside(repo, tools)?;
    let (at, conflicts) =
        series.first_conflict().ok_or_else(|| Error::unable("there is no conflict"))?;
    let left = picks[at..].iter().map(|pick| RemainingCommit {
        commit: pick.commit.id.to_string(),
        parent: pick.parent.map(|id| id.to_string()),
        is_ready: false,
    });
    let state = ResolutionState {
        source: source.to_owned(),
        base: ground.tip.to_string(),
        tip: series.tip.to_string(),
        left: left.collect(),
        is_laid_out: false,
    };
    let lines = conflicts.iter().map(|conflict| conflict.describe(&ground.branch)).collect();
    check_out_conflict(repo, state, &picks[at].changes, tools)?;
    Ok(ResolveOutcome::Conflict {
        commit: picks[at].commit.id,
        folder: resolve_worktree_path(repo),
        descriptions: lines,
    })
}

/// Creates the worktree and brings git into the conflict state. The record says so only afterwards:
/// until then the worktree has no user's work.
fn check_out_conflict(
    repo: &Repo,
    state: ResolutionState,
    changes: &[PathChange],
    tools: &Tools<'_>,
) -> Result<()> {
    let tip = parse_id(&state.tip)?;
    let (theirs, folder) =
        (write_conflict_commit(repo, tip, &state, changes)?, resolve_worktree_path(repo));
    let mut state = ResolutionState { is_laid_out: false, ..state };
    write_record(repo, &state, tools)?;
    discard_worktree(repo, tools)?;
    let there = repo.add_detached_worktree(&folder, tip)?;
    there.cherry_pick_no_commit(theirs)?;
    state.is_laid_out = true;
    write_record(repo, &state, tools)
}

/// Writes a commit whose diff to its parent is the change to pick, so that git's own merge shows
/// the conflict like any other.
fn write_conflict_commit(
    repo: &Repo,
    tip: Id,
    state: &ResolutionState,
    changes: &[PathChange],
) -> Result<Id> {
    let tree = repo.tree_of(tip)?;
    let side = |of: &dyn Fn(&PathChange) -> Option<TreeEntry>| {
        let wanted: Vec<_> =
            changes.iter().map(|change| (change.path.clone(), of(change))).collect();
        repo.write_tree(Some(tree), &wanted)
    };
    let seconds = repo.read_commit(tip)?.committer.seconds;
    let nobody = Signature {
        name: "xtask".to_owned(),
        email: "xtask@users.noreply.invalid".to_owned(),
        seconds,
    };
    let commit = |tree, parent, message: &str| {
        let parents = &[parent];
        repo.write_commit(&NewCommit { tree, parents, author: None, committer: &nobody, message })
    };
    let before = commit(side(&|change| change.old)?, tip, "before")?;
    let label = state.left.first().map_or("", |left| &left.commit[..left.commit.len().min(10)]);
    commit(side(&|change| change.new)?, before, &format!("{label} of {}", state.source))
}

/// Continues after a manual resolution.
pub fn continue_resolution(
    repo: &Repo,
    committer: &Signature,
    tools: &Tools<'_>,
) -> Result<ResolveOutcome> {
    let _alone = lock_resolution(repo, tools)?;
    let mut state = read_record(repo)?;
    let context = context::read_context(repo)?;
    if !state.is_laid_out || resolve_worktree_path(repo).symlink_metadata().is_err() {
        // After a crash, or if the worktree was removed, the conflict starts over. Files in the
        // worktree may still be somebody's work.
        set_worktree_aside(repo, tools)?;
        return finish_resolution(repo, state, committer, tools);
    }
    let there = repo.open_worktree(&resolve_worktree_path(repo))?;
    let resolved = read_resolved_tree(&there, &state, &context)?;
    let tip = parse_id(&state.tip)?;
    let Some(first) = (!state.left.is_empty()).then(|| state.left.remove(0)) else {
        return Err(damaged_record_error(repo, "no commits are left in it"));
    };
    if resolved != repo.tree_of(tip)? {
        let trailers =
            if first.is_ready { Vec::new() } else { build_trailers(&state.source, &first) };
        let made = repo.write_replayed_commit(&ReplayedCommit {
            original: parse_id(&first.commit)?,
            tree: resolved,
            parent: tip,
            committer: Some(committer),
            trailers: &trailers,
        })?;
        state.tip = made.to_string();
    }
    finish_resolution(repo, state, committer, tools)
}

/// Picks the remaining commits and lands them.
fn finish_resolution(
    repo: &Repo,
    mut state: ResolutionState,
    committer: &Signature,
    tools: &Tools<'_>,
) -> Result<ResolveOutcome> {
    for round in 0..MAX_ATTEMPTS {
        back_off(round);
        let context = context::read_context(repo)?;
        let ground = locate_canonical_branch(repo, &context)?;
        if parse_id(&state.base)? != ground.tip {
            // The canonical branch has moved: the resolved commits are picked onto its new tip.
            let mut ready =
                repo.commits_between(Some(parse_id(&state.base)?), parse_id(&state.tip)?, true)?;
            ready.reverse();
            let mut left = Vec::new();
            for commit in ready {
                let parent = repo.read_commit(commit)?.parents.first().map(ToString::to_string);
                left.push(RemainingCommit { commit: commit.to_string(), parent, is_ready: true });
            }
            left.append(&mut state.left);
            state.left = left;
            state.tip = ground.tip.to_string();
            state.base.clone_from(&state.tip);
        }
        let items = build_items(repo, &state, &context, tools.world.now_seconds())?;
        let (tip, branch) = (parse_id(&state.tip)?, &ground.branch);
        // Commits that landed before a crash are already there.
        let taken = match items.first() {
            Some(first) => list_earlier_picks(repo, ground.tip, first.commit)?,
            None => BTreeMap::new(),
        };
        let series =
            cherry_pick_commits(repo, tools.disk, tip, &items, Some(committer), &taken, branch)?;
        if let Some((at, conflicts)) = series.first_conflict() {
            let lines = conflicts.iter().map(|conflict| conflict.describe(branch)).collect();
            state.left.drain(..at);
            state.tip = series.tip.to_string();
            check_out_conflict(repo, state, &items[at].changes, tools)?;
            return Ok(ResolveOutcome::Conflict {
                commit: items[at].commit,
                folder: resolve_worktree_path(repo),
                descriptions: lines,
            });
        }
        if series.tip == ground.tip {
            close_resolution(repo, tools)?;
            return Ok(ResolveOutcome::NothingLeft);
        }
        let message = format!("{REVERSE_SYNC} from {}", state.source);
        if fast_forward_canonical(repo, &context, &ground, series.tip, &message, tools)? {
            let commits = repo.count_commits_between(ground.tip, series.tip)?;
            close_resolution(repo, tools)?;
            return Ok(ResolveOutcome::Landed { commits, tip: series.tip });
        }
    }
    Err(canonical_moved_error())
}

/// Builds the error for a canonical branch that keeps moving.
#[must_use]
pub fn canonical_moved_error() -> Error {
    Error::unable(format!(
        "the canonical branch kept moving: gave up after {MAX_ATTEMPTS} attempts without changing \
         it"
    ))
    .with_hint("try again")
}

fn build_items(
    repo: &Repo,
    state: &ResolutionState,
    context: &SyncContext,
    now: i64,
) -> Result<Vec<CherryPickItem>> {
    let managed = ManagedPaths::new(&context.config, Some(&state.source));
    let pins = match find_source_branch(repo, context, &state.source) {
        Ok(source) => read_source_pins(repo, context, &source, now)?,
        // Pins end with their branch.
        Err(_) => BranchPins::none(Date::from_seconds(now)),
    };
    let mut items = Vec::new();
    for left in &state.left {
        let commit = parse_id(&left.commit)?;
        let old = match &left.parent {
            Some(parent) => Some(repo.tree_of(parse_id(parent)?)?),
            None => None,
        };
        let (mut changes, _) =
            list_changes_between(repo, old, repo.tree_of(commit)?, &managed_path_filter(&managed))?;
        // A resolution is what was approved.
        if !left.is_ready {
            drop(take_pinned(&mut changes, &pins));
        }
        let trailers = if left.is_ready { Vec::new() } else { build_trailers(&state.source, left) };
        let label = format!("{} of {}", repo.short_id(commit), state.source);
        items.push(CherryPickItem { commit, changes, trailers, label });
    }
    Ok(items)
}

fn build_trailers(source: &str, left: &RemainingCommit) -> Vec<(&'static str, String)> {
    vec![(BRANCH_TRAILER, source.to_owned()), (COMMIT_TRAILER, left.commit.clone())]
}

/// Returns the tree staged as the resolution. Unresolved, unstaged or unmanaged paths are an error.
fn read_resolved_tree(there: &Repo, state: &ResolutionState, context: &SyncContext) -> Result<Id> {
    let place = there.root().display();
    let again = "then `cargo xtask reverse-sync --continue`";
    if there.read_index()?.has_conflicts() {
        return Err(Error::negative(format!("there are unresolved conflicts in `{place}`"))
            .with_hint(format!("resolve them there, `git add` them, {again}")));
    }
    let tip = parse_id(&state.tip)?;
    if there.head()?.commit != tip {
        return Err(Error::unable(format!("HEAD was moved in `{place}`")).with_hint(format!(
            "`git reset --soft {tip}` there keeps the files as they are; {again}"
        )));
    }
    let loose = there.list_unstaged()?;
    if !loose.is_empty() {
        let refused =
            Error::negative(format!("there are changes in `{place}` that are not staged"));
        return Err(loose
            .into_iter()
            .fold(refused, Error::with_detail)
            .with_hint(format!("`git add` them, or remove them, {again}")));
    }
    let tree = there.write_staged_tree()?;
    let managed = ManagedPaths::new(&context.config, Some(&state.source));
    let takes = managed_path_filter(&managed);
    let mut refused = None;
    for (path, pair) in there.compare_trees(Some(there.tree_of(tip)?), Some(tree), &AllPaths)? {
        let mut refuse = |text: String| {
            let error =
                refused.take().unwrap_or_else(|| Error::negative("cannot accept this resolution"));
            refused = Some(Error::with_detail(error, text));
        };
        if !takes(&path) {
            refuse(format!(
                "{path}: it is not managed, and does not belong on the canonical branch (`git \
                 rm --cached` unstages it)"
            ));
        }
        let change = PathChange { path: path.clone(), old: pair.one, new: pair.two };
        if let Err(wrong) = check_path_names(&[change]) {
            refuse(wrong.message().to_owned());
            continue;
        }
        if let Some(entry) = pair.two.filter(|entry| entry.mode != FileMode::Gitlink) {
            let text = there.read_blob(entry.id)?;
            let before = pair.one.filter(|one| one.mode != FileMode::Gitlink);
            let before = before.map_or(Ok(Vec::new()), |one| there.read_blob(one.id))?;
            if count_conflict_markers(&text) > count_conflict_markers(&before) {
                refuse(format!("{path}: line {} has a conflict marker", first_marker_line(&text)));
            }
        }
    }
    match refused {
        Some(refused) => {
            Err(refused.with_hint(format!("fix it in `{place}`, `git add` it, {again}")))
        }
        None => Ok(tree),
    }
}

/// Kept parts of an aborted resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbortOutcome {
    /// Kept worktree, if there was one.
    pub kept: Option<PathBuf>,
    /// Last resolved commit, if any. A ref keeps it until the next resolution.
    pub settled: Option<String>,
}

/// Aborts the resolution; the canonical branch stays as is. The worktree, with all work in it, is
/// moved aside and kept.
pub fn abort_resolution(repo: &Repo, tools: &Tools<'_>) -> Result<AbortOutcome> {
    let _alone = lock_resolution(repo, tools)?;
    if !is_resolving(repo) {
        return Err(Error::usage("no conflict is being resolved, so there is nothing to abort"));
    }
    let state = load_record(repo);
    if let LoadedRecord::Newer = state {
        return Err(newer_record_error(repo));
    }
    let kept = set_worktree_aside(repo, tools)?;
    let settled = match state {
        LoadedRecord::Valid(state) if state.tip != state.base => Some(state.tip),
        _ => None,
    };
    remove_record(repo, tools)?;
    if settled.is_none() {
        update_kept_ref(repo, None)?;
    }
    Ok(AbortOutcome { kept, settled })
}

/// Lists the kept worktrees of earlier resolutions; the user removes them.
#[must_use]
pub fn list_kept_worktrees(repo: &Repo) -> Vec<PathBuf> {
    let Ok(folders) = std::fs::read_dir(repo.shared_state_folder()) else { return Vec::new() };
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("resolve-"))
    };
    let mut found: Vec<PathBuf> =
        folders.filter_map(|entry| Some(entry.ok()?.path())).filter(is_one).collect();
    found.sort();
    found
}

/// Moves the worktree to a unique name, e.g. `resolve-20260131T120000Z-1`.
fn set_worktree_aside(repo: &Repo, tools: &Tools<'_>) -> Result<Option<PathBuf>> {
    let folder = resolve_worktree_path(repo);
    if folder.symlink_metadata().is_err() {
        return Ok(None);
    }
    let named = |number: u32| {
        let name = format!("resolve-{}-{number}", format_compact_time(tools.world.now_seconds()));
        repo.shared_state_folder().join(name)
    };
    let free = (1..1000).map(named).find(|folder| folder.symlink_metadata().is_err());
    let to = free
        .ok_or_else(|| Error::unable("too many worktrees are kept aside; remove some of them"))?;
    // A folder that git does not know as a worktree (any more) is moved as a plain folder.
    if !repo.move_worktree(&folder, &to)? {
        let failed = || format!("cannot move `{}` aside", folder.display());
        tools.disk.rename_noreplace(&folder, &to).with_context(failed)?;
    }
    Ok(Some(to))
}

/// Removes a worktree without user's work; if in doubt, it is moved aside.
fn discard_worktree(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let folder = resolve_worktree_path(repo);
    if folder.symlink_metadata().is_err() {
        return Ok(());
    }
    // Ignored files count as work as well.
    let loose = repo.open_worktree(&folder).and_then(|there| there.has_untracked_files());
    if loose.is_ok_and(|has_loose_files| !has_loose_files) && repo.remove_worktree(&folder).is_ok()
    {
        return Ok(());
    }
    set_worktree_aside(repo, tools).map(drop)
}

fn close_resolution(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    discard_worktree(repo, tools)?;
    remove_record(repo, tools)?;
    update_kept_ref(repo, None)
}
