//! Staged changes: comparing an index with the tree of the last commit.
//!
//! The index may be one that git has made for this commit alone (`commit -a`, `commit -- PATH`). A
//! folder whose cached tree (`TREE` extension) is unchanged is skipped, so that the cost depends on
//! the changes.
//!
//! ```text
//! StagedChange { path: "setup/a", before: Some(100644 1a2b…), after: None } -> deleted
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gix::bstr::ByteSlice;
use gix::index::entry::{Flags, Mode as IndexMode, Stage};
use gix::index::extension::Tree;
use gix::index::{Entry as IndexEntry, State};

use super::index::from_index_mode;
use super::{FileMode, Id, Repo, TreeEntry};
use xtask_base::error::{Result, ResultExt};
use xtask_base::path::RepoPath;

/// A path that the next commit would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedChange {
    pub path: RepoPath,
    /// The entry of the last commit.
    pub before: Option<TreeEntry>,
    /// The staged entry.
    pub after: Option<TreeEntry>,
}

impl Repo {
    /// Compares the index in `file` with `tree` (default: the empty tree). Unmerged entries and
    /// those of `git add -N` are left out, since they cannot be committed.
    pub fn staged_changes(&self, file: &Path, tree: Option<Id>) -> Result<Vec<StagedChange>> {
        let hash = self.git.object_hash();
        let index = gix::index::File::at(file, hash, true, Default::default())
            .with_context(|| format!("cannot read the index `{}`", file.display()))?;
        let mut found = Vec::new();
        let walk = IndexWalk { repo: self, state: &index };
        walk.compare_folder(&[], tree, index.entries(), index.tree(), &mut found)?;
        found.sort_by(|one, two| one.path.cmp(&two.path));
        Ok(found)
    }
}

struct IndexWalk<'a> {
    repo: &'a Repo,
    state: &'a State,
}

impl IndexWalk<'_> {
    /// Compares one folder. `prefix` ends with a slash unless empty; `entries` are those of the
    /// index below it.
    fn compare_folder(
        &self,
        prefix: &[u8],
        tree: Option<Id>,
        entries: &[IndexEntry],
        known: Option<&Tree>,
        found: &mut Vec<StagedChange>,
    ) -> Result<()> {
        let is_known = known.is_some_and(|known| {
            Some(known.id) == tree
                && known.num_entries.is_some_and(|number| number as usize == entries.len())
        });
        if is_known {
            return Ok(());
        }
        let (mut files, folders) = self.read_folder(tree)?;
        let mut seen = BTreeSet::new();
        let mut at = 0;
        while let Some(entry) = entries.get(at) {
            let name = &entry.path(self.state)[prefix.len()..];
            let Some(end) = name.find_byte(b'/') else {
                at += 1;
                found.extend(compare_file(prefix, entry, files.remove(&name.to_vec()), name));
                continue;
            };
            let folder = name[..end].to_vec();
            let inside = [prefix, &folder, b"/"].concat();
            let is_inside = |entry: &&IndexEntry| entry.path(self.state).starts_with(&inside);
            let below = &entries[at..];
            let below = &below[..below.iter().take_while(is_inside).count()];
            at += below.len();
            let tree = folders.get(&folder).copied();
            seen.insert(folder.clone());
            if below.len() == 1 && below[0].mode == IndexMode::DIR {
                // A folder that a sparse index collapses to one entry is unchanged.
                continue;
            }
            let known = known
                .and_then(|known| known.children.iter().find(|child| child.name[..] == folder[..]));
            self.compare_folder(&inside, tree, below, known, found)?;
        }
        for (name, before) in files {
            let path = RepoPath::new([prefix, &name].concat());
            found.push(StagedChange { path, before: Some(before), after: None });
        }
        for (name, id) in folders.iter().filter(|(name, _)| !seen.contains(*name)) {
            let inside = [prefix, &name[..], b"/"].concat();
            self.compare_folder(&inside, Some(*id), &[], None, found)?;
        }
        Ok(())
    }

    /// Returns the files and the folders of a tree, by name.
    fn read_folder(&self, tree: Option<Id>) -> Result<(NamedFiles, BTreeMap<Vec<u8>, Id>)> {
        let (mut files, mut folders) = (BTreeMap::new(), BTreeMap::new());
        let Some(id) = tree else { return Ok((files, folders)) };
        for entry in self.repo.tree_object(id)?.iter() {
            let entry = entry.map_err(|cause| self.repo.unreadable_error(id, cause))?;
            let (name, id) = (entry.filename().to_vec(), entry.oid().to_owned());
            match FileMode::from_gix(entry.mode()) {
                Some(mode) => drop(files.insert(name, TreeEntry { mode, id })),
                None => drop(folders.insert(name, id)),
            }
        }
        Ok((files, folders))
    }
}

/// The files of one folder, by name.
type NamedFiles = BTreeMap<Vec<u8>, TreeEntry>;

/// Returns the change of a staged file, if there is one.
fn compare_file(
    prefix: &[u8],
    entry: &IndexEntry,
    before: Option<TreeEntry>,
    name: &[u8],
) -> Option<StagedChange> {
    let after = from_index_mode(entry.mode).map(|mode| TreeEntry { mode, id: entry.id });
    (can_be_committed(entry) && before != after).then(|| StagedChange {
        path: RepoPath::new([prefix, name].concat()),
        before,
        after,
    })
}

fn can_be_committed(entry: &IndexEntry) -> bool {
    entry.stage() == Stage::Unconflicted && !entry.flags.contains(Flags::INTENT_TO_ADD)
}
