//! Refs: reading them, and changing them by compare-and-swap only.
//!
//! No ref is changed unless it still has the expected value. gix reads loose and packed refs, git
//! reads a `reftable`, and `RefWriter` writes both.
//!
//! ```text
//! refs/heads/main   old 1a2b…  new 3c4d…  -> swapped, or left unchanged if main is no longer at 1a2b…
//! ```

use std::collections::HashMap;
use std::path::Path;

use gix::bstr::BString;
use gix::refs::FullName;

use super::ref_writer::{self, RefUpdate, RefWriter};
use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::words::quote_for_shell;

/// A ref with its peeled value.
#[derive(Clone, Debug)]
pub(super) struct ResolvedRef {
    /// The full name, e.g. `refs/heads/main`.
    pub(super) name: BString,
    /// The ref that a symbolic ref points to.
    pub(super) symbolic_target: Option<String>,
    /// The object, with tags peeled; `None` if the target is missing.
    pub(super) id: Option<Id>,
}

/// The refs below a prefix as they were when they were listed, for whoever asks for many of them.
#[derive(Clone, Debug, Default)]
pub struct RefSnapshot {
    found: HashMap<String, Id>,
}

impl RefSnapshot {
    /// Returns the object of a ref; `None` if it is missing or broken.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Id> {
        self.found.get(name).copied()
    }
}

/// How often refs are listed again while another git packs them, before git itself lists them.
const MAX_LISTINGS: usize = 5;

/// The reason a ref of a branch cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnusableRef {
    NotUtf8,
    /// A symbolic ref to this branch, with which it moves.
    Symbolic(String),
    NotACommit,
}

impl std::fmt::Display for UnusableRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            UnusableRef::NotUtf8 => f.write_str("its name is not UTF-8"),
            UnusableRef::Symbolic(other) => write!(f, "it is another name for `{other}`"),
            UnusableRef::NotACommit => f.write_str("it does not point to a commit"),
        }
    }
}

impl Repo {
    /// Returns the object of a ref, with tags peeled; `None` if the ref does not exist.
    pub fn resolve_ref(&self, name: &str) -> Result<Option<Id>> {
        if name == "HEAD" && self.has_reftable() {
            return Ok(self.head_by_git()?.commit);
        }
        let Some(found) = self.find_ref(name)? else { return Ok(None) };
        match (found.id, found.symbolic_target) {
            (Some(id), _) => Ok(Some(id)),
            // HEAD points to an unborn branch.
            (None, Some(other)) if self.is_ref_absent(&other) => Ok(None),
            (None, _) => Err(self.add_broken_ref_hint(name, dangling_ref_error(name))),
        }
    }

    /// Lists the refs below a prefix, e.g. `refs/heads/`, by full name with their objects, sorted.
    /// As in git, broken files and symbolic refs without a target are left out.
    pub fn refs_below(&self, prefix: &str) -> Result<Vec<(String, Id)>> {
        let mut found = Vec::new();
        for one in self.list_refs(prefix)? {
            let name = one.name.to_string();
            match (one.id, one.symbolic_target) {
                (Some(id), _) => found.push((name, id)),
                // A symbolic ref whose target was deleted.
                (None, Some(other)) if self.is_ref_absent(&other) => {}
                (None, _) => return Err(dangling_ref_error(&name)),
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads the refs below a prefix once. Those that are broken are left out.
    pub fn snapshot_refs(&self, prefix: &str) -> Result<RefSnapshot> {
        let listed = self.list_refs(prefix)?.into_iter();
        let found = listed.filter_map(|one| Some((one.name.to_string(), one.id?)));
        Ok(RefSnapshot { found: found.collect() })
    }

    /// Lists the branches below a prefix, e.g. `refs/heads/`, by name without the prefix, each with
    /// its commit or the reason why it cannot be used. A broken file is left out, as by git; it
    /// does not hide the others.
    pub fn branches_below(&self, prefix: &str) -> Result<Vec<(String, Result<Id, UnusableRef>)>> {
        let mut found = Vec::new();
        for one in self.list_refs(prefix)? {
            let name = one.name.to_string()[prefix.len()..].to_owned();
            let id = if std::str::from_utf8(&one.name).is_err() {
                Err(UnusableRef::NotUtf8)
            } else if let Some(other) = one.symbolic_target {
                let other = other.strip_prefix(prefix).unwrap_or(&other);
                Err(UnusableRef::Symbolic(other.to_owned()))
            } else {
                one.id.ok_or(UnusableRef::NotACommit)
            };
            found.push((name, id));
        }
        found.sort_by(|one, two| one.0.cmp(&two.0));
        Ok(found)
    }

    /// Finds a ref by its full name.
    pub(super) fn find_ref(&self, name: &str) -> Result<Option<ResolvedRef>> {
        if self.has_reftable() {
            let found = self.refs_by_git(name)?.into_iter();
            return Ok(found.into_iter().find(|found| found.name == name));
        }
        let find = || {
            let found = self.git.try_find_reference(name);
            let found = found.with_context(|| format!("cannot read ref `{name}`"));
            found.map_err(|error| match self.has_broken_file(name) {
                true => self.add_broken_ref_hint(name, error),
                false => error,
            })
        };
        let mut found = find()?;
        if found.is_none() && self.packed_refs_stat().is_some() {
            // Another git may have packed it in between, in the same tick of the clock by which that is noticed. An error
            // means that the file is just being replaced once more, and is met again below.
            self.git.refs.force_refresh_packed_buffer().ok();
            found = find()?;
        }
        Ok(found.map(to_resolved_ref))
    }

    /// Adds to an error what repairs a broken ref. Git itself does not fetch one again.
    pub(super) fn add_broken_ref_hint(&self, name: &str, error: Error) -> Error {
        if !self.is_broken_ref(name) {
            return error;
        }
        if let Some(short) = name.strip_prefix("refs/remotes/") {
            let removal = self.broken_ref_removal(name);
            let remotes = self.remote_names().into_iter();
            let remote = remotes.filter(|remote| short.starts_with(&format!("{remote}/"))).max();
            let remote =
                remote.map_or(String::new(), |remote| format!(" {}", quote_for_shell(&remote)));
            return error.with_hint(format!("{removal}, then `git fetch{remote}`"));
        }
        let typed = quote_for_shell(&format!("logs/{name}"));
        error.with_hint(format!(
            "its last commit is in the last line of \"$(git rev-parse --git-path {typed})\", if there is such a file"
        ))
    }

    /// Returns the command that removes a broken ref, in backticks.
    #[must_use]
    pub fn broken_ref_removal(&self, name: &str) -> String {
        let typed = quote_for_shell(name);
        match self.has_broken_file(name) {
            // Git cannot lock what it cannot read.
            true => format!("`rm \"$(git rev-parse --git-path {typed})\"`"),
            false => format!("`git update-ref --no-deref -d {typed}`"),
        }
    }

    fn has_broken_file(&self, name: &str) -> bool {
        let file = self.common_folder().join(name);
        !self.has_reftable() && file.is_file() && is_broken_ref_file(&file)
    }

    fn list_refs(&self, prefix: &str) -> Result<Vec<ResolvedRef>> {
        if self.has_reftable() {
            return self.refs_by_git(prefix);
        }
        // If another git packs refs concurrently, a ref can vanish from the loose files after
        // `packed-refs` was read.
        for _ in 0..MAX_LISTINGS {
            let before = self.packed_refs_stat();
            let listed = self.list_ref_files(prefix);
            if listed.is_ok() && self.packed_refs_stat() == before {
                return listed;
            }
        }
        // Packing does not end. Git itself reads loose and packed refs in the right order.
        self.refs_by_git(prefix)
    }

    /// Returns the stat of `packed-refs`, to detect a change.
    fn packed_refs_stat(&self) -> Option<super::FileStat> {
        let file = self.common_folder().join("packed-refs");
        file.symlink_metadata().ok().map(|meta| super::FileStat::from_metadata(&meta))
    }

    fn list_ref_files(&self, prefix: &str) -> Result<Vec<ResolvedRef>> {
        let failed = || format!("cannot list the refs below `{prefix}`");
        let platform = self.git.references().with_context(failed)?;
        let mut found = Vec::new();
        let mut broken: Option<usize> = None;
        for reference in platform.prefixed(prefix).with_context(failed)? {
            match reference {
                Ok(reference) => found.push(to_resolved_ref(reference)),
                Err(cause) => {
                    let left = broken.unwrap_or_else(|| self.count_broken_refs(prefix));
                    broken = Some(left.checked_sub(1).ok_or(cause).with_context(failed)?);
                }
            }
        }
        Ok(found)
    }

    fn is_ref_absent(&self, name: &str) -> bool {
        matches!(self.find_ref(name), Ok(None))
    }

    /// Counts the files below a prefix that hold no ref, e.g. after a power failure: git skips them
    /// with a warning. Any other unreadable ref is an error.
    fn count_broken_refs(&self, prefix: &str) -> usize {
        let mut broken = 0;
        let mut folders = vec![self.common_folder().join(prefix)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if path.extension().is_none_or(|end| end != "lock") {
                    broken += usize::from(is_broken_ref_file(&path));
                }
            }
        }
        broken
    }

    /// Returns whether the file of a ref holds no ref or names an object that is missing, e.g. after a power failure. Git
    /// skips the former with a warning, and takes an upstream of either kind for gone.
    #[must_use]
    pub fn is_broken_ref(&self, name: &str) -> bool {
        let is_dangling = || matches!(self.find_ref(name), Ok(Some(found)) if found.id.is_none());
        self.has_broken_file(name) || is_dangling()
    }

    /// Resolves a ref that a fetch makes again, e.g. `refs/remotes/origin/main`: a broken one counts as not fetched, as
    /// in git.
    pub fn resolve_fetched_ref(&self, name: &str) -> Result<Option<Id>> {
        match self.resolve_ref(name) {
            Err(_) if self.is_broken_ref(name) => Ok(None),
            resolved => resolved,
        }
    }

    /// Returns whether `name` is a valid branch name.
    #[must_use]
    pub fn is_branch_name(&self, name: &str) -> bool {
        !name.is_empty() && FullName::try_from(format!("refs/heads/{name}")).is_ok()
    }

    /// Returns the values of a ref by its reflog, oldest first, each with its time in seconds since
    /// the epoch.
    #[must_use]
    pub fn reflog(&self, name: &str) -> Vec<(Id, i64)> {
        let moves = self.reflog_entries(name).into_iter();
        moves.filter_map(|found| Some((found.new, found.seconds?))).collect()
    }

    /// Returns the reflog of a ref, oldest first.
    #[must_use]
    pub(super) fn reflog_entries(&self, name: &str) -> Vec<ReflogEntry> {
        if self.has_reftable() {
            return self.reflog_by_git(name).into_iter().map(|(_, found)| found).collect();
        }
        read_reflog(&self.common_folder().join("logs").join(name))
    }

    /// Returns whether the reflog of a local branch has a commit made here. Other moves, e.g. by
    /// `reset` or `merge`, do not count.
    #[must_use]
    pub fn has_local_commits(&self, branch: &str) -> bool {
        let moves = self.reflog_entries(&format!("refs/heads/{branch}"));
        moves.iter().any(|found| found.message.starts_with("commit"))
    }

    /// Returns the names that a local branch had before `git branch --move`, newest first, as far as its reflog goes.
    #[must_use]
    pub fn former_names(&self, branch: &str) -> Vec<String> {
        // With reftable each reflog is a call of git, too slow for hundreds of branches.
        if self.has_reftable() {
            return Vec::new();
        }
        let mut current = branch.to_owned();
        let mut former = Vec::new();
        for found in self.reflog_entries(&format!("refs/heads/{branch}")).into_iter().rev() {
            // As git writes it: `Branch: renamed refs/heads/old to refs/heads/new`.
            let moved = found.message.strip_prefix("Branch: ").and_then(|rest| {
                let (verb, names) = rest.split_once(" refs/heads/")?;
                let (old, new) = names.split_once(" to refs/heads/")?;
                (new == current).then_some((verb, old))
            });
            match moved {
                Some(("renamed", old)) => {
                    former.push(old.to_owned());
                    old.clone_into(&mut current);
                }
                // Its log is that of the branch that it was copied from.
                Some(("copied", _)) => break,
                _ => {}
            }
        }
        former
    }

    /// Returns whether a remote of this name is configured.
    #[must_use]
    pub fn has_remote(&self, name: &str) -> bool {
        self.config_value(&format!("remote.{name}.url")).is_some()
    }

    /// Returns whether branches of a remote are fetched to `refs/remotes/NAME/`, as git sets it up.
    #[must_use]
    pub fn has_usual_refspec(&self, name: &str) -> bool {
        let usual = format!("+refs/heads/*:refs/remotes/{name}/*");
        let key = format!("remote.{name}.fetch");
        let all = self.git.config_snapshot().plumbing().raw_values(key.as_str());
        all.is_ok_and(|all| all.len() == 1 && **all[0] == *usual.as_bytes())
    }

    /// Returns the remote-tracking ref of a local branch and its commit, by the remote's refspecs;
    /// `None` if there is none in this clone.
    pub fn upstream(&self, branch: &str) -> Result<Option<(String, Id)>> {
        if !self.has_upstream_config(branch) {
            return Ok(None);
        }
        let remote = self.config_value(&format!("branch.{branch}.remote"));
        let name = if remote.as_deref() == Some(".") {
            self.config_value(&format!("branch.{branch}.merge"))
        } else {
            let Ok(full) = FullName::try_from(format!("refs/heads/{branch}")) else {
                return Ok(None);
            };
            let direction = gix::remote::Direction::Fetch;
            // A remote given as a bare URL has no remote-tracking refs.
            let found = self.git.branch_remote_tracking_ref_name(full.as_ref(), direction);
            found.and_then(Result::ok).map(|name| name.as_bstr().to_string())
        };
        let Some(name) = name else { return Ok(None) };
        Ok(self.resolve_fetched_ref(&name)?.map(|id| (name, id)))
    }

    /// Returns whether `branch.NAME.merge` is set, even if that ref is missing here.
    #[must_use]
    pub fn has_upstream_config(&self, branch: &str) -> bool {
        self.config_value(&format!("branch.{branch}.merge")).is_some()
    }

    /// Moves the checked-out branch (or a detached HEAD) from `old` to `new`, with entries in both
    /// reflogs. Returns an error if it is no longer at `old`.
    pub fn move_head(&self, old: Id, new: Id, message: &str) -> Result<()> {
        self.update_ref("HEAD", Some(old), Some(new), message).map_err(|why| {
            if self.resolve_ref("HEAD").is_ok_and(|id| id == Some(old)) {
                Error::unable(format!("cannot move the branch; nothing was changed: {why}"))
            } else {
                Error::unable(format!(
                    "the branch was updated concurrently; nothing was changed: {why}"
                ))
                .with_hint("run the command again")
            }
        })
    }

    /// Creates a ref; an existing ref is an error.
    pub fn create_ref(&self, name: &str, id: Id, message: &str) -> Result<()> {
        self.update_ref(name, None, Some(id), message)
            .map_err(|why| Error::unable(format!("cannot create ref `{name}`: {why}")))
    }

    /// Changes a ref from `old` to `new` and returns whether it still had `old`. `None` means
    /// absent: `new: None` deletes the ref.
    pub fn swap_ref(
        &self,
        name: &str,
        old: Option<Id>,
        new: Option<Id>,
        message: &str,
    ) -> Result<bool> {
        let change = RefUpdate { name: name.to_owned(), old, new };
        self.swap_refs(&[change], message).pop().unwrap_or(Ok(false))
    }

    /// Applies `swap_ref` to each change, in order.
    pub fn swap_refs(&self, changes: &[RefUpdate], message: &str) -> Vec<Result<bool>> {
        let made = self.update_refs(changes, message);
        let answers =
            changes.iter().zip(made).map(|(RefUpdate { name, old, .. }, made)| match made {
                Ok(()) => Ok(true),
                // The holder of the ref's lock is about to move it.
                Err(_) if self.resolve_ref(name)? != *old => Ok(false),
                Err(why) => Err(Error::unable(format!("cannot update ref `{name}`: {why}"))),
            });
        answers.collect()
    }

    /// Deletes a ref if it still has the value `id`.
    pub fn delete_ref(&self, name: &str, id: Id) -> Result<()> {
        self.update_ref(name, Some(id), None, "xtask")
            .map_err(|why| Error::unable(format!("cannot delete ref `{name}`: {why}")))
    }

    /// Waits for a ref change in this worktree whose command was killed while git was finishing it.
    pub fn wait_for_ref_changes(&self) -> Result<()> {
        ref_writer::wait_for_writers(self)
    }

    fn update_ref(
        &self,
        name: &str,
        old: Option<Id>,
        new: Option<Id>,
        message: &str,
    ) -> Result<(), String> {
        let change = RefUpdate { name: name.to_owned(), old, new };
        self.update_refs(&[change], message).pop().unwrap_or(Ok(()))
    }

    /// Applies changes in order and returns for each the reason why git refused it.
    fn update_refs(&self, changes: &[RefUpdate], message: &str) -> Vec<Result<(), String>> {
        self.forget_refs();
        let message = message.lines().next().unwrap_or_default();
        let mut process: Option<RefWriter> = None;
        let mut is_patient = true;
        let mut change_one = |change: &RefUpdate| {
            if let Some(other) = self.symref_target(&change.name) {
                return Err(format!("it is a symbolic ref to `{other}`"));
            }
            let mut writer = match process.take() {
                Some(writer) => writer,
                None => RefWriter::start(self, message, is_patient).map_err(|e| e.to_string())?,
            };
            let changed = writer.apply_update(self, change);
            if changed.is_ok() {
                process = Some(writer);
            } else {
                // A shared lock that is held for long is not waited for twice.
                is_patient = !self.common_folder().join("packed-refs.lock").exists();
            }
            changed
        };
        let made = changes.iter().map(&mut change_one).collect();
        drop(process);
        self.forget_refs();
        made
    }

    /// Returns the target of a symbolic ref other than HEAD.
    fn symref_target(&self, name: &str) -> Option<String> {
        if name == "HEAD" {
            return None;
        }
        self.find_ref(name).ok().flatten()?.symbolic_target
    }

    /// Returns the name and email for reflog entries: git's committer, else `xtask`.
    pub(super) fn committer_name(&self) -> (BString, BString) {
        match self.git.committer() {
            Some(Ok(user)) => (user.name.to_owned(), user.email.to_owned()),
            _ => ("xtask".into(), "xtask@users.noreply.invalid".into()),
        }
    }
}

fn to_resolved_ref(mut found: gix::Reference<'_>) -> ResolvedRef {
    let name = found.name().as_bstr().to_owned();
    let other = found.target().try_name().map(|other| other.as_bstr().to_string());
    ResolvedRef { name, symbolic_target: other, id: found.peel_to_id().ok().map(|id| id.detach()) }
}

/// Returns whether a loose file holds neither an object id nor another ref. One that cannot be read is not judged.
fn is_broken_ref_file(file: &Path) -> bool {
    let Ok(text) = std::fs::read(file) else { return false };
    !text.starts_with(b"ref: ") && Id::from_hex(text.trim_ascii()).is_err()
}

fn dangling_ref_error(name: &str) -> Error {
    Error::unable(format!("ref `{name}` does not point to an object"))
        .with_hint("`git fsck` checks the repository")
}

/// One line of a reflog.
#[derive(Clone, Debug)]
pub(super) struct ReflogEntry {
    /// The previous value; the null id if the ref was created.
    pub(super) old: Id,
    pub(super) new: Id,
    /// Seconds since the epoch; `None` if unreadable.
    pub(super) seconds: Option<i64>,
    pub(super) message: String,
}

/// Reads a reflog file; unreadable lines are skipped.
pub(super) fn read_reflog(file: &std::path::Path) -> Vec<ReflogEntry> {
    let log = std::fs::read(file).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let moves = log.lines().filter_map(|line| {
        let (stamp, message) = line.split_once('\t').unwrap_or((line, ""));
        let mut ids = stamp.split(' ').map(|id| Id::from_hex(id.as_bytes()));
        let (old, new) = (ids.next()?.ok()?, ids.next()?.ok()?);
        let seconds = stamp.rsplit(' ').nth(1).and_then(|seconds| seconds.parse().ok());
        Some(ReflogEntry { old, new, seconds, message: message.to_owned() })
    });
    moves.collect()
}
