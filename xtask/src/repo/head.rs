//! What is checked out.

use super::{Id, Repo};
use crate::base::error::{Context, Error, Result};

/// The commit that is checked out, and the branch that it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The branch without `refs/heads/`; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// The commit.
    pub commit: Id,
    /// Its tree.
    pub tree: Id,
}

impl Repo {
    /// What is checked out. An unborn branch is an error: it has nothing to build on.
    pub fn head(&self) -> Result<Head> {
        let head = self.git.head().unable(|| "HEAD cannot be read")?;
        let branch = head.referent_name().map(|name| {
            let name = name.as_bstr().to_string();
            name.strip_prefix("refs/heads/").map_or(name.clone(), str::to_owned)
        });
        let Some(commit) = head.id() else {
            let name = branch.unwrap_or_default();
            return Err(Error::unable(format!("branch `{name}` has no commit yet"))
                .hint("make the first commit, then try again"));
        };
        let commit = commit.detach();
        let tree = self.tree_of(commit)?;
        Ok(Head { branch, commit, tree })
    }

    /// The branch that is checked out, also where it has no commit yet.
    #[must_use]
    pub fn branch_name(&self) -> Option<String> {
        let name = self.git.head_name().ok()??;
        let name = name.as_bstr().to_string();
        name.strip_prefix("refs/heads/").map(str::to_owned)
    }
}
