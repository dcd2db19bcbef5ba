//! Backups of replaced files, as commits under `refs/xtask/backup/`.
//!
//! A run saves every file before replacing it. The parent of the commit is the commit that was
//! checked out, which keeps that one reachable as well. For example:
//!
//! ```text
//! refs/xtask/backup/20260131T120000Z-1
//!   worktree/setup/a   bytes of the file on disk
//!   index/setup/a      staged content, if different
//!   record             `BackupRecord`, from which `undo` restores
//! ```
//!
//! Manual backups (`cargo xtask backup`, crate `recovery`) are stored in the same place, with a
//! `snapshot` in their record.
//!
//! Retention: 30 days, and the last 20 forever; beyond 1000 the oldest are removed earlier.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::overlay::{Overlay, StoredEntry, StoredOverlayFile};
use super::transaction::{FileUpdate, HeadMove, PathUpdate, PendingBackup};
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{
    FileMode, Head, Id, Index, IndexStatus, NewCommit, Repo, Signature, TreeChange, TreeEntry,
    read_raw_file,
};

/// Prefix of the refs of all backups.
pub const REF_PREFIX: &str = "refs/xtask/backup/";

/// Minimum retention: 30 days, in seconds.
const KEPT_SECONDS: i64 = 30 * 86_400;

/// Number of newest backups that are kept whatever their age.
const KEPT_COUNT: usize = 20;

/// Maximum number of backups, so that they cannot fill the disk: one every 45 minutes for 30 days.
const MAX_COUNT: usize = 1000;

/// Maximum number of backups with the same timestamp (one second).
const MAX_PER_SECOND: u32 = 1000;

const KIND: &str = "xtask.backup/1";

/// Change of one path, with the state before and after.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplacedPath {
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// Exact bytes of the file before, without git's filters; `None` if it did not exist.
    pub file_before: Option<StoredEntry>,
    /// Permission bits before, for a regular file. Backups of older versions have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_before: Option<u32>,
    /// Content of the file afterwards, as git stores it.
    pub file_after: Option<StoredEntry>,
    pub wrote_file: bool,
    /// Index entry before.
    pub index_before: Option<StoredEntry>,
    pub wrote_index: bool,
    /// Index entry afterwards.
    pub index_after: Option<StoredEntry>,
    /// Whether sparse checkout skipped the file.
    pub was_skipped: bool,
    /// Whether the path was written in spite of a pin. Backups of older versions do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_over_pin: Option<bool>,
}

/// Purpose of the backup of a plain `sync`; options follow it.
pub const PLAIN_SYNC: &str = "sync";

/// Record of a run, from which `undo` restores.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupRecord {
    /// Command in short: `sync`, `sync --force`, `undo 2026…`.
    pub purpose: String,
    /// Path of the worktree, for display.
    pub worktree: String,
    /// Git's name of the worktree, which stays the same when the folder is moved.
    pub worktree_name: String,
    /// Branch without `refs/heads/`; `None` if HEAD was detached.
    pub branch: Option<String>,
    /// Checked-out commit before.
    pub head_before: String,
    /// Checked-out commit afterwards, if the run moved the branch.
    pub head_after: Option<String>,
    pub paths: Vec<ReplacedPath>,
    /// Overlay at these paths before the run.
    pub overlay_before: Vec<StoredOverlayFile>,
    /// Everything that git could not restore; only set for a backup made by `recovery`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<WorktreeSnapshot>,
}

/// State of a worktree that is not in its commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorktreeSnapshot {
    /// Label given by the user.
    pub label: Option<String>,
    /// Total size in bytes, copies included.
    pub bytes: u64,
    pub files: Vec<SavedFile>,
    /// Name of the folder with copies of possibly secret files, which are not stored as git
    /// objects.
    pub copies: Option<String>,
    /// Number of files in `copies`.
    pub copied: usize,
    /// Git operation in progress, e.g. a rebase.
    pub operation: Option<SavedOperation>,
    /// Whether the worktree was reset afterwards: `restore` then returns to the branch and the
    /// operation.
    pub was_left: bool,
    /// Branch that was moved after this backup.
    pub moved: Option<MovedBranch>,
}

/// A file and its index entry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedFile {
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// Exact bytes of the file; `None` if it was deleted.
    pub file: Option<StoredEntry>,
    /// Permission bits, for a regular file.
    pub bits: Option<u32>,
    /// Whether the content may be secret and is stored in `WorktreeSnapshot::copies`.
    #[serde(default)]
    pub is_copied: bool,
    pub staged: SavedStaged,
}

/// Index state of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedStaged {
    /// Same as in HEAD, or untracked in both.
    AsHead,
    Entry(StoredEntry),
    /// Staged for removal.
    Removed,
    /// Unmerged, with the stages base, ours and theirs.
    Conflict([Option<StoredEntry>; 3]),
}

/// Git operation in progress. Its files are stored under `operation/` in the tree of the backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedOperation {
    /// Name, e.g. `a rebase`; `None` if there were only notes for the next commit (such as
    /// `MERGE_MSG`).
    pub name: Option<String>,
    /// Branch that the operation is about, if HEAD is detached for it (a rebase).
    #[serde(default)]
    pub branch: Option<String>,
    /// Commit of `branch`.
    #[serde(default)]
    pub tip: Option<String>,
    /// Refs of the operation with their ids, e.g. `refs/bisect/bad`.
    pub refs: std::collections::BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedBranch {
    /// Name without `refs/heads/`.
    pub branch: String,
    /// Commit before.
    pub from: String,
    /// Commit afterwards.
    pub to: String,
}

/// Reason why the record of a backup cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadableRecord {
    /// Written by a newer xtask.
    Newer,
    /// Missing or damaged.
    Corrupt,
}

/// An existing backup.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Name for `undo`, e.g. `20260131T120000Z-1`.
    pub id: String,
    pub commit: Id,
    /// Creation time in seconds since the epoch.
    pub seconds: i64,
    pub record: std::result::Result<BackupRecord, UnreadableRecord>,
}

/// Input of `save_backup`: a run that is about to start.
pub struct BackupInput<'a> {
    /// See `BackupRecord::purpose`.
    pub purpose: &'a str,
    pub head: &'a Head,
    /// Planned move of the branch.
    pub head_move: Option<&'a HeadMove>,
    pub changes: &'a [PathUpdate],
    /// Index before the run.
    pub index: &'a Index,
    /// Overlay before the run.
    pub overlay: &'a Overlay,
    /// The changed paths that are written in spite of a pin.
    pub over_pins: &'a BTreeSet<RepoPath>,
    /// Current time in seconds since the epoch.
    pub now: i64,
}

/// Saves all that `intent.changes` will replace; `publish_backup` then names it.
pub fn save_backup(repo: &Repo, intent: &BackupInput<'_>) -> Result<PendingBackup> {
    let mut tree = Vec::new();
    let mut paths = Vec::new();
    for change in intent.changes {
        let at = repo.staged_status(intent.index, &change.path)?;
        let staged = at.entry();
        if let Some(raw) = change.expected {
            // A staged content already is in the object database.
            if staged.is_none_or(|entry| entry.id != raw.id) {
                ensure_file_blob(repo, change, raw)?;
            }
            tree.push((backup_tree_path("worktree", &change.path), Some(raw)));
        }
        let is_lost = change.stages.is_some();
        if let Some(entry) = staged.filter(|entry| is_lost && entry.mode != FileMode::Gitlink)
            && change.expected.map(|raw| raw.id) != Some(entry.id)
        {
            tree.push((backup_tree_path("index", &change.path), Some(entry)));
        }
        let wrote_file = change.file != FileUpdate::None;
        paths.push(ReplacedPath {
            path: change.path.clone(),
            file_before: change.expected.map(StoredEntry::new),
            bits_before: change
                .expected
                .and_then(|_| read_mode_bits(&change.path.to_disk_path(repo.root()))),
            file_after: change.file.entry().map(StoredEntry::new),
            wrote_file,
            index_before: staged.map(StoredEntry::new),
            wrote_index: change.stages.is_some(),
            index_after: change.stages.flatten().map(StoredEntry::new),
            was_skipped: matches!(at, IndexStatus::Entry { is_skipped: true, .. }),
            is_over_pin: Some(intent.over_pins.contains(&change.path)),
        });
    }
    let record = BackupRecord {
        purpose: intent.purpose.to_owned(),
        worktree: repo.root().display().to_string(),
        worktree_name: repo.worktree_name(),
        branch: intent.head.branch.clone(),
        head_before: intent.head.commit.to_string(),
        head_after: intent.head_move.map(|moves| moves.new.to_string()),
        paths,
        // An overlay file that the user has removed no longer counts.
        overlay_before: intent.overlay.to_stored_at(intent.changes.iter().filter_map(|change| {
            let laid = intent.overlay.paths.get(&change.path)?;
            laid.is_unchanged_on_disk(repo, &change.path).then_some(&change.path)
        })),
        snapshot: None,
    };
    write_backup_commit(repo, tree, &record, &[intent.head.commit], intent.now)
}

/// Writes the commit of a backup: the entries of `tree` and the serialized `record`.
pub fn write_backup_commit(
    repo: &Repo,
    mut tree: Vec<TreeChange>,
    record: &BackupRecord,
    parents: &[Id],
    now: i64,
) -> Result<PendingBackup> {
    let bytes =
        record::serialize_record(KIND, record).with_context(|| "cannot write the backup")?;
    let id = repo.write_blob(&bytes)?;
    tree.push((RepoPath::new("record"), Some(TreeEntry { mode: FileMode::File, id })));
    let stamp = Signature {
        name: "xtask backup".to_owned(),
        email: "xtask-backup@users.noreply.invalid".to_owned(),
        seconds: now,
    };
    let commit = repo.write_commit(&NewCommit {
        tree: repo.write_tree(None, &tree)?,
        parents,
        author: None,
        committer: &stamp,
        message: &match &record.snapshot {
            Some(snapshot) if !snapshot.was_left => "manual backup\n".to_owned(),
            _ => format!("backup before {}\n", record.purpose),
        },
    })?;
    Ok(PendingBackup { commit, purpose: record.purpose.clone(), now })
}

/// Creates the ref of a backup, which makes it listed and safe from `git gc`. Returns its name.
///
/// # Errors
/// If all names of this second are taken (`MAX_PER_SECOND`).
pub fn publish_backup(repo: &Repo, prepared: &PendingBackup) -> Result<String> {
    let PendingBackup { commit, purpose, now } = prepared;
    for number in 1..=MAX_PER_SECOND {
        let id = format!("{}-{number}", format_compact_time(*now));
        let reference = format!("{REF_PREFIX}{id}");
        if repo.resolve_ref(&reference)?.is_some() {
            continue;
        }
        match repo.create_ref(&reference, *commit, purpose) {
            Ok(()) => return Ok(id),
            // Another worktree took the name since the check.
            Err(_) if repo.resolve_ref(&reference)?.is_some() => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Error::unable(format!(
        "cannot name the backup: all {MAX_PER_SECOND} names of this second are taken"
    ))
    .with_hint("try again in a second"))
}

/// Returns the permission bits (`mode & 0o7777`) of a regular file.
fn read_mode_bits(on_disk: &Path) -> Option<u32> {
    let meta = on_disk.symlink_metadata().ok().filter(Metadata::is_file)?;
    Some(meta.mode() & 0o7777)
}

/// Ensures that the exact bytes of a file are in the object database. A file that changed since the
/// plan (`raw`) is an error.
fn ensure_file_blob(repo: &Repo, change: &PathUpdate, raw: TreeEntry) -> Result<()> {
    if repo.has_object(raw.id) {
        return Ok(());
    }
    let content = read_raw_file(&change.path.to_disk_path(repo.root()))?.unwrap_or_default();
    if repo.write_blob(&content)? == raw.id {
        return Ok(());
    }
    Err(Error::unable(format!("`{}` was changed concurrently; nothing was changed", change.path))
        .with_hint("run it again"))
}

/// Returns the path in the tree of a backup, e.g. `worktree/setup/a`.
#[must_use]
pub fn backup_tree_path(folder: &str, path: &RepoPath) -> RepoPath {
    let mut bytes = format!("{folder}/").into_bytes();
    bytes.extend_from_slice(path.as_bytes());
    RepoPath::new(bytes)
}

/// Lists all backups, newest first.
pub fn list_backups(repo: &Repo) -> Result<Vec<Backup>> {
    let mut found = Vec::new();
    for (name, commit) in repo.refs_below(REF_PREFIX)? {
        let info = repo.read_commit(commit)?;
        let id = name[REF_PREFIX.len()..].to_owned();
        let record = read_record(repo, info.tree)?;
        found.push(Backup { id, commit, seconds: info.committer.seconds, record });
    }
    found.sort_by_key(|backup| std::cmp::Reverse((backup.seconds, parse_backup_number(backup))));
    Ok(found)
}

fn parse_backup_number(backup: &Backup) -> u32 {
    backup.id.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

fn read_record(
    repo: &Repo,
    tree: Id,
) -> Result<std::result::Result<BackupRecord, UnreadableRecord>> {
    let entry = repo.entry_at(tree, &RepoPath::new("record"))?;
    let Some(entry) = entry else { return Ok(Err(UnreadableRecord::Corrupt)) };
    Ok(match record::parse_record(KIND, &repo.read_blob(entry.id)?) {
        LoadedRecord::Valid(record) => Ok(record),
        LoadedRecord::Newer => Err(UnreadableRecord::Newer),
        LoadedRecord::Missing | LoadedRecord::Corrupt(_) => Err(UnreadableRecord::Corrupt),
    })
}

/// Deletes the refs of the backup `commit`, whose run was rolled back.
pub fn unpublish_backup(repo: &Repo, commit: Id) -> Result<()> {
    for (name, id) in repo.refs_below(REF_PREFIX)? {
        if id == commit {
            repo.delete_ref(&name, id)?;
        }
    }
    Ok(())
}

/// Deletes backups older than `KEPT_SECONDS` that are not among the newest `KEPT_COUNT`. The age
/// comes from the name; records are not read, so those of a newer xtask are kept as long as all
/// others.
pub fn prune_backups(repo: &Repo, now: i64) -> Result<()> {
    let mut refs = repo.refs_below(REF_PREFIX)?;
    if refs.len() <= KEPT_COUNT {
        return Ok(());
    }
    refs.sort_by_key(|(name, _)| {
        let (time, number) = name.rsplit_once('-').unwrap_or((name, ""));
        std::cmp::Reverse((time.to_owned(), number.parse::<u32>().unwrap_or(0)))
    });
    let oldest_kept = format!("{REF_PREFIX}{}", format_compact_time(now - KEPT_SECONDS));
    for (at, (name, commit)) in refs.into_iter().enumerate().skip(KEPT_COUNT) {
        if name < oldest_kept || at >= MAX_COUNT {
            repo.delete_ref(&name, commit)?;
        }
    }
    Ok(())
}
