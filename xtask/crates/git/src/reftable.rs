//! Refs in the `reftable` format (git 2.45), which gix cannot read: git's own commands list them.
//!
//! Starting git takes about two milliseconds, so answers are cached until `forget_refs` is called
//! before a new decision, or until a ref is changed here. For example, a record of `git
//! for-each-ref`:
//!
//! ```text
//! refs/heads/main NUL 1a2b… NUL NUL
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::local_git::split_at_nul;
use super::refs::{ReflogEntry, ResolvedRef};
use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::process::ProgramOutput;

/// A HEAD: the full name of its branch (`None` if detached) and its commit (`None` if unborn).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HeadState {
    pub(super) branch: Option<String>,
    pub(super) commit: Option<Id>,
}

/// Cached answers of git.
#[derive(Default)]
pub(super) struct RefCache {
    refs: RefCell<Option<Rc<[ResolvedRef]>>>,
    head: RefCell<Option<HeadState>>,
    heads: RefCell<Option<BTreeMap<PathBuf, HeadState>>>,
}

impl Repo {
    /// Clears the cache, so that git is asked again. Has no effect on loose and packed refs.
    pub fn forget_refs(&self) {
        self.ref_cache.refs.take();
        self.ref_cache.head.take();
        self.ref_cache.heads.take();
    }

    /// Returns whether `extensions.refStorage` names a format other than `files`.
    pub(super) fn has_reftable(&self) -> bool {
        let storage = self.config_value("extensions.refStorage");
        // The value may be `FORMAT:LOCATION`.
        storage.is_some_and(|name| name.split(':').next() != Some("files"))
    }

    /// Returns the refs below a prefix, or the ref of exactly this name.
    pub(super) fn refs_by_git(&self, prefix: &str) -> Result<Vec<ResolvedRef>> {
        let known = self.ref_cache.refs.borrow().clone();
        let all = match known {
            Some(all) => all,
            None => {
                let all: Rc<[ResolvedRef]> = self.all_refs_by_git()?.into();
                self.ref_cache.refs.replace(Some(Rc::clone(&all)));
                all
            }
        };
        let is_asked_for = |found: &&ResolvedRef| {
            let name: &[u8] = &found.name;
            let rest = name.strip_prefix(prefix.as_bytes());
            rest.is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest[0] == b'/')
        };
        let mut found: Vec<ResolvedRef> = all.iter().filter(is_asked_for).cloned().collect();
        for one in &mut found {
            one.id = one.id.and_then(|id| self.peel_tags(id));
        }
        Ok(found)
    }

    fn all_refs_by_git(&self) -> Result<Vec<ResolvedRef>> {
        let format = "--format=%(refname)%00%(objectname)%00%(symref)%00";
        let asked = self.local_git(["for-each-ref", format]).list("cannot list the refs")?;
        let mut found = Vec::new();
        for record in
            asked.stdout_bytes.split(|byte| *byte == b'\n').filter(|record| !record.is_empty())
        {
            let mut parts = record.split(|byte| *byte == 0);
            let mut part = || parts.next().unwrap_or_default();
            let (name, id, other) = (part(), part(), part());
            let other = (!other.is_empty()).then(|| String::from_utf8_lossy(other).into_owned());
            let id = Id::from_hex(id).ok();
            found.push(ResolvedRef { name: name.into(), symbolic_target: other, id });
        }
        Ok(found)
    }

    /// Peels tags; returns `None` if the target is missing.
    fn peel_tags(&self, id: Id) -> Option<Id> {
        let object = self.git.find_object(id).ok()?;
        object.peel_tags_to_end().ok().map(|object| object.id)
    }

    /// Reads HEAD, with symbolic branch names resolved.
    pub(super) fn head_by_git(&self) -> Result<HeadState> {
        if let Some(known) = self.ref_cache.head.borrow().clone() {
            return Ok(known);
        }
        let says = self.query_head()?;
        self.ref_cache.head.replace(Some(says.clone()));
        Ok(says)
    }

    fn query_head(&self) -> Result<HeadState> {
        let asked = self.local_git(["rev-parse", "HEAD", "--symbolic-full-name", "HEAD"]).run()?;
        if asked.status.success() {
            let mut lines = asked.stdout.lines();
            let commit = lines.next().and_then(|id| Id::from_hex(id.as_bytes()).ok());
            let branch = lines.next().filter(|name| *name != "HEAD").map(str::to_owned);
            return Ok(HeadState { branch, commit });
        }
        // An unborn branch.
        let asked = self.local_git(["symbolic-ref", "-q", "HEAD"]).run()?;
        match asked.stdout.trim() {
            name if asked.status.success() && !name.is_empty() => {
                Ok(HeadState { branch: Some(name.to_owned()), commit: None })
            }
            _ => Err(Error::unable("cannot read HEAD").with_detail(asked.stderr)),
        }
    }

    /// Reads the HEADs of all worktrees, by worktree root.
    pub(super) fn heads_by_git(&self) -> Result<BTreeMap<PathBuf, HeadState>> {
        if let Some(known) = self.ref_cache.heads.borrow().clone() {
            return Ok(known);
        }
        let heads = self.query_heads()?;
        self.ref_cache.heads.replace(Some(heads.clone()));
        Ok(heads)
    }

    fn query_heads(&self) -> Result<BTreeMap<PathBuf, HeadState>> {
        use std::os::unix::ffi::OsStrExt;
        let asked = self.local_git(["worktree", "list", "--porcelain", "-z"]);
        let asked = asked.list("cannot list the worktrees")?;
        let mut heads: BTreeMap<PathBuf, HeadState> = BTreeMap::new();
        let mut root = PathBuf::new();
        for line in split_at_nul(&asked.stdout_bytes) {
            if let Some(path) = line.strip_prefix(b"worktree ") {
                root = PathBuf::from(std::ffi::OsStr::from_bytes(path));
                root = root.canonicalize().unwrap_or(root);
                heads.insert(root.clone(), HeadState::default());
            }
            let Some(head) = heads.get_mut(&root) else { continue };
            if let Some(id) = line.strip_prefix(b"HEAD ") {
                head.commit = Id::from_hex(id).ok().filter(|id| !id.is_null());
            } else if let Some(name) = line.strip_prefix(b"branch ") {
                head.branch = Some(String::from_utf8_lossy(name).into_owned());
            }
        }
        Ok(heads)
    }

    /// Reads the reflog of one ref, or of all refs with `which: "--all"`, oldest first, each entry
    /// with its ref.
    pub(super) fn reflog_by_git(&self, which: &str) -> Vec<(String, ReflogEntry)> {
        let format = "--format=%H%x00%gD%x00%gs%x00";
        let asked = self.local_git([
            "log",
            "--walk-reflogs",
            "--no-show-signature",
            "--date=unix",
            format,
            which,
            "--",
        ]);
        let Ok(asked) = asked.with_full_output().run() else { return Vec::new() };
        let mut found: Vec<(String, ReflogEntry)> = Vec::new();
        // Newest first: the old value of an entry is the new value of the next entry for the same
        // ref.
        let mut last: BTreeMap<String, usize> = BTreeMap::new();
        for record in
            asked.stdout_bytes.split(|byte| *byte == b'\n').filter(|record| !record.is_empty())
        {
            let text = String::from_utf8_lossy(record);
            let mut parts = text.split('\0');
            let mut part = || parts.next().unwrap_or_default().to_owned();
            let (id, selector, message) = (part(), part(), part());
            let Ok(new) = Id::from_hex(id.as_bytes()) else { continue };
            let (name, time) = selector.split_once("@{").unwrap_or((&selector, ""));
            let seconds = time.trim_end_matches('}').parse().ok();
            if let Some(above) = last.insert(name.to_owned(), found.len()) {
                found[above].1.old = new;
            }
            let old = self.null_id();
            found.push((name.to_owned(), ReflogEntry { old, new, seconds, message }));
        }
        found.reverse();
        found
    }

    /// Reads a ref in the root of the git folder, such as `CHERRY_PICK_HEAD`.
    pub(super) fn read_root_ref(&self, name: &str) -> Option<Id> {
        if !self.has_reftable() {
            let text = std::fs::read_to_string(self.git_folder().join(name)).ok()?;
            return Id::from_hex(text.trim().as_bytes()).ok();
        }
        let asked = self.local_git(["rev-parse", "--verify", "--quiet", name]).run().ok()?;
        Id::from_hex(asked.stdout.trim().as_bytes()).ok()
    }

    /// Resolves a revision by `git rev-parse`: included commits, then excluded ones (`^ID`).
    pub(super) fn parse_revision_by_git(&self, word: &str) -> Result<(Vec<Id>, Vec<Id>), String> {
        let asked = self.local_git(["rev-parse", "--revs-only", "--end-of-options", word, "--"]);
        let ProgramOutput { status, stdout, stderr, .. } =
            asked.run().map_err(|failure| failure.to_string())?;
        let (mut meant, mut left_out) = (Vec::new(), Vec::new());
        for line in stdout.lines() {
            let (list, id) = match line.strip_prefix('^') {
                Some(id) => (&mut left_out, id),
                None => (&mut meant, line),
            };
            list.extend(Id::from_hex(id.as_bytes()).ok());
        }
        if !status.success() || meant.is_empty() {
            let why = stderr.lines().next().unwrap_or("unknown revision").to_owned();
            return Err(why);
        }
        Ok((meant, left_out))
    }
}
