//! Taking back what a run replaced.
//!
//! Each path goes back to the very bytes that it had, as long as it still is what the run made of
//! it; what has been changed since stays. The branch goes back where nothing came on top. An undo
//! makes a backup like any other run, so it can be undone.

use super::apply::{Applied, Applier, apply};
use super::backup::{self, Backup, Intent, Record, SavedPath, Unread};
use super::batch::{Batch, Change, FileChange, HeadMove};
use super::overlay::{self, KeptEntry, Overlay};
use super::way::once_gone;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::record::take_newer;
use xtask_git::{Entry, Head, Id, Mode, Repo, Ways, Work};

/// What an undo did.
#[derive(Debug)]
pub struct Undone {
    /// The backup that was brought back.
    pub backup: Backup,
    /// The paths that were brought back.
    pub restored: Vec<RepoPath>,
    /// The paths that were changed since and stay.
    pub kept: Vec<RepoPath>,
    /// Whether the branch went back, too.
    pub moved_branch: bool,
    /// Whether the run had moved the branch, and something came on top since.
    pub left_branch: bool,
    /// Its own backup.
    pub undo: Option<String>,
}

/// Finds a backup by its name, or the newest of this branch in this worktree; where that has none,
/// the newest of the worktree.
pub fn find(repo: &Repo, id: Option<&str>) -> Result<Backup> {
    let here = repo.worktree_name();
    let all = backup::list(repo)?;
    let found = match id {
        Some(id) => all.into_iter().find(|backup| backup.id == id).ok_or_else(|| {
            Error::usage(format!("there is no backup `{id}`")).hint("`cargo xtask undo --list`")
        })?,
        None => {
            let branch = repo.branch_name();
            let is_here = |backup: &&Backup| {
                let here =
                    |record: &Record| record.worktree_name == here && record.snapshot.is_none();
                backup.record.as_ref().is_ok_and(here)
            };
            let is_of_branch = |backup: &&Backup| {
                backup.record.as_ref().is_ok_and(|record| record.branch == branch)
            };
            let mut of_branch = all.iter().filter(is_here).filter(is_of_branch);
            let newest = of_branch.next().or_else(|| all.iter().find(is_here));
            // One that cannot be read may be of this branch as well.
            let is_newer = |backup: &&Backup| backup.record.as_ref().is_err_and(is_of_newer);
            let unread = all.iter().take_while(|one| newest.is_none_or(|it| it.id != one.id));
            if let Some(unread) = unread.into_iter().find(is_newer) {
                return Err(newer(unread).hint("`cargo xtask undo --list` shows those before it"));
            }
            newest.cloned().ok_or_else(|| {
                let error = Error::unable(
                    "no run has replaced anything in this worktree: there is nothing to undo",
                );
                let saved = all.iter().find(|backup| {
                    let is_saved = |r: &Record| r.worktree_name == here && r.snapshot.is_some();
                    backup.record.as_ref().is_ok_and(is_saved)
                });
                let error = match saved {
                    Some(saved) => error.hint(format!(
                        "`cargo xtask restore {}` brings back what was saved last",
                        saved.id
                    )),
                    None => error,
                };
                error.hint("`cargo xtask undo --list` shows the backups of all worktrees")
            })?
        }
    };
    let record = match &found.record {
        Ok(record) => record,
        Err(Unread::Newer) => return Err(newer(&found)),
        Err(Unread::Broken) => {
            let failed = format!("the record of backup `{}` cannot be read", found.id);
            return Err(Error::unable(failed).hint(shows(&found)));
        }
    };
    if record.snapshot.is_some() {
        return Err(Error::usage(format!("`{}` is a backup, not a run", found.id))
            .hint(format!("`cargo xtask restore {}` brings it back", found.id)));
    }
    if record.worktree_name != here {
        return Err(Error::usage(format!(
            "backup `{}` is of the worktree `{}`",
            found.id, record.worktree
        ))
        .hint(format!("`cargo xtask -C {} undo {}`", record.worktree, found.id)));
    }
    Ok(found)
}

fn is_of_newer(unread: &Unread) -> bool {
    *unread == Unread::Newer
}

fn newer(backup: &Backup) -> Error {
    Error::unable(format!("backup `{}` was written by a newer xtask", backup.id))
        .hint(take_newer("CANONICAL"))
        .hint(shows(backup))
}

fn shows(backup: &Backup) -> String {
    format!("`git ls-tree -r {}{}` shows what it holds", backup::PREFIX, backup.id)
}

/// Brings a backup back.
pub fn undo(applier: &Applier<'_>, head: &Head, backup: Backup) -> Result<Undone> {
    let repo = applier.repo;
    let record = backup.record.clone().expect("because `find` only answers with sound ones");
    let index = repo.index()?;
    let moves = moves_back(head, &record, applier);
    if record.branch != head.branch {
        return Err(Error::usage(format!(
            "backup `{}` is of {}, which is not checked out",
            backup.id,
            record.branch.as_ref().map_or("a detached HEAD".to_owned(), |b| format!("`{b}`"))
        ))
        .hint("switch to it first"));
    }
    let mut filters = repo.clean_filters(&index)?;
    let mut ways = Ways::default();
    let mut changes = Vec::new();
    let mut kept = Vec::new();
    for saved in &record.paths {
        let staged = repo.staged(&index, &saved.path)?.entry();
        let work = repo.work(&saved.path, staged, &mut ways, &mut filters, &index)?;
        let goes = |path: &RepoPath| {
            let mut made = record.paths.iter().filter(|saved| saved.wrote_file);
            made.any(|saved| saved.path == *path && saved.file_before.is_none())
        };
        let work = once_gone(repo, &saved.path, work, &goes)?;
        match change_back(saved, &work, staged)? {
            Some(change) => changes.push(change),
            None => kept.push(saved.path.clone()),
        }
    }
    // The branch goes back only together with everything that its commit brought.
    let moves = moves.filter(|_| kept.is_empty());
    if changes.is_empty() && moves.is_none() {
        return Ok(Undone {
            backup,
            restored: Vec::new(),
            kept,
            moved_branch: false,
            left_branch: false,
            undo: None,
        });
    }
    let purpose = format!("undo {}", backup.id);
    let overlay = overlay::read(repo)?;
    let own = backup::save(
        repo,
        &Intent {
            purpose: &purpose,
            head,
            moves: moves.as_ref(),
            changes: &changes,
            index: &index,
            overlay: &overlay,
            now: applier.now,
        },
    )?;
    let restored: Vec<RepoPath> = changes.iter().map(|change| change.path.clone()).collect();
    let moved_branch = moves.is_some();
    let overlay = overlay_after(&overlay, &record, &restored)?;
    let batch = Batch { purpose, changes, head: moves, overlay, backup: Some(own) };
    let Applied { backup: undo, .. } = apply(applier, &batch, Some(index))?;
    let left_branch = record.head_after.is_some() && !moved_branch;
    Ok(Undone { backup, restored, kept, moved_branch, left_branch, undo })
}

/// The way back for the branch, where nothing came on top.
fn moves_back(head: &Head, record: &Record, applier: &Applier<'_>) -> Option<HeadMove> {
    let after = Id::from_hex(record.head_after.as_ref()?.as_bytes()).ok()?;
    let before = Id::from_hex(record.head_before.as_bytes()).ok()?;
    let is_there = head.commit == after && head.branch == record.branch;
    is_there.then(|| HeadMove {
        branch: head.branch.clone(),
        old: after,
        new: before,
        message: format!("xtask: undo {}", applier.repo.short(after)),
    })
}

/// The change that brings a path back; nothing where it has been changed since.
fn change_back(saved: &SavedPath, work: &Work, staged: Option<Entry>) -> Result<Option<Change>> {
    let entry = |kept: &Option<KeptEntry>| match kept {
        None => Ok(None),
        Some(kept) => kept
            .entry()
            .map(Some)
            .ok_or_else(|| Error::unable(format!("the backup of `{}` cannot be read", saved.path))),
    };
    let after = entry(&saved.file_after)?;
    let before = entry(&saved.file_before)?;
    let (on_disk, raw) = match work {
        Work::Absent => (None, None),
        Work::Present(file) => (Some(file.entry), Some(file.raw)),
        // What stands there is not touched.
        _ if !saved.wrote_file => (None, None),
        _ => return Ok(None),
    };
    let is_untouched = on_disk == after || raw == after;
    // What is back already needs no bringing back.
    let is_back = raw == before;
    if saved.wrote_file && !is_untouched && !is_back {
        return Ok(None);
    }
    let file = match (saved.wrote_file, before) {
        (false, _) => FileChange::None,
        _ if is_back => FileChange::None,
        (true, Some(before)) => match saved.bits_before {
            Some(bits) if before.mode != Mode::Symlink => FileChange::RestoreExactly(before, bits),
            _ => FileChange::Restore(before),
        },
        (true, None) => FileChange::Remove,
    };
    // What was staged after the run is somebody's work as well.
    let is_staged_as_left = !saved.wrote_index || staged == entry(&saved.index_after)?;
    if !is_staged_as_left {
        return Ok(None);
    }
    // Where the file becomes what is staged, git is told of its new times.
    let is_staged = before.is_some() && staged == before && file != FileChange::None;
    let stages = match saved.wrote_index {
        true => Some(entry(&saved.index_before)?),
        false if is_staged && !saved.was_skipped => Some(staged),
        false => None,
    };
    let path = saved.path.clone();
    let is_sparse = saved.was_skipped && raw.is_none() && before.is_none();
    Ok(Some(Change { path, file, expects: raw, look: None, stages, is_sparse }))
}

/// The overlay as it was, at the paths that were brought back.
fn overlay_after(now: &Overlay, record: &Record, restored: &[RepoPath]) -> Result<Option<Overlay>> {
    let Some(before) = Overlay::from_kept(record.overlay_before.clone()) else {
        return Err(Error::unable("what the backup says of the overlay cannot be read"));
    };
    let mut after = now.clone();
    for path in restored {
        match before.paths.get(path) {
            Some(laid) => after.paths.insert(path.clone(), *laid),
            None => after.paths.remove(path),
        };
    }
    Ok((after != *now).then_some(after))
}
