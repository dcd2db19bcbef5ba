//! What keeps a path from being written, whatever its class: a dangerous name, a submodule, another
//! path in its place; and where files are written, what the file system or Git LFS cannot do.

use std::collections::{BTreeMap, BTreeSet};

use super::classify::Obstacle;
use super::context::Context;
use super::managed::Managed;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{Below, Entry, Head, LookedUp, Mode, Pair, Repo, collisions, unsafe_name};

/// Where a path is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In the working tree.
    OnDisk,
    /// In a tree of git's alone, where any name and any content can stand.
    InTree,
}

/// What keeps paths from being written, whatever their class.
pub fn obstacles(
    repo: &Repo,
    head: &Head,
    context: &Context,
    managed: &Managed,
    differing: &BTreeMap<RepoPath, Pair>,
    place: Where,
) -> Result<BTreeMap<RepoPath, Obstacle>> {
    let mut found = BTreeMap::new();
    if differing.is_empty() {
        return Ok(found);
    }
    let is_on_disk = place == Where::OnDisk;
    let same_names = if is_on_disk && repo.setting_is("core.ignoreCase", false) {
        let mut names: BTreeSet<RepoPath> = differing.keys().cloned().collect();
        names.extend(repo.list_tree(context.canonical.tree, managed)?.into_keys());
        collisions(&names).into_iter().map(|(one, other)| (one.clone(), other.clone())).collect()
    } else {
        BTreeMap::new()
    };
    let needs_lfs = is_on_disk && !repo.has_lfs();
    let mut lfs_folders = BTreeMap::new();
    for (path, pair) in differing {
        let is_gitlink = |entry: Option<Entry>| entry.is_some_and(|e| e.mode == Mode::Gitlink);
        let obstacle = if let Some(why) = unsafe_name(path) {
            Obstacle::UnsafeName(why)
        } else if is_gitlink(pair.one) || is_gitlink(pair.two) {
            Obstacle::Submodule
        } else if let Some(other) = same_names.get(path) {
            Obstacle::SameNameAs(other.clone())
        } else if let Some(other) = in_the_way(repo, head, path, pair, differing)? {
            Obstacle::InTheWay(other)
        } else if needs_lfs
            && let Some(entry) = pair.two
            && entry.mode != Mode::Symlink
            && repo.is_in_lfs(context.canonical.tree, path, entry, &mut lfs_folders)?
        {
            Obstacle::NoLfs
        } else {
            continue;
        };
        found.insert(path.clone(), obstacle);
    }
    Ok(found)
}

/// What the branch has where a new path needs a folder, or below where it needs a file. What the
/// canonical commit removes in the same go is not in the way, as long as the plan lets it go.
fn in_the_way(
    repo: &Repo,
    head: &Head,
    path: &RepoPath,
    pair: &Pair,
    differing: &BTreeMap<RepoPath, Pair>,
) -> Result<Option<RepoPath>> {
    if pair.one.is_some() || pair.two.is_none() {
        return Ok(None);
    }
    for folder in path.ancestors() {
        match repo.look_up(head.tree, &folder)? {
            Some(LookedUp::Entry(_)) => return Ok((!goes(&folder, differing)).then_some(folder)),
            Some(LookedUp::Folder(_)) => break,
            None => {}
        }
    }
    if let Some(LookedUp::Folder(_)) = repo.look_up(head.tree, path)? {
        let below = repo.list_tree(head.tree, &Below(path))?;
        return Ok(below.into_keys().find(|path| !goes(path, differing)));
    }
    Ok(None)
}

/// Whether the canonical commit removes what HEAD holds at a path.
pub fn goes(path: &RepoPath, differing: &BTreeMap<RepoPath, Pair>) -> bool {
    differing.get(path).is_some_and(|pair| pair.one.is_some() && pair.two.is_none())
}
