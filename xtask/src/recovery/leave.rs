//! From whatever state a worktree is in to a clean one at a named commit.
//!
//! What git is in the middle of is ended where it stands. Every tracked file that differs goes back to what
//! HEAD holds, and so does the index, in one transaction in which each file must still be what was saved. Then
//! git itself switches, and overwrites nothing that it does not have. Files that are not tracked stay, but for
//! those that are in the way and were saved. Commits that leave their branch stay on one of their own.

use std::collections::BTreeSet;

use super::goal::Goal;
use super::save::Saved;
use crate::base::error::{Context as _, Error, Result};
use crate::base::path::RepoPath;
use crate::base::words::some_of;
use crate::base::world::compact;
use crate::repo::{Entry, Id, LookedUp, Mode, Repo, Work};
use crate::sync::apply::apply;
use crate::sync::backup::{SavedFile, SavedStaged};
use crate::sync::batch::{Batch, Change, FileChange};
use crate::sync::overlay::{self, KeptEntry, Overlay};
use crate::sync::run::Tools;

/// The name of the branch that keeps commits which leave theirs.
#[must_use]
pub fn kept_name(branch: &str, now: i64) -> String {
    format!("recovered/{branch}-{}", compact(now))
}

/// Refuses where something that git tracks could not be saved: it would be lost.
pub fn check(saved: &Saved) -> Result<()> {
    if saved.unsaved.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = saved.unsaved.iter().map(ToString::to_string).collect();
    Err(Error::unable(format!(
        "not all changes can be saved, so nothing is replaced: {}",
        some_of(&names, 5)
    ))
    .hint("commit them, or put them right, and run this again"))
}

/// Goes there. The caller holds the lock of the worktree and has saved what is here. Answers with the branch
/// on which commits were kept.
pub fn go(repo: &Repo, tools: &Tools<'_>, saved: &Saved, goal: &Goal) -> Result<Option<String>> {
    check(saved)?;
    if let Some(operation) = repo.operation() {
        tools.disk.other("end an operation").unable(|| "an operation cannot be ended")?;
        repo.quit(&operation)?;
    }
    clean(repo, tools, saved, repo.tree_of(goal.commit)?)?;
    let step = |name| tools.disk.other(name).unable(|| format!("cannot {name}"));
    let kept = match (&goal.branch, goal.from) {
        (Some(branch), Some(from)) if goal.own > 0 => {
            step("keep commits on a branch")?;
            Some(keep(repo, branch, from, tools.world.now_seconds())?)
        }
        _ => None,
    };
    if let (Some(branch), Some(remote)) = (&goal.branch, &goal.made_from) {
        step("make the branch")?;
        repo.make_tracking_branch(branch, remote)?;
    }
    let head = repo.head()?;
    let is_there = match &goal.branch {
        Some(branch) => head.branch.as_ref() == Some(branch),
        None => head.branch.is_none() && head.commit == goal.commit,
    };
    if !is_there {
        step("switch")?;
        repo.switch_to(goal.branch.as_deref(), goal.commit)?;
    }
    move_to(repo, tools, goal)?;
    Ok(kept)
}

/// Moves the branch that is checked out to the goal.
fn move_to(repo: &Repo, tools: &Tools<'_>, goal: &Goal) -> Result<()> {
    if repo.head()?.commit == goal.commit || goal.from.is_none() {
        return Ok(());
    }
    tools.disk.other("move the branch").unable(|| "the branch cannot be moved")?;
    let moved = match goal.own {
        0 => repo.fast_forward(goal.commit)?,
        _ => repo.reset_keep(&goal.commit.to_string())?,
    };
    if moved.status.success() {
        return Ok(());
    }
    Err(Error::unable(format!("the branch cannot be moved to `{}`", goal.typed))
        .detail(moved.stderr))
}

fn keep(repo: &Repo, branch: &str, from: Id, now: i64) -> Result<String> {
    let first = kept_name(branch, now);
    let more = (2..100).map(|number| format!("{first}-{number}"));
    for name in std::iter::once(first.clone()).chain(more) {
        let reference = format!("refs/heads/{name}");
        match repo.resolve(&reference)? {
            Some(id) if id == from => return Ok(name),
            Some(_) => {}
            None => {
                repo.create_ref(&reference, from, "xtask: recover", now)?;
                return Ok(name);
            }
        }
    }
    Err(Error::unable(format!("no branch `{first}` can be made for the commits of `{branch}`")))
}

/// Puts every tracked path back to what HEAD holds, and takes away what is not tracked and in the way.
pub fn clean(repo: &Repo, tools: &Tools<'_>, saved: &Saved, to: Id) -> Result<()> {
    let head = repo.head()?;
    let index = repo.index()?;
    let overlooked: BTreeSet<RepoPath> = repo.changes()?.overlooked.into_iter().collect();
    let mut changes = Vec::new();
    for file in saved.files.iter().filter(|file| !overlooked.contains(&file.path)) {
        let committed = repo.entry_at(head.tree, &file.path)?;
        let is_tracked = committed.is_some() || file.staged != SavedStaged::AsHead;
        let expects = sound(&file.file, &file.path)?;
        let is_in_the_way = stands_in_the_way(repo, head.tree, &file.path)?
            || stands_in_the_way(repo, to, &file.path)?;
        // One that was announced without a content is tracked by its name alone.
        let is_intended = !is_tracked && index.at(&file.path) != crate::repo::Indexed::Absent;
        if !is_tracked && !is_in_the_way && !is_intended {
            continue;
        }
        let change = match committed {
            Some(entry) if entry.mode != Mode::Gitlink => FileChange::CheckOut(entry),
            Some(_) => FileChange::None,
            // What is new goes only if it is in the way, or was on its way into a commit.
            None if expects.is_some() && (is_tracked || is_in_the_way) => FileChange::Remove,
            None => FileChange::None,
        };
        let stages = (is_tracked || is_intended).then_some(committed);
        let path = file.path.clone();
        changes.push(Change { path, file: change, expects, look: None, stages, is_sparse: false });
    }
    let overlay = overlay::read(repo)?;
    let overlay = (!overlay.paths.is_empty()).then(Overlay::default);
    if changes.is_empty() && overlay.is_none() {
        return Ok(());
    }
    let purpose = "recover".to_owned();
    let batch = Batch { purpose, changes, head: None, overlay, backup: None };
    apply(&tools.applier(repo), &batch, Some(index)).map(drop)
}

/// The entry that was kept, if it is sound.
pub(super) fn sound(kept: &Option<KeptEntry>, path: &RepoPath) -> Result<Option<Entry>> {
    match kept {
        None => Ok(None),
        Some(kept) => kept
            .entry()
            .map(Some)
            .ok_or_else(|| Error::unable(format!("the backup of `{path}` cannot be read"))),
    }
}

/// Whether a tree needs the place of a path: for a file, for a folder, or for a file above it.
fn stands_in_the_way(repo: &Repo, tree: Id, path: &RepoPath) -> Result<bool> {
    if repo.look_up(tree, path)?.is_some() {
        return Ok(true);
    }
    for above in path.ancestors() {
        match repo.look_up(tree, &above)? {
            Some(LookedUp::Entry(_)) => return Ok(true),
            Some(LookedUp::Folder(_)) => return Ok(false),
            None => {}
        }
    }
    Ok(false)
}

/// What keeps a file from being written where it was, in words.
pub(super) fn barred(work: &Work) -> Option<String> {
    match work {
        Work::Absent | Work::Present(_) => None,
        Work::Folder => Some("a folder is in its place".to_owned()),
        Work::Special => Some("what is in its place is no file".to_owned()),
        Work::BelowSymlink(link) => Some(format!("`{link}` is a symlink now")),
        Work::BelowFile(file) => Some(format!("`{file}` is a file now")),
    }
}

/// Whether a saved file was tracked when it was saved.
#[must_use]
pub fn is_staged(file: &SavedFile) -> bool {
    file.staged != SavedStaged::AsHead
}
