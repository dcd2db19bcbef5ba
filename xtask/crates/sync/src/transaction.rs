//! Changes that happen together or not at all: what `apply` is given.

use super::overlay::Overlay;
use xtask_base::path::RepoPath;
use xtask_git::{FileStat, Id, TreeEntry};

/// What happens to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileUpdate {
    /// Nothing.
    None,
    /// It gets this content, as git would check it out.
    CheckOut(TreeEntry),
    /// It gets this content, byte for byte.
    Restore(TreeEntry),
    /// The same, with these very permissions.
    RestoreExactly(TreeEntry, u32),
    /// It is removed.
    Remove,
}

/// What happens to a path.
#[derive(Clone, Debug)]
pub struct PathUpdate {
    /// The path.
    pub path: RepoPath,
    /// What happens to the file.
    pub file: FileUpdate,
    /// What must be on disk before: the id of the very bytes, and the kind. Nothing means that
    /// nothing must be there.
    pub expected: Option<TreeEntry>,
    /// How the file looked then, if nobody can have changed it since without changing that.
    pub expected_stat: Option<FileStat>,
    /// What is staged afterwards; nothing leaves the index alone.
    pub stages: Option<Option<TreeEntry>>,
    /// Whether sparse checkout leaves the file out.
    pub is_sparse: bool,
}

/// A move of the checked-out branch.
#[derive(Clone, Debug)]
pub struct HeadMove {
    /// The branch without `refs/heads/`; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// Where it must be.
    pub old: Id,
    /// Where it goes.
    pub new: Id,
    /// For the reflog.
    pub message: String,
}

/// Changes that happen together or not at all.
pub struct Transaction {
    /// What it is for, in a few words.
    pub purpose: String,
    /// The paths.
    pub changes: Vec<PathUpdate>,
    /// The move of the branch.
    pub head: Option<HeadMove>,
    /// The overlay afterwards, if it changes.
    pub overlay: Option<Overlay>,
    /// What is replaced, saved and waiting for its name; nothing where nothing can be lost.
    pub backup: Option<PendingBackup>,
}

/// A backup that is in the object database and has no name yet.
#[derive(Clone, Debug)]
pub struct PendingBackup {
    /// Its commit.
    pub commit: Id,
    pub(super) purpose: String,
    pub(super) now: i64,
}
