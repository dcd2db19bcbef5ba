//! The backup that is to be restored, wholly or in part, and the commit and branch to which it belongs.
//!
//! ```text
//! choose_backup("20260131T180000Z-1", Paths(["src"]))  ->  ChosenBackup { files: ["src/a.rs"], is_whole: false, … }
//! ```

use super::secret_files::{self, SecretCopy};
use super::target::RecoveryTarget;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_git::{Id, Repo};
use xtask_sync::backup::{
    self, Backup, BackupRecord, SavedFile, SavedStaged, UnreadableRecord, WorktreeSnapshot,
};

/// A backup that was selected for restoration.
pub struct ChosenBackup {
    pub id: String,
    /// The creation time, in seconds since the epoch.
    pub seconds: i64,
    pub(super) commit: Id,
    /// The record of the run that made the backup.
    pub record: BackupRecord,
    pub snapshot: WorktreeSnapshot,
    /// The files to restore.
    pub files: Vec<SavedFile>,
    /// The copies of secret files to restore, each with its index in the list.
    pub copies: Vec<(usize, SecretCopy)>,
    /// Whether the whole backup is restored, including branch and operation.
    pub is_whole: bool,
    /// The reason why the copies are not available, if so.
    pub lost_copies: Option<Error>,
}

/// The part of a backup to restore.
#[derive(Clone, Copy, Debug)]
pub enum RestoreScope<'a> {
    /// Everything, including the branch and the git operation that were left.
    Whole,
    /// All files, into any worktree.
    Files,
    /// These files and folders.
    Paths(&'a [RepoPath]),
}

/// Finds the backup `id` and selects the part `meant`. Returns an error if the backup is unknown or unreadable, or does
/// not contain a given path.
pub fn choose_backup(repo: &Repo, id: &str, meant: RestoreScope<'_>) -> Result<ChosenBackup> {
    let (id, seconds, commit, record) = find_backup(repo, id)?;
    let is_whole = matches!(meant, RestoreScope::Whole);
    let snapshot = match &record.snapshot {
        Some(snapshot) => snapshot.clone(),
        None if is_whole => {
            return Err(Error::usage(format!(
                "`{id}` holds the files that `{}` replaced, and cannot be restored as a whole",
                record.purpose
            ))
            .with_hint(format!(
                "`cargo xtask undo {id}` undoes that run; with paths, `restore` restores those"
            )));
        }
        None => to_snapshot(&record),
    };
    // Missing copies must not prevent the rest from being restored; they are reported.
    let listed =
        snapshot.copies.as_ref().map_or(Ok(Vec::new()), |name| secret_files::read_list(repo, name));
    let (copies, lost_copies) = match listed {
        Ok(copies) => (copies.into_iter().enumerate().collect(), None),
        Err(failure) => (Vec::new(), Some(failure)),
    };
    let files = snapshot.files.clone();
    let mut chosen = ChosenBackup {
        id,
        seconds,
        commit,
        record,
        snapshot,
        files,
        copies,
        is_whole,
        lost_copies,
    };
    if let RestoreScope::Paths(paths) = meant {
        chosen.keep_only(paths)?;
    }
    Ok(chosen)
}

/// Finds the backup `id`: its full id, time, commit and record.
fn find_backup(repo: &Repo, id: &str) -> Result<(String, i64, Id, BackupRecord)> {
    let found = backup::list_backups(repo)?.into_iter().find(|backup| backup.id == id).ok_or_else(
        || {
            Error::usage(format!("there is no backup `{id}`"))
                .with_hint("`cargo xtask backup --list`")
        },
    )?;
    let Backup { id, seconds, commit, record } = found;
    let record = record.map_err(|why| match why {
        UnreadableRecord::Newer => {
            Error::unable(format!("backup `{id}` was written by a newer xtask"))
        }
        UnreadableRecord::Corrupt => Error::unable(format!(
            "the record of backup `{id}` cannot be read"
        ))
        .with_hint(format!("`git ls-tree -r {}{id}` shows its contents", backup::REF_PREFIX)),
    })?;
    Ok((id, seconds, commit, record))
}

impl ChosenBackup {
    /// Restricts the backup to the files and folders in `paths`. Returns an error if it does not contain one of them.
    fn keep_only(&mut self, paths: &[RepoPath]) -> Result<()> {
        let is_in = |path: &RepoPath, named: &RepoPath| path == named || path.is_below(named);
        let is_meant = |path: &RepoPath| paths.iter().any(|named| is_in(path, named));
        self.files.retain(|file| is_meant(&file.path));
        self.copies.retain(|(_, copy)| is_meant(&copy.path));
        let has = |named: &&RepoPath| {
            self.files.iter().any(|file| is_in(&file.path, named))
                || self.copies.iter().any(|(_, copy)| is_in(&copy.path, named))
        };
        let mut missing = paths.iter().filter(|named| !has(named));
        let Some(first) = missing.next() else { return Ok(()) };
        let id = &self.id;
        let error = Error::usage(format!("backup `{id}` does not contain `{first}`"));
        let error = missing.fold(error, |error, path| error.with_detail(format!("nor `{path}`")));
        Err(error.with_hint(format!("`cargo xtask restore {id} --dry-run` lists its contents")))
    }
}

/// Converts the record of a run into a snapshot of the files that the run replaced.
fn to_snapshot(record: &BackupRecord) -> WorktreeSnapshot {
    let files = record.paths.iter().filter(|saved| saved.wrote_file);
    let files = files.map(|saved| SavedFile {
        path: saved.path.clone(),
        file: saved.file_before.clone(),
        bits: None,
        is_copied: false,
        staged: SavedStaged::AsHead,
    });
    WorktreeSnapshot { files: files.collect(), ..WorktreeSnapshot::default() }
}

/// Returns the target to which a complete restoration resets the worktree first; `None` if no reset is needed.
/// Returns an error if the backup belongs to another worktree or branch.
pub fn find_return_target(repo: &Repo, chosen: &ChosenBackup) -> Result<Option<RecoveryTarget>> {
    if !chosen.is_whole {
        return Ok(None);
    }
    let record = &chosen.record;
    if record.worktree_name != repo.worktree_name() {
        let (id, there) = (&chosen.id, &record.worktree);
        let error = Error::usage(format!("backup `{id}` belongs to the worktree `{there}`"));
        let error = match std::path::Path::new(there).is_dir() {
            true => error.with_hint(format!("`cargo xtask -C {there} restore {id}`")),
            false => error.with_detail("that worktree no longer exists"),
        };
        return Err(error.with_hint(hint_restore_paths(id)));
    }
    let head = repo.head()?;
    let before = parse_head_before(record)?;
    let is_here =
        head.branch == record.branch && (record.branch.is_some() || head.commit == before);
    if !chosen.snapshot.was_left {
        if is_here {
            return Ok(None);
        }
        let (was, back) = match &record.branch {
            Some(branch) => (format!("`{branch}`"), format!("git switch {branch}")),
            None => ("a detached HEAD".to_owned(), format!("git switch --detach {before}")),
        };
        return Err(Error::usage(format!(
            "backup `{}` belongs to {was}, which is not checked out",
            chosen.id
        ))
        .with_hint(format!("`{back}`, and then restore it"))
        .with_hint(hint_restore_paths(&chosen.id)));
    }
    let typed = record.branch.clone().unwrap_or_else(|| repo.short_id(before));
    let mut recovery_target = RecoveryTarget::at(before, typed);
    if let Some(branch) = &record.branch {
        // A deleted branch is recreated at its old commit.
        let tip = repo.resolve_ref(&format!("refs/heads/{branch}"))?.unwrap_or(before);
        let moved = chosen.snapshot.moved.as_ref().filter(|moved| moved.branch == *branch);
        let was_moved = moved
            .is_some_and(|moved| names_commit(&moved.to, tip) && names_commit(&moved.from, before));
        if let Some(other) = repo.find_other_worktree(branch) {
            let other = other.display();
            return Err(Error::unable(format!("`{branch}` is checked out in {other} now"))
                .with_hint(format!("`git -C {other} switch --detach` frees it"))
                .with_hint(hint_restore_paths(&chosen.id)));
        }
        recovery_target.branch = Some(branch.clone());
        recovery_target.commit = if was_moved { before } else { tip };
        recovery_target.branch_before = was_moved.then_some(tip);
    }
    Ok(Some(recovery_target))
}

/// Returns whether `text` is the id of `commit`.
pub(super) fn names_commit(text: &str, commit: Id) -> bool {
    Id::from_hex(text.as_bytes()).is_ok_and(|id| id == commit)
}

fn hint_restore_paths(id: &str) -> String {
    format!(
        "`cargo xtask restore {id} .` restores its files here; a path instead of the dot restores only files below it"
    )
}

pub(super) fn parse_head_before(record: &BackupRecord) -> Result<Id> {
    Id::from_hex(record.head_before.as_bytes())
        .ok()
        .ok_or_else(|| Error::unable("the record of the backup has no valid commit id"))
}
