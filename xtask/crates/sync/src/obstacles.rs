//! Obstacles that prevent writing a path, whatever its class: a dangerous name, a submodule, a file
//! in place of a folder (e.g. the branch's file `setup` for the new path `setup/a`); and on disk,
//! limits of the file system and missing Git LFS.

use std::collections::{BTreeMap, BTreeSet};

use super::classify::WriteObstacle;
use super::context::SyncContext;
use super::managed::ManagedPaths;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{
    EntryPair, FileMode, Head, PathsBelow, Repo, TreeEntry, TreeItem, find_case_collisions,
    unsafe_path_reason,
};

/// Target of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteTarget {
    /// The working tree.
    OnDisk,
    /// A git tree alone, which can contain any name and content.
    InTree,
}

/// Finds the obstacles among the `differing` paths.
pub fn find_obstacles(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    managed: &ManagedPaths,
    differing: &BTreeMap<RepoPath, EntryPair>,
    place: WriteTarget,
) -> Result<BTreeMap<RepoPath, WriteObstacle>> {
    let mut found = BTreeMap::new();
    if differing.is_empty() {
        return Ok(found);
    }
    let is_on_disk = place == WriteTarget::OnDisk;
    let same_names = if is_on_disk && repo.config_bool("core.ignoreCase", false) {
        let mut names: BTreeSet<RepoPath> = differing.keys().cloned().collect();
        names.extend(repo.list_tree(context.canonical.tree, managed)?.into_keys());
        find_case_collisions(&names)
            .into_iter()
            .map(|(one, other)| (one.clone(), other.clone()))
            .collect()
    } else {
        BTreeMap::new()
    };
    let needs_lfs = is_on_disk && !repo.has_lfs();
    let mut lfs_folders = BTreeMap::new();
    for (path, pair) in differing {
        let is_gitlink =
            |entry: Option<TreeEntry>| entry.is_some_and(|e| e.mode == FileMode::Gitlink);
        let obstacle = if let Some(why) = unsafe_path_reason(path) {
            WriteObstacle::UnsafeName(why)
        } else if is_gitlink(pair.one) || is_gitlink(pair.two) {
            WriteObstacle::Submodule
        } else if let Some(other) = same_names.get(path) {
            WriteObstacle::SameNameAs(other.clone())
        } else if let Some(other) = find_blocking_path(repo, head, path, pair, differing)? {
            WriteObstacle::InTheWay(other)
        } else if needs_lfs
            && let Some(entry) = pair.two
            && entry.mode != FileMode::Symlink
            && repo.is_in_lfs(context.canonical.tree, path, entry, &mut lfs_folders)?
        {
            WriteObstacle::NoLfs
        } else {
            continue;
        };
        found.insert(path.clone(), obstacle);
    }
    Ok(found)
}

/// Returns the branch's file that occupies a folder of a new path, or a file below a new path.
/// Paths that the canonical commit removes as well do not count, as long as the plan deletes them.
fn find_blocking_path(
    repo: &Repo,
    head: &Head,
    path: &RepoPath,
    pair: &EntryPair,
    differing: &BTreeMap<RepoPath, EntryPair>,
) -> Result<Option<RepoPath>> {
    if pair.one.is_some() || pair.two.is_none() {
        return Ok(None);
    }
    for folder in path.ancestors() {
        match repo.find_in_tree(head.tree, &folder)? {
            Some(TreeItem::Entry(_)) => {
                return Ok((!is_removed_in_canonical(&folder, differing)).then_some(folder));
            }
            Some(TreeItem::Folder(_)) => break,
            None => {}
        }
    }
    if let Some(TreeItem::Folder(_)) = repo.find_in_tree(head.tree, path)? {
        let below = repo.list_tree(head.tree, &PathsBelow(path))?;
        return Ok(below.into_keys().find(|path| !is_removed_in_canonical(path, differing)));
    }
    Ok(None)
}

/// Returns whether the canonical commit removes the path.
pub fn is_removed_in_canonical(path: &RepoPath, differing: &BTreeMap<RepoPath, EntryPair>) -> bool {
    differing.get(path).is_some_and(|pair| pair.one.is_some() && pair.two.is_none())
}
