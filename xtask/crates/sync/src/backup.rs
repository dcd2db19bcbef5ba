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

use super::batch::{Change, FileChange, HeadMove, Prepared};
use super::overlay::{KeptEntry, KeptPath, Overlay};
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::record::{self, Found};
use xtask_base::world::compact;
use xtask_git::{
    Entry, Head, Id, Index, Indexed, Mode, NewCommit, Repo, Stamp, TreeChange, read_raw,
};

/// Where backups lie.
pub const PREFIX: &str = "refs/xtask/backup/";

/// For how long a backup is kept at least: 30 days, in seconds.
const KEPT_SECONDS: i64 = 30 * 86_400;

/// How many backups are kept whatever their age.
const KEPT_COUNT: usize = 20;

/// How many backups are kept at most, so that nobody's disk is filled: one every 45 minutes for 30 days.
const MOST: usize = 1000;

/// How many backups can be made in one second.
const NUMBERS: u32 = 1000;

const KIND: &str = "xtask.backup/1";

/// What was done to one path.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedPath {
    /// The path.
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// The very bytes of the file before.
    pub file_before: Option<KeptEntry>,
    /// Its permissions before, where it was a regular file. (Backups of older programs have none.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_before: Option<u32>,
    /// The content of the file afterwards, as git stores it.
    pub file_after: Option<KeptEntry>,
    /// Whether the file was written.
    pub wrote_file: bool,
    /// What was staged before.
    pub index_before: Option<KeptEntry>,
    /// Whether the index was written.
    pub wrote_index: bool,
    /// What was staged afterwards.
    pub index_after: Option<KeptEntry>,
    /// Whether sparse checkout left the file out.
    pub was_skipped: bool,
}

/// What a run did.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
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
    pub paths: Vec<SavedPath>,
    /// What the overlay held at these paths.
    pub overlay_before: Vec<KeptPath>,
    /// All that git would not have brought back, where this was saved for its own sake.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// What stood in a worktree and not in its commit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Snapshot {
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
    pub file: Option<KeptEntry>,
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
    Entry(KeptEntry),
    /// That it is removed.
    Removed,
    /// A conflict: base, ours, theirs.
    Conflict([Option<KeptEntry>; 3]),
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
pub enum Unread {
    /// A newer xtask has written it.
    Newer,
    /// There is none, or it is damaged.
    Broken,
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
    pub record: std::result::Result<Record, Unread>,
}

/// What is about to be done, for its backup.
pub struct Intent<'a> {
    /// In a few words.
    pub purpose: &'a str,
    /// What is checked out.
    pub head: &'a Head,
    /// The move of the branch.
    pub moves: Option<&'a HeadMove>,
    /// The changes.
    pub changes: &'a [Change],
    /// The index before.
    pub index: &'a Index,
    /// The overlay before.
    pub overlay: &'a Overlay,
    /// Seconds since the epoch.
    pub now: i64,
}

/// Saves what the changes will replace. `publish` names it.
pub fn save(repo: &Repo, intent: &Intent<'_>) -> Result<Prepared> {
    let mut tree = Vec::new();
    let mut paths = Vec::new();
    for change in intent.changes {
        let at = repo.staged(intent.index, &change.path)?;
        let staged = at.entry();
        if let Some(raw) = change.expects {
            // What is staged is in the object database already.
            if staged.is_none_or(|entry| entry.id != raw.id) {
                keep_bytes(repo, change, raw)?;
            }
            tree.push((below("worktree", &change.path), Some(raw)));
        }
        let is_lost = change.stages.is_some();
        if let Some(entry) = staged.filter(|entry| is_lost && entry.mode != Mode::Gitlink)
            && change.expects.map(|raw| raw.id) != Some(entry.id)
        {
            tree.push((below("index", &change.path), Some(entry)));
        }
        let wrote_file = change.file != FileChange::None;
        let after = match &change.file {
            FileChange::CheckOut(entry) => Some(*entry),
            FileChange::Restore(entry) | FileChange::RestoreExactly(entry, _) => Some(*entry),
            FileChange::Remove | FileChange::None => None,
        };
        paths.push(SavedPath {
            path: change.path.clone(),
            file_before: change.expects.map(KeptEntry::new),
            bits_before: change.expects.and_then(|_| bits_of(&change.path.on_disk(repo.root()))),
            file_after: after.map(KeptEntry::new),
            wrote_file,
            index_before: staged.map(KeptEntry::new),
            wrote_index: change.stages.is_some(),
            index_after: change.stages.flatten().map(KeptEntry::new),
            was_skipped: matches!(at, Indexed::Entry { is_skipped: true, .. }),
        });
    }
    let record = Record {
        purpose: intent.purpose.to_owned(),
        worktree: repo.root().display().to_string(),
        worktree_name: repo.worktree_name(),
        branch: intent.head.branch.clone(),
        head_before: intent.head.commit.to_string(),
        head_after: intent.moves.map(|moves| moves.new.to_string()),
        paths,
        // One that somebody has taken away by themselves is none any more.
        overlay_before: intent.overlay.of(intent.changes.iter().filter_map(|change| {
            let laid = intent.overlay.paths.get(&change.path)?;
            laid.is_on_disk(repo, &change.path).then_some(&change.path)
        })),
        snapshot: None,
    };
    write(repo, tree, &record, &[intent.head.commit], intent.now)
}

/// Writes the commit of a backup: what its record names, and the record.
pub fn write(
    repo: &Repo,
    mut tree: Vec<TreeChange>,
    record: &Record,
    parents: &[Id],
    now: i64,
) -> Result<Prepared> {
    let bytes = record::to_bytes(KIND, record).unable(|| "the backup cannot be written")?;
    let id = repo.write_blob(&bytes)?;
    tree.push((RepoPath::new("record"), Some(Entry { mode: Mode::File, id })));
    let stamp = Stamp {
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
    Ok(Prepared { commit, purpose: record.purpose.clone(), now })
}

/// Gives a backup its name, from where it can be found and is kept.
pub fn publish(repo: &Repo, prepared: &Prepared) -> Result<String> {
    let Prepared { commit, purpose, now } = prepared;
    for number in 1..=NUMBERS {
        let id = format!("{}-{number}", compact(*now));
        let reference = format!("{PREFIX}{id}");
        if repo.resolve(&reference)?.is_some() {
            continue;
        }
        match repo.create_ref(&reference, *commit, purpose) {
            Ok(()) => return Ok(id),
            // Another worktree took the name between our look and now.
            Err(_) if repo.resolve(&reference)?.is_some() => {}
            Err(failure) => return Err(failure),
        }
    }
    Err(Error::unable("no name is free for a backup").hint("try again in a second"))
}

/// The permissions of a regular file.
fn bits_of(on_disk: &Path) -> Option<u32> {
    let meta = on_disk.symlink_metadata().ok().filter(Metadata::is_file)?;
    Some(meta.mode() & 0o7777)
}

/// Makes sure that the very bytes of a file are in the object database.
fn keep_bytes(repo: &Repo, change: &Change, raw: Entry) -> Result<()> {
    if repo.has_object(raw.id) {
        return Ok(());
    }
    let content = read_raw(&change.path.on_disk(repo.root()))?.unwrap_or_default();
    if repo.write_blob(&content)? == raw.id {
        return Ok(());
    }
    Err(Error::unable(format!("`{}` was changed meanwhile; nothing was changed", change.path))
        .hint("run it again"))
}

/// Where something lies in the tree of a backup.
#[must_use]
pub fn below(folder: &str, path: &RepoPath) -> RepoPath {
    let mut bytes = format!("{folder}/").into_bytes();
    bytes.extend_from_slice(path.as_bytes());
    RepoPath::new(bytes)
}

/// All backups, newest first.
pub fn list(repo: &Repo) -> Result<Vec<Backup>> {
    let mut found = Vec::new();
    for (name, commit) in repo.refs_below(PREFIX)? {
        let info = repo.commit(commit)?;
        let id = name[PREFIX.len()..].to_owned();
        let record = read(repo, info.tree)?;
        found.push(Backup { id, commit, seconds: info.committer.seconds, record });
    }
    found.sort_by_key(|backup| std::cmp::Reverse((backup.seconds, number(backup))));
    Ok(found)
}

fn number(backup: &Backup) -> u32 {
    backup.id.rsplit_once('-').and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

fn read(repo: &Repo, tree: Id) -> Result<std::result::Result<Record, Unread>> {
    let entry = repo.entry_at(tree, &RepoPath::new("record"))?;
    let Some(entry) = entry else { return Ok(Err(Unread::Broken)) };
    Ok(match record::from_bytes(KIND, &repo.blob(entry.id)?) {
        Found::Whole(record) => Ok(record),
        Found::Newer => Err(Unread::Newer),
        Found::Nothing | Found::Broken(_) => Err(Unread::Broken),
    })
}

/// Takes the name of a backup away whose run did not happen after all.
pub fn forget_commit(repo: &Repo, commit: Id) -> Result<()> {
    for (name, id) in repo.refs_below(PREFIX)? {
        if id == commit {
            repo.delete_ref(&name, id)?;
        }
    }
    Ok(())
}

/// Removes the backups that are old enough and not among the last. Their names tell their age, so
/// none of them is read, and those of a newer xtask are kept as long as all others.
pub fn prune(repo: &Repo, now: i64) -> Result<()> {
    let mut refs = repo.refs_below(PREFIX)?;
    if refs.len() <= KEPT_COUNT {
        return Ok(());
    }
    refs.sort_by_key(|(name, _)| {
        let (time, number) = name.rsplit_once('-').unwrap_or((name, ""));
        std::cmp::Reverse((time.to_owned(), number.parse::<u32>().unwrap_or(0)))
    });
    let oldest_kept = format!("{PREFIX}{}", compact(now - KEPT_SECONDS));
    for (at, (name, commit)) in refs.into_iter().enumerate().skip(KEPT_COUNT) {
        if name < oldest_kept || at >= MOST {
            repo.delete_ref(&name, commit)?;
        }
    }
    Ok(())
}
