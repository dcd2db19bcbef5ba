//! Which commit is canonical: the newer of the local and the remote-tracking branch, and where the
//! two have diverged the remote one.

use super::{Id, Repo};
use crate::base::error::Result;

/// The canonical commit, and the ref that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical {
    /// The full name of the ref.
    pub reference: String,
    /// The commit.
    pub commit: Id,
    /// Its tree.
    pub tree: Id,
}

/// The canonical commit with what should be known about how it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The choice.
    pub canonical: Canonical,
    /// Local and remote branch have diverged: how many commits only the local one has.
    pub diverged: Option<usize>,
}

impl Repo {
    /// Resolves the canonical branch; nothing where neither the local nor the remote one exists.
    pub fn canonical(&self, branch: &str, remote: &str) -> Result<Option<Resolved>> {
        let local_name = format!("refs/heads/{branch}");
        let remote_name = format!("refs/remotes/{remote}/{branch}");
        let local = self.resolve(&local_name)?;
        let tracked = self.resolve(&remote_name)?;
        let (reference, commit, diverged) = match (local, tracked) {
            (None, None) => return Ok(None),
            (Some(local), None) => (local_name, local, None),
            (None, Some(tracked)) => (remote_name, tracked, None),
            (Some(local), Some(tracked)) if local == tracked => (local_name, local, None),
            (Some(local), Some(tracked)) => {
                if self.is_ancestor(tracked, local)? {
                    (local_name, local, None)
                } else if self.is_ancestor(local, tracked)? {
                    (remote_name, tracked, None)
                } else {
                    let only_local = self.count_between(tracked, local)?;
                    (remote_name, tracked, Some(only_local))
                }
            }
        };
        let tree = self.tree_of(commit)?;
        Ok(Some(Resolved { canonical: Canonical { reference, commit, tree }, diverged }))
    }
}
