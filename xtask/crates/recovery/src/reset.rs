//! From whatever state a worktree is in to a clean one at a named commit.
//!
//! First it is looked whether anything that nobody has saved would be in the way: then nothing happens at all.
//! What git is in the middle of is ended where it stands. Every tracked file that differs goes back to what
//! HEAD holds, and so does the index, in one transaction in which each file must still be what was saved. Then
//! git itself switches, and overwrites nothing that it does not have. Files that are not tracked stay, but for
//! those that are in the way and were saved. Commits that leave their branch stay on one of their own.

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

/// How many operations can be under way at once: a pick within a rebase within a bisect.
const MOST_OPERATIONS: usize = 5;

/// How many names are told in one line.
const SHOWN_NAMES: usize = 5;

/// What stands for the branch where HEAD is detached.
pub const DETACHED_HEAD: &str = "HEAD";

/// The name of the branch that keeps commits which leave theirs.
#[must_use]
pub fn recovered_branch_name(branch: &str, now: i64) -> String {
    format!("recovered/{branch}-{}", format_compact_time(now))
}

/// Refuses where something would be lost or is in the way: what git tracks and could not be saved, and files
/// that the goal needs the place of and nobody has saved. Nothing has been changed then.
pub fn check_reset(repo: &Repo, saved: &SavedBackup, goal: &RecoveryTarget) -> Result<()> {
    if !saved.unsaved_tracked.is_empty() {
        let names: Vec<String> = saved.unsaved_tracked.iter().map(ToString::to_string).collect();
        return Err(Error::unable(format!(
            "not all changes can be saved, so nothing is replaced: {}",
            join_names(&names, SHOWN_NAMES)
        ))
        .with_hint("commit them, or put them right, and run this again"));
    }
    let in_the_way = find_obstacles(repo, saved, repo.tree_of(goal.commit)?)?;
    if in_the_way.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
    Err(Error::unable(format!(
        "in the way of `{}`, and not saved: {}",
        goal.typed,
        join_names(&names, SHOWN_NAMES)
    ))
    .with_hint("move them away, and run this again; nothing was replaced"))
}

/// The paths that the goal brings and where something lies that neither HEAD holds nor was saved.
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
            // A folder where a file comes: all that is in it must go.
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

/// Goes there. The caller holds the lock of the worktree, has saved what is here and has asked `check`.
/// Answers with the branches on which commits were kept.
pub fn reset_worktree(
    repo: &Repo,
    tools: &Tools<'_>,
    saved: &SavedBackup,
    goal: &RecoveryTarget,
) -> Result<Vec<String>> {
    check_reset(repo, saved, goal)?;
    if saved.operation != repo.current_operation().map(|operation| operation.name) {
        return Err(Error::unable(
            "git has begun or ended something meanwhile; nothing was replaced",
        )
        .with_hint("run this again"));
    }
    let now = tools.world.now_seconds();
    let to = repo.tree_of(goal.commit)?;
    // A bisect ends with a checkout, for which the index must be without conflicts.
    quit_operations(repo, tools, &|operation| {
        operation.kind != OperationKind::Other || !is_bisect(operation)
    })?;
    clean_worktree(repo, tools, saved, to)?;
    quit_operations(repo, tools, &|_| true)?;
    tools
        .disk
        .check_gate("remove notes of git")
        .with_context(|| "notes of git cannot be removed")?;
    repo.remove_operation_files(&saved.traces, tools.disk)?;
    let step = |name| tools.disk.check_gate(name).with_context(|| format!("cannot {name}"));
    let mut kept = Vec::new();
    if let (Some(branch), Some(from)) = (&goal.branch, goal.branch_before)
        && goal.own_commits > 0
    {
        step("keep commits on a branch")?;
        kept.push(keep_commits(repo, branch, from, now)?);
    }
    if let Some(loose) = find_unreferenced_commit(repo, saved.operation)? {
        step("keep commits on a branch")?;
        kept.push(keep_commits(repo, DETACHED_HEAD, loose, now)?);
    }
    if let Some(branch) = &goal.branch
        && repo.resolve_ref(&format!("refs/heads/{branch}"))?.is_none()
    {
        step("make the branch")?;
        match &goal.remote_branch {
            Some(remote) => repo.create_tracking_branch(branch, remote)?,
            None => {
                let name = format!("refs/heads/{branch}");
                repo.create_ref(&name, goal.commit, "xtask: restore")?;
            }
        }
    }
    let head = repo.head()?;
    if head.branch != goal.branch || head.commit != goal.commit {
        step("switch")?;
        // To the commit first, so that git looks at every file; the branch moves when it is there.
        repo.switch_to(None, goal.commit)?;
        if let Some(branch) = &goal.branch {
            if let Some(from) = goal.branch_before {
                step("move the branch")?;
                let name = format!("refs/heads/{branch}");
                let moved =
                    repo.swap_ref(&name, Some(from), Some(goal.commit), "xtask: recover")?;
                if !moved {
                    return Err(Error::unable(format!(
                        "`{branch}` was moved meanwhile, and stays"
                    )));
                }
            }
            repo.switch_to(Some(branch), goal.commit)?;
        }
    }
    let head = repo.head()?;
    if head.branch == goal.branch && head.commit == goal.commit {
        return Ok(kept);
    }
    Err(Error::unable(format!("`{}` was moved meanwhile", goal.typed)).with_hint("run this again"))
}

/// The commit of a detached HEAD that no branch or tag has. What an operation has made so far is its own, and is
/// kept by the backup.
pub fn find_unreferenced_commit(
    repo: &Repo,
    operation: Option<&'static str>,
) -> Result<Option<Id>> {
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

fn is_bisect(operation: &Operation) -> bool {
    operation.abort_command == operation.continue_command
}

/// Ends what git is in the middle of, one within the other, as far as it is asked for.
fn quit_operations(
    repo: &Repo,
    tools: &Tools<'_>,
    ends: &dyn Fn(&Operation) -> bool,
) -> Result<()> {
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = repo.current_operation().filter(|operation| ends(operation)) else {
            return Ok(());
        };
        tools
            .disk
            .check_gate("end an operation")
            .with_context(|| "an operation cannot be ended")?;
        repo.quit_operation(&operation)?;
    }
    Err(Error::unable("what git is in the middle of does not end")
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
    Err(Error::unable(format!("no branch `{first}` can be made for the commits of `{branch}`")))
}

/// Puts every tracked path back to what HEAD holds, and takes away what is not tracked and in the way.
fn clean_worktree(repo: &Repo, tools: &Tools<'_>, saved: &SavedBackup, to: Id) -> Result<()> {
    let head = repo.head()?;
    let index = repo.read_index()?;
    let laid = overlay::read_overlay(repo)?;
    let is_needed = |path: &RepoPath| -> Result<bool> {
        Ok(needs_path(repo, head.tree, path)? || needs_path(repo, to, path)?)
    };
    let mut changes = Vec::new();
    for file in &saved.files {
        let path = &file.path;
        let committed = repo.entry_at(head.tree, path)?;
        // What git is told to overlook stays, unless the goal has something else there.
        if saved.overlooked.contains(path) && repo.entry_at(to, path)? == committed {
            continue;
        }
        let staged = repo.staged_status(&index, path)?;
        check_staged(file, staged, committed)?;
        let is_tracked = committed.is_some() || staged != IndexStatus::Absent;
        let is_in_the_way = laid.paths.contains_key(path) || is_needed(path)?;
        if !is_tracked && !is_in_the_way {
            continue;
        }
        // One that was announced without a content stays as a file that is not tracked.
        let is_intended = staged == IndexStatus::IntentToAdd;
        let expects = saved.file_entries.get(path).copied().flatten();
        let change = match committed {
            Some(entry) if entry.mode != FileMode::Gitlink => FileUpdate::CheckOut(entry),
            Some(_) => FileUpdate::None,
            // What is new goes only if it is in the way, or was on its way into a commit.
            None if expects.is_some() && (is_in_the_way || is_tracked && !is_intended) => {
                FileUpdate::Remove
            }
            None => FileUpdate::None,
        };
        let stages = is_tracked.then_some(committed);
        let path = path.clone();
        changes.push(PathUpdate {
            path,
            file: change,
            expected: expects,
            expected_stat: None,
            stages,
            is_sparse: false,
        });
    }
    let overlay = (!laid.paths.is_empty()).then(Overlay::default);
    if !changes.is_empty() || overlay.is_some() {
        let purpose = "recover".to_owned();
        let batch = Transaction { purpose, changes, head: None, overlay, backup: None };
        let bisecting = Tools { finishing_operation: Some(OperationKind::Other), ..*tools };
        apply_transaction(&bisecting.apply_context(repo), &batch, Some(index))?;
        repo.refresh_index()?;
    }
    for copy in &saved.copies {
        // What git tracks has gone back to what HEAD holds, or is that already.
        let is_tracked = saved.files.iter().any(|file| file.path == copy.path)
            || repo.entry_at(head.tree, &copy.path)?.is_some();
        if !is_tracked && !copy.is_gone && is_needed(&copy.path)? {
            secret_files::remove_if_saved(repo, tools.disk, copy)?;
        }
    }
    Ok(())
}

/// Refuses where something else is staged now than what was saved.
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
    let what = format!("what is staged for `{path}` was changed meanwhile; nothing was replaced");
    Err(Error::unable(what).with_hint("run this again"))
}

/// The entry that was kept, if it is sound.
pub(super) fn to_sound_entry(
    kept: &Option<StoredEntry>,
    path: &RepoPath,
) -> Result<Option<TreeEntry>> {
    match kept {
        None => Ok(None),
        Some(kept) => kept
            .to_entry()
            .map(Some)
            .ok_or_else(|| Error::unable(format!("the backup of `{path}` cannot be read"))),
    }
}

/// Whether a tree needs the place of a path: for a file, for a folder, or for a file above it.
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

/// What keeps a file from being written where it was, in words.
pub(super) fn describe_path_obstacle(work: &WorktreeItem) -> Option<String> {
    match work {
        WorktreeItem::Absent | WorktreeItem::Present(_) => None,
        WorktreeItem::Folder => Some("a folder is in its place".to_owned()),
        WorktreeItem::Special => Some("what is in its place is no file".to_owned()),
        WorktreeItem::BelowSymlink(link) => Some(format!("`{link}` is a symlink now")),
        WorktreeItem::BelowFile(file) => Some(format!("`{file}` is a file now")),
    }
}
