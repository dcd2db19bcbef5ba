//! Journal of a transaction: enough to roll back or to finish after a crash.
//!
//! The file `journal` in `Repo::state_folder` exists while a transaction runs. It is written before
//! the first file is touched, again when all contents are ready to be swapped in, and once more at
//! the end of a transaction that moves no branch. Recovery rolls back or cleans up depending on
//! `phase` and on whether the branch has moved. For example (shortened):
//!
//! ```text
//! {"id":"18f2-2b0","purpose":"sync","phase":"Swapping",
//!  "files":[{"path":"setup/a","aside":"setup/.xtask-18f2-2b0-0","removes":false}],
//!  "head":{"branch":"feature","old":"aa11…","new":"bb22…"}}
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::overlay::StoredOverlayFile;
use xtask_base::path::RepoPath;
use xtask_git::{FileStat, Repo};

/// Kind and version of the record.
pub const KIND: &str = "xtask.journal/1";

/// Progress of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionPhase {
    /// New contents are being written next to their targets.
    Preparing,
    /// Files, then the index, then the branch are being swapped.
    Swapping,
    /// All is done; only for a transaction that moves no branch.
    Done,
}

/// Identity of a file: exact bytes and file mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Blob id of the bytes, or of a symlink's target.
    pub raw: String,
    /// Git's octal mode, e.g. `100755`.
    pub mode: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileStep {
    /// Path of the file.
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// Temporary name, from the root, of the new content and later of the old one.
    #[serde(with = "xtask_base::path::exact")]
    pub aside: RepoPath,
    /// Expected file before the swap.
    pub before: Option<Fingerprint>,
    /// File after the swap; `None` until the contents are prepared.
    pub after: Option<Fingerprint>,
    pub removes: bool,
    /// Stat data from the scan, if trusted; useless after a crash and so not stored.
    #[serde(skip)]
    pub look: Option<FileStat>,
    /// Stat data of the new file, once prepared.
    pub made: Option<FileStat>,
}

/// Move of the checked-out branch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadStep {
    /// Branch without `refs/heads/`; `None` if HEAD is detached.
    pub branch: Option<String>,
    /// Commit before.
    pub old: String,
    /// Commit afterwards.
    pub new: String,
}

#[derive(Serialize, Deserialize)]
pub struct Journal {
    /// Unique id, which is part of all temporary names.
    pub id: String,
    /// Command in short, for messages, e.g. `sync --force`.
    pub purpose: String,
    pub phase: TransactionPhase,
    pub files: Vec<FileStep>,
    /// Folders to create.
    pub folders: Vec<FolderStep>,
    /// Whether there was an index before; `None` if the index is not touched.
    pub had_index: Option<bool>,
    /// Move of the branch, if any.
    pub head: Option<HeadStep>,
    /// New overlay, if it changes.
    pub overlay: Option<Vec<StoredOverlayFile>>,
    /// Commit of the backup, whose refs a rollback deletes.
    pub backup: Option<String>,
}

/// A folder to create.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FolderStep {
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
}

impl Journal {
    /// Returns the content of git's `index.lock` during the transaction. A real index never begins
    /// like this.
    #[must_use]
    pub fn lock_text(&self) -> String {
        format!("xtask transaction {}\n", self.id)
    }
}

/// Returns the path of the journal.
#[must_use]
pub fn journal_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("journal")
}

/// Returns the path of the saved old index.
#[must_use]
pub fn old_index_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("index.old")
}

/// Returns the path of the prepared new index.
#[must_use]
pub fn new_index_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("index.new")
}

/// Returns the path of the file that becomes git's `index.lock`.
#[must_use]
pub fn lock_text_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("index.lock-text")
}
