//! Taking the overlay of a worktree away again.

use super::apply;
use super::backup::{self, Intent};
use super::batch::{Batch, Change, FileChange};
use super::enter::Enter as _;
use super::overlay::{self, Overlay, Under};
use super::way::once_gone;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::Tools;
use xtask_git::{Indexed, Repo, Ways, Work};

/// An overlay that was taken away.
#[derive(Debug, Default)]
pub struct Dropped {
    /// How many files went back.
    pub count: usize,
    /// Those that stay because they were changed.
    pub kept: Vec<RepoPath>,
    /// The backup with which it can be laid again.
    pub undo: Option<String>,
}

/// Takes the overlay of a worktree away: each file that still is what sync wrote goes back to what
/// is staged, or to the work that was forced away for it.
pub fn drop_overlay(repo: &Repo, tools: &Tools<'_>) -> Result<Dropped> {
    let overlay = overlay::read(repo)?;
    if overlay.paths.is_empty() {
        return Ok(Dropped::default());
    }
    let head = repo.head()?;
    let index = repo.index()?;
    let mut filters = repo.clean_filters(&index)?;
    let mut ways = Ways::default();
    let (mut changes, mut kept) = (Vec::new(), Vec::new());
    for (path, laid) in &overlay.paths {
        let staged = repo.staged(&index, path)?.entry();
        let work = repo.work(path, staged, &mut ways, &mut filters, &index)?;
        let goes = |path: &RepoPath| {
            overlay.paths.get(path).is_some_and(|laid| laid.is_file_on_disk(repo, path))
                && repo.staged(&index, path).is_ok_and(|staged| staged.entry().is_none())
        };
        let work = once_gone(repo, path, work, &goes)?;
        let found = match &work {
            // What the user has announced to git is theirs.
            _ if repo.staged(&index, path)? == Indexed::Intended => {
                kept.push(path.clone());
                continue;
            }
            Work::Absent => None,
            Work::Present(found) => Some(found),
            _ => {
                kept.push(path.clone());
                continue;
            }
        };
        let on_disk = found.map(|found| found.entry);
        let raw = found.map(|found| found.raw);
        if on_disk == staged && laid.under == Under::Head {
            continue;
        }
        let is_lost = match laid.under {
            Under::Work(Some(entry)) => !repo.has_object(entry.id),
            _ => false,
        };
        if !laid.is_still_there(found) || is_lost {
            kept.push(path.clone());
            continue;
        }
        let file = match laid.under {
            Under::Head => staged.map_or(FileChange::Remove, FileChange::CheckOut),
            Under::Work(work) => work.map_or(FileChange::Remove, FileChange::Restore),
        };
        let (path, expects) = (path.clone(), raw);
        changes.push(Change { path, file, expects, look: None, stages: None, is_sparse: false });
    }
    let count = changes.len();
    let purpose = "drop the overlay".to_owned();
    let intent = Intent {
        purpose: &purpose,
        head: &head,
        moves: None,
        changes: &changes,
        index: &index,
        overlay: &overlay,
        now: tools.world.now_seconds(),
    };
    let backup = (count > 0).then(|| backup::save(repo, &intent)).transpose()?;
    let batch = Batch { purpose, changes, head: None, overlay: Some(Overlay::default()), backup };
    let applied = apply::apply(&tools.applier(repo), &batch, Some(index))?;
    Ok(Dropped { count, kept, undo: applied.backup })
}
