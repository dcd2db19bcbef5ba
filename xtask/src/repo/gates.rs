//! What git is in the middle of. Sync keeps its hands off a repository in such a state.

use super::{PathPatterns, Repo};
use crate::base::error::{Error, Result};

/// An operation of git's that has begun and not ended, and how a user ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it is called: `a rebase`.
    pub name: &'static str,
    /// The command that ends it.
    pub ends_with: &'static str,
}

impl Repo {
    /// The operation that is in progress in this worktree.
    #[must_use]
    pub fn operation(&self) -> Option<Operation> {
        use gix::state::InProgress as Is;
        let (name, ends_with) = match self.git.state()? {
            Is::ApplyMailbox | Is::ApplyMailboxRebase => ("an `am`", "git am --continue"),
            Is::Bisect => ("a bisect", "git bisect reset"),
            Is::CherryPick | Is::CherryPickSequence => {
                ("a cherry-pick", "git cherry-pick --continue")
            }
            Is::Merge => ("a merge", "git merge --continue"),
            Is::Rebase | Is::RebaseInteractive => ("a rebase", "git rebase --continue"),
            Is::Revert | Is::RevertSequence => ("a revert", "git revert --continue"),
        };
        Some(Operation { name, ends_with })
    }

    /// Whether somebody holds the index of this worktree.
    #[must_use]
    pub fn index_is_locked(&self) -> bool {
        self.index_lock().symlink_metadata().is_ok()
    }
}

impl Repo {
    /// The patterns of sparse checkout: what they take is checked out. Nothing where it is off.
    pub fn sparse_patterns(&self) -> Result<Option<PathPatterns>> {
        if !self.setting_is("core.sparseCheckout", false) {
            return Ok(None);
        }
        let file = self.git_folder().join("info/sparse-checkout");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => {
                let what = format!("`{}` cannot be read", file.display());
                return Err(Error::unable(what).because(cause));
            }
        };
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Ok(Some(PathPatterns::new(lines)))
    }
}
