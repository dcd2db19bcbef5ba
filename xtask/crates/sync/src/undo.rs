//! Undo of a run, from its backup.
//!
//! Each path that still is as the run left it gets its exact previous bytes; a path changed since
//! or pinned is kept. The branch moves back if it has no commits on top. An undo makes a backup like any
//! other run, so it can be undone itself. For example:
//!
//! ```text
//! sync              setup/a: 3b18… -> 77aa…  backup 20260131T120000Z-1
//! undo 20260131T…   setup/a: 77aa… -> 3b18…  backup 20260131T120500Z-1
//! ```

use std::collections::BTreeSet;

use super::apply::{AppliedTransaction, ApplyContext, apply_transaction};
use super::backup::{
    self, Backup, BackupInput, BackupRecord, PLAIN_SYNC, ReplacedPath, UnreadableRecord,
};
use super::context::find_canonical_context;
use super::overlay::{self, Overlay, StoredEntry};
use super::path_conflicts::predict_after_removal;
use super::pin_reader::PinReader;
use super::pins::BranchPins;
use super::transaction::{FileUpdate, HeadMove, PathUpdate, Transaction};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::record::upgrade_hint;
use xtask_base::words::quote_for_shell;
use xtask_config::{PINS_FOLDER, PinHome};
use xtask_git::{FileMode, Head, Id, Index, IndexStatus, PathCache, Repo, TreeEntry, WorktreeItem};

/// Outcome of an undo.
#[derive(Debug)]
pub struct UndoOutcome {
    /// Backup that was restored.
    pub backup: Backup,
    /// Restored paths.
    pub restored: Vec<RepoPath>,
    /// Paths that were changed since and stay.
    pub kept: Vec<RepoPath>,
    /// Paths that are pinned now and stay.
    pub pinned: Vec<RepoPath>,
    /// Whether the branch moved back.
    pub moved_branch: bool,
    /// Whether the run had moved the branch, and it was left there because of newer commits or kept
    /// paths.
    pub left_branch: bool,
    /// Backup of the undo itself.
    pub own_backup: Option<String>,
}

impl UndoOutcome {
    /// Returns the command that was undone, e.g. `sync --force`.
    #[must_use]
    pub fn purpose(&self) -> &str {
        self.backup.record.as_ref().map_or("", |record| record.purpose.as_str())
    }
}

/// Finds a backup by name, or the newest one of this branch in this worktree, or else the newest
/// one of this worktree.
pub fn find_backup(repo: &Repo, id: Option<&str>) -> Result<Backup> {
    let mut all = backup::list_backups(repo)?;
    let at = match id {
        Some(id) => all.iter().position(|backup| backup.id == id).ok_or_else(|| {
            Error::usage(format!("there is no backup `{id}`"))
                .with_hint("`cargo xtask undo --list`")
        })?,
        None => find_newest_run(repo, &all)?,
    };
    let found = all.swap_remove(at);
    let record = match &found.record {
        Ok(record) => record,
        Err(UnreadableRecord::Newer) => return Err(newer_backup_error(&found)),
        Err(UnreadableRecord::Corrupt) => {
            let failed = format!("cannot read the record of backup `{}`", found.id);
            return Err(Error::unable(failed).with_hint(ls_tree_hint(&found)));
        }
    };
    if record.snapshot.is_some() {
        return Err(Error::usage(format!("`{}` is a backup, not a run", found.id))
            .with_hint(format!("`cargo xtask restore {}` brings it back", found.id)));
    }
    if record.worktree_name != repo.worktree_name() {
        return Err(Error::usage(format!(
            "backup `{}` belongs to worktree `{}`",
            found.id, record.worktree
        ))
        .with_hint(format!(
            "`cargo xtask -C {} undo {}`",
            quote_for_shell(&record.worktree),
            found.id
        )));
    }
    Ok(found)
}

/// Returns the index of the newest run of this branch in this worktree, or else of this worktree.
fn find_newest_run(repo: &Repo, all: &[Backup]) -> Result<usize> {
    let (here, branch) = (repo.worktree_name(), repo.current_branch());
    let is_run = |record: &BackupRecord| record.worktree_name == here && record.snapshot.is_none();
    let is_run_of_branch = |record: &BackupRecord| is_run(record) && record.branch == branch;
    let find = |is_wanted: &dyn Fn(&BackupRecord) -> bool| {
        all.iter().position(|backup| backup.record.as_ref().is_ok_and(is_wanted))
    };
    let newest = find(&is_run_of_branch).or_else(|| find(&is_run));
    // An unreadable backup may belong to this branch as well.
    let is_newer = |backup: &&Backup| backup.record.as_ref().is_err_and(is_newer_format);
    if let Some(unread) = all[..newest.unwrap_or(all.len())].iter().find(is_newer) {
        return Err(
            newer_backup_error(unread).with_hint("`cargo xtask undo --list` shows those before it")
        );
    }
    newest.ok_or_else(|| {
        let mut error = Error::unable(
            "no run has replaced anything in this worktree: there is nothing to undo",
        );
        let is_saved = |r: &BackupRecord| r.worktree_name == here && r.snapshot.is_some();
        if let Some(at) = find(&is_saved) {
            let id = &all[at].id;
            error = error
                .with_hint(format!("`cargo xtask restore {id}` brings back what was saved last"));
        }
        error.with_hint("`cargo xtask undo --list` shows the backups of all worktrees")
    })
}

fn is_newer_format(unread: &UnreadableRecord) -> bool {
    *unread == UnreadableRecord::Newer
}

fn newer_backup_error(backup: &Backup) -> Error {
    Error::unable(format!("backup `{}` was written by a newer xtask", backup.id))
        .with_hint(upgrade_hint("CANONICAL"))
        .with_hint(ls_tree_hint(backup))
}

fn ls_tree_hint(backup: &Backup) -> String {
    format!("`git ls-tree -r {}{}` lists its files", backup::REF_PREFIX, backup.id)
}

/// Restores `backup`. A backup of another branch than the checked-out one is an error.
pub fn undo_run(applier: &ApplyContext<'_>, head: &Head, backup: Backup) -> Result<UndoOutcome> {
    let repo = applier.repo;
    let record = backup.record.clone().expect("because `find_backup` returns readable ones only");
    let index = repo.read_index()?;
    let moves = reverse_head_move(head, &record, applier);
    if record.branch != head.branch {
        return Err(Error::usage(format!(
            "backup `{}` belongs to {}, which is not checked out",
            backup.id,
            record.branch.as_ref().map_or("a detached HEAD".to_owned(), |b| format!("`{b}`"))
        ))
        .with_hint("switch to it first"));
    }
    let pins = KeptPins::find(repo, head, (&backup.id, &record), applier.now)?;
    let ReversedPaths { changes, kept, pinned } =
        reverse_paths(repo, &record, &index, pins.as_ref())?;
    // The branch moves back only if every path of its commit does.
    let moves = moves.filter(|_| kept.is_empty() && pinned.is_empty());
    if changes.is_empty() && moves.is_none() {
        return Ok(UndoOutcome {
            backup,
            restored: Vec::new(),
            kept,
            pinned,
            moved_branch: false,
            left_branch: false,
            own_backup: None,
        });
    }
    let purpose = format!("undo {}", backup.id);
    let overlay = overlay::read_overlay(repo)?;
    // Undone in turn, they are written in spite of the pin again.
    let forced = record.paths.iter().filter(|saved| saved.is_over_pin == Some(true));
    let over_pins: BTreeSet<RepoPath> = forced.map(|saved| saved.path.clone()).collect();
    let own = backup::save_backup(
        repo,
        &BackupInput {
            purpose: &purpose,
            head,
            head_move: moves.as_ref(),
            changes: &changes,
            index: &index,
            overlay: &overlay,
            over_pins: &over_pins,
            now: applier.now,
        },
    )?;
    let restored: Vec<RepoPath> = changes.iter().map(|change| change.path.clone()).collect();
    let moved_branch = moves.is_some();
    let overlay = build_restored_overlay(&overlay, &record, &restored)?;
    let transaction = Transaction { purpose, changes, head: moves, overlay, backup: Some(own) };
    let AppliedTransaction { backup: undo, .. } =
        apply_transaction(applier, &transaction, Some(index))?;
    let left_branch = record.head_after.is_some() && !moved_branch;
    let own_backup = undo;
    Ok(UndoOutcome { backup, restored, kept, pinned, moved_branch, left_branch, own_backup })
}

/// The pins that an undo leaves alone where the content is the pinned one: that of the commit which has the pin. A sync
/// writes nothing at a pinned path but with `--force`, so such content has been pinned since; and to undo an undo is to
/// sync again. What `--force`, `restore` and others have replaced comes back.
struct KeptPins {
    pins: BranchPins,
    tree: Id,
    upstream_tree: Option<Id>,
    /// Whether the run is a forced one of a version whose backups do not tell which paths were pinned.
    has_forced_all: bool,
}

impl KeptPins {
    /// Finds the pins for a run; `None` if it is not one of sync. Pins that cannot be read are an error.
    fn find(
        repo: &Repo,
        head: &Head,
        (id, record): (&str, &BackupRecord),
        now: i64,
    ) -> Result<Option<KeptPins>> {
        let purpose = record.purpose.as_str();
        let is_sync = purpose.starts_with(PLAIN_SYNC);
        if !is_sync && !purpose.starts_with("undo ") {
            return Ok(None);
        }
        let unreadable = |cause| {
            Error::unable("cannot tell which paths are pinned; nothing was undone")
                .with_cause(cause)
                .with_hint(format!(
                    "`cargo xtask restore {id} PATH` brings a file back, pinned or not"
                ))
        };
        let context = match find_canonical_context(repo) {
            Ok(context) => context,
            // An undo may be the way out, and this branch has no pins that it could disregard.
            Err(_) if repo.find_in_tree(head.tree, &RepoPath::new(PINS_FOLDER))?.is_none() => None,
            Err(cause) => return Err(unreadable(cause)),
        };
        let Some(context) = context else { return Ok(None) };
        let reader = PinReader::new(repo, now);
        let pins = reader.read_branch(&context, head).map_err(unreadable)?;
        let upstream = match &head.branch {
            Some(name) => reader.find_upstream(&context, name)?,
            None => None,
        };
        let upstream_tree = upstream.map(|(_, commit)| repo.tree_of(commit)).transpose()?;
        let has_forced_all = is_sync && purpose.contains("--force");
        Ok(Some(KeptPins { pins, tree: head.tree, upstream_tree, has_forced_all }))
    }

    /// Returns whether `content`, which the run has left at a path, is what is pinned there.
    fn is_pinned(
        &self,
        repo: &Repo,
        saved: &ReplacedPath,
        content: Option<TreeEntry>,
    ) -> Result<bool> {
        if saved.is_over_pin.unwrap_or(self.has_forced_all) {
            return Ok(false);
        }
        let Some(stored) = self.pins.find(&saved.path) else { return Ok(false) };
        let tree = match stored.home {
            PinHome::Branch | PinHome::Canonical => Some(self.tree),
            PinHome::Upstream => self.upstream_tree,
        };
        Ok(tree.map(|tree| repo.entry_at(tree, &saved.path)).transpose()? == Some(content))
    }
}

/// What becomes of the paths of a run.
#[derive(Default)]
struct ReversedPaths {
    changes: Vec<PathUpdate>,
    /// Those that were changed since.
    kept: Vec<RepoPath>,
    /// Those with content that is pinned.
    pinned: Vec<RepoPath>,
}

fn reverse_paths(
    repo: &Repo,
    record: &BackupRecord,
    index: &Index,
    pins: Option<&KeptPins>,
) -> Result<ReversedPaths> {
    let mut filters = repo.clean_filters(index)?;
    let mut path_cache = PathCache::default();
    let mut reversed = ReversedPaths::default();
    for saved in &record.paths {
        let status = repo.staged_status(index, &saved.path)?;
        let staged = status.entry();
        let work =
            repo.read_worktree_item(&saved.path, staged, &mut path_cache, &mut filters, index)?;
        let goes = |path: &RepoPath| {
            let mut made = record.paths.iter().filter(|saved| saved.wrote_file);
            made.any(|saved| saved.path == *path && saved.file_before.is_none())
        };
        let work = predict_after_removal(repo, &saved.path, work, &goes)?;
        let Some(change) = reverse_path_update(saved, &work, staged)? else {
            reversed.kept.push(saved.path.clone());
            continue;
        };
        let is_sparse = matches!(status, IndexStatus::Entry { is_skipped: true, .. });
        let content = work.file().map(|file| file.entry).or(staged.filter(|_| is_sparse));
        let is_pinned = pins.map(|pins| pins.is_pinned(repo, saved, content)).transpose()?;
        if is_pinned == Some(true) {
            reversed.pinned.push(saved.path.clone());
        } else {
            reversed.changes.push(change);
        }
    }
    Ok(reversed)
}

/// Returns the reverse move of the branch, or `None` if it has commits on top.
fn reverse_head_move(
    head: &Head,
    record: &BackupRecord,
    applier: &ApplyContext<'_>,
) -> Option<HeadMove> {
    let after = Id::from_hex(record.head_after.as_ref()?.as_bytes()).ok()?;
    let before = Id::from_hex(record.head_before.as_bytes()).ok()?;
    let is_there = head.commit == after && head.branch == record.branch;
    is_there.then(|| HeadMove {
        branch: head.branch.clone(),
        old: after,
        new: before,
        message: format!("xtask: undo {}", applier.repo.short_id(after)),
    })
}

/// Returns the change that restores a path, or `None` if it was changed since.
fn reverse_path_update(
    saved: &ReplacedPath,
    work: &WorktreeItem,
    staged: Option<TreeEntry>,
) -> Result<Option<PathUpdate>> {
    let entry = |kept: &Option<StoredEntry>| match kept {
        None => Ok(None),
        Some(kept) => kept
            .to_entry()
            .map(Some)
            .ok_or_else(|| Error::unable(format!("cannot read the backup of `{}`", saved.path))),
    };
    let after = entry(&saved.file_after)?;
    let before = entry(&saved.file_before)?;
    let (on_disk, raw) = match work {
        WorktreeItem::Absent => (None, None),
        WorktreeItem::Present(file) => (Some(file.entry), Some(file.raw)),
        // A file that the run did not write is left alone.
        _ if !saved.wrote_file => (None, None),
        _ => return Ok(None),
    };
    let is_untouched = on_disk == after || raw == after;
    // An already restored file needs no write.
    let is_back = raw == before;
    if saved.wrote_file && !is_untouched && !is_back {
        return Ok(None);
    }
    let file = match (saved.wrote_file, before) {
        (false, _) => FileUpdate::None,
        _ if is_back => FileUpdate::None,
        (true, Some(before)) => match saved.bits_before {
            Some(bits) if before.mode != FileMode::Symlink => {
                FileUpdate::RestoreExactly(before, bits)
            }
            _ => FileUpdate::Restore(before),
        },
        (true, None) => FileUpdate::Remove,
    };
    // A later change to the index entry is somebody's work as well.
    let is_staged_as_left = !saved.wrote_index || staged == entry(&saved.index_after)?;
    if !is_staged_as_left {
        return Ok(None);
    }
    // A file restored to its index entry needs new stat data in the index.
    let is_staged = before.is_some() && staged == before && file != FileUpdate::None;
    let stages = match saved.wrote_index {
        true => Some(entry(&saved.index_before)?),
        false if is_staged && !saved.was_skipped => Some(staged),
        false => None,
    };
    let path = saved.path.clone();
    let is_sparse = saved.was_skipped && raw.is_none() && before.is_none();
    Ok(Some(PathUpdate { path, file, expected: raw, expected_stat: None, stages, is_sparse }))
}

/// Returns the overlay with the previous entries at the restored paths.
fn build_restored_overlay(
    now: &Overlay,
    record: &BackupRecord,
    restored: &[RepoPath],
) -> Result<Option<Overlay>> {
    let Some(before) = Overlay::from_stored(record.overlay_before.clone()) else {
        return Err(Error::unable("cannot read the overlay record of the backup"));
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
