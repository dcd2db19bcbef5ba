//! Backups: what a run replaces is saved first, as a commit under `refs/xtask/backup/`.
//!
//! The tree of the commit holds the very bytes of each file under `worktree/`, what was staged
//! under `index/` where it differs, and `record`, which says what was done so that `undo` can take
//! it back. Its parent is the commit that was checked out, so that this stays reachable, too.
//!
//! What a person has saved by hand (`recovery`) lies here as well, as a record with a `snapshot`.
//!
//! Backups are kept for 30 days, and the last 20 for ever; of more than 1000 the oldest go before.

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

/// Where backups lie.
pub const REF_PREFIX: &str = "refs/xtask/backup/";

/// For how long a backup is kept at least: 30 days, in seconds.
const KEPT_SECONDS: i64 = 30 * 86_400;

/// How many backups are kept whatever their age.
const KEPT_COUNT: usize = 20;

/// How many backups are kept at most, so that nobody's disk is filled: one every 45 minutes for 30 days.
const MAX_COUNT: usize = 1000;

/// How many backups can be made in one second.
const MAX_PER_SECOND: u32 = 1000;

const KIND: &str = "xtask.backup/1";

/// What was done to one path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplacedPath {
    /// The path.
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// The very bytes of the file before.
    pub file_before: Option<StoredEntry>,
    /// Its permissions before, where it was a regular file. (Backups of older programs have none.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_before: Option<u32>,
    /// The content of the file afterwards, as git stores it.
    pub file_after: Option<StoredEntry>,
    /// Whether the file was written.
    pub wrote_file: bool,
    /// What was staged before.
    pub index_before: Option<StoredEntry>,
    /// Whether the index was written.
    pub wrote_index: bool,
    /// What was staged afterwards.
    pub index_after: Option<StoredEntry>,
    /// Whether sparse checkout left the file out.
    pub was_skipped: bool,
}

/// What a run did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BackupRecord {
    /// In a few words: `sync`, `sync --force`, `undo 2026…`.
    pub purpose: String,
    /// The worktree in which it ran, as a path for people.
    pub worktree: String,
    /// The name that git has for that worktree, wherever it is moved.
    pub worktree_name: String,
    /// The branch without `refs/heads/`; nothing where HEAD was detached.
    pub branch: Option<String>,
    /// The commit that was checked out before.
    pub head_before: String,
    /// The commit that was checked out afterwards, where the run moved the branch.
    pub head_after: Option<String>,
    /// The paths.
    pub paths: Vec<ReplacedPath>,
    /// What the overlay held at these paths.
    pub overlay_before: Vec<StoredOverlayFile>,
    /// All that git would not have brought back, where this was saved for its own sake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<WorktreeSnapshot>,
}

/// What stood in a worktree and not in its commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct WorktreeSnapshot {
    /// What the person calls it.
    pub label: Option<String>,
    /// How much it is, in bytes, copies included.
    pub bytes: u64,
    /// The files.
    pub files: Vec<SavedFile>,
    /// The name of the folder that holds copies of what may be secret; they are no objects of git.
    pub copies: Option<String>,
    /// How many copies there are.
    pub copied: usize,
    /// What git was in the middle of.
    pub operation: Option<SavedOperation>,
    /// Whether it was saved to leave all that: a restore goes back to the branch and the operation.
    pub was_left: bool,
    /// A branch that was moved after this was saved.
    pub moved: Option<MovedBranch>,
}

/// A file as it was, and what was staged for it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedFile {
    /// The path.
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// Its very bytes; nothing where it was gone.
    pub file: Option<StoredEntry>,
    /// Its permissions, where it was a regular file.
    pub bits: Option<u32>,
    /// Whether its content may be secret, and is among the copies.
    #[serde(default)]
    pub is_copied: bool,
    /// What was staged.
    pub staged: SavedStaged,
}

/// What was staged for a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SavedStaged {
    /// What HEAD held, or nothing at all where it was not tracked.
    AsHead,
    /// This.
    Entry(StoredEntry),
    /// That it is removed.
    Removed,
    /// A conflict: base, ours, theirs.
    Conflict([Option<StoredEntry>; 3]),
}

/// What git was in the middle of. Its files lie under `operation/` in the tree of the backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedOperation {
    /// What it is called: `a rebase`; nothing where only notes for the next commit lay there.
    pub name: Option<String>,
    /// The branch that it is about, where HEAD is detached for it.
    #[serde(default)]
    pub branch: Option<String>,
    /// Where that branch was.
    #[serde(default)]
    pub tip: Option<String>,
    /// Its refs.
    pub refs: std::collections::BTreeMap<String, String>,
}

/// A branch that was moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedBranch {
    /// Its name without `refs/heads/`.
    pub branch: String,
    /// Where it was.
    pub from: String,
    /// Where it went.
    pub to: String,
}

/// Why the record of a backup cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadableRecord {
    /// A newer xtask has written it.
    Newer,
    /// There is none, or it is damaged.
    Corrupt,
}

/// A backup that exists.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Its name, for `undo`.
    pub id: String,
    /// Its commit.
    pub commit: Id,
    /// When it was made, in seconds since the epoch.
    pub seconds: i64,
    /// What the run did, or why that cannot be read.
    pub record: std::result::Result<BackupRecord, UnreadableRecord>,
}

/// What is about to be done, for its backup.
pub struct BackupInput<'a> {
    /// In a few words.
    pub purpose: &'a str,
    /// What is checked out.
    pub head: &'a Head,
    /// The move of the branch.
    pub head_move: Option<&'a HeadMove>,
    /// The changes.
    pub changes: &'a [PathUpdate],
    /// The index before.
    pub index: &'a Index,
    /// The overlay before.
    pub overlay: &'a Overlay,
    /// Seconds since the epoch.
    pub now: i64,
}

/// Saves what the changes will replace. `publish` names it.
pub fn save_backup(repo: &Repo, intent: &BackupInput<'_>) -> Result<PendingBackup> {
    let mut tree = Vec::new();
    let mut paths = Vec::new();
    for change in intent.changes {
        let at = repo.staged_status(intent.index, &change.path)?;
        let staged = at.entry();
        if let Some(raw) = change.expected {
            // What is staged is in the object database already.
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
        let after = match &change.file {
            FileUpdate::CheckOut(entry) => Some(*entry),
            FileUpdate::Restore(entry) | FileUpdate::RestoreExactly(entry, _) => Some(*entry),
            FileUpdate::Remove | FileUpdate::None => None,
        };
        paths.push(ReplacedPath {
            path: change.path.clone(),
            file_before: change.expected.map(StoredEntry::new),
            bits_before: change
                .expected
                .and_then(|_| read_mode_bits(&change.path.to_disk_path(repo.root()))),
            file_after: after.map(StoredEntry::new),
            wrote_file,
            index_before: staged.map(StoredEntry::new),
            wrote_index: change.stages.is_some(),
            index_after: change.stages.flatten().map(StoredEntry::new),
            was_skipped: matches!(at, IndexStatus::Entry { is_skipped: true, .. }),
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
        // One that somebody has taken away by themselves is none any more.
        overlay_before: intent.overlay.to_stored_at(intent.changes.iter().filter_map(|change| {
            let laid = intent.overlay.paths.get(&change.path)?;
            laid.is_unchanged_on_disk(repo, &change.path).then_some(&change.path)
        })),
        snapshot: None,
    };
    write_backup_commit(repo, tree, &record, &[intent.head.commit], intent.now)
}

/// Writes the commit of a backup: what its record names, and the record.
pub fn write_backup_commit(
    repo: &Repo,
    mut tree: Vec<TreeChange>,
    record: &BackupRecord,
    parents: &[Id],
    now: i64,
) -> Result<PendingBackup> {
    let bytes =
        record::serialize_record(KIND, record).with_context(|| "the backup cannot be written")?;
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
            Some(snapshot) if !snapshot.was_left => "backup by hand\n".to_owned(),
            _ => format!("backup before {}\n", record.purpose),
        },
    })?;
    Ok(PendingBackup { commit, purpose: record.purpose.clone(), now })
}

/// Gives a backup its name, from where it can be found and is kept.
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
            // Another worktree took the name between our look and now.
            Err(_) if repo.resolve_ref(&reference)?.is_some() => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Error::unable("no name is free for a backup").with_hint("try again in a second"))
}

/// The permissions of a regular file.
fn read_mode_bits(on_disk: &Path) -> Option<u32> {
    let meta = on_disk.symlink_metadata().ok().filter(Metadata::is_file)?;
    Some(meta.mode() & 0o7777)
}

/// Makes sure that the very bytes of a file are in the object database.
fn ensure_file_blob(repo: &Repo, change: &PathUpdate, raw: TreeEntry) -> Result<()> {
    if repo.has_object(raw.id) {
        return Ok(());
    }
    let content = read_raw_file(&change.path.to_disk_path(repo.root()))?.unwrap_or_default();
    if repo.write_blob(&content)? == raw.id {
        return Ok(());
    }
    Err(Error::unable(format!("`{}` was changed meanwhile; nothing was changed", change.path))
        .with_hint("run it again"))
}

/// Where something lies in the tree of a backup.
#[must_use]
pub fn backup_tree_path(folder: &str, path: &RepoPath) -> RepoPath {
    let mut bytes = format!("{folder}/").into_bytes();
    bytes.extend_from_slice(path.as_bytes());
    RepoPath::new(bytes)
}

/// All backups, newest first.
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

/// Takes the name of a backup away whose run did not happen after all.
pub fn unpublish_backup(repo: &Repo, commit: Id) -> Result<()> {
    for (name, id) in repo.refs_below(REF_PREFIX)? {
        if id == commit {
            repo.delete_ref(&name, id)?;
        }
    }
    Ok(())
}

/// Removes the backups that are old enough and not among the last. Their names tell their age, so
/// none of them is read, and those of a newer xtask are kept as long as all others.
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
