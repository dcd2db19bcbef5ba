//! Refs: reading, and changing them only from the value that they are known to have.

use gix::bstr::BString;
use gix::refs::FullName;

use super::ref_writer::{self, RefUpdate, RefWriter};
use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt};

/// A ref as it was found.
#[derive(Clone, Debug)]
pub(super) struct ResolvedRef {
    /// Its full name.
    pub(super) name: BString,
    /// The ref to which it leads, where it is no more than another name.
    pub(super) symbolic_target: Option<String>,
    /// What it leads to, with tags followed; nothing where that is not there.
    pub(super) id: Option<Id>,
}

/// How often refs are listed while another git packs them, before git is asked.
const MAX_LISTINGS: usize = 5;

impl Repo {
    /// The object that a ref names, if the ref exists. Tags are followed.
    pub fn resolve_ref(&self, name: &str) -> Result<Option<Id>> {
        if name == "HEAD" && self.has_reftable() {
            return Ok(self.head_by_git()?.commit);
        }
        let Some(found) = self.find_ref(name)? else { return Ok(None) };
        match (found.id, found.symbolic_target) {
            (Some(id), _) => Ok(Some(id)),
            // A branch that has no commit yet, and HEAD leads to it.
            (None, Some(other)) if self.is_ref_absent(&other) => Ok(None),
            (None, _) => Err(dangling_ref_error(name)),
        }
    }

    /// The full names of the refs below a prefix such as `refs/heads/`, with what they lead to, sorted. Files
    /// that hold no ref, and names that lead to none, are left out, as by git.
    pub fn refs_below(&self, prefix: &str) -> Result<Vec<(String, Id)>> {
        let mut found = Vec::new();
        for one in self.list_refs(prefix)? {
            let name = one.name.to_string();
            match (one.id, one.symbolic_target) {
                (Some(id), _) => found.push((name, id)),
                // It is another name for what is not there any more.
                (None, Some(other)) if self.is_ref_absent(&other) => {}
                (None, _) => return Err(dangling_ref_error(&name)),
            }
        }
        found.sort();
        Ok(found)
    }

    /// The branches below a prefix such as `refs/heads/`, by their names without it, each with its
    /// commit or with why it cannot be used. One whose file holds no ref is none, for git as well; it does not
    /// hide the others.
    pub fn branches_below(&self, prefix: &str) -> Result<Vec<(String, Result<Id, String>)>> {
        let mut found = Vec::new();
        for one in self.list_refs(prefix)? {
            let name = one.name.to_string()[prefix.len()..].to_owned();
            let id = if std::str::from_utf8(&one.name).is_err() {
                Err("its name is not UTF-8".to_owned())
            } else if let Some(other) = one.symbolic_target {
                let other = other.strip_prefix(prefix).unwrap_or(&other);
                Err(format!("it is another name for `{other}`"))
            } else {
                one.id.ok_or_else(|| "it does not lead to a commit".to_owned())
            };
            found.push((name, id));
        }
        found.sort_by(|one, two| one.0.cmp(&two.0));
        Ok(found)
    }

    /// The ref of a full name.
    pub(super) fn find_ref(&self, name: &str) -> Result<Option<ResolvedRef>> {
        if self.has_reftable() {
            let found = self.refs_by_git(name)?.into_iter();
            return Ok(found.into_iter().find(|found| found.name == name));
        }
        let found = self.git.try_find_reference(name);
        let found = found.with_context(|| format!("the ref `{name}` cannot be read"))?;
        Ok(found.map(to_resolved_ref))
    }

    /// All refs below a prefix.
    fn list_refs(&self, prefix: &str) -> Result<Vec<ResolvedRef>> {
        if self.has_reftable() {
            return self.refs_by_git(prefix);
        }
        // Another git may pack refs while they are listed: one that was in no file yet is in none any more.
        for _ in 0..MAX_LISTINGS {
            let before = self.packed_refs_stat();
            let listed = self.list_ref_files(prefix);
            if listed.is_ok() && self.packed_refs_stat() == before {
                return listed;
            }
        }
        // Somebody does nothing else. Git itself knows the order in which to look.
        self.refs_by_git(prefix)
    }

    /// What tells one state of the packed refs from another.
    fn packed_refs_stat(&self) -> Option<super::FileStat> {
        let file = self.common_folder().join("packed-refs");
        file.symlink_metadata().ok().map(|meta| super::FileStat::from_metadata(&meta))
    }

    fn list_ref_files(&self, prefix: &str) -> Result<Vec<ResolvedRef>> {
        let failed = || format!("the refs below `{prefix}` cannot be read");
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

    /// How many files below a prefix hold no ref, as after a power cut: git passes them over with a warning.
    /// Anything else that keeps refs from being read is a failure.
    fn count_broken_refs(&self, prefix: &str) -> usize {
        let mut broken = 0;
        let mut folders = vec![self.common_folder().join(prefix)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(path);
                } else if path.extension().is_none_or(|end| end != "lock") {
                    let text = std::fs::read(&path).unwrap_or_else(|_| b"ref: ".to_vec());
                    let is_ref =
                        text.starts_with(b"ref: ") || Id::from_hex(text.trim_ascii()).is_ok();
                    broken += usize::from(!is_ref);
                }
            }
        }
        broken
    }

    /// Whether a text can be the name of a branch.
    #[must_use]
    pub fn is_branch_name(&self, name: &str) -> bool {
        !name.is_empty() && FullName::try_from(format!("refs/heads/{name}")).is_ok()
    }

    /// The values that a ref is known to have had, by its reflog, oldest first, each with the time in
    /// seconds since the epoch.
    #[must_use]
    pub fn reflog(&self, name: &str) -> Vec<(Id, i64)> {
        let moves = self.reflog_entries(name).into_iter();
        moves.filter_map(|found| Some((found.new, found.seconds?))).collect()
    }

    /// How a ref was moved, by its reflog, oldest first.
    #[must_use]
    pub(super) fn reflog_entries(&self, name: &str) -> Vec<ReflogEntry> {
        if self.has_reftable() {
            return self.reflog_by_git(name).into_iter().map(|(_, found)| found).collect();
        }
        read_reflog(&self.common_folder().join("logs").join(name))
    }

    /// Whether somebody has committed on a local branch here, by its reflog: that it was moved some other
    /// way is no work of its own.
    #[must_use]
    pub fn has_local_commits(&self, branch: &str) -> bool {
        let moves = self.reflog_entries(&format!("refs/heads/{branch}"));
        moves.iter().any(|found| found.message.starts_with("commit"))
    }

    /// Whether a remote of this name is configured.
    #[must_use]
    pub fn has_remote(&self, name: &str) -> bool {
        self.config_value(&format!("remote.{name}.url")).is_some()
    }

    /// The remote-tracking ref that a local branch follows, with its commit, if it has one that
    /// exists here: by the refspecs of its remote, as git finds it.
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
            // A remote that is no more than an address has no refs here.
            let found = self.git.branch_remote_tracking_ref_name(full.as_ref(), direction);
            found.and_then(Result::ok).map(|name| name.as_bstr().to_string())
        };
        let Some(name) = name else { return Ok(None) };
        Ok(self.resolve_ref(&name)?.map(|id| (name, id)))
    }

    /// Whether a local branch is said to follow another, whether or not that can be found here.
    #[must_use]
    pub fn has_upstream_config(&self, branch: &str) -> bool {
        self.config_value(&format!("branch.{branch}.merge")).is_some()
    }

    /// Moves the checked-out branch (or a detached HEAD) from `old` to `new`, in its reflog and
    /// HEAD's, if it still is where it was.
    pub fn move_head(&self, old: Id, new: Id, message: &str) -> Result<()> {
        self.update_ref("HEAD", Some(old), Some(new), message).map_err(|why| {
            if self.resolve_ref("HEAD").is_ok_and(|id| id == Some(old)) {
                Error::unable(format!("the branch cannot be moved; nothing was changed: {why}"))
            } else {
                Error::unable(format!(
                    "the branch was moved by somebody else; nothing was changed: {why}"
                ))
                .with_hint("run the command again")
            }
        })
    }

    /// Makes a ref that must not exist yet.
    pub fn create_ref(&self, name: &str, id: Id, message: &str) -> Result<()> {
        self.update_ref(name, None, Some(id), message)
            .map_err(|why| Error::unable(format!("the ref `{name}` cannot be made: {why}")))
    }

    /// Gives a ref another value, or takes it away, if it still has this one; nothing stands for a
    /// ref that is not there. Says whether it still had it.
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

    /// The same for each of many, one after the other.
    pub fn swap_refs(&self, changes: &[RefUpdate], message: &str) -> Vec<Result<bool>> {
        let made = self.update_refs(changes, message);
        let answers =
            changes.iter().zip(made).map(|(RefUpdate { name, old, .. }, made)| match made {
                Ok(()) => Ok(true),
                // Somebody who holds the lock of the ref is about to move it.
                Err(_) if self.resolve_ref(name)? != *old => Ok(false),
                Err(why) => {
                    Err(Error::unable(format!("the ref `{name}` cannot be changed: {why}")))
                }
            });
        answers.collect()
    }

    /// Removes a ref if it still has this value.
    pub fn delete_ref(&self, name: &str, id: Id) -> Result<()> {
        self.update_ref(name, Some(id), None, "xtask")
            .map_err(|why| Error::unable(format!("the ref `{name}` cannot be removed: {why}")))
    }

    /// Waits until no change of refs in this worktree is being finished whose command was killed.
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

    /// Makes changes one after the other, and says of each what speaks against it.
    fn update_refs(&self, changes: &[RefUpdate], message: &str) -> Vec<Result<(), String>> {
        self.forget_refs();
        let message = message.lines().next().unwrap_or_default();
        let mut process: Option<RefWriter> = None;
        let mut is_patient = true;
        let mut change_one = |change: &RefUpdate| {
            if let Some(other) = self.symref_target(&change.name) {
                return Err(format!("it is another name for `{other}`"));
            }
            let mut writer = match process.take() {
                Some(writer) => writer,
                None => RefWriter::start(self, message, is_patient).map_err(|e| e.to_string())?,
            };
            let changed = writer.apply_update(self, change);
            if changed.is_ok() {
                process = Some(writer);
            } else {
                // A lock that all refs share, and that is held for long, is not waited for again.
                is_patient = !self.common_folder().join("packed-refs.lock").exists();
            }
            changed
        };
        let made = changes.iter().map(&mut change_one).collect();
        drop(process);
        self.forget_refs();
        made
    }

    /// Where a ref leads that is no more than another name.
    fn symref_target(&self, name: &str) -> Option<String> {
        if name == "HEAD" {
            return None;
        }
        self.find_ref(name).ok().flatten()?.symbolic_target
    }

    /// By whom refs are changed, for their reflogs: whoever git takes for it, or else this program.
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

fn dangling_ref_error(name: &str) -> Error {
    Error::unable(format!("the ref `{name}` does not lead to an object"))
        .with_hint("`git fsck` checks the repository")
}

/// One line of a reflog.
#[derive(Clone, Debug)]
pub(super) struct ReflogEntry {
    /// From where; the null id where the ref was made.
    pub(super) old: Id,
    /// To where.
    pub(super) new: Id,
    /// When, in seconds since the epoch, as far as that can be read.
    pub(super) seconds: Option<i64>,
    /// What git or we have written of it.
    pub(super) message: String,
}

/// A reflog as a file; lines that cannot be read are left out.
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
