//! Removal of a worktree's overlay. For example, `setup/a` that `sync --no-commit` wrote gets the content of its
//! index entry again.

use std::collections::BTreeMap;

use super::apply;
use super::backup::{self, BackupInput};
use super::overlay::{self, Overlay, OverlayBase, OverlayFile};
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
    remove_overlay_where(repo, "drop the overlay", &|_| true, tools)
}

/// Removes the files of the overlay at some paths, e.g. at those that are pinned now.
pub(super) fn remove_overlay_where(
    repo: &Repo,
    purpose: &str,
    is_wanted: &dyn Fn(&RepoPath) -> bool,
    tools: &Tools<'_>,
) -> Result<RemovedOverlay> {
    let overlay = overlay::read_overlay(repo)?;
    let (wanted, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
        overlay.paths.iter().partition(|(path, _)| is_wanted(path));
    if wanted.is_empty() {
        return Ok(RemovedOverlay::default());
    }
    let head = repo.head()?;
    let index = repo.read_index()?;
    let mut filters = repo.clean_filters(&index)?;
    let mut path_cache = PathCache::default();
    let (mut changes, mut kept) = (Vec::new(), Vec::new());
    for (path, laid) in wanted {
        let staged = repo.staged_status(&index, path)?;
        let work =
            repo.read_worktree_item(path, staged.entry(), &mut path_cache, &mut filters, &index)?;
        let goes = |path: &RepoPath| {
            is_wanted(path)
                && overlay.paths.get(path).is_some_and(|laid| laid.has_unchanged_file(repo, path))
                && repo.staged_status(&index, path).is_ok_and(|staged| staged.entry().is_none())
        };
        let work = predict_after_removal(repo, path, work, &goes)?;
        match reverse_overlay_file(repo, path, laid, staged, &work) {
            FileRemoval::AsBefore => {}
            FileRemoval::Update(change) => changes.push(change),
            FileRemoval::Keep => kept.push(path.clone()),
        }
    }
    let count = changes.len();
    let intent = BackupInput {
        purpose,
        head: &head,
        head_move: None,
        changes: &changes,
        index: &index,
        overlay: &overlay,
        now: tools.world.now_seconds(),
    };
    let backup = (count > 0).then(|| backup::save_backup(repo, &intent)).transpose()?;
    let paths = others.into_iter().map(|(path, laid)| (path.clone(), *laid)).collect();
    let transaction = Transaction {
        purpose: purpose.to_owned(),
        changes,
        head: None,
        overlay: Some(Overlay { paths }),
        backup,
    };
    let applied = apply::apply_transaction(&tools.apply_context(repo), &transaction, Some(index))?;
    Ok(RemovedOverlay { count, kept, backup: applied.backup })
}

/// What is done about one file of an overlay.
enum FileRemoval {
    /// Nothing: the file already is its index entry.
    AsBefore,
    Update(PathUpdate),
    /// The user has changed it, or what it replaced is lost.
    Keep,
}

fn reverse_overlay_file(
    repo: &Repo,
    path: &RepoPath,
    laid: &OverlayFile,
    staged: IndexStatus,
    work: &WorktreeItem,
) -> FileRemoval {
    let found = match work {
        // A file added with `git add -N` belongs to the user.
        _ if staged == IndexStatus::IntentToAdd => return FileRemoval::Keep,
        WorktreeItem::Absent => None,
        WorktreeItem::Present(found) => Some(found),
        _ => return FileRemoval::Keep,
    };
    let staged = staged.entry();
    if found.map(|found| found.entry) == staged && laid.base == OverlayBase::Head {
        return FileRemoval::AsBefore;
    }
    let is_lost = match laid.base {
        OverlayBase::ReplacedWork(Some(entry)) => !repo.has_object(entry.id),
        _ => false,
    };
    if !laid.is_unchanged(found) || is_lost {
        return FileRemoval::Keep;
    }
    FileRemoval::Update(PathUpdate {
        path: path.clone(),
        file: match laid.base {
            OverlayBase::Head => staged.map_or(FileUpdate::Remove, FileUpdate::CheckOut),
            OverlayBase::ReplacedWork(work) => work.map_or(FileUpdate::Remove, FileUpdate::Restore),
        },
        expected: found.map(|found| found.raw),
        expected_stat: None,
        stages: None,
        is_sparse: false,
    })
}
