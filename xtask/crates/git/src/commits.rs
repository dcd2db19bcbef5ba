//! Commits: reading, writing, replaying, and walking the history.
//!
//! gix does the work; `git merge-base` and `git rev-list` step in for histories that gix rejects as
//! malformed. A commit with an unreadable author is read as leniently as git does.
//!
//! ```text
//! "Ada <ada@example.invalid> 1700000000 +0100"
//! -> Signature { name: "Ada", email: "ada@example.invalid", seconds: 1700000000 }
//! ```

use std::time::Duration;

use gix::bstr::ByteSlice;
use gix::revision::plumbing::merge_base::Flags;
use gix::revision::plumbing::{Graph, graph};

use super::local_git::require_success;
use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt};

/// Timeout of a history walk by git.
const HISTORY_TIMEOUT: Duration = Duration::from_secs(600);

/// An author or committer, with the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub email: String,
    /// Seconds since the epoch.
    pub seconds: i64,
}

impl Signature {
    /// Returns the form that git writes: `Ada <ada@example.invalid>`.
    #[must_use]
    pub fn name_and_email(&self) -> String {
        format!("{} <{}>", self.name, self.email)
    }
}

/// A parsed commit.
#[derive(Clone, Debug)]
pub struct CommitInfo {
    pub id: Id,
    pub tree: Id,
    pub parents: Vec<Id>,
    pub author: Signature,
    pub committer: Signature,
    /// The whole message; bytes that are not UTF-8 are replaced.
    pub message: String,
}

impl CommitInfo {
    /// Returns the first line of `message`.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// Returns the values of all trailer lines `NAME: value`, in order.
    pub fn trailers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.message.lines().filter_map(|line| line.split_once(':'));
        lines.filter(move |(key, _)| *key == name).map(|(_, value)| value.trim())
    }

    /// Returns the value of the last trailer line `NAME: value`.
    #[must_use]
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.message.lines().rev().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key == name).then(|| value.trim())
        })
    }
}

/// A commit to write. Its times are written in UTC.
pub struct NewCommit<'a> {
    pub tree: Id,
    pub parents: &'a [Id],
    /// The author, if different from `committer`.
    pub author: Option<&'a Signature>,
    pub committer: &'a Signature,
    /// The whole message, with trailers.
    pub message: &'a str,
}

/// A commit to write again on another parent, with the same author and message.
pub struct ReplayedCommit<'a> {
    /// The commit to replay.
    pub original: Id,
    pub tree: Id,
    pub parent: Id,
    /// The new committer; `None` keeps the original's, with a time not before that of `parent`.
    pub committer: Option<&'a Signature>,
    /// Trailers to add, as pairs of name and value.
    pub trailers: &'a [(&'a str, String)],
}

/// Finds merge bases for many pairs of commits, reading each commit once.
pub struct MergeBaseFinder<'r> {
    repo: &'r Repo,
    graph: Graph<'r, 'static, graph::Commit<Flags>>,
}

impl MergeBaseFinder<'_> {
    /// Returns a best common ancestor; `None` if the histories are unrelated.
    pub fn merge_base(&mut self, one: Id, two: Id) -> Result<Option<Id>> {
        let base = self.repo.git.merge_base_with_graph(one, two, &mut self.graph);
        let Ok(base) = base else { return self.repo.merge_base_by_git(one, two) };
        Ok(base.map(|id| id.detach()))
    }
}

impl Repo {
    /// Returns a finder that shares its graph between calls.
    #[must_use]
    pub fn merge_base_finder(&self) -> MergeBaseFinder<'_> {
        MergeBaseFinder { repo: self, graph: self.git.revision_graph(None) }
    }

    /// Reads a commit, as leniently as git does: an author line that an import has malformed, or a
    /// missing one, is not an error.
    pub fn read_commit(&self, id: Id) -> Result<CommitInfo> {
        let commit = self.git.find_commit(id).map_err(|cause| self.unreadable_error(id, cause))?;
        let parts = RawCommit::parse(&commit.data);
        let tree = parts.tree().ok_or_else(|| self.unreadable_error(id, "it has no tree"))?;
        Ok(CommitInfo {
            id,
            tree,
            parents: parts.parents(),
            author: parts.parse_signature(b"author "),
            committer: parts.parse_signature(b"committer "),
            message: parts.decode_text(parts.message),
        })
    }

    /// Returns the tree of a commit.
    pub fn tree_of(&self, id: Id) -> Result<Id> {
        let commit = self.git.find_commit(id).map_err(|cause| self.unreadable_error(id, cause))?;
        RawCommit::parse(&commit.data)
            .tree()
            .ok_or_else(|| self.unreadable_error(id, "it has no tree"))
    }

    /// Writes a commit object and returns its id, without moving a ref.
    pub fn write_commit(&self, new: &NewCommit<'_>) -> Result<Id> {
        let commit = gix::objs::Commit {
            tree: new.tree,
            parents: new.parents.iter().copied().collect(),
            author: to_gix_signature(new.author.unwrap_or(new.committer)),
            committer: to_gix_signature(new.committer),
            encoding: None,
            message: new.message.into(),
            extra_headers: Vec::new(),
        };
        let id =
            self.git.write_object(&commit).with_context(|| "cannot write the commit")?.detach();
        self.share_object(id);
        Ok(id)
    }

    /// Writes a commit again on another parent and returns its id, without moving a ref. Author,
    /// time zone, encoding and the bytes of the message are kept. A signature is dropped: it covers
    /// the old commit.
    pub fn write_replayed_commit(&self, carried: &ReplayedCommit<'_>) -> Result<Id> {
        let failed = || "cannot write the commit";
        let id = carried.original;
        let original =
            self.git.find_commit(id).map_err(|cause| self.unreadable_error(id, cause))?;
        let parts = RawCommit::parse(&original.data);
        let mut bytes = format!("tree {}\nparent {}\n", carried.tree, carried.parent).into_bytes();
        let mut line = |words: &[u8], rest: &[u8]| bytes.extend([words, rest, b"\n"].concat());
        line(b"author ", parts.header(b"author ").unwrap_or_default());
        let committer = match carried.committer {
            Some(stamp) => parts.encode_text(&format_signature(stamp)),
            None => {
                let own = parts.header(b"committer ").unwrap_or_default();
                let parent = self.read_commit(carried.parent)?.committer.seconds;
                with_time_not_before(own, parent)
            }
        };
        line(b"committer ", &committer);
        if let Some(encoding) = parts.header(b"encoding ") {
            line(b"encoding ", encoding);
        }
        let mut message = parts.message.to_vec();
        add_trailers(&mut message, carried.trailers);
        bytes.push(b'\n');
        bytes.extend(message);
        let id = gix::objs::Write::write_buf(&self.git.objects, gix::objs::Kind::Commit, &bytes)
            .map_err(|cause| Error::unable(failed()).with_cause(cause))?;
        self.share_object(id);
        Ok(id)
    }

    /// Returns the committer from git's configuration and `GIT_COMMITTER_…`, dated `seconds` unless
    /// `GIT_COMMITTER_DATE` is set.
    pub fn committer(&self, seconds: i64) -> Result<Signature> {
        let found = self.git.committer().and_then(std::result::Result::ok);
        let dated = self.git.config_snapshot().string("gitoxide.commit.committerDate");
        to_identity(found, "committer", dated.is_none().then_some(seconds))
    }

    /// Returns the author from git's configuration and `GIT_AUTHOR_…`, dated `seconds` unless
    /// `GIT_AUTHOR_DATE` is set.
    pub fn author(&self, seconds: i64) -> Result<Signature> {
        let found = self.git.author().and_then(std::result::Result::ok);
        let dated = self.git.config_snapshot().string("gitoxide.commit.authorDate");
        to_identity(found, "author", dated.is_none().then_some(seconds))
    }

    /// Returns a best common ancestor; `None` if the histories are unrelated.
    pub fn merge_base(&self, one: Id, two: Id) -> Result<Option<Id>> {
        match self.git.merge_base(one, two) {
            Ok(base) => Ok(base.map(gix::Id::detach)),
            Err(_) => self.merge_base_by_git(one, two),
        }
    }

    /// Runs `git merge-base`, which accepts commits that gix rejects as malformed, e.g. an author
    /// line of an old import.
    fn merge_base_by_git(&self, one: Id, two: Id) -> Result<Option<Id>> {
        let failed = || format!("cannot find the merge base of `{one}` and `{two}`");
        let asked = self.git_command(["merge-base", &one.to_string(), &two.to_string()]);
        let asked = asked.run_with_timeout(HISTORY_TIMEOUT)?;
        match asked.status.code() {
            Some(0) => Id::from_hex(asked.stdout.trim().as_bytes()).map(Some).with_context(failed),
            Some(1) if asked.stderr.is_empty() => Ok(None),
            _ => Err(Error::unable(failed()).with_detail(asked.stderr)),
        }
    }

    /// Runs `git rev-list` for the same reason.
    fn rev_list_by_git(&self, from: &[Id], to: Id, first_parent: bool) -> Result<Vec<Id>> {
        let failed = || format!("cannot read the history of `{to}`");
        let mut words = vec!["rev-list".to_owned(), "--stdin".to_owned()];
        words.extend(first_parent.then(|| "--first-parent".to_owned()));
        let mut input = format!("{to}\n");
        from.iter().for_each(|id| input.push_str(&format!("^{id}\n")));
        let asked = self.git_command(words.iter().map(String::as_str)).with_full_output();
        let asked = asked.run_with_input(input.as_bytes(), HISTORY_TIMEOUT)?;
        let listed = require_success(asked, &failed())?.stdout_bytes;
        let lines = listed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|id| Id::from_hex(id).with_context(failed)).collect()
    }

    /// Returns whether `old` is reachable from `new`. Every commit is its own ancestor.
    pub fn is_ancestor(&self, old: Id, new: Id) -> Result<bool> {
        Ok(old == new || self.merge_base(old, new)? == Some(old))
    }

    /// Counts the commits of `from..to`.
    pub fn count_commits_between(&self, from: Id, to: Id) -> Result<usize> {
        Ok(self.commits_between(Some(from), to, false)?.len())
    }

    /// Lists the commits reachable from `to` and from none of `from`, newest first.
    pub fn commits_beyond(&self, from: &[Id], to: Id) -> Result<Vec<Id>> {
        self.walk_commits(from, to, false)
    }

    /// Lists the commits of `from..to`, newest first; with `first_parent`, along first parents
    /// only.
    pub fn commits_between(&self, from: Option<Id>, to: Id, first_parent: bool) -> Result<Vec<Id>> {
        self.walk_commits(&Vec::from_iter(from), to, first_parent)
    }

    /// Returns whether there is a commit graph, as `git gc` writes it.
    fn has_commit_graph(&self) -> bool {
        let look = || {
            let info = self.git.objects.store_ref().path().join("info");
            info.join("commit-graph").exists() || info.join("commit-graphs").exists()
        };
        *self.has_commit_graph.get_or_init(look)
    }

    fn walk_commits(&self, from: &[Id], to: Id, first_parent: bool) -> Result<Vec<Id>> {
        let mut platform = self.git.rev_walk([to]).with_hidden(from.iter().copied());
        // gix looks for a commit graph at each walk.
        if !self.has_commit_graph() {
            platform = platform.use_commit_graph(false);
        }
        if first_parent {
            platform = platform.first_parent_only();
        }
        let walked = platform.all().ok().and_then(|walk| {
            walk.map(|commit| commit.ok().map(|commit| commit.id)).collect::<Option<Vec<Id>>>()
        });
        walked.map_or_else(|| self.rev_list_by_git(from, to, first_parent), Ok)
    }
}

/// The bytes of a commit object, split into header lines and message.
struct RawCommit<'a> {
    header_lines: Vec<&'a [u8]>,
    message: &'a [u8],
}

impl<'a> RawCommit<'a> {
    fn parse(bytes: &'a [u8]) -> Self {
        let end = bytes.find(b"\n\n").unwrap_or(bytes.len());
        let (head, rest) = bytes.split_at(end);
        let message = rest.strip_prefix(b"\n\n").unwrap_or(rest);
        RawCommit { header_lines: head.split(|byte| *byte == b'\n').collect(), message }
    }

    /// Returns the rest of the header line that begins with `words`, e.g. `author `. A newline in an
    /// email address ends the line, as in git.
    fn header(&self, words: &[u8]) -> Option<&'a [u8]> {
        self.header_lines.iter().find_map(|line| line.strip_prefix(words))
    }

    fn tree(&self) -> Option<Id> {
        Id::from_hex(self.header(b"tree ")?).ok()
    }

    fn parents(&self) -> Vec<Id> {
        let lines = self.header_lines.iter().filter_map(|line| line.strip_prefix(b"parent "));
        lines.filter_map(|id| Id::from_hex(id).ok()).collect()
    }

    /// Decodes bytes by the commit's `encoding` header.
    fn decode_text(&self, bytes: &[u8]) -> String {
        let label = self.header(b"encoding ");
        let encoding = label.and_then(encoding_rs::Encoding::for_label);
        match encoding {
            // Many commits with an `encoding` header are UTF-8 all the same, and no other text is
            // valid UTF-8 by accident.
            Some(encoding) if std::str::from_utf8(bytes).is_err() => {
                encoding.decode_without_bom_handling(bytes).0.into_owned()
            }
            _ => bytes.to_str_lossy().into_owned(),
        }
    }

    /// Encodes text by the commit's `encoding` header.
    fn encode_text(&self, text: &str) -> Vec<u8> {
        let encoding = self.header(b"encoding ").and_then(encoding_rs::Encoding::for_label);
        encoding.map_or_else(
            || text.as_bytes().to_vec(),
            |encoding| encoding.encode(text).0.into_owned(),
        )
    }

    /// Parses `NAME <EMAIL> SECONDS ZONE` as far as possible: the name precedes `<`, the time is
    /// the last number before the zone.
    fn parse_signature(&self, words: &[u8]) -> Signature {
        let line = self.header(words).unwrap_or_default();
        let mut parts = line.rsplitn(3, |byte| *byte == b' ');
        let is_number = |part: &&[u8]| part.to_str().is_ok_and(|text| text.parse::<i64>().is_ok());
        let (_zone, time, rest) = (parts.next(), parts.next(), parts.next());
        let time = time.filter(is_number);
        let (who, seconds) = match time {
            Some(time) => (
                rest.unwrap_or_default(),
                time.to_str().map_or(0, |time| time.parse().unwrap_or(0)),
            ),
            None => (line, 0),
        };
        let (name, email) = match who.find_byte(b'<') {
            Some(at) => (&who[..at], &who[at + 1..]),
            None => (who, &[][..]),
        };
        let email = email.find_byte(b'>').map_or(email, |end| &email[..end]);
        let text = |bytes: &[u8]| self.decode_text(bytes).trim().to_owned();
        Signature { name: text(name), email: text(email), seconds }
    }
}

/// Renders `NAME <EMAIL> SECONDS +0000`.
fn format_signature(stamp: &Signature) -> String {
    let plain = |text: &str| text.replace(['<', '>', '\n', '\0'], "");
    format!("{} <{}> {} +0000", plain(&stamp.name), plain(&stamp.email), stamp.seconds)
}

/// Raises the time of a committer line to `seconds` if earlier; a line without a time is unchanged.
fn with_time_not_before(line: &[u8], seconds: i64) -> Vec<u8> {
    let mut parts = line.rsplitn(3, |byte| *byte == b' ');
    let (Some(zone), Some(time), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return line.to_vec();
    };
    match time.to_str().ok().and_then(|time| time.parse::<i64>().ok()) {
        Some(own) if own < seconds => {
            [rest, b" ", seconds.to_string().as_bytes(), b" ", zone].concat()
        }
        _ => line.to_vec(),
    }
}

/// Returns an identity without the characters that git leaves out of one, dated `seconds` if given.
fn to_identity(
    found: Option<gix::actor::SignatureRef<'_>>,
    role: &str,
    seconds: Option<i64>,
) -> Result<Signature> {
    let found = found.ok_or_else(|| {
        Error::unable(format!("{role} identity unknown"))
            .with_hint("set it with `git config user.name …` and `git config user.email …`")
    })?;
    let text = |bytes: &gix::bstr::BStr| {
        bytes.to_str_lossy().replace(['<', '>', '\n'], "").trim().to_owned()
    };
    let (name, email) = (text(found.name), text(found.email));
    if name.is_empty() {
        // Git makes no such commit either.
        return Err(Error::unable(format!("{role} identity has no name"))
            .with_hint(format!(
                "set it with `git config user.name …`; `{role}.name` and `GIT_{}_NAME` come first, empty or not",
                role.to_uppercase()
            )));
    }
    let seconds = seconds.unwrap_or_else(|| found.seconds());
    Ok(Signature { name, email, seconds })
}

fn to_gix_signature(stamp: &Signature) -> gix::actor::Signature {
    gix::actor::Signature {
        name: stamp.name.as_str().into(),
        email: stamp.email.as_str().into(),
        time: gix::date::Time { seconds: stamp.seconds, offset: 0 },
    }
}

/// Adds trailers to a message, joining an existing trailer block at its end.
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
    // The first paragraph is the subject, even if it looks like a trailer (`fix: one`).
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
