//! The checked-out branch and commit.
//!
//! ```text
//! ref: refs/heads/main -> Head { branch: Some("main"), commit: 1a2b…, tree: 3c4d… }
//! ```

use super::reftable::HeadState;
use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt};

/// The longest chain of symbolic refs: five, as in git.
const MAX_SYMREF_DEPTH: usize = 5;

/// HEAD with its commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The branch without `refs/heads/`; `None` if HEAD is detached.
    pub branch: Option<String>,
    pub commit: Id,
    pub tree: Id,
}

impl Repo {
    /// Reads HEAD. An unborn branch is an error: there is no commit to build on.
    pub fn head(&self) -> Result<Head> {
        let HeadState { branch, commit } = self.read_head()?;
        let branch = branch.map(|name| branch_of_ref(&name).unwrap_or(&name).to_owned());
        let Some(commit) = commit else {
            let name = branch.unwrap_or_default();
            return Err(Error::unable(format!("branch `{name}` has no commit yet"))
                .with_hint("make the first commit, then try again"));
        };
        let tree = self.tree_of(commit)?;
        Ok(Head { branch, commit, tree })
    }

    /// Returns the checked-out branch, even if unborn.
    #[must_use]
    pub fn current_branch(&self) -> Option<String> {
        branch_of_ref(&self.read_head().ok()?.branch?).map(str::to_owned)
    }

    /// Reads the ref to which the file `HEAD` points, whether it can be read or not.
    fn read_head_target(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.git_folder().join("HEAD")).ok()?;
        text.strip_prefix("ref: ").map(|name| name.trim().to_owned())
    }

    fn read_head(&self) -> Result<HeadState> {
        if self.has_reftable() {
            return self.head_by_git();
        }
        let head = self.git.head().with_context(|| "cannot read HEAD");
        let head = head.map_err(|error| match self.read_head_target() {
            Some(name) => self.add_broken_ref_hint(&name, error),
            None => error,
        })?;
        let name = head.referent_name().map(|name| name.as_bstr().to_string());
        let branch = name.or_else(|| self.read_head_symlink()).map(|name| self.follow_symref(name));
        let commit = match (head.id(), &branch) {
            (Some(id), _) => Some(id.detach()),
            // gix does not resolve a chain of symbolic refs.
            (None, Some(name)) => self.find_ref(name)?.and_then(|found| found.id),
            (None, None) => None,
        };
        Ok(HeadState { branch, commit })
    }

    /// Resolves a symbolic ref to the branch that it points to; returns other names unchanged.
    pub(super) fn follow_symref(&self, mut name: String) -> String {
        for _ in 0..MAX_SYMREF_DEPTH {
            match self.find_ref(&name).ok().flatten().and_then(|found| found.symbolic_target) {
                Some(other) if other.starts_with("refs/heads/") => name = other,
                _ => break,
            }
        }
        name
    }

    /// Reads a HEAD that is a symlink (`core.preferSymlinkRefs`).
    fn read_head_symlink(&self) -> Option<String> {
        let target = std::fs::read_link(self.git_folder().join("HEAD")).ok()?;
        target.to_str().filter(|name| name.starts_with("refs/")).map(str::to_owned)
    }
}

/// Returns the branch of a ref, e.g. `main` of `refs/heads/main`; `None` for a ref that is no local branch.
#[must_use]
pub fn branch_of_ref(name: &str) -> Option<&str> {
    name.strip_prefix("refs/heads/")
}

/// Returns a ref as people name it: without `refs/heads/` or `refs/remotes/`.
#[must_use]
pub fn short_ref(name: &str) -> &str {
    branch_of_ref(name).or_else(|| name.strip_prefix("refs/remotes/")).unwrap_or(name)
}
