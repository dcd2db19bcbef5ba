//! What is checked out.

use super::reftable::HeadSays;
use super::{Id, Repo};
use xtask_base::error::{Context, Error, Result};

/// How many names may stand for one another in a row: five, as for git.
const LONGEST_CHAIN: usize = 5;

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
        let HeadSays { branch, commit } = self.head_says()?;
        let branch = branch.map(without_prefix);
        let Some(commit) = commit else {
            let name = branch.unwrap_or_default();
            return Err(Error::unable(format!("branch `{name}` has no commit yet"))
                .hint("make the first commit, then try again"));
        };
        let tree = self.tree_of(commit)?;
        Ok(Head { branch, commit, tree })
    }

    /// The branch that is checked out, also where it has no commit yet.
    #[must_use]
    pub fn branch_name(&self) -> Option<String> {
        self.head_says().ok()?.branch?.strip_prefix("refs/heads/").map(str::to_owned)
    }

    fn head_says(&self) -> Result<HeadSays> {
        if self.has_reftable() {
            return self.head_by_git();
        }
        let head = self.git.head().unable(|| "HEAD cannot be read")?;
        let name = head.referent_name().map(|name| name.as_bstr().to_string());
        let branch = name.or_else(|| self.linked_head()).map(|name| self.meant_by(name));
        let commit = match (head.id(), &branch) {
            (Some(id), _) => Some(id.detach()),
            // Over more than one name the library does not go.
            (None, Some(name)) => self.find_ref(name)?.and_then(|found| found.id),
            (None, None) => None,
        };
        Ok(HeadSays { branch, commit })
    }

    /// The branch for which a name of a branch stands: itself, or where it leads as no more than another
    /// name for a branch.
    pub(super) fn meant_by(&self, mut name: String) -> String {
        for _ in 0..LONGEST_CHAIN {
            match self.find_ref(&name).ok().flatten().and_then(|found| found.other) {
                Some(other) if other.starts_with("refs/heads/") => name = other,
                _ => break,
            }
        }
        name
    }

    /// Where HEAD leads that is a symbolic link, as with `core.preferSymlinkRefs`.
    fn linked_head(&self) -> Option<String> {
        let target = std::fs::read_link(self.git_folder().join("HEAD")).ok()?;
        target.to_str().filter(|name| name.starts_with("refs/")).map(str::to_owned)
    }
}

fn without_prefix(name: String) -> String {
    name.strip_prefix("refs/heads/").map_or(name.clone(), str::to_owned)
}
