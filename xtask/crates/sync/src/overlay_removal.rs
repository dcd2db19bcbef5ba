//! Removal of a worktree's overlay. For example, `setup/a` that `sync --no-commit` wrote gets the content of its
//! index entry again.

use std::collections::{BTreeMap, BTreeSet};

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
    /// The restored files.
    pub restored: BTreeSet<RepoPath>,
    /// Files that stay because the user changed them.
    pub kept: Vec<RepoPath>,
    /// Backup with which `undo` brings the overlay back.
    pub backup: Option<String>,
}

/// Removes the overlay: each unchanged file goes back to its index entry, or to the user's work
/// that `--force` replaced.
pub fn remove_overlay(repo: &Repo, tools: &Tools<'_>) -> Result<RemovedOverlay> {
    remove_overlay_where(repo, &|_| true, OverlayPart::All, tools)
}

/// Removes the files of the overlay at paths that are pinned now. What stays in spite of that, because it is staged or
/// changed, remains known as one of the overlay.
pub(super) fn remove_pinned_overlay(
    repo: &Repo,
    pinned: &BTreeSet<RepoPath>,
    tools: &Tools<'_>,
) -> Result<RemovedOverlay> {
    remove_overlay_where(repo, &|path| pinned.contains(path), OverlayPart::Pinned, tools)
}

/// Which files of an overlay are removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum OverlayPart {
    /// All that is known to be unchanged by their stat data. Nothing is one of the overlay afterwards.
    All,
    /// Those at pinned paths that have the content that sync wrote, also in a copy of the repository.
    Pinned,
}

fn remove_overlay_where(
    repo: &Repo,
    is_wanted: &dyn Fn(&RepoPath) -> bool,
    removal: OverlayPart,
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
    let (mut changes, mut kept, mut seen) = (Vec::new(), Vec::new(), overlay.clone());
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
        match reverse_overlay_file(repo, path, laid, staged, &work, removal) {
            FileRemoval::AsBefore => {}
            FileRemoval::Update(change) => {
                // `undo` brings it back as one of the overlay, also if it was touched since.
                if let (Some(laid), Some(found)) = (seen.paths.get_mut(path), work.file()) {
                    laid.stat = Some(found.stat);
                }
                changes.push(change);
            }
            FileRemoval::Keep => kept.push(path.clone()),
        }
    }
    let count = changes.len();
    let remembers_kept = removal == OverlayPart::Pinned;
    if count == 0 && remembers_kept {
        return Ok(RemovedOverlay { kept, ..RemovedOverlay::default() });
    }
    let restored: BTreeSet<RepoPath> = changes.iter().map(|change| change.path.clone()).collect();
    let purpose = "drop the overlay".to_owned();
    let intent = BackupInput {
        purpose: &purpose,
        head: &head,
        head_move: None,
        changes: &changes,
        index: &index,
        overlay: &seen,
        over_pins: &BTreeSet::new(),
        now: tools.world.now_seconds(),
    };
    let backup = (count > 0).then(|| backup::save_backup(repo, &intent)).transpose()?;
    let stays =
        |path: &RepoPath| others.contains_key(path) || remembers_kept && !restored.contains(path);
    let left = overlay.paths.iter().filter(|(path, _)| stays(path));
    let paths = left.map(|(path, laid)| (path.clone(), *laid)).collect();
    let transaction =
        Transaction { purpose, changes, head: None, overlay: Some(Overlay { paths }), backup };
    let applied = apply::apply_transaction(&tools.apply_context(repo), &transaction, Some(index))?;
    Ok(RemovedOverlay { count, restored, kept, backup: applied.backup })
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
    removal: OverlayPart,
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
    let is_laid = match removal {
        OverlayPart::All => laid.is_unchanged(found),
        OverlayPart::Pinned => laid.has_written_content(found),
    };
    if !is_laid || is_lost {
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
