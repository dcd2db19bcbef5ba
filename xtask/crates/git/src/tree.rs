//! Trees: comparing two from the root down, stopping where they are equal; listing; looking up;
//! and writing a tree that differs from another in a few paths.
//!
//! What a walk costs depends on what lies in scope and differs, never on the rest.

use std::collections::BTreeMap;

use gix::objs::tree::{EntryKind, EntryMode};

use super::{Id, Repo};
use xtask_base::error::{Context, Error, Result};
use xtask_base::path::RepoPath;

/// What kind of thing a tree entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// A regular file.
    File,
    /// A regular file that may be run.
    Executable,
    /// A symlink; the content is where it points.
    Symlink,
    /// A submodule.
    Gitlink,
}

impl Mode {
    /// As git writes it in octal.
    #[must_use]
    pub fn octal(self) -> &'static str {
        match self {
            Mode::File => "100644",
            Mode::Executable => "100755",
            Mode::Symlink => "120000",
            Mode::Gitlink => "160000",
        }
    }

    /// From git's octal.
    #[must_use]
    pub fn from_octal(text: &str) -> Option<Mode> {
        [Mode::File, Mode::Executable, Mode::Symlink, Mode::Gitlink]
            .into_iter()
            .find(|mode| mode.octal() == text)
    }

    pub(super) fn from_git(mode: EntryMode) -> Option<Mode> {
        match mode.kind() {
            EntryKind::Tree => None,
            EntryKind::Blob => Some(Mode::File),
            EntryKind::BlobExecutable => Some(Mode::Executable),
            EntryKind::Link => Some(Mode::Symlink),
            EntryKind::Commit => Some(Mode::Gitlink),
        }
    }

    fn to_git(self) -> EntryKind {
        match self {
            Mode::File => EntryKind::Blob,
            Mode::Executable => EntryKind::BlobExecutable,
            Mode::Symlink => EntryKind::Link,
            Mode::Gitlink => EntryKind::Commit,
        }
    }
}

/// What stands at a path: its kind and its content. Two equal entries are the same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The kind.
    pub mode: Mode,
    /// The object that holds the content.
    pub id: Id,
}

/// Which paths a walk is about.
pub trait Scope {
    /// Whether anything below this folder can be in scope.
    fn enters(&self, folder: &[u8]) -> bool;
    /// Whether this path itself is in scope.
    fn holds(&self, path: &[u8]) -> bool;
    /// Whether a folder is in scope with all that is below it, whatever that is. May say no.
    fn takes_whole(&self, _folder: &[u8]) -> bool {
        false
    }
}

/// A scope without bounds.
pub struct Everything;

impl Scope for Everything {
    fn enters(&self, _folder: &[u8]) -> bool {
        true
    }

    fn holds(&self, _path: &[u8]) -> bool {
        true
    }
}

/// A scope of everything below one folder.
pub struct Below<'a>(pub &'a RepoPath);

impl Scope for Below<'_> {
    fn enters(&self, folder: &[u8]) -> bool {
        let folder = RepoPath::new(folder);
        folder == *self.0 || self.0.is_below(&folder) || folder.is_below(self.0)
    }

    fn holds(&self, path: &[u8]) -> bool {
        RepoPath::new(path).is_below(self.0)
    }
}

/// What two trees hold at one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// In the first tree.
    pub one: Option<Entry>,
    /// In the second tree.
    pub two: Option<Entry>,
}

/// A change to one path of a tree: a new entry, or its removal.
pub type TreeChange = (RepoPath, Option<Entry>);

/// One level of a tree: the entries that are in scope, and the folders that can hold some.
#[derive(Default)]
struct Level {
    entries: BTreeMap<Vec<u8>, Entry>,
    folders: BTreeMap<Vec<u8>, Id>,
}

impl Repo {
    /// The paths in scope at which two trees differ, with what each holds there. A tree that is
    /// not given is empty.
    pub fn compare_trees(
        &self,
        one: Option<Id>,
        two: Option<Id>,
        scope: &dyn Scope,
    ) -> Result<BTreeMap<RepoPath, Pair>> {
        let mut found = BTreeMap::new();
        self.compare_below(&mut Vec::new(), one, two, scope, &mut found)?;
        Ok(found)
    }

    fn compare_below(
        &self,
        prefix: &mut Vec<u8>,
        one: Option<Id>,
        two: Option<Id>,
        scope: &dyn Scope,
        found: &mut BTreeMap<RepoPath, Pair>,
    ) -> Result<()> {
        if one == two {
            return Ok(());
        }
        let mut first = self.level(prefix, one, scope)?;
        let second = self.level(prefix, two, scope)?;
        for (name, two) in second.entries {
            let one = first.entries.remove(&name);
            if one != Some(two) {
                found.insert(join(prefix, &name), Pair { one, two: Some(two) });
            }
        }
        for (name, one) in first.entries {
            found.insert(join(prefix, &name), Pair { one: Some(one), two: None });
        }
        for (name, two) in second.folders {
            let one = first.folders.remove(&name);
            self.descend(prefix, &name, |prefix| {
                self.compare_below(prefix, one, Some(two), scope, found)
            })?;
        }
        for (name, one) in first.folders {
            self.descend(prefix, &name, |prefix| {
                self.compare_below(prefix, Some(one), None, scope, found)
            })?;
        }
        Ok(())
    }

    /// All entries in scope, in order.
    pub fn list_tree(&self, tree: Id, scope: &dyn Scope) -> Result<BTreeMap<RepoPath, Entry>> {
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
        scope: &dyn Scope,
        enter: &mut dyn FnMut(&[u8], Id) -> bool,
        entry: &mut dyn FnMut(RepoPath, Entry),
    ) -> Result<()> {
        self.visit_below(&mut Vec::new(), tree, scope, enter, entry)
    }

    fn visit_below(
        &self,
        prefix: &mut Vec<u8>,
        tree: Id,
        scope: &dyn Scope,
        enter: &mut dyn FnMut(&[u8], Id) -> bool,
        entry: &mut dyn FnMut(RepoPath, Entry),
    ) -> Result<()> {
        if !enter(prefix, tree) {
            return Ok(());
        }
        let level = self.level(prefix, Some(tree), scope)?;
        for (name, found) in level.entries {
            entry(join(prefix, &name), found);
        }
        for (name, id) in level.folders {
            self.descend(prefix, &name, |prefix| {
                self.visit_below(prefix, id, scope, enter, entry)
            })?;
        }
        Ok(())
    }

    fn descend(
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
        if prefix.len() > LONGEST_PATH {
            return Err(Error::unable("a tree is nested deeper than any file system allows"));
        }
        let visited = visit(prefix);
        prefix.truncate(length);
        visited
    }

    fn level(&self, prefix: &[u8], tree: Option<Id>, scope: &dyn Scope) -> Result<Level> {
        let mut level = Level::default();
        let Some(id) = tree else { return Ok(level) };
        let object = self.tree_object(id)?;
        let mut path = prefix.to_vec();
        if !prefix.is_empty() {
            path.push(b'/');
        }
        let base = path.len();
        for entry in object.iter() {
            let entry = entry.map_err(|cause| self.unreadable(id, cause))?;
            let name: &[u8] = entry.filename();
            path.truncate(base);
            path.extend_from_slice(name);
            match Mode::from_git(entry.mode()) {
                Some(mode) if scope.holds(&path) => {
                    level.entries.insert(name.to_vec(), Entry { mode, id: entry.object_id() });
                }
                None if scope.enters(&path) => {
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
            let entry = entry.map_err(|cause| self.unreadable(tree, cause))?;
            if entry.mode().is_tree() {
                found.extend(std::str::from_utf8(entry.filename()).ok().map(str::to_owned));
            }
        }
        Ok(found)
    }

    /// What stands at a path of a tree: an entry, a folder, or nothing.
    pub fn look_up(&self, tree: Id, path: &RepoPath) -> Result<Option<LookedUp>> {
        let mut at = tree;
        let mut parts = path.parts().peekable();
        while let Some(part) = parts.next() {
            let object = self.tree_object(at)?;
            let mut next = None;
            for entry in object.iter() {
                let entry = entry.map_err(|cause| self.unreadable(at, cause))?;
                if entry.filename() == part {
                    next = Some((Mode::from_git(entry.mode()), entry.object_id()));
                    break;
                }
            }
            match (next, parts.peek().is_some()) {
                (None, _) => return Ok(None),
                (Some((None, id)), true) => at = id,
                (Some((None, id)), false) => return Ok(Some(LookedUp::Folder(id))),
                (Some((Some(_), _)), true) => return Ok(None),
                (Some((Some(mode), id)), false) => {
                    return Ok(Some(LookedUp::Entry(Entry { mode, id })));
                }
            }
        }
        Ok(None)
    }

    /// The entry at a path of a tree, if there is one that is not a folder.
    pub fn entry_at(&self, tree: Id, path: &RepoPath) -> Result<Option<Entry>> {
        Ok(self.look_up(tree, path)?.and_then(|found| match found {
            LookedUp::Entry(entry) => Some(entry),
            LookedUp::Folder(_) => None,
        }))
    }

    /// Writes the tree that differs from `tree` (from the empty one where none is given) in these
    /// paths alone. Folders that become empty go.
    pub fn write_tree(&self, tree: Option<Id>, changes: &[TreeChange]) -> Result<Id> {
        let failed = || "the new tree cannot be written";
        let root = match tree {
            Some(id) => self.tree_object(id)?.decode().unable(failed)?.into_owned(),
            None => gix::objs::Tree::empty(),
        };
        let mut editor =
            gix::objs::tree::Editor::new(root, &self.git.objects, self.git.object_hash());
        let parts =
            |path: &RepoPath| -> Vec<gix::bstr::BString> { path.parts().map(Into::into).collect() };
        // What goes makes room for what comes: a file may give way to a folder of its name.
        for (path, _) in changes.iter().filter(|(_, entry)| entry.is_none()) {
            editor.remove(parts(path)).unable(failed)?;
        }
        for (path, entry) in changes {
            let Some(entry) = entry else { continue };
            if path.parts().any(is_no_name) {
                return Err(Error::unable(failed()).detail(format!("`{path}` is no path for git")));
            }
            // In a partial clone it may well be elsewhere, and git asks for no content to write a tree.
            let is_here = || entry.mode == Mode::Gitlink || self.has_object(entry.id);
            if !self.is_partial() && !is_here() {
                return Err(Error::unable(failed())
                    .detail(format!("the content of `{path}` ({}) is not here", entry.id))
                    .hint("`git fsck` checks the repository"));
            }
            editor.upsert(parts(path), entry.mode.to_git(), entry.id).unable(failed)?;
        }
        let write = |tree: &gix::objs::Tree| {
            let id = self.git.write_object(tree).map(gix::Id::detach)?;
            self.share_object(id);
            Ok::<_, gix::Error>(id)
        };
        editor.write(write).unable(failed)
    }
}

/// Whether a part of a path can be no name in a tree.
fn is_no_name(part: &[u8]) -> bool {
    part.is_empty() || [&b"."[..], b".."].contains(&part) || part.eq_ignore_ascii_case(b".git")
}

/// The longest path that is followed, in bytes: what Linux allows for a path.
const LONGEST_PATH: usize = 4096;

/// What stands at a path of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookedUp {
    /// A file, a symlink or a submodule.
    Entry(Entry),
    /// A folder.
    Folder(Id),
}

fn join(prefix: &[u8], name: &[u8]) -> RepoPath {
    let mut path = prefix.to_vec();
    if !prefix.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    RepoPath::new(path)
}
