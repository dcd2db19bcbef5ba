//! A sync of one worktree: inspect, plan and, unless in a dry run, write. For example:
//!
//! ```text
//! inspect_for_write   -> PlannedSync   (plan: update setup/a, keep setup/own)
//! apply_plan          -> SyncOutcome   (commit 9c4e…, backup 20260131T120000Z-1)
//! ```

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::apply;
use super::backup::{self, BackupInput};
use super::classify::{PathClass, classify_unpinned};
use super::clean_record::{save_clean_record, settle_time_ns, update_clean_record};
use super::commit;
use super::context::{self, SyncContext};
use super::managed::ManagedPaths;
use super::merge::{self, MergeResults};
use super::overlay::{self, Overlay, OverlayBase, OverlayFile};
use super::overlay_removal::remove_pinned_overlay;
use super::pin_reader::PinReader;
use super::pins::BranchPins;
use super::plan::{OverwritePolicy, PlannedPath, SyncPlan, WriteMode, build_plan};
use super::scan::{CleanFiles, ScanDepth, ScanRequest, ScanResult, scan_worktree};
use super::transaction::{FileUpdate, PathUpdate, Transaction};
use super::upstream::{UpstreamCommit, UpstreamStatus, find_upstream_status, move_to_upstream};
use super::worktree_lock::LockWorktree as _;
use super::write_rules::{check_write_rules, is_blocked_by_protection};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_base::record;
use xtask_git::{
    CanonicalHistory, FileStat, Head, Id, Index, OperationKind, PathScope, Repo, Tools,
};

/// Options of a sync, from the command line.
#[derive(Clone, Debug)]
pub struct SyncOptions {
    pub mode: WriteMode,
    pub overwrite: OverwritePolicy,
    /// Only these paths; all if empty.
    pub only: Vec<RepoPath>,
    /// Also commit on protected branches.
    pub allow_protected: bool,
    /// Also delete more than half of the managed files.
    pub allow_mass_deletion: bool,
    /// Also list paths that are in sync.
    pub lists_in_sync: bool,
    pub hints: HintStyle,
}

/// How hints name the options of `cargo xtask sync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintStyle {
    /// By themselves, e.g. `--yes`: the user has typed that command.
    Option,
    /// With the command, e.g. `cargo xtask sync --yes`.
    Command,
}

impl HintStyle {
    /// Names an option, in backticks.
    pub(super) fn quote_option(self, option: &str) -> String {
        match self {
            HintStyle::Option => format!("`{option}`"),
            HintStyle::Command => format!("`cargo xtask sync {option}`"),
        }
    }
}

impl SyncOptions {
    /// Returns the options of a plain `sync`.
    #[must_use]
    pub fn plain() -> Self {
        SyncOptions {
            mode: WriteMode::Commit,
            overwrite: OverwritePolicy::Keep,
            only: Vec::new(),
            allow_protected: false,
            allow_mass_deletion: false,
            lists_in_sync: false,
            hints: HintStyle::Option,
        }
    }

    fn to_purpose(&self) -> String {
        let mut purpose = backup::PLAIN_SYNC.to_owned();
        match self.overwrite {
            OverwritePolicy::Keep => {}
            OverwritePolicy::Merge => purpose.push_str(" --merge"),
            OverwritePolicy::Force => purpose.push_str(" --force"),
        }
        if self.mode == WriteMode::Worktree {
            purpose.push_str(" --no-commit");
        }
        purpose
    }
}

/// A plan with its inputs, before any write.
pub struct PlannedSync {
    pub head: Head,
    pub context: SyncContext,
    pub plan: SyncPlan,
    /// The pins of the branch.
    pub pins: BranchPins,
    /// Results of merging, with `--merge`.
    pub merges: MergeResults,
    pub(super) scanned: ScanRest,
}

/// Data of the scan that `apply_plan` needs.
pub(super) struct ScanRest {
    index: Option<Index>,
    canonical_history: Option<CanonicalHistory>,
    overlay: Overlay,
    pub(super) clean: Option<CleanFiles>,
    looked_at_ns: i64,
}

impl PlannedSync {
    /// Returns the managed paths that are in sync and not in the plan.
    #[must_use]
    pub fn in_sync(&self) -> Vec<RepoPath> {
        let planned: BTreeSet<&RepoPath> = self.plan.items.iter().map(PlannedPath::path).collect();
        let mut paths = self.scanned.clean.as_ref().map_or(Vec::new(), CleanFiles::paths);
        paths.retain(|path| !planned.contains(path));
        paths
    }
}

/// Result of an inspection.
pub enum SyncInspection {
    /// The canonical branch itself is checked out and needs no sync.
    OnCanonical(Box<SyncContext>),
    Planned(Box<PlannedSync>),
}

impl PlannedSync {
    /// Returns the pinned paths at which an earlier sync has written files without committing them. They are not the
    /// content of the branch, and go, unless `--force` wrote them in spite of the pin.
    #[must_use]
    pub fn pinned_overlay(&self) -> BTreeSet<RepoPath> {
        let is_laid = |item: &&PlannedPath| {
            let found = item.state.work.file();
            let laid = self.scanned.overlay.paths.get(item.path());
            item.class == PathClass::Pinned
                && !item.action.is_write()
                && found.map(|found| found.entry) != item.state.head
                && laid.is_some_and(|laid| !laid.is_over_pin && laid.has_written_content(found))
        };
        self.plan.items.iter().filter(is_laid).map(|item| item.path().clone()).collect()
    }
}

/// Outcome of a sync.
#[derive(Debug, Default)]
pub struct SyncOutcome {
    pub commit: Option<Id>,
    /// Name of the backup for `undo`.
    pub backup: Option<String>,
    /// Files with the conflict markers of failed merges, by path.
    pub conflicts: Vec<(RepoPath, PathBuf)>,
    /// Whether cleanup failed and is left to the next run.
    pub needs_cleanup: bool,
    /// The pinned paths at which the content of the branch is again, instead of that of `sync --no-commit`.
    pub restored_pinned: BTreeSet<RepoPath>,
    /// The pinned paths at which that of `sync --no-commit` stays, because it is staged.
    pub staged_pinned: BTreeSet<RepoPath>,
}

/// Inspects the checked-out branch and builds a plan, without writing.
pub fn inspect_checkout(
    repo: &Repo,
    context: SyncContext,
    sync_options: &SyncOptions,
    depth: ScanDepth,
    tools: &Tools<'_>,
) -> Result<SyncInspection> {
    let head = repo.head()?;
    if head.branch.as_deref() == Some(context.config.branch.as_str()) {
        return Ok(SyncInspection::OnCanonical(Box::new(context)));
    }
    let managed = ManagedPaths::new(&context.config, head.branch.as_deref());
    for path in &sync_options.only {
        check_requested_path(repo, &head, &context, &managed, path)?;
    }
    let pins = PinReader::new(repo, tools.world.now_seconds()).read_branch(&context, &head)?;
    let question = ScanRequest {
        repo,
        head: &head,
        context: &context,
        managed: &managed,
        pins: &pins,
        only: &sync_options.only,
        depth,
        now_ns: tools.now_ns(),
        progress: tools.progress,
    };
    let ScanResult { states, clean, index, canonical_history: once, overlay } =
        scan_worktree(&question)?;
    let merges = match (&once, sync_options.overwrite) {
        (Some(once), OverwritePolicy::Merge) => {
            merge::merge_customised(repo, &head, &context, once, &states)?
        }
        _ => MergeResults::default(),
    };
    let plan = build_plan(states, sync_options.mode, sync_options.overwrite, &merges.outcomes);
    let looked_at_ns = question.now_ns;
    let gathered = ScanRest { index, canonical_history: once, overlay, clean, looked_at_ns };
    Ok(SyncInspection::Planned(Box::new(PlannedSync {
        head,
        context,
        plan,
        pins,
        merges,
        scanned: gathered,
    })))
}

/// Checks that a path from the command line is managed or contains managed paths, and exists.
fn check_requested_path(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    managed: &ManagedPaths,
    path: &RepoPath,
) -> Result<()> {
    let is_managed = managed.contains_path(path.as_bytes()) || managed.may_contain(path.as_bytes());
    let is_there = is_managed
        && (repo.find_in_tree(head.tree, path)?.is_some()
            || repo.find_in_tree(context.canonical.tree, path)?.is_some());
    if is_there {
        return Ok(());
    }
    let what = if is_managed {
        format!("`{path}` is neither on this branch nor on `{}`", context.config.branch)
    } else {
        format!("`{path}` is not managed")
    };
    Err(Error::usage(what).with_hint("`cargo xtask sync --dry-run -v` lists the managed paths"))
}

/// Returns an error if a git operation is in progress, the index is locked, or has unmerged paths.
pub fn check_repo_ready(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    if let Some(operation) =
        repo.current_operation().filter(|found| Some(found.kind) != tools.finishing_operation)
    {
        return Err(Error::unable(format!(
            "{} is in progress; nothing was written",
            operation.name
        ))
        .with_hint(if operation.kind == OperationKind::Bisect {
            format!("end it first: `{}`", operation.continue_command)
        } else {
            format!(
                "end it first: `{}` or `{}`",
                operation.continue_command, operation.abort_command
            )
        }));
    }
    if repo.needs_checkout() {
        return Err(Error::unable("nothing is checked out here yet; nothing was written")
            .with_hint("`git checkout` does it"));
    }
    if repo.is_index_locked() {
        return Err(Error::unable("the index is locked: another git process is running here")
            .with_detail(repo.index_lock_file().display().to_string())
            .with_hint("wait until it has ended; if none is running, remove that file"));
    }
    if repo.read_index()?.has_conflicts() {
        return Err(Error::unable("there are unmerged paths; nothing was written")
            .with_hint("`git status` lists them; resolve them and commit first"));
    }
    Ok(())
}

/// Inspects the branch for a write: if the upstream is ahead and the branch may follow, it is moved
/// there and inspected again. Returns the commit it moved to as well. The caller holds the lock of
/// the worktree.
pub fn inspect_for_write(
    repo: &Repo,
    context: SyncContext,
    sync_options: &SyncOptions,
    tools: &Tools<'_>,
) -> Result<(SyncInspection, Option<Id>)> {
    let looked = inspect_checkout(repo, context, sync_options, ScanDepth::Everything, tools)?;
    let SyncInspection::Planned(decided) = &looked else { return Ok((looked, None)) };
    check_repo_ready(repo, tools)?;
    let Some(ahead) = find_upstream_to_follow(repo, decided, sync_options)? else {
        return Ok((looked, None));
    };
    check_write_rules(repo, decided, sync_options)?;
    move_to_upstream(repo, &ahead)?;
    let looked = inspect_checkout(
        repo,
        decided.context.clone(),
        sync_options,
        ScanDepth::Everything,
        tools,
    )?;
    Ok((looked, Some(ahead.commit)))
}

/// Returns the upstream commit to move to before the sync, if any.
pub fn find_upstream_to_follow(
    repo: &Repo,
    decided: &PlannedSync,
    sync_options: &SyncOptions,
) -> Result<Option<UpstreamCommit>> {
    if sync_options.mode != WriteMode::Commit || is_blocked_by_protection(decided, sync_options) {
        return Ok(None);
    }
    Ok(match find_upstream_status(repo, &decided.head, &decided.context)? {
        UpstreamStatus::OnlySyncCommits(ahead) => Some(ahead),
        // A sync commit on an outdated tip would only make the branch diverge.
        UpstreamStatus::Behind(ahead) if !decided.plan.tree_changes().is_empty() => Some(ahead),
        UpstreamStatus::Behind(_) | UpstreamStatus::NoUpdate => None,
    })
}

/// Applies the plan, and then removes the overlay at pinned paths, unless `--force` wants it there. If that fails, the
/// error says what has been done. The caller holds the lock of the worktree.
pub fn apply_plan(
    repo: &Repo,
    decided: PlannedSync,
    sync_options: &SyncOptions,
    tools: &Tools<'_>,
) -> Result<SyncOutcome> {
    let pinned = decided.pinned_overlay();
    let mut done = write_plan(repo, decided, sync_options, tools)?;
    if !pinned.is_empty() && sync_options.overwrite == OverwritePolicy::Force {
        keep_overlay_over_pins(repo, &pinned, tools)
            .map_err(|failure| describe_done(repo, &done, failure))?;
    } else if !pinned.is_empty() {
        let removed = remove_pinned_overlay(repo, &pinned, tools)
            .map_err(|failure| describe_done(repo, &done, failure))?;
        done.backup = done.backup.or(removed.backup);
        done.staged_pinned = &pinned - &removed.restored;
        done.restored_pinned = removed.restored;
    }
    Ok(done)
}

/// Records that the overlay at these paths is there in spite of their pins.
fn keep_overlay_over_pins(
    repo: &Repo,
    paths: &BTreeSet<RepoPath>,
    tools: &Tools<'_>,
) -> Result<()> {
    let mut overlay = overlay::read_overlay(repo)?;
    for (_, laid) in overlay.paths.iter_mut().filter(|(path, _)| paths.contains(path)) {
        laid.is_over_pin = true;
    }
    let file = overlay::overlay_path(repo);
    record::write_record(tools.disk, &file, overlay::KIND, &overlay.to_stored())
        .with_context(|| "cannot write the record of the overlay")
}

/// Adds to a failure what the sync had done before.
fn describe_done(repo: &Repo, done: &SyncOutcome, failure: Error) -> Error {
    let Some(backup) = &done.backup else { return failure };
    let commit = done.commit.map(|id| format!(" and committed, as {}", repo.short_id(id)));
    failure
        .with_detail(format!(
            "the sync before it is complete: its files are written{}",
            commit.unwrap_or_default()
        ))
        .with_hint(format!(
            "the next sync removes what is left at pinned paths; `cargo xtask undo {backup}` undoes this one"
        ))
}

fn write_plan(
    repo: &Repo,
    mut decided: PlannedSync,
    sync_options: &SyncOptions,
    tools: &Tools<'_>,
) -> Result<SyncOutcome> {
    let index = decided.scanned.index.take();
    let PlannedSync { head, context, plan, merges, scanned: gathered, .. } = &decided;
    let mut done = SyncOutcome::default();
    if let Some(once) = &gathered.canonical_history {
        repo.write_canonical_history(tools.disk, once)?;
    }
    if sync_options.overwrite == OverwritePolicy::Merge {
        merge::write_conflict_texts(repo, tools.disk, merges)?;
    }
    done.conflicts = merges
        .conflict_texts
        .keys()
        .map(|path| (path.clone(), merge::conflict_text_path(repo, path)))
        .collect();
    if plan.written_paths().next().is_none() {
        // The stat record only saves time.
        drop(save_clean_record(repo, gathered.clean.as_ref(), tools));
        return Ok(done);
    }
    check_write_rules(repo, &decided, sync_options)?;
    for (_, content) in &merges.merged_texts {
        repo.write_blob(content)?;
    }
    let moves = match sync_options.mode {
        WriteMode::Commit => commit::write_sync_commit(repo, tools.disk, head, context, plan)?,
        WriteMode::Worktree => None,
    };
    let changes = build_path_updates(plan, sync_options.mode, gathered.looked_at_ns);
    let overlay = build_new_overlay(&gathered.overlay, plan, sync_options.mode);
    let purpose = sync_options.to_purpose();
    let index = index.map_or_else(|| repo.read_index(), Ok)?;
    tools.disk.check_gate("save what is replaced").map_err(|cause| {
        Error::unable("cannot back up the files to be replaced").with_cause(cause)
    })?;
    let forced = plan.written_paths().filter(|item| item.class == PathClass::Pinned);
    let over_pins: BTreeSet<RepoPath> = forced.map(|item| item.path().clone()).collect();
    let saved = backup::save_backup(
        repo,
        &BackupInput {
            purpose: &purpose,
            head,
            head_move: moves.as_ref(),
            changes: &changes,
            index: &index,
            overlay: &gathered.overlay,
            over_pins: &over_pins,
            now: tools.world.now_seconds(),
        },
    )?;
    done.commit = moves.as_ref().map(|moves| moves.new);
    let transaction = Transaction { purpose, changes, head: moves, overlay, backup: Some(saved) };
    let applied = apply::apply_transaction(&tools.apply_context(repo), &transaction, Some(index))?;
    done.backup = applied.backup;
    done.needs_cleanup = applied.needs_cleanup;
    // The stat record only saves time, and pruning can wait: errors of both are left to another
    // run.
    if sync_options.mode == WriteMode::Commit && !done.needs_cleanup {
        drop(update_clean_record(repo, &decided, done.commit, &applied.clean_stats, tools));
    }
    drop(backup::prune_backups(repo, tools.world.now_seconds()));
    Ok(done)
}

pub(super) fn build_path_updates(
    plan: &SyncPlan,
    mode: WriteMode,
    looked_at_ns: i64,
) -> Vec<PathUpdate> {
    plan.written_paths()
        .map(|item| {
            let file = match (item.writes_file, item.target) {
                (false, _) => FileUpdate::None,
                (true, Some(entry)) => FileUpdate::CheckOut(entry),
                (true, None) => FileUpdate::Remove,
            };
            let found = item.state.work.file();
            let is_settled =
                |look: &FileStat| look.mtime_ns < looked_at_ns - settle_time_ns(look.mtime_ns);
            let look = found.map(|found| found.stat).filter(is_settled);
            PathUpdate {
                path: item.path().clone(),
                file,
                expected: found.map(|found| found.raw),
                expected_stat: look,
                stages: (mode == WriteMode::Commit).then_some(item.target),
                is_sparse: item.state.is_sparse,
            }
        })
        .collect()
}

/// Returns whether a write replaces content that is not in HEAD.
fn replaces_uncommitted(item: &PlannedPath) -> bool {
    // A pin says nothing about where the content is.
    let class = classify_unpinned(&item.state).class;
    let is_of_head = matches!(class, PathClass::Customised | PathClass::Behind | PathClass::Sparse);
    item.replaces_work() && !is_of_head
}

/// Returns the overlay after the plan, or `None` if it does not change.
fn build_new_overlay(before: &Overlay, plan: &SyncPlan, mode: WriteMode) -> Option<Overlay> {
    let mut after = before.clone();
    for item in plan.written_paths() {
        match mode {
            WriteMode::Worktree => {
                // A renewed overlay file keeps its base.
                let under = match before.paths.get(item.path()) {
                    Some(laid) if item.state.is_overlay => laid.base,
                    _ if replaces_uncommitted(item) => {
                        OverlayBase::ReplacedWork(item.state.work.file().map(|file| file.raw))
                    }
                    _ => OverlayBase::Head,
                };
                after.paths.insert(
                    item.path().clone(),
                    OverlayFile {
                        written: item.target,
                        base: under,
                        stat: None,
                        is_over_pin: item.class == PathClass::Pinned,
                    },
                );
            }
            WriteMode::Commit => {
                after.paths.remove(item.path());
            }
        }
    }
    (after != *before).then_some(after)
}

/// Reads the context, after a fetch if `fetch` is set.
pub fn load_context(repo: &Repo, fetch: bool) -> Result<SyncContext> {
    if fetch {
        let names = context::find_canonical_names(repo)?;
        let branch = repo.current_branch();
        let follows = branch.as_ref().and_then(|branch| {
            let remote = repo.config_value(&format!("branch.{branch}.remote"))?;
            let merge = repo.config_value(&format!("branch.{branch}.merge"))?;
            let name = merge.strip_prefix("refs/heads/")?.to_owned();
            (remote == names.remote).then_some(name)
        });
        let mut branches = vec![names.branch.as_str()];
        branches.extend(follows.as_deref());
        repo.fetch(&names.remote, &branches)?;
    }
    context::read_context(repo)
}
