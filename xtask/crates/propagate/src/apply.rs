//! Execution of decided rows: syncing worktrees and moving local refs. Each ref moves
//! only from the commit at which it was read; a branch that has moved since then is returned, to be
//! decided again. For example:
//!
//! ```text
//! BranchRow { target: "feature", old: 1a2b…, new: 3c4d…, status: WillUpdate } -> status: Updated
//! ```

use std::path::Path;

use super::decide::{BranchRow, PropagateStatus};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_git::Tools;
use xtask_git::reflog_messages::PROPAGATE;
use xtask_git::{BranchInUse, Head, RefUpdate, Repo};
use xtask_sync::context::SyncContext;
use xtask_sync::hook_policy::{count_canonical_files, is_unrelated_branch};
use xtask_sync::pin_notes::describe_removed_overlay;
use xtask_sync::pin_reader::PinReader;
use xtask_sync::run::{
    SyncInspection, SyncOptions, apply_plan, inspect_checkout, inspect_for_write,
};
use xtask_sync::scan::ScanDepth;
use xtask_sync::worktree_lock::LockWorktree as _;
use xtask_sync::write_rules::check_write_rules;

/// Whether a worktree is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorktreeMode {
    /// Sync the worktree.
    Write,
    /// Report the changes that a sync would make.
    DryRun,
}

/// Returns whether the worktree at `root` has another branch than that of `row` checked out.
fn is_switched_away(repo: &Repo, root: &Path, row: &BranchRow) -> bool {
    let there = repo.open_worktree(root).ok().and_then(|there| there.current_branch());
    there.is_some_and(|branch| branch != row.branch)
}

/// Syncs the branch of `row` in the worktree at `root`. Returns `None` if the worktree has been
/// switched to another branch concurrently, so that the branch must be decided again. Any other
/// failure becomes the status of the row.
pub fn sync_worktree(
    repo: &Repo,
    root: &Path,
    row: BranchRow,
    context: &SyncContext,
    sync_options: &SyncOptions,
    how: WorktreeMode,
    tools: &Tools<'_>,
) -> Option<BranchRow> {
    let mut done = row.clone();
    match try_sync_worktree(repo, root, &mut done, context, sync_options, how, tools) {
        Ok(()) => Some(done),
        Err(_) if is_switched_away(repo, root, &row) => None,
        Err(failure) => {
            let fate = if failure.kind() == ErrorKind::Usage {
                PropagateStatus::Refused
            } else {
                PropagateStatus::Failed
            };
            Some(row.with_status(fate, format!("in `{}`: {failure}", root.display())))
        }
    }
}

fn try_sync_worktree(
    repo: &Repo,
    root: &Path,
    row: &mut BranchRow,
    context: &SyncContext,
    sync_options: &SyncOptions,
    how: WorktreeMode,
    tools: &Tools<'_>,
) -> Result<()> {
    let there = repo.open_worktree(root)?;
    row.reason = Some(format!("in `{}`", root.display()));
    if there.needs_checkout() {
        let why = format!("nothing is checked out yet in `{}`", root.display());
        *row = row.clone().with_status(PropagateStatus::Skipped, why);
        return Ok(());
    }
    let is_still_there = |head: &Head| {
        if head.branch.as_ref() == Some(&row.branch) {
            return Ok(());
        }
        Err(Error::unable(format!("`{}` is no longer checked out", row.branch)))
    };
    if how == WorktreeMode::DryRun {
        check_pins(&there, &there.head()?, context, tools)?;
        let looked =
            inspect_checkout(&there, context.clone(), sync_options, ScanDepth::Everything, tools)?;
        let SyncInspection::Planned(decided) = looked else { return Ok(()) };
        is_still_there(&decided.head)?;
        row.record_plan(&decided.plan, sync_options.lists_in_sync);
        row.add_reasons(decided.describe_other_pins(&there));
        row.add_reasons(decided.describe_pinned_overlay().into_iter().collect());
        check_write_rules(&there, &decided, sync_options)?;
        row.status =
            if row.writes > 0 { PropagateStatus::InWorktree } else { PropagateStatus::UpToDate };
        return Ok(());
    }
    let (_lock, _) = tools.lock_worktree(&there)?;
    let head = there.head()?;
    is_still_there(&head)?;
    check_pins(&there, &head, context, tools)?;
    let looked =
        inspect_checkout(&there, context.clone(), sync_options, ScanDepth::Everything, tools)?;
    let SyncInspection::Planned(decided) = looked else { return Ok(()) };
    let many = count_canonical_files(repo, context)?;
    if is_unrelated_branch(&there, &decided.head, context, &decided.plan, many)? {
        *row = row.clone().skip_unrelated(context);
        return Ok(());
    }
    let (looked, moved) = inspect_for_write(&there, context.clone(), sync_options, tools)?;
    let SyncInspection::Planned(decided) = looked else { return Ok(()) };
    is_still_there(&decided.head)?;
    row.record_plan(&decided.plan, sync_options.lists_in_sync);
    row.add_reasons(decided.describe_other_pins(&there));
    let done = apply_plan(&there, *decided, sync_options, tools)?;
    row.add_reasons(describe_removed_overlay(&done));
    row.new = done.commit.or(moved);
    row.status =
        if row.new.is_some() { PropagateStatus::InWorktree } else { PropagateStatus::UpToDate };
    Ok(())
}

/// Fails if the pins of a branch cannot be read: no confirmation would help.
fn check_pins(repo: &Repo, head: &Head, context: &SyncContext, tools: &Tools<'_>) -> Result<()> {
    let read = PinReader::new(repo, tools.world.now_seconds()).read_branch(context, head);
    read.map(drop).map_err(|fault| Error::unable(fault.message()))
}

/// Moves the local refs of the rows with status `WillUpdate`. Returns the branches that had moved
/// or been checked out concurrently and must be decided again.
pub fn move_refs(
    repo: &Repo,
    rows: &mut [BranchRow],
    context: &SyncContext,
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let message = format!("{PROPAGATE} from {}", context.config.branch);
    let is_in_use =
        |in_use: &[BranchInUse], row: &BranchRow| in_use.iter().any(|one| one.branch == row.target);
    repo.forget_refs();
    let in_use = repo.branches_in_use()?;
    let mut moved = Vec::new();
    tools.progress.begin_task("moving branches", None);
    let mut chosen = Vec::new();
    for (at, row) in
        rows.iter_mut().enumerate().filter(|(_, row)| row.status == PropagateStatus::WillUpdate)
    {
        if is_in_use(&in_use, row) {
            moved.push(row.branch.clone());
            continue;
        }
        match tools.disk.check_gate("move a ref") {
            Ok(()) => chosen.push(at),
            Err(cause) => {
                *row = row
                    .clone()
                    .with_status(PropagateStatus::Failed, format!("cannot move the ref: {cause}"))
            }
        }
    }
    let change = |at: &usize| {
        let row = &rows[*at];
        RefUpdate { name: format!("refs/heads/{}", row.target), old: row.old, new: row.new }
    };
    let changes: Vec<RefUpdate> = chosen.iter().map(change).collect();
    for (at, swapped) in chosen.into_iter().zip(repo.swap_refs(&changes, &message)) {
        let row = &mut rows[at];
        match swapped {
            Ok(true) => row.status = PropagateStatus::Updated,
            Ok(false) => moved.push(row.branch.clone()),
            Err(failure) => {
                *row = row.clone().with_status(PropagateStatus::Failed, failure.to_string())
            }
        }
    }
    if !rows.iter().any(|row| row.status == PropagateStatus::Updated) {
        tools.progress.end_task();
        return Ok(moved);
    }
    // A worktree that has just checked out the old commit would show the sync as staged changes in
    // reverse, so its branch is moved back.
    repo.wait_for_switches()?;
    let in_use = repo.branches_in_use()?;
    let has_old = |row: &&mut BranchRow| {
        let of = |one: &&BranchInUse| one.branch == row.target && row.old.is_some();
        in_use.iter().filter(of).any(|one| one.commit == row.old)
    };
    for row in rows.iter_mut().filter(|row| row.status == PropagateStatus::Updated).filter(has_old)
    {
        let name = format!("refs/heads/{}", row.target);
        if repo.swap_ref(&name, row.new, row.old, &message)? {
            moved.push(row.branch.clone());
        }
    }
    tools.progress.end_task();
    Ok(moved)
}
