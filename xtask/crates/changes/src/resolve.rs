//! A conflict that a person settles: in a worktree of its own, under the common git folder, with
//! git's own conflict state in it. The canonical branch stays as it is until all is settled.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::carry::{PathChange, changes_between};
use super::land::{Ground, ground, land, taken};
use super::rounds::{ROUNDS, pause};
use super::series::{Item, Series, carry_all};
use super::source::{Pick, check_names, takes};
use super::words::{BRANCH_TRAILER, COMMIT_TRAILER};
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::lock::Lock;
use xtask_base::markers::{conflicts, first_conflict};
use xtask_base::record::{self, Found};
use xtask_base::world::compact;
use xtask_git::Tools;
use xtask_git::{Carried, Entry, Everything, Id, Mode, NewCommit, Repo, Stamp};
use xtask_sync::context::{self, Context};
use xtask_sync::managed::Managed;

const KIND: &str = "xtask.reverse-sync/1";

/// The last commit that was settled, until all of them are on the canonical branch.
const KEPT: &str = "refs/xtask/resolving";

/// How long somebody else who resolves is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// A commit that is still to be carried.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Left {
    /// The commit.
    commit: String,
    /// The commit against which it is seen.
    parent: Option<String>,
    /// Whether it stood on an earlier canonical commit already, trailers and all.
    is_ready: bool,
}

/// How far a reverse-sync is that somebody resolves.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    /// The branch from which the commits come.
    source: String,
    /// The canonical commit on which they are put.
    base: String,
    /// The last commit that was made.
    tip: String,
    /// The commits to come; the first is the one that conflicts.
    left: Vec<Left>,
    /// Whether its conflict is laid out in the worktree, and what is there is somebody's work.
    is_laid_out: bool,
}

/// What came of going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Went {
    /// All is on the canonical branch, which has so many new commits.
    Landed {
        /// How many.
        commits: usize,
        /// The new canonical commit.
        tip: Id,
    },
    /// Nothing was left of the commits: their content is there already.
    Nothing,
    /// A commit conflicts, and waits to be resolved.
    Conflict {
        /// Which.
        commit: Id,
        /// Where.
        folder: PathBuf,
        /// In what, a line each.
        lines: Vec<String>,
    },
}

/// Where conflicts are resolved.
#[must_use]
pub fn folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("resolve")
}

fn file(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("reverse-sync")
}

/// Whether somebody is resolving a conflict.
#[must_use]
pub fn is_open(repo: &Repo) -> bool {
    file(repo).symlink_metadata().is_ok()
}

/// Keeps others in this repository from resolving at the same time.
fn enter(repo: &Repo, tools: &Tools<'_>) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    let path = repo.shared_state_folder().join("reverse-sync.lock");
    Lock::acquire(&path, &who, LOCK_WAIT, |holder| (tools.waiting)(holder))
}

/// Opens the conflict of a series for somebody to resolve.
pub fn open(
    repo: &Repo,
    ground: &Ground,
    source: &str,
    picks: &[Pick],
    series: &Series,
    tools: &Tools<'_>,
) -> Result<Went> {
    let _alone = enter(repo, tools)?;
    if is_open(repo) {
        return Err(Error::unable("another conflict is being resolved")
            .detail(folder(repo).display().to_string())
            .hint("`cargo xtask reverse-sync --continue` or `--abort` ends it"));
    }
    // Without a record nobody knows what it is.
    put_aside(repo, tools)?;
    let (at, conflicts) = series.conflict().ok_or_else(|| Error::unable("nothing conflicts"))?;
    let left = picks[at..].iter().map(|pick| Left {
        commit: pick.commit.id.to_string(),
        parent: pick.parent.map(|id| id.to_string()),
        is_ready: false,
    });
    let state = State {
        source: source.to_owned(),
        base: ground.tip.to_string(),
        tip: series.tip.to_string(),
        left: left.collect(),
        is_laid_out: false,
    };
    let lines = conflicts.iter().map(|conflict| conflict.words(&ground.branch)).collect();
    lay_out(repo, state, &picks[at].changes, tools)?;
    Ok(Went::Conflict { commit: picks[at].commit.id, folder: folder(repo), lines })
}

/// Makes the worktree and brings git into the state of the conflict. Only when that is done does the
/// record say so: until then there is nothing of anybody's in the worktree.
fn lay_out(repo: &Repo, state: State, changes: &[PathChange], tools: &Tools<'_>) -> Result<()> {
    let tip = id(&state.tip)?;
    let (theirs, folder) = (conflict_commit(repo, tip, &state, changes)?, folder(repo));
    let mut state = State { is_laid_out: false, ..state };
    note(repo, &state, tools)?;
    put_away(repo, tools)?;
    let there = repo.detached_worktree(&folder, tip)?;
    there.pick_without_commit(theirs)?;
    state.is_laid_out = true;
    note(repo, &state, tools)
}

fn note(repo: &Repo, state: &State, tools: &Tools<'_>) -> Result<()> {
    let file = file(repo);
    keep(repo, Some(id(&state.tip)?))?;
    record::write(tools.disk, &file, KIND, state)
        .unable(|| format!("`{}` cannot be written", file.display()))
}

/// Keeps what is settled already from being tidied away by git.
fn keep(repo: &Repo, tip: Option<Id>) -> Result<()> {
    let old = repo.resolve(KEPT)?;
    if old != tip {
        repo.swap_ref(KEPT, old, tip, "xtask: reverse-sync")?;
    }
    Ok(())
}

/// A commit whose difference from its parent is what is carried: git's own merge shows it then as it
/// shows every other conflict.
fn conflict_commit(repo: &Repo, tip: Id, state: &State, changes: &[PathChange]) -> Result<Id> {
    let tree = repo.tree_of(tip)?;
    let side = |of: &dyn Fn(&PathChange) -> Option<Entry>| {
        let wanted: Vec<_> =
            changes.iter().map(|change| (change.path.clone(), of(change))).collect();
        repo.write_tree(Some(tree), &wanted)
    };
    let seconds = repo.commit(tip)?.committer.seconds;
    let nobody = Stamp {
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

/// Goes on with what somebody has resolved.
pub fn go_on(repo: &Repo, committer: &Stamp, tools: &Tools<'_>) -> Result<Went> {
    let _alone = enter(repo, tools)?;
    let mut state = read(repo)?;
    let context = context::read(repo)?;
    if !state.is_laid_out || folder(repo).symlink_metadata().is_err() {
        // Whoever was cut short or has removed it begins with the conflict as it was. What is there
        // may be somebody's all the same.
        put_aside(repo, tools)?;
        return finish(repo, state, committer, tools);
    }
    let there = repo.open_worktree(&folder(repo))?;
    let resolved = resolved_tree(&there, &state, &context)?;
    let tip = id(&state.tip)?;
    let Some(first) = (!state.left.is_empty()).then(|| state.left.remove(0)) else {
        return Err(broken(repo, "it has nothing left to do"));
    };
    if resolved != repo.tree_of(tip)? {
        let trailers = if first.is_ready { Vec::new() } else { trailers(&state.source, &first) };
        let made = repo.write_carried(&Carried {
            original: id(&first.commit)?,
            tree: resolved,
            parent: tip,
            committer: Some(committer),
            trailers: &trailers,
        })?;
        state.tip = made.to_string();
    }
    finish(repo, state, committer, tools)
}

/// Carries what is left, and lands.
fn finish(repo: &Repo, mut state: State, committer: &Stamp, tools: &Tools<'_>) -> Result<Went> {
    for round in 0..ROUNDS {
        pause(round);
        let context = context::read(repo)?;
        let ground = ground(repo, &context)?;
        if id(&state.base)? != ground.tip {
            // The canonical branch has gone on: what was resolved is carried on top of it.
            let mut ready = repo.between(Some(id(&state.base)?), id(&state.tip)?, true)?;
            ready.reverse();
            let mut left = Vec::new();
            for commit in ready {
                let parent = repo.commit(commit)?.parents.first().map(ToString::to_string);
                left.push(Left { commit: commit.to_string(), parent, is_ready: true });
            }
            left.append(&mut state.left);
            state.left = left;
            state.tip = ground.tip.to_string();
            state.base.clone_from(&state.tip);
        }
        let items = items(repo, &state, &context)?;
        let (tip, branch) = (id(&state.tip)?, &ground.branch);
        // What has landed before this was cut short is there.
        let taken = match items.first() {
            Some(first) => taken(repo, ground.tip, first.commit)?,
            None => BTreeMap::new(),
        };
        let series = carry_all(repo, tools.disk, tip, &items, Some(committer), &taken, branch)?;
        if let Some((at, conflicts)) = series.conflict() {
            let lines = conflicts.iter().map(|conflict| conflict.words(branch)).collect();
            state.left.drain(..at);
            state.tip = series.tip.to_string();
            lay_out(repo, state, &items[at].changes, tools)?;
            return Ok(Went::Conflict { commit: items[at].commit, folder: folder(repo), lines });
        }
        if series.tip == ground.tip {
            close(repo, tools)?;
            return Ok(Went::Nothing);
        }
        let message = format!("xtask: reverse-sync from {}", state.source);
        if land(repo, &context, &ground, series.tip, &message, tools)? {
            let commits = repo.count_between(ground.tip, series.tip)?;
            close(repo, tools)?;
            return Ok(Went::Landed { commits, tip: series.tip });
        }
    }
    Err(moves_on())
}

/// The error for a canonical branch that does not stand still.
#[must_use]
pub fn moves_on() -> Error {
    Error::unable(
        "the canonical branch moved again and again while this ran; it is as others left it",
    )
    .hint("try again")
}

fn items(repo: &Repo, state: &State, context: &Context) -> Result<Vec<Item>> {
    let managed = Managed::new(&context.config, Some(&state.source));
    let mut items = Vec::new();
    for left in &state.left {
        let commit = id(&left.commit)?;
        let old = match &left.parent {
            Some(parent) => Some(repo.tree_of(id(parent)?)?),
            None => None,
        };
        let (changes, _) = changes_between(repo, old, repo.tree_of(commit)?, &takes(&managed))?;
        let trailers = if left.is_ready { Vec::new() } else { trailers(&state.source, left) };
        let label = format!("{} of {}", repo.short(commit), state.source);
        items.push(Item { commit, changes, trailers, label });
    }
    Ok(items)
}

fn trailers(source: &str, left: &Left) -> Vec<(&'static str, String)> {
    vec![(BRANCH_TRAILER, source.to_owned()), (COMMIT_TRAILER, left.commit.clone())]
}

/// The tree that somebody has staged as the resolution. What is not resolved, not staged or not
/// managed is an error.
fn resolved_tree(there: &Repo, state: &State, context: &Context) -> Result<Id> {
    let place = there.root().display();
    let again = "then `cargo xtask reverse-sync --continue`";
    if there.index()?.has_conflicts() {
        return Err(Error::no(format!("there are unresolved conflicts in `{place}`"))
            .hint(format!("resolve them there, `git add` them, {again}")));
    }
    let tip = id(&state.tip)?;
    if there.head()?.commit != tip {
        return Err(Error::unable(format!("HEAD was moved in `{place}`"))
            .hint(format!("`git reset --soft {tip}` there keeps the files as they are; {again}")));
    }
    let loose = there.unstaged()?;
    if !loose.is_empty() {
        let refused = Error::no(format!("there are changes in `{place}` that are not staged"));
        return Err(loose
            .into_iter()
            .fold(refused, Error::detail)
            .hint(format!("`git add` them, or remove them, {again}")));
    }
    let tree = there.staged_tree()?;
    let managed = Managed::new(&context.config, Some(&state.source));
    let takes = takes(&managed);
    let mut refused = None;
    for (path, pair) in there.compare_trees(Some(there.tree_of(tip)?), Some(tree), &Everything)? {
        let mut refuse = |text: String| {
            let error =
                refused.take().unwrap_or_else(|| Error::no("this cannot be taken as it is"));
            refused = Some(Error::detail(error, text));
        };
        if !takes(&path) {
            refuse(format!(
                "{path}: it is not managed, and does not belong on the canonical branch (`git \
                 rm --cached` takes it out)"
            ));
        }
        let change = PathChange { path: path.clone(), old: pair.one, new: pair.two };
        if let Err(wrong) = check_names(&[change]) {
            refuse(wrong.what().to_owned());
            continue;
        }
        if let Some(entry) = pair.two.filter(|entry| entry.mode != Mode::Gitlink) {
            let text = there.blob(entry.id)?;
            let before = pair.one.filter(|one| one.mode != Mode::Gitlink);
            let before = before.map_or(Ok(Vec::new()), |one| there.blob(one.id))?;
            if conflicts(&text) > conflicts(&before) {
                refuse(format!("{path}: line {} has a conflict marker", first_conflict(&text)));
            }
        }
    }
    match refused {
        Some(refused) => Err(refused.hint(format!("mend it in `{place}`, `git add` it, {again}"))),
        None => Ok(tree),
    }
}

/// What is kept of a resolution that was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aborted {
    /// The worktree, if there was one.
    pub kept: Option<PathBuf>,
    /// The last of the commits that were settled already, if there are any. A ref keeps it until the
    /// next resolution.
    pub settled: Option<String>,
}

/// Gives up: the canonical branch is as it was. The worktree with all that somebody has done in it is
/// moved aside and kept.
pub fn abort(repo: &Repo, tools: &Tools<'_>) -> Result<Aborted> {
    let _alone = enter(repo, tools)?;
    if !is_open(repo) {
        return Err(Error::usage("no conflict is being resolved, so there is nothing to abort"));
    }
    let state = record::read::<State>(&file(repo), KIND);
    if let Found::Newer = state {
        return Err(newer(repo));
    }
    let kept = put_aside(repo, tools)?;
    let settled = match state {
        Found::Whole(state) if state.tip != state.base => Some(state.tip),
        _ => None,
    };
    remove_record(repo, tools)?;
    if settled.is_none() {
        keep(repo, None)?;
    }
    Ok(Aborted { kept, settled })
}

/// The folders of earlier resolutions that were put aside, and are kept until somebody removes them.
#[must_use]
pub fn put_aside_before(repo: &Repo) -> Vec<PathBuf> {
    let Ok(folders) = std::fs::read_dir(repo.shared_state_folder()) else { return Vec::new() };
    let is_one = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("resolve-"))
    };
    let mut found: Vec<PathBuf> =
        folders.filter_map(|entry| Some(entry.ok()?.path())).filter(is_one).collect();
    found.sort();
    found
}

/// Moves the worktree to a name of its own.
fn put_aside(repo: &Repo, tools: &Tools<'_>) -> Result<Option<PathBuf>> {
    let folder = folder(repo);
    if folder.symlink_metadata().is_err() {
        return Ok(None);
    }
    let named = |number: u32| {
        let name = format!("resolve-{}-{number}", compact(tools.world.now_seconds()));
        repo.shared_state_folder().join(name)
    };
    let free = (1..1000).map(named).find(|folder| folder.symlink_metadata().is_err());
    let to = free.ok_or_else(|| Error::unable("too much was put aside; remove some of it"))?;
    // What git does not know as a worktree (any more) is kept as a folder.
    if !repo.move_worktree(&folder, &to)? {
        let failed = || format!("`{}` cannot be moved aside", folder.display());
        tools.disk.place(&folder, &to).unable(failed)?;
    }
    Ok(Some(to))
}

/// Takes a worktree away in which nothing is anybody's: where that is not certain, it is kept.
fn put_away(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let folder = folder(repo);
    if folder.symlink_metadata().is_err() {
        return Ok(());
    }
    // What git ignores is somebody's, too.
    let loose = repo.open_worktree(&folder).and_then(|there| there.has_loose_files());
    if loose.is_ok_and(|has_loose_files| !has_loose_files) && repo.remove_worktree(&folder).is_ok()
    {
        return Ok(());
    }
    put_aside(repo, tools).map(drop)
}

fn close(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    put_away(repo, tools)?;
    remove_record(repo, tools)?;
    keep(repo, None)
}

fn remove_record(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let file = file(repo);
    tools.disk.remove(&file).unable(|| format!("`{}` cannot be removed", file.display()))
}

fn read(repo: &Repo) -> Result<State> {
    match record::read(&file(repo), KIND) {
        Found::Whole(state) => Ok(state),
        Found::Nothing => {
            Err(Error::usage("no conflict is being resolved, so there is nothing to go on with")
                .hint("`cargo xtask reverse-sync --resolve BRANCH COMMIT` opens one"))
        }
        Found::Newer => Err(newer(repo)),
        Found::Broken(why) => Err(broken(repo, &why)),
    }
}

fn newer(repo: &Repo) -> Error {
    record::newer("the record of the conflict that is being resolved", &file(repo))
}

fn broken(repo: &Repo, why: &str) -> Error {
    Error::unable(format!("`{}` cannot be used: {why}", file(repo).display()))
        .hint("`cargo xtask reverse-sync --abort` gives up; then begin again")
}

fn id(text: &str) -> Result<Id> {
    Id::from_hex(text.as_bytes()).unable(|| format!("`{text}` is no object id"))
}
