//! The folders of a worktree, for code that needs no other access to the repository. For example,
//! for a linked worktree:
//!
//! ```text
//! root /home/ada/fix   git_dir /home/ada/app/.git/worktrees/fix   common_dir /home/ada/app/.git
//! ```

use std::path::{Path, PathBuf};

/// The absolute paths of a worktree and of its git folders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreePaths {
    /// The top folder of the worktree.
    pub root: PathBuf,
    /// The git folder of this worktree.
    pub git_dir: PathBuf,
    /// The git folder shared by all worktrees; equal to `git_dir` in the main worktree.
    pub common_dir: PathBuf,
}

impl WorktreePaths {
    /// Returns the folder for the state of this worktree, e.g. `.git/xtask`. It may not exist yet.
    #[must_use]
    pub fn state_folder(&self) -> PathBuf {
        state_folder_in(&self.git_dir)
    }

    /// Returns the folder for state that all worktrees share. It may not exist yet.
    #[must_use]
    pub fn shared_state_folder(&self) -> PathBuf {
        state_folder_in(&self.common_dir)
    }
}

/// Returns the state folder below the git folder `git`.
#[must_use]
pub fn state_folder_in(git: &Path) -> PathBuf {
    git.join("xtask")
}
