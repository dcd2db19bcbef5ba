//! What is checked out.

use super::reftable::HeadState;
use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt};

/// How many names may stand for one another in a row: five, as for git.
const MAX_SYMREF_DEPTH: usize = 5;

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
        let HeadState { branch, commit } = self.read_head()?;
        let branch = branch.map(strip_heads_prefix);
        let Some(commit) = commit else {
            let name = branch.unwrap_or_default();
            return Err(Error::unable(format!("branch `{name}` has no commit yet"))
                .with_hint("make the first commit, then try again"));
        };
        let tree = self.tree_of(commit)?;
        Ok(Head { branch, commit, tree })
    }

    /// The branch that is checked out, also where it has no commit yet.
    #[must_use]
    pub fn current_branch(&self) -> Option<String> {
        self.read_head().ok()?.branch?.strip_prefix("refs/heads/").map(str::to_owned)
    }

    fn read_head(&self) -> Result<HeadState> {
        if self.has_reftable() {
            return self.head_by_git();
        }
        let head = self.git.head().with_context(|| "HEAD cannot be read")?;
        let name = head.referent_name().map(|name| name.as_bstr().to_string());
        let branch = name.or_else(|| self.read_head_symlink()).map(|name| self.follow_symref(name));
        let commit = match (head.id(), &branch) {
            (Some(id), _) => Some(id.detach()),
            // Over more than one name the library does not go.
            (None, Some(name)) => self.find_ref(name)?.and_then(|found| found.id),
            (None, None) => None,
        };
        Ok(HeadState { branch, commit })
    }

    /// The branch for which a name of a branch stands: itself, or where it leads as no more than another
    /// name for a branch.
    pub(super) fn follow_symref(&self, mut name: String) -> String {
        for _ in 0..MAX_SYMREF_DEPTH {
            match self.find_ref(&name).ok().flatten().and_then(|found| found.symbolic_target) {
                Some(other) if other.starts_with("refs/heads/") => name = other,
                _ => break,
            }
        }
        name
    }

    /// Where HEAD leads that is a symbolic link, as with `core.preferSymlinkRefs`.
    fn read_head_symlink(&self) -> Option<String> {
        let target = std::fs::read_link(self.git_folder().join("HEAD")).ok()?;
        target.to_str().filter(|name| name.starts_with("refs/")).map(str::to_owned)
    }
}

fn strip_heads_prefix(name: String) -> String {
    name.strip_prefix("refs/heads/").map_or(name.clone(), str::to_owned)
}
