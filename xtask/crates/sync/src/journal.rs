//! The journal of a transaction: enough to take it back, or to finish it, after a crash.
//!
//! It lies in the state folder of the worktree for as long as a transaction runs. It is written
//! before the first file is touched, again when everything is ready to be swapped in, and, for
//! transactions that move no branch, once more when all is done. Which of these was reached, and
//! whether the branch has moved, says what recovery does: take all back, or clean up.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::overlay::StoredOverlayFile;
use xtask_base::path::RepoPath;
use xtask_git::{FileStat, Repo};

/// The kind and version of the record.
pub const KIND: &str = "xtask.journal/1";

/// How far a transaction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionPhase {
    /// New contents are being written beside their targets.
    Preparing,
    /// They are being swapped in, then the index, then the branch.
    Swapping,
    /// All is done, for a transaction that moves no branch.
    Done,
}

/// What tells a file from another: its very bytes, and what kind of file it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The id that its bytes (or a symlink's target) have as a blob.
    pub raw: String,
    /// Its mode, in git's octal.
    pub mode: String,
}

/// One file of a transaction.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileStep {
    /// Where it lies.
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// The name, from the root, at which the new content waits and the old one is put.
    #[serde(with = "xtask_base::path::exact")]
    pub aside: RepoPath,
    /// What must be there before.
    pub before: Option<Fingerprint>,
    /// What is there afterwards; not known before the contents are prepared.
    pub after: Option<Fingerprint>,
    /// Whether the file is removed.
    pub removes: bool,
    /// How it looked when the plan was made, if that can be trusted; of no use after a crash.
    #[serde(skip)]
    pub look: Option<FileStat>,
    /// How the new file looks, once it is prepared.
    pub made: Option<FileStat>,
}

/// The move of the checked-out branch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadStep {
    /// The branch without `refs/heads/`; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// Where it was.
    pub old: String,
    /// Where it goes.
    pub new: String,
}

/// A transaction.
#[derive(Serialize, Deserialize)]
pub struct Journal {
    /// Tells this transaction from others; part of the names that it uses.
    pub id: String,
    /// What it was for, for people.
    pub purpose: String,
    /// How far it got.
    pub phase: TransactionPhase,
    /// The files.
    pub files: Vec<FileStep>,
    /// Folders that are made.
    pub folders: Vec<FolderStep>,
    /// Whether there was an index before; nothing where the index is not touched.
    pub had_index: Option<bool>,
    /// The move of the branch, if there is one.
    pub head: Option<HeadStep>,
    /// The overlay afterwards, if it changes.
    pub overlay: Option<Vec<StoredOverlayFile>>,
    /// The commit of the backup, whose names go if the transaction is taken back.
    pub backup: Option<String>,
}

/// A folder that is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FolderStep {
    /// Where.
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
}

impl Journal {
    /// What is written into git's lock on the index while the transaction holds it. An index of
    /// git's own never begins like this.
    #[must_use]
    pub fn lock_text(&self) -> String {
        format!("xtask transaction {}\n", self.id)
    }
}

/// Where the journal lies.
#[must_use]
pub fn journal_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("journal")
}

/// Where the old index waits.
#[must_use]
pub fn old_index_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("index.old")
}

/// Where the new index waits.
#[must_use]
pub fn new_index_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("index.new")
}

/// The text that becomes git's lock.
#[must_use]
pub fn lock_text_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("index.lock-text")
}
