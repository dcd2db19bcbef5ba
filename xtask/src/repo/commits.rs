//! Commits: reading, writing, and walking from one to the next.

use gix::bstr::ByteSlice;
use gix::revision::plumbing::merge_base::Flags;
use gix::revision::plumbing::{Graph, graph};

use super::{Id, Repo};
use crate::base::error::{Context, Error, Result};

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

impl Stamp {
    /// As git writes it: `Ada <ada@example.invalid>`.
    #[must_use]
    pub fn name_and_address(&self) -> String {
        format!("{} <{}>", self.name, self.email)
    }
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

    /// The values of all trailer lines of this name.
    pub fn trailers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.message.lines().filter_map(|line| line.split_once(':'));
        lines.filter(move |(key, _)| *key == name).map(|(_, value)| value.trim())
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

/// A commit to write. Times are given in UTC.
pub struct NewCommit<'a> {
    /// The tree.
    pub tree: Id,
    /// The parents.
    pub parents: &'a [Id],
    /// Who wrote the change, if it is not the committer.
    pub author: Option<&'a Stamp>,
    /// Who makes the commit.
    pub committer: &'a Stamp,
    /// The whole message.
    pub message: &'a str,
}

/// A commit that is to stand on another parent: author, message and all else as they are.
pub struct Carried<'a> {
    /// The commit.
    pub original: Id,
    /// Its new tree.
    pub tree: Id,
    /// Its new parent.
    pub parent: Id,
    /// Who makes it; nothing for whoever made the original, not earlier than the new parent.
    pub committer: Option<&'a Stamp>,
    /// Trailers to add, with their values.
    pub trailers: &'a [(&'a str, String)],
}

/// Finds common ancestors of many pairs of commits, and reads no commit twice for it.
pub struct Lineage<'r> {
    repo: &'r Repo,
    graph: Graph<'r, 'static, graph::Commit<Flags>>,
}

impl Lineage<'_> {
    /// A best common ancestor; nothing where the histories have none.
    pub fn merge_base(&mut self, one: Id, two: Id) -> Result<Option<Id>> {
        let base = self
            .repo
            .git
            .merge_base_with_graph(one, two, &mut self.graph)
            .unable(|| format!("the common history of `{one}` and `{two}` cannot be read"))?;
        Ok(base.map(|id| id.detach()))
    }
}

impl Repo {
    /// For questions about many commits.
    #[must_use]
    pub fn lineage(&self) -> Lineage<'_> {
        Lineage { repo: self, graph: self.git.revision_graph(None) }
    }

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
        let commit = gix::objs::Commit {
            tree: new.tree,
            parents: new.parents.iter().copied().collect(),
            author: signature(new.author.unwrap_or(new.committer)),
            committer: signature(new.committer),
            encoding: None,
            message: new.message.into(),
            extra_headers: Vec::new(),
        };
        Ok(self.git.write_object(&commit).unable(|| "the commit cannot be written")?.detach())
    }

    /// Writes a commit again on another parent; no ref is moved. Author, time zone, encoding and the
    /// bytes of the message stay as they are. A signature does not: it was made for something else.
    pub fn write_carried(&self, carried: &Carried<'_>) -> Result<Id> {
        let failed = || "the commit cannot be written";
        let id = carried.original;
        let original = self.git.find_commit(id).map_err(|cause| self.unreadable(id, cause))?;
        let decoded = original.decode().map_err(|cause| self.unreadable(id, cause))?;
        let author = decoded.author().map_err(|cause| self.unreadable(id, cause))?;
        let committer = match carried.committer {
            Some(stamp) => signature(stamp),
            None => {
                let mut own = decoded
                    .committer()
                    .map_err(|c| self.unreadable(id, c))?
                    .to_owned()
                    .unable(failed)?;
                let parent = self.commit(carried.parent)?.committer.seconds;
                own.time.seconds = own.time.seconds.max(parent);
                own
            }
        };
        let mut message = decoded.message.to_vec();
        add_trailers(&mut message, carried.trailers);
        let commit = gix::objs::Commit {
            tree: carried.tree,
            parents: [carried.parent].into_iter().collect(),
            author: author.to_owned().unable(failed)?,
            committer,
            encoding: decoded.encoding.map(ToOwned::to_owned),
            message: message.into(),
            extra_headers: Vec::new(),
        };
        Ok(self.git.write_object(&commit).unable(failed)?.detach())
    }

    /// Who commits here, by git's configuration, and when: at `seconds`, unless `GIT_COMMITTER_DATE`
    /// says otherwise.
    pub fn committer(&self, seconds: i64) -> Result<Stamp> {
        let found = self.git.committer().and_then(std::result::Result::ok);
        let found = found.ok_or_else(|| {
            Error::unable("git does not know who you are")
                .hint("`git config user.name …` and `git config user.email …` tell it")
        })?;
        let text = |bytes: &gix::bstr::BStr| bytes.to_str_lossy().trim().to_owned();
        let dated = self.git.config_snapshot().string("gitoxide.commit.committerDate");
        let seconds = match dated {
            Some(_) => found.seconds(),
            None => seconds,
        };
        Ok(Stamp { name: text(found.name), email: text(found.email), seconds })
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

    /// The commits that `to` has and none of `from` has, newest first.
    pub fn beyond(&self, from: &[Id], to: Id) -> Result<Vec<Id>> {
        let failed = || format!("the history of `{to}` cannot be read");
        let walk = self.git.rev_walk([to]).with_hidden(from.iter().copied());
        walk.all().unable(failed)?.map(|commit| Ok(commit.unable(failed)?.id)).collect()
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

fn signature(stamp: &Stamp) -> gix::actor::Signature {
    gix::actor::Signature {
        name: stamp.name.as_str().into(),
        email: stamp.email.as_str().into(),
        time: gix::date::Time { seconds: stamp.seconds, offset: 0 },
    }
}

/// Adds trailers to a message, to those that stand at its end if there are any.
fn add_trailers(message: &mut Vec<u8>, trailers: &[(&str, String)]) {
    if trailers.is_empty() {
        return;
    }
    let kept = message.trim_end().len();
    message.truncate(kept);
    let is_trailer = |line: &[u8]| {
        let key = line.find_byte(b':').map(|at| &line[..at]).unwrap_or_default();
        line.starts_with(b" ")
            || !key.is_empty()
                && key.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    // The first paragraph is the subject, whatever it looks like.
    let last = message.rfind(b"\n\n").map(|at| &message[at + 2..]);
    let has_some = last.is_some_and(|last| last.lines().all(is_trailer));
    message.extend(if has_some { &b"\n"[..] } else { &b"\n\n"[..] });
    for (key, value) in trailers {
        message.extend(format!("{key}: {}\n", value.replace(['\n', '\r'], "?")).into_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(message: &str) -> String {
        let mut bytes = message.as_bytes().to_vec();
        add_trailers(&mut bytes, &[("Key", "value".to_owned())]);
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn trailers_join_those_that_are_there() {
        assert_eq!(with("one\n"), "one\n\nKey: value\n");
        assert_eq!(with("fix: one\n"), "fix: one\n\nKey: value\n");
        assert_eq!(
            with("one\n\ntext: of two\nlines\n\n"),
            "one\n\ntext: of two\nlines\n\nKey: value\n"
        );
        assert_eq!(with("one\n\nCc: A <a>\nX-Y: 1"), "one\n\nCc: A <a>\nX-Y: 1\nKey: value\n");
    }
}
