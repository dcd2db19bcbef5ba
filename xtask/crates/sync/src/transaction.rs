//! Input of `apply_transaction`: changes to files, index and branch that happen together or not at
//! all. For example, `sync` with one file behind:
//!
//! ```text
//! purpose "sync", changes [setup/a: CheckOut(77aa…)], head feature aa11… -> bb22…
//! ```

use super::overlay::Overlay;
use xtask_base::path::RepoPath;
use xtask_git::{FileStat, Id, TreeEntry};

/// Change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileUpdate {
    /// Unchanged.
    None,
    /// Write this content as git would check it out (with filters and line endings).
    CheckOut(TreeEntry),
    /// Write this content byte for byte.
    Restore(TreeEntry),
    /// Write this content byte for byte, with these permission bits.
    RestoreExactly(TreeEntry, u32),
    Remove,
}

impl FileUpdate {
    /// Returns the content that is written, if any.
    #[must_use]
    pub fn entry(&self) -> Option<TreeEntry> {
        match self {
            FileUpdate::CheckOut(entry)
            | FileUpdate::Restore(entry)
            | FileUpdate::RestoreExactly(entry, _) => Some(*entry),
            FileUpdate::None | FileUpdate::Remove => None,
        }
    }
}

/// Change of a path: file and index entry.
#[derive(Clone, Debug)]
pub struct PathUpdate {
    pub path: RepoPath,
    pub file: FileUpdate,
    /// Expected file before: id of the exact bytes, and mode. `None` expects no file.
    pub expected: Option<TreeEntry>,
    /// Stat data of that file, if old enough that a later change would show in them.
    pub expected_stat: Option<FileStat>,
    /// New index entry; `Some(None)` removes it, `None` leaves the index as is.
    pub stages: Option<Option<TreeEntry>>,
    /// Whether sparse checkout skips the file.
    pub is_sparse: bool,
}

/// Move of the checked-out branch.
#[derive(Clone, Debug)]
pub struct HeadMove {
    /// Branch without `refs/heads/`; `None` if HEAD is detached.
    pub branch: Option<String>,
    /// Expected commit before.
    pub old: Id,
    /// New commit.
    pub new: Id,
    /// Reflog message.
    pub message: String,
}

/// Changes that happen together or not at all.
pub struct Transaction {
    /// Command in short, e.g. `sync --force`.
    pub purpose: String,
    pub changes: Vec<PathUpdate>,
    pub head: Option<HeadMove>,
    /// New overlay, if it changes.
    pub overlay: Option<Overlay>,
    /// Saved contents, still without a ref; `None` if no content can be lost.
    pub backup: Option<PendingBackup>,
}

/// A backup in the object database that has no ref yet; see `publish_backup`.
#[derive(Clone, Debug)]
pub struct PendingBackup {
    pub commit: Id,
    pub(super) purpose: String,
    pub(super) now: i64,
}
