//! The folders of a worktree: what those need to know of a repository who ask it nothing else.

use std::path::{Path, PathBuf};

/// Where a worktree lies, and what git and we keep of it. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreePaths {
    /// The worktree itself.
    pub root: PathBuf,
    /// The git folder of this very worktree.
    pub git_dir: PathBuf,
    /// The git folder that all worktrees share; in the main worktree it is `git`.
    pub common_dir: PathBuf,
}

impl WorktreePaths {
    /// Where state of this worktree is kept, `.git/xtask`. It may not exist yet.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        state_folder_in(&self.git_dir)
    }

    /// Where state that all worktrees share is kept. It may not exist yet.
    #[must_use]
    pub fn shared_state_folder(&self) -> PathBuf {
        state_folder_in(&self.common_dir)
    }
}

/// Where state is kept below a git folder.
#[must_use]
pub fn state_folder_in(git: &Path) -> PathBuf {
    git.join("xtask")
}
