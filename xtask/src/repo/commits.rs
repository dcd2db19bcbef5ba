//! Commits: reading, writing, and walking from one to the next.

use gix::bstr::ByteSlice;

use super::{Id, Repo};
use crate::base::error::{Context, Result};

/// Who, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
    /// Seconds since the Unix epoch.
    pub seconds: i64,
}

/// A commit, taken apart.
#[derive(Clone, Debug)]
pub struct CommitInfo {
    /// Its id.
    pub id: Id,
    /// Its tree.
    pub tree: Id,
    /// Its parents.
    pub parents: Vec<Id>,
    /// Who wrote the change.
    pub author: Stamp,
    /// Who made the commit.
    pub committer: Stamp,
    /// The message, with what is not UTF-8 replaced.
    pub message: String,
}

impl CommitInfo {
    /// The first line of the message.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The value of the last trailer line of this name.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.message.lines().rev().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }
}

/// A commit to write. Author and committer are the same, and the time is given in UTC.
pub struct NewCommit<'a> {
    /// The tree.
    pub tree: Id,
    /// The parents.
    pub parents: &'a [Id],
    /// Author and committer.
    pub stamp: &'a Stamp,
    /// The whole message.
    pub message: &'a str,
}

impl Repo {
    /// Reads a commit.
    pub fn commit(&self, id: Id) -> Result<CommitInfo> {
        let commit = self.git.find_commit(id).map_err(|cause| self.unreadable(id, cause))?;
        let decoded = commit.decode().map_err(|cause| self.unreadable(id, cause))?;
        let stamp = |signature: gix::actor::SignatureRef<'_>| Stamp {
            name: signature.name.to_str_lossy().trim().to_owned(),
            email: signature.email.to_str_lossy().trim().to_owned(),
            seconds: signature.time().map_or(0, |time| time.seconds),
        };
        let author = decoded.author().map_err(|cause| self.unreadable(id, cause))?;
        let committer = decoded.committer().map_err(|cause| self.unreadable(id, cause))?;
        Ok(CommitInfo {
            id,
            tree: decoded.tree(),
            parents: decoded.parents().collect(),
            author: stamp(author),
            committer: stamp(committer),
            message: decoded.message.to_str_lossy().into_owned(),
        })
    }

    /// The tree of a commit.
    pub fn tree_of(&self, id: Id) -> Result<Id> {
        let commit = self.git.find_commit(id).map_err(|cause| self.unreadable(id, cause))?;
        let tree = commit.tree_id().map_err(|cause| self.unreadable(id, cause))?;
        Ok(tree.detach())
    }

    /// Writes a commit object; no ref is moved.
    pub fn write_commit(&self, new: &NewCommit<'_>) -> Result<Id> {
        let signature = gix::actor::Signature {
            name: new.stamp.name.as_str().into(),
            email: new.stamp.email.as_str().into(),
            time: gix::date::Time { seconds: new.stamp.seconds, offset: 0 },
        };
        let commit = gix::objs::Commit {
            tree: new.tree,
            parents: new.parents.iter().copied().collect(),
            author: signature.clone(),
            committer: signature,
            encoding: None,
            message: new.message.into(),
            extra_headers: Vec::new(),
        };
        Ok(self.git.write_object(&commit).unable(|| "the commit cannot be written")?.detach())
    }

    /// A best common ancestor; nothing where the histories have none.
    pub fn merge_base(&self, one: Id, two: Id) -> Result<Option<Id>> {
        let base = self
            .git
            .merge_base(one, two)
            .unable(|| format!("the common history of `{}` and `{}` cannot be read", one, two))?;
        Ok(base.map(|id| id.detach()))
    }

    /// Whether `old` is reachable from `new`. Every commit is its own ancestor.
    pub fn is_ancestor(&self, old: Id, new: Id) -> Result<bool> {
        Ok(old == new || self.merge_base(old, new)? == Some(old))
    }

    /// How many commits `to` has that `from` does not have.
    pub fn count_between(&self, from: Id, to: Id) -> Result<usize> {
        Ok(self.between(Some(from), to, false)?.len())
    }

    /// The commits that `to` has and `from` does not, newest first; only first parents if wanted.
    pub fn between(&self, from: Option<Id>, to: Id, first_parent: bool) -> Result<Vec<Id>> {
        let failed = || format!("the history of `{to}` cannot be read");
        let mut platform = self.git.rev_walk([to]).with_hidden(from);
        if first_parent {
            platform = platform.first_parent_only();
        }
        let mut ids = Vec::new();
        for commit in platform.all().unable(failed)? {
            ids.push(commit.unable(failed)?.id);
        }
        Ok(ids)
    }
}
