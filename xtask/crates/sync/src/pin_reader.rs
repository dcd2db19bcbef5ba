//! Reads pins from trees. Each folder of pins and each file is read once, however many branches have
//! it, so that an overview of many branches costs one look-up in the root of each.
//!
//! ```text
//! feature:.sync-pins/1a2b….toml + orchestration-tools:.sync-pins/canonical-3c4d….toml -> BranchPins
//! ```
//!
//! Pins come from the commit of the branch and from the canonical commit. On a protected branch only
//! those of the canonical commit count: what is merged into it by anybody decides nothing. A
//! malformed file is an error, and never counts as no pin.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::context::SyncContext;
use super::pins::{BranchNames, BranchPins, StoredPin, is_pin_of, list_current};
use xtask_base::date::Date;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::quote_for_shell;
use xtask_config::{MAX_PIN_BYTES, PIN_ENDING, PINS_FOLDER, Pin, PinHome};
use xtask_git::{FileMode, Head, Id, PathScope, RefSnapshot, Repo, TreeEntry, TreeItem, short_ref};

/// The maximum number of files in the folder of a tree: far more than a person can oversee, and read
/// in a second.
pub const MAX_PINS: usize = 10_000;

/// How many faults of a file are in the message, which some reports show alone.
const MAX_FAULTS: usize = 3;

/// Where the branches are whose pins are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchPlace {
    /// In this clone, which may know their upstreams and former names.
    Local,
    /// At the remote. Of what this clone calls a branch, only the pins in the local branch of that name count.
    Remote,
}

/// A reader of pins, for one run.
pub struct PinReader<'r> {
    repo: &'r Repo,
    today: Date,
    place: BranchPlace,
    /// By the id of the root. A malformed file is remembered as well.
    trees: RefCell<BTreeMap<Id, FolderContent>>,
    /// By the id of the folder.
    folders: RefCell<BTreeMap<Id, FolderContent>>,
    files: RefCell<BTreeMap<Id, Pin>>,
    /// Whether the branches of a remote are fetched to the usual refs.
    usual_remotes: RefCell<BTreeMap<String, bool>>,
    /// The refs below each prefix, if they are read once for many branches; `None` if they cannot be listed.
    listed_refs: Option<RefCell<BTreeMap<String, Option<RefSnapshot>>>>,
    protected_trees: OnceCell<Vec<Id>>,
    /// Whether a protected branch has a file of a pin.
    shared_files: RefCell<BTreeMap<RepoPath, bool>>,
    /// Whether no branch has a name.
    gone_branches: RefCell<BTreeMap<String, bool>>,
}

/// The pins in the folder of a tree, with their files.
pub type FolderPins = Rc<Vec<(Pin, RepoPath)>>;

/// The pins in a folder, or the fault of a malformed one.
type FolderContent = std::result::Result<FolderPins, Rc<PinFault>>;

/// What is wrong with a file of pins.
#[derive(Clone, Debug)]
struct PinFault {
    file: RepoPath,
    /// Each with the file, and from 1 the line if there is one, e.g. `.sync-pins/1a2b….toml:4: …`.
    faults: Vec<String>,
}

/// All files directly in the folder of pins.
struct PinsScope;

impl PathScope for PinsScope {
    fn may_contain(&self, _folder: &[u8]) -> bool {
        false
    }

    fn contains_path(&self, path: &[u8]) -> bool {
        path.ends_with(PIN_ENDING)
    }
}

impl<'r> PinReader<'r> {
    /// Creates a reader for local branches that judges pins on the day of `now`, in seconds since the epoch.
    #[must_use]
    pub fn new(repo: &'r Repo, now: i64) -> PinReader<'r> {
        PinReader::for_place(repo, now, BranchPlace::Local)
    }

    /// Creates a reader for the branches of a place.
    #[must_use]
    pub fn for_place(repo: &'r Repo, now: i64, place: BranchPlace) -> PinReader<'r> {
        PinReader {
            repo,
            today: Date::from_seconds(now),
            place,
            trees: RefCell::default(),
            folders: RefCell::default(),
            files: RefCell::default(),
            usual_remotes: RefCell::default(),
            listed_refs: None,
            protected_trees: OnceCell::new(),
            shared_files: RefCell::default(),
            gone_branches: RefCell::default(),
        }
    }

    /// Returns the reader for many branches: it lists refs once, instead of reading them one by one.
    #[must_use]
    pub fn for_many(self) -> PinReader<'r> {
        PinReader { listed_refs: Some(RefCell::default()), ..self }
    }

    /// Returns the day on which pins are judged.
    #[must_use]
    pub fn today(&self) -> Date {
        self.today
    }

    /// Returns the pins of a branch, those that have lapsed included. A malformed file in one of the trees is a usage
    /// error that names file, line and branch.
    pub fn read_branch(&self, context: &SyncContext, head: &Head) -> Result<BranchPins> {
        let (names, all) = self.read_statements(context, head)?;
        if all.is_empty() {
            return Ok(BranchPins::none(self.today));
        }
        Ok(match self.place {
            BranchPlace::Local => BranchPins::new(all, names.as_ref(), self.today),
            BranchPlace::Remote => BranchPins::at_remote(all, names.as_ref(), self.today),
        })
    }

    /// Returns the names of a branch and all pins about it, replaced and ended ones included: on the canonical branch,
    /// in its own commit, and in the commits of its upstream that it has not merged yet. Without pins no names are
    /// looked up.
    pub fn read_statements(
        &self,
        context: &SyncContext,
        head: &Head,
    ) -> Result<(Option<BranchNames>, Vec<StoredPin>)> {
        let name = &context.config.branch;
        let canonical = self.read_tree(context.canonical.tree, name)?;
        let is_protected = head.branch.as_ref().is_some_and(|name| context.is_protected(name));
        let own = match is_protected || head.tree == context.canonical.tree {
            true => FolderPins::default(),
            false => self.read_tree(head.tree, head.branch.as_deref().unwrap_or("HEAD"))?,
        };
        let upstream = match is_protected {
            true => FolderPins::default(),
            false => self.read_other_side(context, head, &own)?,
        };
        if canonical.is_empty() && own.is_empty() && upstream.is_empty() {
            return Ok((None, Vec::new()));
        }
        let names = head.branch.as_ref().map(|name| self.branch_names(context, name));
        let all = StoredPin::list(&canonical, PinHome::Canonical)
            .chain(StoredPin::list(&own, PinHome::Branch))
            .chain(StoredPin::list(&upstream, PinHome::Upstream))
            .filter(|stored| is_pin_of(&stored.pin, names.as_ref()))
            .collect();
        Ok((names, all))
    }

    /// Describes the pins of other branches in a commit that cover a path of `written`, where the branch that they name
    /// may be this one: no branch here or at the remote has that name, or this one had it before.
    pub fn describe_others(
        &self,
        context: &SyncContext,
        head: &Head,
        today: Date,
        written: &[&RepoPath],
    ) -> Result<Vec<String>> {
        let asks = |name: &&String| !written.is_empty() && !context.is_protected(name);
        let Some(name) = head.branch.as_ref().filter(asks) else { return Ok(Vec::new()) };
        let all = self.read_tree(head.tree, name)?;
        let names = self.branch_names(context, name);
        let others = StoredPin::list(&all, PinHome::Branch).filter(|one| {
            one.pin.branch != context.config.branch && !names.contains(&one.pin.branch)
        });
        let mut lines = Vec::new();
        for StoredPin { pin, file, .. } in list_current(others, None) {
            let Some(path) = written.iter().find(|path| pin.covers(path)) else { continue };
            let other = &pin.branch;
            let may_be_it = || {
                Ok(self.is_gone(context, other)? || self.repo.former_names(name).contains(other))
            };
            if pin.is_active(today) && may_be_it()? && !self.is_shared(context, &file)? {
                lines.push(format!(
                    "`{path}` is pinned for `{other}` in this commit: if `{name}` is that branch, renamed, \
                     `cargo xtask pin` keeps its content"
                ));
            }
        }
        Ok(lines)
    }

    /// Returns the names by which pins apply to the local branch `name`. A branch that was made from
    /// a protected or reserved branch and follows it is not that branch.
    #[must_use]
    pub fn branch_names(&self, context: &SyncContext, name: &str) -> BranchNames {
        if self.place == BranchPlace::Remote {
            return BranchNames::only(name);
        }
        let upstream = self.upstream_name(context, name).filter(|upstream| upstream != name);
        let is_free = |former: &String| {
            let reference = format!("refs/heads/{former}");
            *former != name
                && upstream.as_ref() != Some(former)
                && matches!(self.repo.resolve_ref(&reference), Ok(None))
        };
        let former = self.repo.former_names(name).into_iter().filter(is_free).collect();
        BranchNames { local: name.to_owned(), upstream, former }
    }

    /// Returns the remote of a local branch and the name that the branch has there; `None` if it follows a branch of
    /// this clone, or one that is protected or reserved, or nothing.
    fn find_followed(&self, context: &SyncContext, name: &str) -> Option<(String, String)> {
        let merge = self.repo.config_value(&format!("branch.{name}.merge"))?;
        let remote = self.repo.config_value(&format!("branch.{name}.remote"))?;
        let followed = merge.strip_prefix("refs/heads/")?;
        let is_other =
            remote == "." || context.is_protected(followed) || context.is_reserved_branch(followed);
        (!is_other).then(|| (remote, followed.to_owned()))
    }

    /// Returns the commands that push a local branch, which is at `commit`, to the one that it follows, in backticks.
    pub fn describe_push(
        &self,
        context: &SyncContext,
        name: &str,
        commit: Id,
    ) -> Result<Option<String>> {
        let Some((remote, followed)) = self.find_followed(context, name) else { return Ok(None) };
        let refspec = match followed == name {
            true => followed,
            false => format!("{name}:{followed}"),
        };
        let push = format!("`git push {} {}`", quote_for_shell(&remote), quote_for_shell(&refspec));
        let is_ahead = match self.repo.upstream(name)? {
            Some((_, upstream)) => !self.repo.is_ancestor(upstream, commit)?,
            None => false,
        };
        Ok(Some(if is_ahead { format!("`git pull --rebase`, then {push}") } else { push }))
    }

    /// Returns the name of the branch that a local one follows at the remote of the canonical branch. A branch that
    /// was made from a protected or reserved one and follows it is not that branch, and one that follows a branch of
    /// this clone or of another remote is another one.
    fn upstream_name(&self, context: &SyncContext, name: &str) -> Option<String> {
        let (remote, followed) = self.find_followed(context, name)?;
        (remote == context.config.remote).then_some(followed)
    }

    /// Returns whether the branches of a remote are fetched to the usual refs.
    fn is_usual(&self, remote: &str) -> bool {
        let mut known = self.usual_remotes.borrow_mut();
        *known.entry(remote.to_owned()).or_insert_with(|| self.repo.has_usual_refspec(remote))
    }

    /// Returns whether no branch here or at the remote has a name. Of branches that are not fetched nothing is known.
    fn is_gone(&self, context: &SyncContext, name: &str) -> Result<bool> {
        if let Some(known) = self.gone_branches.borrow().get(name) {
            return Ok(*known);
        }
        let remote = &context.config.remote;
        let is_known = !self.repo.has_remote(remote) || self.is_usual(remote);
        let fetched = format!("refs/remotes/{remote}/{name}");
        // A broken ref here is a branch all the same.
        let is_gone = is_known
            && matches!(self.repo.resolve_ref(&format!("refs/heads/{name}")), Ok(None))
            && self.repo.resolve_fetched_ref(&fetched)?.is_none();
        self.gone_branches.borrow_mut().insert(name.to_owned(), is_gone);
        Ok(is_gone)
    }

    /// Returns whether a protected branch has this file of a pin: then it came from there by a merge.
    fn is_shared(&self, context: &SyncContext, file: &RepoPath) -> Result<bool> {
        if let Some(known) = self.shared_files.borrow().get(file) {
            return Ok(*known);
        }
        let mut is_shared = false;
        for tree in self.protected_trees(context)? {
            is_shared |= self.repo.entry_at(*tree, file)?.is_some();
        }
        self.shared_files.borrow_mut().insert(file.clone(), is_shared);
        Ok(is_shared)
    }

    /// Returns the trees of all protected branches, here and at the remote.
    fn protected_trees(&self, context: &SyncContext) -> Result<&[Id]> {
        if let Some(known) = self.protected_trees.get() {
            return Ok(known);
        }
        let remote = format!("refs/remotes/{}/", context.config.remote);
        let mut trees = Vec::new();
        for prefix in ["refs/heads/", remote.as_str()] {
            for (name, commit) in self.repo.branches_below(prefix)? {
                if let Ok(commit) = commit
                    && context.is_protected(&name)
                {
                    trees.push(self.repo.tree_of(commit)?);
                }
            }
        }
        Ok(self.protected_trees.get_or_init(|| trees))
    }

    /// Returns the remote to which git pushes a branch that follows none of its own.
    fn find_push_remote(&self, context: &SyncContext, name: &str) -> String {
        let set =
            |key: &str| self.repo.config_value(key).filter(|found| self.repo.has_remote(found));
        set(&format!("branch.{name}.pushRemote"))
            .or_else(|| set("remote.pushDefault"))
            .unwrap_or_else(|| context.config.remote.clone())
    }

    /// Returns the branch that a local one follows, or else the one of the same name at the remote to which it is
    /// pushed; and whether it is followed.
    fn name_upstream(&self, context: &SyncContext, name: &str) -> (String, String, bool) {
        match self.find_followed(context, name) {
            Some((remote, followed)) => (remote, followed, true),
            None => (self.find_push_remote(context, name), name.to_owned(), false),
        }
    }

    /// Returns the last fetched commit of the upstream of a local branch, with its ref.
    pub(super) fn find_upstream(
        &self,
        context: &SyncContext,
        name: &str,
    ) -> Result<Option<(String, Id)>> {
        let (remote, followed, is_followed) = self.name_upstream(context, name);
        if !self.is_usual(&remote) && is_followed {
            let found = self.repo.upstream(name)?;
            // A remote may be a bare URL, which has no refs here.
            if found.is_some() || remote != context.config.remote {
                return Ok(found);
            }
        }
        let reference = format!("refs/remotes/{remote}/{followed}");
        let commit = self.resolve_listed_ref(&format!("refs/remotes/{remote}/"), &reference)?;
        Ok(commit.map(|commit| (reference, commit)))
    }

    /// Describes the ref of the upstream if it is broken: then nothing is known of the pins there.
    #[must_use]
    pub fn describe_broken_upstream(&self, context: &SyncContext, head: &Head) -> Option<String> {
        let (remote, followed, _) = self.name_upstream(context, head.branch.as_ref()?);
        let reference = format!("refs/remotes/{remote}/{followed}");
        self.repo.is_broken_ref(&reference).then(|| {
            format!(
                "`{reference}` is a broken ref and counts as not fetched, with the pins there: {}, then \
                 `git fetch {}`",
                self.repo.broken_ref_removal(&reference),
                quote_for_shell(&remote)
            )
        })
    }

    /// Returns the commit of the local branch that is pushed to the one of its name at the remote, with its ref.
    fn find_pushed_branch(
        &self,
        context: &SyncContext,
        name: &str,
    ) -> Result<Option<(String, Id)>> {
        let (remote, followed, _) = self.name_upstream(context, name);
        if remote != context.config.remote || followed != name {
            return Ok(None);
        }
        let reference = format!("refs/heads/{name}");
        let commit = self.resolve_listed_ref("refs/heads/", &reference)?;
        Ok(commit.map(|commit| (reference, commit)))
    }

    fn resolve_listed_ref(&self, prefix: &str, reference: &str) -> Result<Option<Id>> {
        let Some(listed_refs) = &self.listed_refs else {
            return self.repo.resolve_fetched_ref(reference);
        };
        let mut known = listed_refs.borrow_mut();
        let refs =
            known.entry(prefix.to_owned()).or_insert_with(|| self.repo.snapshot_refs(prefix).ok());
        match refs {
            Some(refs) => Ok(refs.get(reference)),
            None => self.repo.resolve_fetched_ref(reference),
        }
    }

    /// Returns the pins of the upstream of a local branch, or of the local branch that is pushed to one at the remote;
    /// none if `own`, those of the branch, are as new: then it has merged that commit.
    fn read_other_side(
        &self,
        context: &SyncContext,
        head: &Head,
        own: &FolderPins,
    ) -> Result<FolderPins> {
        let Some(name) = &head.branch else { return Ok(FolderPins::default()) };
        let found = match self.place {
            BranchPlace::Local => self.find_upstream(context, name)?,
            BranchPlace::Remote => self.find_pushed_branch(context, name)?,
        };
        let Some((reference, commit)) = found.filter(|(_, commit)| *commit != head.commit) else {
            return Ok(FolderPins::default());
        };
        let short = short_ref(&reference);
        let is_merged = || self.repo.is_ancestor(commit, head.commit);
        let pins = match self.read_pins(self.repo.tree_of(commit)?)? {
            Ok(pins) => pins,
            Err(_) if is_merged()? => return Ok(FolderPins::default()),
            Err(fault) => return Err(fault.to_error(short, self.place == BranchPlace::Local)),
        };
        let is_known = pins.iter().all(|pin| own.contains(pin));
        Ok(if is_known || is_merged()? { FolderPins::default() } else { pins })
    }

    /// Returns all pins of a tree with their files, of whatever branch they are. `place` names the
    /// tree in errors.
    pub fn read_tree(&self, tree: Id, place: &str) -> Result<FolderPins> {
        self.read_pins(tree)?.map_err(|fault| fault.to_error(place, false))
    }

    fn read_pins(&self, tree: Id) -> Result<FolderContent> {
        let known = self.trees.borrow().get(&tree).cloned();
        match known {
            Some(content) => Ok(content),
            None => self.look_up_folder(tree),
        }
    }

    fn look_up_folder(&self, tree: Id) -> Result<FolderContent> {
        let folder = RepoPath::new(PINS_FOLDER);
        let content = match self.repo.find_in_tree(tree, &folder)? {
            None => Ok(FolderPins::default()),
            Some(TreeItem::Folder(id)) => self.read_folder(id)?,
            Some(TreeItem::Entry(_)) => Err(Rc::new(PinFault::new(&folder, "it is not a folder"))),
        };
        self.trees.borrow_mut().insert(tree, content.clone());
        Ok(content)
    }

    fn read_folder(&self, id: Id) -> Result<FolderContent> {
        if let Some(known) = self.folders.borrow().get(&id) {
            return Ok(known.clone());
        }
        let listed = self.repo.list_tree(id, &PinsScope)?;
        let content = if listed.len() > MAX_PINS {
            let what = format!("it has {} pins; {MAX_PINS} at most are read", listed.len());
            Err(PinFault::new(&RepoPath::new(PINS_FOLDER), &what))
        } else {
            self.read_files(listed)?
        };
        let content = content.map(Rc::new).map_err(Rc::new);
        self.folders.borrow_mut().insert(id, content.clone());
        Ok(content)
    }

    fn read_files(
        &self,
        listed: BTreeMap<RepoPath, TreeEntry>,
    ) -> Result<std::result::Result<Vec<(Pin, RepoPath)>, PinFault>> {
        let wanted = listed.iter().map(|(name, entry)| (entry.id, format!("{PINS_FOLDER}/{name}")));
        self.repo.fetch_objects(wanted)?;
        let mut pins = Vec::new();
        for (name, entry) in listed {
            let file = RepoPath::new([PINS_FOLDER.as_bytes(), b"/", name.as_bytes()].concat());
            match self.read_file(&file, entry)? {
                Ok(pin) => pins.push((pin, file)),
                Err(fault) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(pins))
    }

    fn read_file(
        &self,
        file: &RepoPath,
        entry: TreeEntry,
    ) -> Result<std::result::Result<Pin, PinFault>> {
        if let Some(pin) = self.files.borrow().get(&entry.id) {
            return Ok(Ok(pin.clone()));
        }
        if !matches!(entry.mode, FileMode::File | FileMode::Executable) {
            return Ok(Err(PinFault::new(file, "it is not a regular file")));
        }
        let size = self.repo.object_size(entry.id)?;
        if size > MAX_PIN_BYTES {
            let what = format!("it has {size} bytes; {MAX_PIN_BYTES} at most are read");
            return Ok(Err(PinFault::new(file, &what)));
        }
        let source = String::from_utf8_lossy(file.as_bytes()).replace(char::is_whitespace, "_");
        Ok(match Pin::parse(&source, &self.repo.read_blob(entry.id)?) {
            Ok(pin) => {
                self.files.borrow_mut().insert(entry.id, pin.clone());
                Ok(pin)
            }
            Err(fault) => Err(PinFault::of_error(file, &fault)),
        })
    }
}

impl PinFault {
    fn new(file: &RepoPath, what: &str) -> PinFault {
        PinFault { file: file.clone(), faults: vec![format!("{file}: {what}")] }
    }

    fn of_error(file: &RepoPath, fault: &Error) -> PinFault {
        match fault.details() {
            [] => PinFault::new(file, fault.message()),
            faults => PinFault { file: file.clone(), faults: faults.to_vec() },
        }
    }

    /// Returns the error about a branch, or about the upstream of the checked-out one.
    fn to_error(&self, place: &str, is_upstream: bool) -> Error {
        let PinFault { file, faults } = self;
        let (shown, others) = faults.split_at(faults.len().min(MAX_FAULTS));
        let error = Error::usage(format!("malformed pin on `{place}`: {}", shown.join("; ")));
        let error = others.iter().cloned().fold(error, Error::with_detail);
        let removal = format!("`git rm -- {}`, then commit", file.quote_as_pathspec());
        let hint = match is_upstream {
            true => format!(
                "`git pull` if this branch is behind it; then remove it: {removal} and push"
            ),
            false => format!("remove it on `{place}`: {removal}"),
        };
        error.with_hint(format!("{hint}; `cargo xtask pin PATH …` makes a new one"))
    }
}
