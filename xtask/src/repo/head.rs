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
        let name = head.referent_name().map(|name| name.as_bstr().to_string());
        let branch = name
            .or_else(|| self.linked_head())
            .map(|name| name.strip_prefix("refs/heads/").map_or(name.clone(), str::to_owned));
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
        let name = self.git.head_name().ok()?.map(|name| name.as_bstr().to_string());
        name.or_else(|| self.linked_head())?.strip_prefix("refs/heads/").map(str::to_owned)
    }

    /// Where HEAD leads that is a symbolic link, as with `core.preferSymlinkRefs`.
    fn linked_head(&self) -> Option<String> {
        let target = std::fs::read_link(self.git_folder().join("HEAD")).ok()?;
        target.to_str().filter(|name| name.starts_with("refs/")).map(str::to_owned)
    }
}
