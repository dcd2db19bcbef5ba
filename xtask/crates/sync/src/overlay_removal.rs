//! Removal of a worktree's overlay.

use super::apply;
use super::backup::{self, BackupInput};
use super::overlay::{self, Overlay, OverlayBase};
use super::path_conflicts::predict_after_removal;
use super::transaction::{FileUpdate, PathUpdate, Transaction};
use super::worktree_lock::LockWorktree as _;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::Tools;
use xtask_git::{IndexStatus, PathCache, Repo, WorktreeItem};

/// A removed overlay.
#[derive(Debug, Default)]
pub struct RemovedOverlay {
    /// Number of restored files.
    pub count: usize,
    /// Files that stay because the user changed them.
    pub kept: Vec<RepoPath>,
    /// Backup with which `undo` brings the overlay back.
    pub backup: Option<String>,
}

/// Removes the overlay: each unchanged file goes back to its index entry, or to the user's work
/// that `--force` replaced.
pub fn remove_overlay(repo: &Repo, tools: &Tools<'_>) -> Result<RemovedOverlay> {
    let overlay = overlay::read_overlay(repo)?;
    if overlay.paths.is_empty() {
        return Ok(RemovedOverlay::default());
    }
    let head = repo.head()?;
    let index = repo.read_index()?;
    let mut filters = repo.clean_filters(&index)?;
    let mut ways = PathCache::default();
    let (mut changes, mut kept) = (Vec::new(), Vec::new());
    for (path, laid) in &overlay.paths {
        let staged = repo.staged_status(&index, path)?.entry();
        let work = repo.read_worktree_item(path, staged, &mut ways, &mut filters, &index)?;
        let goes = |path: &RepoPath| {
            overlay.paths.get(path).is_some_and(|laid| laid.has_unchanged_file(repo, path))
                && repo.staged_status(&index, path).is_ok_and(|staged| staged.entry().is_none())
        };
        let work = predict_after_removal(repo, path, work, &goes)?;
        let found = match &work {
            // A file added with `git add -N` belongs to the user.
            _ if repo.staged_status(&index, path)? == IndexStatus::IntentToAdd => {
                kept.push(path.clone());
                continue;
            }
            WorktreeItem::Absent => None,
            WorktreeItem::Present(found) => Some(found),
            _ => {
                kept.push(path.clone());
                continue;
            }
        };
        let on_disk = found.map(|found| found.entry);
        let raw = found.map(|found| found.raw);
        if on_disk == staged && laid.base == OverlayBase::Head {
            continue;
        }
        let is_lost = match laid.base {
            OverlayBase::ReplacedWork(Some(entry)) => !repo.has_object(entry.id),
            _ => false,
        };
        if !laid.is_unchanged(found) || is_lost {
            kept.push(path.clone());
            continue;
        }
        let file = match laid.base {
            OverlayBase::Head => staged.map_or(FileUpdate::Remove, FileUpdate::CheckOut),
            OverlayBase::ReplacedWork(work) => work.map_or(FileUpdate::Remove, FileUpdate::Restore),
        };
        let (path, expects) = (path.clone(), raw);
        changes.push(PathUpdate {
            path,
            file,
            expected: expects,
            expected_stat: None,
            stages: None,
            is_sparse: false,
        });
    }
    let count = changes.len();
    let purpose = "drop the overlay".to_owned();
    let intent = BackupInput {
        purpose: &purpose,
        head: &head,
        head_move: None,
        changes: &changes,
        index: &index,
        overlay: &overlay,
        now: tools.world.now_seconds(),
    };
    let backup = (count > 0).then(|| backup::save_backup(repo, &intent)).transpose()?;
    let batch =
        Transaction { purpose, changes, head: None, overlay: Some(Overlay::default()), backup };
    let applied = apply::apply_transaction(&tools.apply_context(repo), &batch, Some(index))?;
    Ok(RemovedOverlay { count, kept, backup: applied.backup })
}
