//! Trees: comparing two from the root down, stopping where they are equal; listing; looking up;
//! and writing a tree that differs from another in a few paths.
//!
//! What a walk costs depends on what lies in scope and differs, never on the rest.

use std::collections::BTreeMap;

use gix::objs::tree::{EntryKind, EntryMode};

use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::path::RepoPath;

/// What kind of thing a tree entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileMode {
    /// A regular file.
    File,
    /// A regular file that may be run.
    Executable,
    /// A symlink; the content is where it points.
    Symlink,
    /// A submodule.
    Gitlink,
}

impl FileMode {
    /// As git writes it in octal.
    #[must_use]
    pub fn octal(self) -> &'static str {
        match self {
            FileMode::File => "100644",
            FileMode::Executable => "100755",
            FileMode::Symlink => "120000",
            FileMode::Gitlink => "160000",
        }
    }

    /// From git's octal.
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

/// What stands at a path: its kind and its content. Two equal entries are the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeEntry {
    /// The kind.
    pub mode: FileMode,
    /// The object that holds the content.
    pub id: Id,
}

/// Which paths a walk is about.
pub trait PathScope {
    /// Whether anything below this folder can be in scope.
    fn may_contain(&self, folder: &[u8]) -> bool;
    /// Whether this path itself is in scope.
    fn contains_path(&self, path: &[u8]) -> bool;
    /// Whether a folder is in scope with all that is below it, whatever that is. May say no.
    fn contains_folder(&self, _folder: &[u8]) -> bool {
        false
    }
}

/// A scope without bounds.
pub struct AllPaths;

impl PathScope for AllPaths {
    fn may_contain(&self, _folder: &[u8]) -> bool {
        true
    }

    fn contains_path(&self, _path: &[u8]) -> bool {
        true
    }
}

/// A scope of everything below one folder.
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

/// What two trees hold at one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryPair {
    /// In the first tree.
    pub one: Option<TreeEntry>,
    /// In the second tree.
    pub two: Option<TreeEntry>,
}

/// A change to one path of a tree: a new entry, or its removal.
pub type TreeChange = (RepoPath, Option<TreeEntry>);

/// One level of a tree: the entries that are in scope, and the folders that can hold some.
#[derive(Default)]
struct TreeLevel {
    entries: BTreeMap<Vec<u8>, TreeEntry>,
    folders: BTreeMap<Vec<u8>, Id>,
}

impl Repo {
    /// The paths in scope at which two trees differ, with what each holds there. A tree that is
    /// not given is empty.
    pub fn compare_trees(
        &self,
        one: Option<Id>,
        two: Option<Id>,
        scope: &dyn PathScope,
    ) -> Result<BTreeMap<RepoPath, EntryPair>> {
        let mut found = BTreeMap::new();
        self.compare_folders(&mut Vec::new(), one, two, scope, &mut found)?;
        Ok(found)
    }

    fn compare_folders(
        &self,
        prefix: &mut Vec<u8>,
        one: Option<Id>,
        two: Option<Id>,
        scope: &dyn PathScope,
        found: &mut BTreeMap<RepoPath, EntryPair>,
    ) -> Result<()> {
        if one == two {
            return Ok(());
        }
        let mut first = self.read_tree_level(prefix, one, scope)?;
        let second = self.read_tree_level(prefix, two, scope)?;
        for (name, two) in second.entries {
            let one = first.entries.remove(&name);
            if one != Some(two) {
                found.insert(join_path(prefix, &name), EntryPair { one, two: Some(two) });
            }
        }
        for (name, one) in first.entries {
            found.insert(join_path(prefix, &name), EntryPair { one: Some(one), two: None });
        }
        for (name, two) in second.folders {
            let one = first.folders.remove(&name);
            self.visit_subfolder(prefix, &name, |prefix| {
                self.compare_folders(prefix, one, Some(two), scope, found)
            })?;
        }
        for (name, one) in first.folders {
            self.visit_subfolder(prefix, &name, |prefix| {
                self.compare_folders(prefix, Some(one), None, scope, found)
            })?;
        }
        Ok(())
    }

    /// All entries in scope, in order.
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

    /// Calls `entry` for everything in scope, and asks `enter` before each folder, with its path
    /// and its id.
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

    /// The names of the folders in the root of a tree, those that are UTF-8.
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

    /// What stands at a path of a tree: an entry, a folder, or nothing.
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

    /// The entry at a path of a tree, if there is one that is not a folder.
    pub fn entry_at(&self, tree: Id, path: &RepoPath) -> Result<Option<TreeEntry>> {
        Ok(self.find_in_tree(tree, path)?.and_then(|found| match found {
            TreeItem::Entry(entry) => Some(entry),
            TreeItem::Folder(_) => None,
        }))
    }

    /// Writes the tree that differs from `tree` (from the empty one where none is given) in these
    /// paths alone. Folders that become empty go.
    pub fn write_tree(&self, tree: Option<Id>, changes: &[TreeChange]) -> Result<Id> {
        let failed = || "the new tree cannot be written";
        let root = match tree {
            Some(id) => self.tree_object(id)?.decode().with_context(failed)?.into_owned(),
            None => gix::objs::Tree::empty(),
        };
        let mut editor =
            gix::objs::tree::Editor::new(root, &self.git.objects, self.git.object_hash());
        let parts = |path: &RepoPath| -> Vec<gix::bstr::BString> {
            path.components().map(Into::into).collect()
        };
        // What goes makes room for what comes: a file may give way to a folder of its name.
        for (path, _) in changes.iter().filter(|(_, entry)| entry.is_none()) {
            editor.remove(parts(path)).with_context(failed)?;
        }
        for (path, entry) in changes {
            let Some(entry) = entry else { continue };
            if path.components().any(is_invalid_name) {
                return Err(
                    Error::unable(failed()).with_detail(format!("`{path}` is no path for git"))
                );
            }
            // In a partial clone it may well be elsewhere, and git asks for no content to write a tree.
            let is_here = || entry.mode == FileMode::Gitlink || self.has_object(entry.id);
            if !self.is_partial() && !is_here() {
                return Err(Error::unable(failed())
                    .with_detail(format!("the content of `{path}` ({}) is not here", entry.id))
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

/// Whether a part of a path can be no name in a tree.
fn is_invalid_name(part: &[u8]) -> bool {
    part.is_empty() || [&b"."[..], b".."].contains(&part) || part.eq_ignore_ascii_case(b".git")
}

/// The longest path that is followed, in bytes: what Linux allows for a path.
const MAX_PATH_BYTES: usize = 4096;

/// What stands at a path of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TreeItem {
    /// A file, a symlink or a submodule.
    Entry(TreeEntry),
    /// A folder.
    Folder(Id),
}

fn join_path(prefix: &[u8], name: &[u8]) -> RepoPath {
    let mut path = prefix.to_vec();
    if !prefix.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    RepoPath::new(path)
}
