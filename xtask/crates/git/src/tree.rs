//! Trees: comparing, listing, looking up paths, and writing a tree that differs in a few paths.
//!
//! A comparison skips equal folders, so that the cost of a walk depends on the paths in scope that
//! differ, never on the rest. For example, with `one` and `two` differing in one file:
//!
//! ```text
//! compare_trees(one, two, scope) -> { "setup/a": EntryPair { one: 100644 1a2b…, two: 100755 1a2b… } }
//! ```

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use gix::objs::tree::{EntryKind, EntryMode};

use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::path::RepoPath;

/// Mode of a tree entry other than a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileMode {
    File,
    /// A file with the executable bit.
    Executable,
    /// A symlink; its blob holds the target.
    Symlink,
    /// A submodule.
    Gitlink,
}

impl FileMode {
    /// Returns the mode as in git's output, e.g. `100644`.
    #[must_use]
    pub fn octal(self) -> &'static str {
        match self {
            FileMode::File => "100644",
            FileMode::Executable => "100755",
            FileMode::Symlink => "120000",
            FileMode::Gitlink => "160000",
        }
    }

    /// Parses an octal mode; `None` for folders and unknown modes.
    #[must_use]
    pub fn from_octal(text: &str) -> Option<FileMode> {
        [FileMode::File, FileMode::Executable, FileMode::Symlink, FileMode::Gitlink]
            .into_iter()
            .find(|mode| mode.octal() == text)
    }

    pub(super) fn from_gix(mode: EntryMode) -> Option<FileMode> {
        match mode.kind() {
            EntryKind::Tree => None,
            EntryKind::Blob => Some(FileMode::File),
            EntryKind::BlobExecutable => Some(FileMode::Executable),
            EntryKind::Link => Some(FileMode::Symlink),
            EntryKind::Commit => Some(FileMode::Gitlink),
        }
    }

    fn to_gix(self) -> EntryKind {
        match self {
            FileMode::File => EntryKind::Blob,
            FileMode::Executable => EntryKind::BlobExecutable,
            FileMode::Symlink => EntryKind::Link,
            FileMode::Gitlink => EntryKind::Commit,
        }
    }
}

/// Mode and object of a path. Equal entries have equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeEntry {
    pub mode: FileMode,
    pub id: Id,
}

/// A set of paths that limits a walk.
pub trait PathScope {
    /// Returns whether a path below `folder` may be in scope.
    fn may_contain(&self, folder: &[u8]) -> bool;
    /// Returns whether `path` itself is in scope.
    fn contains_path(&self, path: &[u8]) -> bool;
    /// Returns whether every possible path below a folder is in scope. `false` is always safe.
    fn contains_folder(&self, _folder: &[u8]) -> bool {
        false
    }
}

/// The scope of all paths.
pub struct AllPaths;

impl PathScope for AllPaths {
    fn may_contain(&self, _folder: &[u8]) -> bool {
        true
    }

    fn contains_path(&self, _path: &[u8]) -> bool {
        true
    }
}

/// The scope of all paths below one folder.
pub struct PathsBelow<'a>(pub &'a RepoPath);

impl PathScope for PathsBelow<'_> {
    fn may_contain(&self, folder: &[u8]) -> bool {
        let folder = RepoPath::new(folder);
        folder == *self.0 || self.0.is_below(&folder) || folder.is_below(self.0)
    }

    fn contains_path(&self, path: &[u8]) -> bool {
        RepoPath::new(path).is_below(self.0)
    }
}

/// The entries of two trees at one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPair {
    pub one: Option<TreeEntry>,
    pub two: Option<TreeEntry>,
}

/// The new entry of a path; `None` removes it.
pub type TreeChange = (RepoPath, Option<TreeEntry>);

/// Compares many trees in one scope, which have most of their folders in common: each is read once.
pub struct TreeComparer<'r, S> {
    repo: &'r Repo,
    scope: S,
    /// By the path of the folder, with `/` at the end, and its id.
    levels: HashMap<(Vec<u8>, Id), Rc<TreeLevel>>,
}

/// How many folders are remembered; then those are forgotten, so that memory has a bound.
const MAX_LEVELS: usize = 4000;

impl<'r, S: PathScope> TreeComparer<'r, S> {
    #[must_use]
    pub fn new(repo: &'r Repo, scope: S) -> Self {
        TreeComparer { repo, scope, levels: HashMap::new() }
    }

    /// Lists the paths in scope at which two trees differ.
    pub fn compare(&mut self, one: Id, two: Id) -> Result<BTreeMap<RepoPath, EntryPair>> {
        let mut found = BTreeMap::new();
        let (repo, mut read) = (self.repo, |prefix: &[u8], tree| self.read_level(prefix, tree));
        repo.compare_folders(&mut Vec::new(), (Some(one), Some(two)), &mut read, &mut found)?;
        Ok(found)
    }

    fn read_level(&mut self, prefix: &[u8], tree: Option<Id>) -> Result<Rc<TreeLevel>> {
        let Some(id) = tree else { return Ok(Rc::default()) };
        let key = (prefix.to_vec(), id);
        if let Some(level) = self.levels.get(&key) {
            return Ok(Rc::clone(level));
        }
        let level = Rc::new(self.repo.read_tree_level(prefix, tree, &self.scope)?);
        if self.levels.len() >= MAX_LEVELS {
            self.levels.clear();
        }
        self.levels.insert(key, Rc::clone(&level));
        Ok(level)
    }
}

/// Reads the folder at a path of a tree.
type ReadLevel<'a> = dyn FnMut(&[u8], Option<Id>) -> Result<Rc<TreeLevel>> + 'a;

/// One folder of a tree: its entries in scope, and its subfolders that may contain some.
#[derive(Default)]
struct TreeLevel {
    entries: BTreeMap<Vec<u8>, TreeEntry>,
    folders: BTreeMap<Vec<u8>, Id>,
}

impl Repo {
    /// Lists the paths in scope at which two trees differ. `None` is the empty tree.
    pub fn compare_trees(
        &self,
        one: Option<Id>,
        two: Option<Id>,
        scope: &dyn PathScope,
    ) -> Result<BTreeMap<RepoPath, EntryPair>> {
        let mut found = BTreeMap::new();
        let mut read = |prefix: &[u8], tree| self.read_tree_level(prefix, tree, scope).map(Rc::new);
        self.compare_folders(&mut Vec::new(), (one, two), &mut read, &mut found)?;
        Ok(found)
    }

    fn compare_folders(
        &self,
        prefix: &mut Vec<u8>,
        (one, two): (Option<Id>, Option<Id>),
        read: &mut ReadLevel<'_>,
        found: &mut BTreeMap<RepoPath, EntryPair>,
    ) -> Result<()> {
        if one == two {
            return Ok(());
        }
        let (first, second) = (read(prefix, one)?, read(prefix, two)?);
        for (name, two) in &second.entries {
            let one = first.entries.get(name).copied();
            if one != Some(*two) {
                found.insert(join_path(prefix, name), EntryPair { one, two: Some(*two) });
            }
        }
        for (name, one) in
            first.entries.iter().filter(|(name, _)| !second.entries.contains_key(*name))
        {
            found.insert(join_path(prefix, name), EntryPair { one: Some(*one), two: None });
        }
        for (name, two) in &second.folders {
            let one = first.folders.get(name).copied();
            self.visit_subfolder(prefix, name, |prefix| {
                self.compare_folders(prefix, (one, Some(*two)), read, found)
            })?;
        }
        for (name, one) in
            first.folders.iter().filter(|(name, _)| !second.folders.contains_key(*name))
        {
            self.visit_subfolder(prefix, name, |prefix| {
                self.compare_folders(prefix, (Some(*one), None), read, found)
            })?;
        }
        Ok(())
    }

    /// Lists the entries in scope, sorted by path.
    pub fn list_tree(
        &self,
        tree: Id,
        scope: &dyn PathScope,
    ) -> Result<BTreeMap<RepoPath, TreeEntry>> {
        let mut found = BTreeMap::new();
        self.visit_tree(tree, scope, &mut |_, _| true, &mut |path, entry| {
            found.insert(path, entry);
        })?;
        Ok(found)
    }

    /// Calls `entry` for each entry in scope, and skips a folder if `enter`, called with its path
    /// and id, returns `false`.
    pub(super) fn visit_tree(
        &self,
        tree: Id,
        scope: &dyn PathScope,
        enter: &mut dyn FnMut(&[u8], Id) -> bool,
        entry: &mut dyn FnMut(RepoPath, TreeEntry),
    ) -> Result<()> {
        self.visit_folder(&mut Vec::new(), tree, scope, enter, entry)
    }

    fn visit_folder(
        &self,
        prefix: &mut Vec<u8>,
        tree: Id,
        scope: &dyn PathScope,
        enter: &mut dyn FnMut(&[u8], Id) -> bool,
        entry: &mut dyn FnMut(RepoPath, TreeEntry),
    ) -> Result<()> {
        if !enter(prefix, tree) {
            return Ok(());
        }
        let level = self.read_tree_level(prefix, Some(tree), scope)?;
        for (name, found) in level.entries {
            entry(join_path(prefix, &name), found);
        }
        for (name, id) in level.folders {
            self.visit_subfolder(prefix, &name, |prefix| {
                self.visit_folder(prefix, id, scope, enter, entry)
            })?;
        }
        Ok(())
    }

    fn visit_subfolder(
        &self,
        prefix: &mut Vec<u8>,
        name: &[u8],
        visit: impl FnOnce(&mut Vec<u8>) -> Result<()>,
    ) -> Result<()> {
        let length = prefix.len();
        if length > 0 {
            prefix.push(b'/');
        }
        prefix.extend_from_slice(name);
        if prefix.len() > MAX_PATH_BYTES {
            return Err(Error::unable("a tree is nested deeper than any file system allows"));
        }
        let visited = visit(prefix);
        prefix.truncate(length);
        visited
    }

    fn read_tree_level(
        &self,
        prefix: &[u8],
        tree: Option<Id>,
        scope: &dyn PathScope,
    ) -> Result<TreeLevel> {
        let mut level = TreeLevel::default();
        let Some(id) = tree else { return Ok(level) };
        let object = self.tree_object(id)?;
        let mut path = prefix.to_vec();
        if !prefix.is_empty() {
            path.push(b'/');
        }
        let base = path.len();
        for entry in object.iter() {
            let entry = entry.map_err(|cause| self.unreadable_error(id, cause))?;
            let name: &[u8] = entry.filename();
            path.truncate(base);
            path.extend_from_slice(name);
            match FileMode::from_gix(entry.mode()) {
                Some(mode) if scope.contains_path(&path) => {
                    level.entries.insert(name.to_vec(), TreeEntry { mode, id: entry.object_id() });
                }
                None if scope.may_contain(&path) => {
                    level.folders.insert(name.to_vec(), entry.object_id());
                }
                _ => {}
            }
        }
        Ok(level)
    }

    /// Lists the folders in the root of a tree whose names are UTF-8.
    pub fn folders_in_root(&self, tree: Id) -> Result<Vec<String>> {
        let object = self.tree_object(tree)?;
        let mut found = Vec::new();
        for entry in object.iter() {
            let entry = entry.map_err(|cause| self.unreadable_error(tree, cause))?;
            if entry.mode().is_tree() {
                found.extend(std::str::from_utf8(entry.filename()).ok().map(str::to_owned));
            }
        }
        Ok(found)
    }

    /// Finds the entry or folder at `path`.
    pub fn find_in_tree(&self, tree: Id, path: &RepoPath) -> Result<Option<TreeItem>> {
        let mut at = tree;
        let mut parts = path.components().peekable();
        while let Some(part) = parts.next() {
            let object = self.tree_object(at)?;
            let mut next = None;
            for entry in object.iter() {
                let entry = entry.map_err(|cause| self.unreadable_error(at, cause))?;
                if entry.filename() == part {
                    next = Some((FileMode::from_gix(entry.mode()), entry.object_id()));
                    break;
                }
            }
            match (next, parts.peek().is_some()) {
                (None, _) => return Ok(None),
                (Some((None, id)), true) => at = id,
                (Some((None, id)), false) => return Ok(Some(TreeItem::Folder(id))),
                (Some((Some(_), _)), true) => return Ok(None),
                (Some((Some(mode), id)), false) => {
                    return Ok(Some(TreeItem::Entry(TreeEntry { mode, id })));
                }
            }
        }
        Ok(None)
    }

    /// Finds the entry at `path`; `None` also for a folder.
    pub fn entry_at(&self, tree: Id, path: &RepoPath) -> Result<Option<TreeEntry>> {
        Ok(self.find_in_tree(tree, path)?.and_then(|found| match found {
            TreeItem::Entry(entry) => Some(entry),
            TreeItem::Folder(_) => None,
        }))
    }

    /// Writes a copy of `tree` (default: the empty tree) with `changes` applied, and returns its
    /// id. Folders that become empty are removed.
    pub fn write_tree(&self, tree: Option<Id>, changes: &[TreeChange]) -> Result<Id> {
        let failed = || "cannot write the new tree";
        let root = match tree {
            Some(id) => self.tree_object(id)?.decode().with_context(failed)?.into_owned(),
            None => gix::objs::Tree::empty(),
        };
        let mut editor =
            gix::objs::tree::Editor::new(root, &self.git.objects, self.git.object_hash());
        let parts = |path: &RepoPath| -> Vec<gix::bstr::BString> {
            path.components().map(Into::into).collect()
        };
        // Removals first: a file may be replaced by a folder of the same name.
        for (path, _) in changes.iter().filter(|(_, entry)| entry.is_none()) {
            editor.remove(parts(path)).with_context(failed)?;
        }
        for (path, entry) in changes {
            let Some(entry) = entry else { continue };
            if path.components().any(is_invalid_name) {
                return Err(Error::unable(failed()).with_detail(format!("invalid path `{path}`")));
            }
            // A partial clone may lack the content, which git does not need to write a tree.
            let is_here = || entry.mode == FileMode::Gitlink || self.has_object(entry.id);
            if !self.is_partial() && !is_here() {
                return Err(Error::unable(failed())
                    .with_detail(format!("the content of `{path}` ({}) is missing", entry.id))
                    .with_hint("`git fsck` checks the repository"));
            }
            editor.upsert(parts(path), entry.mode.to_gix(), entry.id).with_context(failed)?;
        }
        let write = |tree: &gix::objs::Tree| {
            let id = self.git.write_object(tree).map(gix::Id::detach)?;
            self.share_object(id);
            Ok::<_, gix::Error>(id)
        };
        editor.write(write).with_context(failed)
    }
}

/// Returns whether git rejects this path component.
fn is_invalid_name(part: &[u8]) -> bool {
    part.is_empty() || [&b"."[..], b".."].contains(&part) || part.eq_ignore_ascii_case(b".git")
}

/// The longest path to follow, in bytes: `PATH_MAX` of Linux.
const MAX_PATH_BYTES: usize = 4096;

/// A tree entry or a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeItem {
    /// A file, symlink or submodule.
    Entry(TreeEntry),
    Folder(Id),
}

pub(super) fn join_path(folder: &[u8], name: &[u8]) -> RepoPath {
    let separator: &[u8] = if folder.is_empty() { b"" } else { b"/" };
    RepoPath::new([folder, separator, name].concat())
}
