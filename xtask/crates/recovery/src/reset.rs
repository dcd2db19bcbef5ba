//! Reset of a worktree from any state to a clean one at a given commit.
//!
//! 1. Nothing happens if an unsaved file would be lost.
//! 2. Git operations in progress end in place, as with `git rebase --quit`.
//! 3. All tracked files and the index are reset to HEAD, in one transaction in which each file must still be identical
//!    to its saved version.
//! 4. `git switch` checks out the target, without overwriting files that git does not have.
//!
//! Untracked files stay, unless they are saved and obstruct the target. Commits that their branch loses are kept on a
//! branch of their own.
//!
//! ```text
//! main at 1a2b3c4 (2 local commits, rebase in progress)  ->  main at origin/main, recovered/main-20260101T120000Z
//! ```

use std::collections::BTreeSet;

use super::create_backup::SavedBackup;
use super::secret_files;
use super::target::RecoveryTarget;
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_git::Tools;
use xtask_git::{
    AllPaths, FileMode, Id, IndexStatus, Operation, OperationKind, Repo, TreeEntry, TreeItem,
    WorktreeItem,
};
use xtask_sync::apply::apply_transaction;
use xtask_sync::backup::{SavedFile, SavedStaged};
use xtask_sync::overlay::{self, Overlay, StoredEntry};
use xtask_sync::transaction::{FileUpdate, PathUpdate, Transaction};
use xtask_sync::worktree_lock::LockWorktree as _;

/// The maximum number of nested operations, e.g. a cherry-pick within a rebase within a bisect.
const MOST_OPERATIONS: usize = 5;

/// The maximum number of names in one line.
const SHOWN_NAMES: usize = 5;

/// The placeholder for the branch name if HEAD is detached.
pub const DETACHED_HEAD: &str = "HEAD";

/// Returns the name of the branch that keeps lost commits of `branch`.
#[must_use]
pub fn recovered_branch_name(branch: &str, now: i64) -> String {
    format!("recovered/{branch}-{}", format_compact_time(now))
}

/// Returns an error if a reset would lose data or is obstructed: tracked files that could not be saved, and unsaved
/// files at paths that the target needs. Read-only.
pub fn check_reset(
    repo: &Repo,
    saved: &SavedBackup,
    recovery_target: &RecoveryTarget,
) -> Result<()> {
    if !saved.unsaved_tracked.is_empty() {
        let names: Vec<String> = saved.unsaved_tracked.iter().map(ToString::to_string).collect();
        return Err(Error::unable(format!(
            "some changes cannot be saved, so nothing was replaced: {}",
            join_names(&names, SHOWN_NAMES)
        ))
        .with_hint("commit or fix them, and run this again"));
    }
    let in_the_way = find_obstacles(repo, saved, repo.tree_of(recovery_target.commit)?)?;
    if in_the_way.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
    Err(Error::unable(format!(
        "unsaved files in the way of `{}`: {}",
        recovery_target.typed,
        join_names(&names, SHOWN_NAMES)
    ))
    .with_hint("move them away, and run this again; nothing was replaced"))
}

/// Returns the unsaved, uncommitted files at paths that the target needs.
fn find_obstacles(repo: &Repo, saved: &SavedBackup, to: Id) -> Result<Vec<RepoPath>> {
    let head = repo.head()?;
    let is_saved = |path: &RepoPath| {
        saved.file_entries.contains_key(path) || saved.copies.iter().any(|copy| copy.path == *path)
    };
    let mut alone = Vec::new();
    for (path, pair) in repo.compare_trees(Some(head.tree), Some(to), &AllPaths)? {
        if pair.two.is_none() || pair.one.is_some() {
            continue;
        }
        let above: Vec<RepoPath> = path.ancestors().collect();
        let nearest = std::iter::once(path.clone()).chain(above);
        let there = nearest
            .filter_map(|path| {
                Some((path.to_disk_path(repo.root()).symlink_metadata().ok()?, path))
            })
            .next();
        match there {
            Some((meta, at)) if !meta.is_dir() => alone.push(at),
            // A folder at the path of a new file: all files in it would be removed.
            Some((_, at)) if at == path => alone.extend(list_files_below(repo, &at)),
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    for path in alone {
        if !is_saved(&path) && repo.entry_at(head.tree, &path)?.is_none() {
            found.insert(path);
        }
    }
    Ok(found.into_iter().collect())
}

fn list_files_below(repo: &Repo, folder: &RepoPath) -> Vec<RepoPath> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut open = vec![folder.clone()];
    let mut found = Vec::new();
    while let Some(at) = open.pop() {
        let entries =
            std::fs::read_dir(at.to_disk_path(repo.root())).into_iter().flatten().flatten();
        for entry in entries {
            let path = [at.as_bytes(), b"/", entry.file_name().as_bytes()].concat();
            let path = RepoPath::new(path);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                _ => found.push(path),
            }
        }
    }
    found
}

/// Resets the worktree to `recovery_target`. The caller holds the worktree lock and has made the backup `saved`. Returns the
/// branches on which commits were kept.
pub fn reset_worktree(
    repo: &Repo,
    tools: &Tools<'_>,
    saved: &SavedBackup,
    recovery_target: &RecoveryTarget,
) -> Result<Vec<String>> {
    check_reset(repo, saved, recovery_target)?;
    if saved.operation != repo.current_operation() {
        return Err(Error::unable(
            "a git operation has started or ended concurrently; nothing was replaced",
        )
        .with_hint("run this again"));
    }
    let to = repo.tree_of(recovery_target.commit)?;
    // Ending a bisect checks out a commit, which requires an index without conflicts.
    quit_operations(repo, tools, &|operation| operation.kind != OperationKind::Bisect)?;
    clean_worktree(repo, tools, saved, to)?;
    quit_operations(repo, tools, &|_| true)?;
    tools
        .disk
        .check_gate("remove notes of git")
        .with_context(|| "cannot remove state files of git")?;
    repo.remove_operation_files(&saved.traces, tools.disk)?;
    let kept = keep_lost_commits(repo, tools, saved, recovery_target)?;
    check_out_target(repo, tools, recovery_target)?;
    if recovery_target.is_at(&repo.head()?) {
        return Ok(kept);
    }
    Err(Error::unable(format!("`{}` was moved concurrently", recovery_target.typed))
        .with_hint("run this again"))
}

/// Passes the result of a reset to `say`: the target, and the branches on which commits were kept.
pub fn report_reset(
    repo: &Repo,
    recovery_target: &RecoveryTarget,
    kept: &[String],
    say: &dyn Fn(&str),
) {
    say(&format!("checked out {}", recovery_target.describe(repo)));
    for branch in kept {
        say(&format!("commits that were on no branch are kept on `{branch}`"));
    }
}

fn check_step(tools: &Tools<'_>, name: &'static str) -> Result<()> {
    tools.disk.check_gate(name).with_context(|| format!("cannot {name}"))
}

/// Keeps the commits that their branch, or a detached HEAD, loses. Returns the branches on which they are.
fn keep_lost_commits(
    repo: &Repo,
    tools: &Tools<'_>,
    saved: &SavedBackup,
    recovery_target: &RecoveryTarget,
) -> Result<Vec<String>> {
    let now = tools.world.now_seconds();
    let mut kept = Vec::new();
    if let (Some(branch), Some(from)) = (&recovery_target.branch, recovery_target.branch_before)
        && recovery_target.own_commits > 0
    {
        check_step(tools, "keep commits on a branch")?;
        kept.push(keep_commits(repo, branch, from, now)?);
    }
    if let Some(loose) = find_unreferenced_commit(repo, saved.operation)? {
        check_step(tools, "keep commits on a branch")?;
        kept.push(keep_commits(repo, DETACHED_HEAD, loose, now)?);
    }
    Ok(kept)
}

/// Checks out the target in a clean worktree. Its branch is created or moved if necessary.
fn check_out_target(
    repo: &Repo,
    tools: &Tools<'_>,
    recovery_target: &RecoveryTarget,
) -> Result<()> {
    if let Some(branch) = &recovery_target.branch
        && repo.resolve_ref(&format!("refs/heads/{branch}"))?.is_none()
    {
        check_step(tools, "make the branch")?;
        match &recovery_target.remote_branch {
            Some(remote) => repo.create_tracking_branch(branch, remote)?,
            None => {
                let name = format!("refs/heads/{branch}");
                repo.create_ref(&name, recovery_target.commit, "xtask: restore")?;
            }
        }
    }
    if recovery_target.is_at(&repo.head()?) {
        return Ok(());
    }
    check_step(tools, "switch")?;
    // To the commit first, so that git checks every file; the branch is moved only after that.
    repo.switch_to(None, recovery_target.commit)?;
    let Some(branch) = &recovery_target.branch else { return Ok(()) };
    if let Some(from) = recovery_target.branch_before {
        check_step(tools, "move the branch")?;
        let name = format!("refs/heads/{branch}");
        if !repo.swap_ref(&name, Some(from), Some(recovery_target.commit), "xtask: recover")? {
            return Err(Error::unable(format!(
                "`{branch}` was updated concurrently; it was not reset"
            )));
        }
    }
    repo.switch_to(Some(branch), recovery_target.commit)
}

/// Returns the commit of a detached HEAD if no branch or tag contains it. Commits of an operation in progress are kept
/// by the backup instead.
pub fn find_unreferenced_commit(repo: &Repo, operation: Option<Operation>) -> Result<Option<Id>> {
    let head = repo.head()?;
    if head.branch.is_some() || operation.is_some() {
        return Ok(None);
    }
    let mut tips = Vec::new();
    for prefix in ["refs/heads/", "refs/remotes/", "refs/tags/"] {
        tips.extend(repo.refs_below(prefix)?.into_iter().map(|(_, id)| id));
    }
    Ok((!repo.commits_beyond(&tips, head.commit)?.is_empty()).then_some(head.commit))
}

/// Ends the git operations in progress for which `ends` is true, from the innermost outwards.
fn quit_operations(
    repo: &Repo,
    tools: &Tools<'_>,
    ends: &dyn Fn(&Operation) -> bool,
) -> Result<()> {
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = repo.current_operation().filter(|operation| ends(operation)) else {
            return Ok(());
        };
        tools.disk.check_gate("end an operation").with_context(|| "cannot end a git operation")?;
        repo.quit_operation(&operation)?;
    }
    Err(Error::unable("the git operation in progress does not end")
        .with_hint("`git status` shows it"))
}

fn keep_commits(repo: &Repo, branch: &str, from: Id, now: i64) -> Result<String> {
    let first = recovered_branch_name(branch, now);
    let more = (2..100).map(|number| format!("{first}-{number}"));
    for name in std::iter::once(first.clone()).chain(more) {
        let reference = format!("refs/heads/{name}");
        match repo.resolve_ref(&reference)? {
            Some(id) if id == from => return Ok(name),
            Some(_) => {}
            None => {
                repo.create_ref(&reference, from, "xtask: recover")?;
                return Ok(name);
            }
        }
    }
    Err(Error::unable(format!("cannot create a branch `{first}` for the commits of `{branch}`")))
}

/// Resets every tracked path to HEAD, and removes saved untracked files that obstruct the target.
fn clean_worktree(repo: &Repo, tools: &Tools<'_>, saved: &SavedBackup, to: Id) -> Result<()> {
    let head = repo.head()?.tree;
    let index = repo.read_index()?;
    let present = overlay::read_overlay(repo)?;
    let mut changes = Vec::new();
    for file in &saved.files {
        let path = &file.path;
        let committed = repo.entry_at(head, path)?;
        // A file with `skip-worktree` or `assume-unchanged` stays, unless the target has a different version.
        if saved.overlooked.contains(path) && repo.entry_at(to, path)? == committed {
            continue;
        }
        let staged = repo.staged_status(&index, path)?;
        check_staged(file, staged, committed)?;
        let is_in_the_way =
            present.paths.contains_key(path) || is_needed_by_any(repo, [head, to], path)?;
        let now = saved.file_entries.get(path).copied().flatten();
        changes.extend(plan_reset(path, staged, committed, is_in_the_way, now));
    }
    let overlay = (!present.paths.is_empty()).then(Overlay::default);
    if !changes.is_empty() || overlay.is_some() {
        let purpose = "recover".to_owned();
        let batch = Transaction { purpose, changes, head: None, overlay, backup: None };
        let bisecting = Tools { finishing_operation: Some(OperationKind::Bisect), ..*tools };
        apply_transaction(&bisecting.apply_context(repo), &batch, Some(index))?;
        repo.refresh_index()?;
    }
    for copy in &saved.copies {
        // Tracked files were already reset to HEAD.
        let is_tracked = saved.files.iter().any(|file| file.path == copy.path)
            || repo.entry_at(head, &copy.path)?.is_some();
        if !is_tracked && !copy.is_gone && is_needed_by_any(repo, [head, to], &copy.path)? {
            secret_files::remove_if_saved(repo, tools.disk, copy)?;
        }
    }
    Ok(())
}

/// Plans the reset of one path to its `committed` entry. Returns `None` for an untracked file that may stay.
fn plan_reset(
    path: &RepoPath,
    staged: IndexStatus,
    committed: Option<TreeEntry>,
    is_in_the_way: bool,
    now: Option<TreeEntry>,
) -> Option<PathUpdate> {
    let is_tracked = committed.is_some() || staged != IndexStatus::Absent;
    if !is_tracked && !is_in_the_way {
        return None;
    }
    // A file added with `git add --intent-to-add` stays as an untracked file.
    let is_intended = staged == IndexStatus::IntentToAdd;
    let file = match committed {
        Some(entry) if entry.mode != FileMode::Gitlink => FileUpdate::CheckOut(entry),
        Some(_) => FileUpdate::None,
        // A new file is removed only if it obstructs the target or was staged.
        None if now.is_some() && (is_in_the_way || is_tracked && !is_intended) => {
            FileUpdate::Remove
        }
        None => FileUpdate::None,
    };
    Some(PathUpdate {
        path: path.clone(),
        file,
        expected: now,
        expected_stat: None,
        stages: is_tracked.then_some(committed),
        is_sparse: false,
    })
}

fn is_needed_by_any(repo: &Repo, trees: [Id; 2], path: &RepoPath) -> Result<bool> {
    let [one, two] = trees;
    Ok(needs_path(repo, one, path)? || needs_path(repo, two, path)?)
}

/// Returns an error if the index entry has changed since the backup.
fn check_staged(file: &SavedFile, now: IndexStatus, committed: Option<TreeEntry>) -> Result<()> {
    let is_as_saved = match &file.staged {
        SavedStaged::AsHead => now.entry() == committed || now == IndexStatus::IntentToAdd,
        SavedStaged::Removed => now == IndexStatus::Absent,
        SavedStaged::Entry(kept) => now.entry().is_some() && now.entry() == kept.to_entry(),
        SavedStaged::Conflict(_) => now == IndexStatus::Conflict,
    };
    if is_as_saved {
        return Ok(());
    }
    let path = &file.path;
    let what =
        format!("the staged version of `{path}` was changed concurrently; nothing was replaced");
    Err(Error::unable(what).with_hint("run this again"))
}

/// Converts a stored entry. Returns an error if the entry is invalid.
pub(super) fn to_sound_entry(
    kept: &Option<StoredEntry>,
    path: &RepoPath,
) -> Result<Option<TreeEntry>> {
    match kept {
        None => Ok(None),
        Some(kept) => kept
            .to_entry()
            .map(Some)
            .ok_or_else(|| Error::unable(format!("cannot read the backup of `{path}`"))),
    }
}

/// Returns whether a tree needs `path`: for a file, for a folder, or for a file at a parent path.
fn needs_path(repo: &Repo, tree: Id, path: &RepoPath) -> Result<bool> {
    if repo.find_in_tree(tree, path)?.is_some() {
        return Ok(true);
    }
    for above in path.ancestors() {
        match repo.find_in_tree(tree, &above)? {
            Some(TreeItem::Entry(_)) => return Ok(true),
            Some(TreeItem::Folder(_)) => return Ok(false),
            None => {}
        }
    }
    Ok(false)
}

/// Describes the obstacle that keeps a file from being written to its path, if any.
pub(super) fn describe_path_obstacle(work: &WorktreeItem) -> Option<String> {
    match work {
        WorktreeItem::Absent | WorktreeItem::Present(_) => None,
        WorktreeItem::Folder => Some("a folder is in its place".to_owned()),
        WorktreeItem::Special => Some("a device, pipe or socket is in its place".to_owned()),
        WorktreeItem::BelowSymlink(link) => Some(format!("`{link}` is a symlink now")),
        WorktreeItem::BelowFile(file) => Some(format!("`{file}` is a file now")),
    }
}
