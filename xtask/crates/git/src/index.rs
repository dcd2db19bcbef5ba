//! The index of a worktree (the staging area).
//!
//! The index is read in full, changed in a few entries, and written to a temporary file, which then
//! replaces the index under git's own lock (`index.lock`). For example, staging `setup/a`:
//!
//! ```text
//! IndexUpdate { entry: Some(100644 1a2b…), meta: Some(…), is_skipped: false }
//! ```

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use gix::bstr::ByteSlice;
use gix::index::entry::{Flags, Mode as IndexMode, Stage, Stat};
use gix::index::{File, State};

use super::{FileMode, Id, PathCache, Repo, TreeEntry, WorktreeItem};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::is_executable;
use xtask_base::path::RepoPath;
use xtask_base::process::ProgramOutput;

/// State of a path in the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexStatus {
    Absent,
    /// Staged with this content.
    Entry {
        entry: TreeEntry,
        /// Whether sparse checkout leaves the file out (`skip-worktree`).
        is_skipped: bool,
    },
    /// Marked with `git add -N`, without staged content.
    IntentToAdd,
    /// Unmerged.
    Conflict,
}

impl IndexStatus {
    /// Returns the staged content.
    #[must_use]
    pub fn entry(self) -> Option<TreeEntry> {
        match self {
            IndexStatus::Entry { entry, .. } => Some(entry),
            _ => None,
        }
    }
}

/// Size, times and inode of the index file, to detect a change.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IndexStamp {
    size: u64,
    mtime: (i64, i64),
    inode: u64,
}

/// A parsed index.
pub struct Index {
    file: File,
    stat: gix::index::entry::stat::Options,
    /// Whether the executable bit of files counts (`core.fileMode`).
    has_modes: bool,
    stamp: Option<IndexStamp>,
}

impl Repo {
    /// Returns the path of git's lock, `index.lock`.
    #[must_use]
    pub fn index_lock_file(&self) -> PathBuf {
        self.git.git_dir().join("index.lock")
    }

    /// Returns the path of the index of this worktree.
    #[must_use]
    pub fn index_file(&self) -> PathBuf {
        self.git.git_dir().join("index")
    }

    /// Returns the stamp of the index file; `None` if there is no index.
    #[must_use]
    pub fn index_stamp(&self) -> Option<IndexStamp> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::symlink_metadata(self.index_file()).ok()?;
        let mtime = (meta.mtime(), meta.mtime_nsec());
        Some(IndexStamp { size: meta.len(), mtime, inode: meta.ino() })
    }

    /// Returns whether HEAD has files and was never checked out here (`git worktree add
    /// --no-checkout`, `git clone --no-checkout`): the index is missing, and git's next checkout
    /// creates it and writes all files. An index written by us would prevent that.
    #[must_use]
    pub fn needs_checkout(&self) -> bool {
        let holds_files =
            || self.head().is_ok_and(|head| head.tree != Id::empty_tree(head.tree.kind()));
        self.index_stamp().is_none() && holds_files()
    }

    /// Reads the index. A missing index is empty.
    pub fn read_index(&self) -> Result<Index> {
        let stamp = self.index_stamp();
        let path = self.index_file();
        let file = if stamp.is_some() {
            self.git.open_index().with_context(|| format!("cannot read `{}`", path.display()))?
        } else {
            File::from_state(State::new(self.git.object_hash()), path)
        };
        let mut stat = self.git.stat_options().unwrap_or_default();
        stat.use_nsec = true;
        Ok(Index { file, stat, has_modes: self.config_bool("core.fileMode", true), stamp })
    }

    /// Reads an index in another file, such as the one that a hook is given in `GIT_INDEX_FILE`.
    pub fn read_index_at(&self, path: &Path) -> Result<Index> {
        let file = File::at(path, self.git.object_hash(), true, Default::default())
            .with_context(|| format!("cannot read the index `{}`", path.display()))?;
        let mut stat = self.git.stat_options().unwrap_or_default();
        stat.use_nsec = true;
        Ok(Index { file, stat, has_modes: self.config_bool("core.fileMode", true), stamp: None })
    }

    /// Prepares an index for being rewritten, as git does: a racy entry (as young as the index)
    /// whose file has changed since is marked, so that the change is still detected.
    pub fn mark_racy_entries(&self, index: &mut Index) -> Result<()> {
        let racy = index.racy_entries();
        if racy.is_empty() {
            return Ok(());
        }
        let mut changed = Vec::new();
        {
            let mut filters = self.clean_filters(index)?;
            let mut path_cache = PathCache::default();
            for (path, entry) in racy.into_iter().filter(|(_, e)| e.mode != FileMode::Gitlink) {
                // A file that cannot be read or filtered now does not count as unchanged.
                let work = self.read_worktree_item(
                    &path,
                    Some(entry),
                    &mut path_cache,
                    &mut filters,
                    index,
                );
                match work {
                    Ok(WorktreeItem::Present(found)) if found.entry == entry => {}
                    _ => changed.push(path),
                }
            }
        }
        index.mark_changed(&changed);
        Ok(())
    }

    /// Returns the state of a path, also inside a folder that a sparse index collapses to one
    /// entry.
    pub fn staged_status(&self, index: &Index, path: &RepoPath) -> Result<IndexStatus> {
        let found = index.path_status(path);
        if found != IndexStatus::Absent || !index.is_sparse() {
            return Ok(found);
        }
        for folder in path.ancestors() {
            let Some(tree) = index.sparse_folder(&folder) else { continue };
            let inside = RepoPath::new(&path.as_bytes()[folder.as_bytes().len() + 1..]);
            let entry = self.entry_at(tree, &inside)?;
            return Ok(entry.map_or(IndexStatus::Absent, |entry| IndexStatus::Entry {
                entry,
                is_skipped: true,
            }));
        }
        Ok(IndexStatus::Absent)
    }

    /// Returns whether only git can maintain the index: version 4 (prefix-compressed paths), a
    /// sparse index, resolve-undo, untracked cache, fsmonitor, or a split index.
    #[must_use]
    pub fn has_special_index(&self, index: &Index) -> bool {
        let file = &index.file;
        let is_part = |entry: &std::fs::DirEntry| {
            entry.file_name().as_encoded_bytes().starts_with(b"sharedindex.")
        };
        let mut beside = std::fs::read_dir(self.git_folder()).into_iter().flatten().flatten();
        file.is_sparse()
            || file.version() == gix::index::Version::V4
            || file.untracked().is_some()
            || file.fs_monitor().is_some()
            || file.resolve_undo().is_some()
            || beside.any(|entry| is_part(&entry))
    }

    /// Returns the path of git's lock on `path`, `PATH.lock`.
    #[must_use]
    pub fn lock_path(&self, path: &Path) -> PathBuf {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        name.into()
    }

    /// Stages contents in a temporary `index` by `git update-index`, and refreshes their stat data.
    pub fn update_index_by_git(
        &self,
        index: &Path,
        staged: &BTreeMap<RepoPath, IndexUpdate>,
    ) -> Result<()> {
        let null = self.null_id();
        let mut lines = Vec::new();
        let mut skipped = Vec::new();
        for (path, staged) in staged {
            let (mode, id) = match staged.entry {
                Some(entry) => (entry.mode.octal(), entry.id),
                None => ("0", null),
            };
            lines.extend_from_slice(format!("{mode} {id}\t").as_bytes());
            lines.extend_from_slice(path.as_bytes());
            lines.push(0);
            if staged.is_skipped && staged.entry.is_some() {
                skipped.extend_from_slice(path.as_bytes());
                skipped.push(0);
            }
        }
        let run = |args: &[&str], input: &[u8]| -> Result<ProgramOutput> {
            let all = ["-c", "advice.sparseIndexExpanded=false"];
            let git = self.local_git(all.into_iter().chain(args.iter().copied()));
            git.env("GIT_INDEX_FILE", index).run_with_input(input)
        };
        let orders: [(&[&str], &[u8]); 2] = [
            (&["update-index", "--add", "--remove", "--replace", "-z", "--index-info"], &lines),
            (&["update-index", "--skip-worktree", "-z", "--stdin"], &skipped),
        ];
        for (args, input) in orders {
            if input.is_empty() {
                continue;
            }
            let ran = run(args, input)?;
            if !ran.status.success() {
                let lines = ran.stderr.lines().map(str::to_owned);
                return Err(
                    lines.fold(Error::unable("`git update-index` failed"), Error::with_detail)
                );
            }
        }
        // The exit code reports files that differ from the index, which is not a failure.
        // (`update-index --refresh` would merge a split index.)
        let refresh = ["add", "--refresh", "--pathspec-from-file=-", "--pathspec-file-nul"];
        let refresh: Vec<&str> = ["--literal-pathspecs"].into_iter().chain(refresh).collect();
        let there =
            staged.iter().filter(|(_, staged)| staged.entry.is_some() && !staged.is_skipped);
        let names = there.flat_map(|(path, _)| [path.as_bytes(), b"\0"]).flatten().copied();
        let names: Vec<u8> = names.collect();
        if names.is_empty() {
            return Ok(());
        }
        run(&refresh, &names).map(drop)
    }

    /// Returns an in-memory index with the content of a tree.
    pub fn index_of_tree(&self, tree: Id) -> Result<Index> {
        let file =
            self.git.index_from_tree(&tree).map_err(|cause| self.unreadable_error(tree, cause))?;
        let stat = self.git.stat_options().unwrap_or_default();
        Ok(Index { file, stat, has_modes: self.config_bool("core.fileMode", true), stamp: None })
    }
}

impl Index {
    /// Returns the stamp of the file that was read.
    #[must_use]
    pub fn stamp(&self) -> Option<&IndexStamp> {
        self.stamp.as_ref()
    }

    /// Returns the state of a path.
    #[must_use]
    pub fn path_status(&self, path: &RepoPath) -> IndexStatus {
        let name = path.as_bytes().as_bstr();
        let Some(found) = self.file.entry_by_path_and_stage(name, Stage::Unconflicted) else {
            let conflict = [Stage::Base, Stage::Ours, Stage::Theirs]
                .into_iter()
                .any(|stage| self.file.entry_by_path_and_stage(name, stage).is_some());
            return if conflict { IndexStatus::Conflict } else { IndexStatus::Absent };
        };
        if found.flags.contains(Flags::INTENT_TO_ADD) {
            return IndexStatus::IntentToAdd;
        }
        let Some(mode) = from_index_mode(found.mode) else { return IndexStatus::Absent };
        IndexStatus::Entry {
            entry: TreeEntry { mode, id: found.id },
            is_skipped: found.flags.contains(Flags::SKIP_WORKTREE),
        }
    }

    /// Returns whether git tracks a path, in any stage.
    pub(super) fn is_tracked(&self, path: &[u8]) -> bool {
        let entries = self.file.entry_range(path.as_bstr());
        entries.is_some_and(|range| !range.is_empty())
    }

    /// Returns whether git tracks a path below a folder.
    pub(super) fn has_tracked_below(&self, folder: &[u8]) -> bool {
        let below = [folder, b"/"].concat();
        self.file.prefixed_entries_range(below.as_bstr()).is_some_and(|range| !range.is_empty())
    }

    /// Returns the tree of a folder that a sparse index collapses to one entry.
    fn sparse_folder(&self, folder: &RepoPath) -> Option<Id> {
        let name = [folder.as_bytes(), b"/"].concat();
        let found = self.file.entry_by_path(name.as_bstr())?;
        (found.mode == IndexMode::DIR).then_some(found.id)
    }

    /// Lists the staged paths that exclude `path`: a file at one of its parent folders, or files
    /// below it.
    #[must_use]
    pub fn conflicting_paths(&self, path: &RepoPath) -> Vec<RepoPath> {
        let mut found: Vec<RepoPath> = path
            .ancestors()
            .filter(|folder| self.path_status(folder) != IndexStatus::Absent)
            .collect();
        let below = [path.as_bytes(), b"/"].concat();
        if let Some(entries) = self.file.prefixed_entries(below.as_bstr()) {
            let names = entries.iter().map(|entry| entry.path(&self.file).to_vec());
            found.extend(names.map(RepoPath::new));
        }
        found
    }

    /// Returns whether the file behind `meta` is unchanged since it was staged, by size, times and
    /// mode alone, as git decides. Times do not reflect a mode that was staged separately (`git
    /// update-index --chmod`).
    #[must_use]
    pub fn is_up_to_date(&self, path: &RepoPath, meta: &Metadata) -> bool {
        let found =
            self.file.entry_by_path_and_stage(path.as_bytes().as_bstr(), Stage::Unconflicted);
        let Some(found) = found else { return false };
        let is_staged_so = match found.mode {
            IndexMode::FILE_EXECUTABLE => !self.has_modes || is_executable(meta),
            IndexMode::FILE => !self.has_modes || !is_executable(meta),
            _ => true,
        };
        is_staged_so
            && to_index_stat(meta).matches(&found.stat, self.stat)
            && !found.stat.is_racy(self.file.timestamp(), self.stat)
            && !found.flags.intersects(Flags::INTENT_TO_ADD | Flags::ASSUME_VALID)
    }

    /// Returns all paths, sorted.
    #[must_use]
    pub fn list_paths(&self) -> Vec<RepoPath> {
        let entries = self.file.entries().iter();
        entries.map(|entry| RepoPath::new(entry.path(&self.file).to_vec())).collect()
    }

    /// Returns whether any path is unmerged.
    #[must_use]
    pub fn has_conflicts(&self) -> bool {
        self.file.entries().iter().any(|entry| entry.stage() != Stage::Unconflicted)
    }

    /// Returns whether the index has collapsed folders (`index.sparse`).
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.file.is_sparse()
    }

    /// Lists racy entries, as young as the index itself: a later change of the same size would go
    /// unnoticed once the index is rewritten.
    fn racy_entries(&self) -> Vec<(RepoPath, TreeEntry)> {
        if self.stamp.is_none() {
            return Vec::new();
        }
        let timestamp = self.file.timestamp();
        let racy = self.file.entries().iter().filter(|entry| {
            entry.stat.is_racy(timestamp, self.stat) && entry.stage() == Stage::Unconflicted
        });
        racy.filter_map(|entry| {
            let mode = from_index_mode(entry.mode)?;
            let path = RepoPath::new(entry.path(&self.file).to_vec());
            Some((path, TreeEntry { mode, id: entry.id }))
        })
        .collect()
    }

    /// Sets the recorded size to 0, so that git reads these files again.
    fn mark_changed(&mut self, paths: &[RepoPath]) {
        for path in paths {
            let name = path.as_bytes().as_bstr();
            if let Some(entry) = self.file.entry_mut_by_path_and_stage(name, Stage::Unconflicted) {
                entry.stat.size = 0;
            }
        }
    }

    /// Stages or removes paths. Without `meta`, git reads the file again at its next refresh.
    /// `is_skipped` sets `skip-worktree`.
    pub fn apply_updates(&mut self, changes: &BTreeMap<RepoPath, IndexUpdate>) {
        let state: &mut State = &mut self.file;
        state.remove_entries(|_, name, _| changes.contains_key(&RepoPath::new(name.to_vec())));
        for (path, staged) in changes {
            invalidate_cached_trees(state, path);
            let Some(entry) = staged.entry else { continue };
            let mut flags = Flags::empty();
            if staged.is_skipped {
                flags |= Flags::SKIP_WORKTREE | Flags::EXTENDED;
            }
            state.dangerously_push_entry(
                staged.meta.as_ref().map_or_else(Stat::default, to_index_stat),
                entry.id,
                flags,
                to_index_mode(entry.mode),
                path.as_bytes().as_bstr(),
            );
        }
        state.sort_entries();
    }

    /// Serializes the index.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file
            .write_to(&mut bytes, gix::index::write::Options::default())
            .with_context(|| "cannot write the new index")?;
        Ok(bytes)
    }

    pub(super) fn state(&self) -> &State {
        &self.file
    }
}

/// The new state of a path in the index.
#[derive(Clone, Debug)]
pub struct IndexUpdate {
    /// The new content; `None` removes the path.
    pub entry: Option<TreeEntry>,
    /// The file's metadata after it was written.
    pub meta: Option<Metadata>,
    /// Whether sparse checkout leaves the file out.
    pub is_skipped: bool,
}

/// Invalidates the cached trees (`TREE` extension) above a path, as git does.
fn invalidate_cached_trees(state: &mut State, path: &RepoPath) {
    let Some(mut tree) = state.tree_mut() else { return };
    tree.num_entries = None;
    let parts: Vec<&[u8]> = path.components().collect();
    for (at, part) in parts.iter().enumerate() {
        let Some(child) = tree.children.iter().position(|child| &child.name[..] == *part) else {
            return;
        };
        if at + 1 == parts.len() {
            // The path replaces a folder of this name.
            tree.children.remove(child);
            return;
        }
        tree = &mut tree.children[child];
        tree.num_entries = None;
    }
}

fn to_index_stat(meta: &Metadata) -> Stat {
    use gix::index::entry::stat::Time;
    use std::os::unix::fs::MetadataExt;
    // Git keeps the low 32 bits of each; its comparison needs the same truncation.
    let time = |seconds: i64, nanos: i64| Time { secs: seconds as u32, nsecs: nanos as u32 };
    Stat {
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        dev: meta.dev() as u32,
        ino: meta.ino() as u32,
        uid: meta.uid(),
        gid: meta.gid(),
        size: meta.len() as u32,
    }
}

pub(super) fn from_index_mode(mode: IndexMode) -> Option<FileMode> {
    match mode {
        IndexMode::FILE => Some(FileMode::File),
        IndexMode::FILE_EXECUTABLE => Some(FileMode::Executable),
        IndexMode::SYMLINK => Some(FileMode::Symlink),
        IndexMode::COMMIT => Some(FileMode::Gitlink),
        _ => None,
    }
}

fn to_index_mode(mode: FileMode) -> IndexMode {
    match mode {
        FileMode::File => IndexMode::FILE,
        FileMode::Executable => IndexMode::FILE_EXECUTABLE,
        FileMode::Symlink => IndexMode::SYMLINK,
        FileMode::Gitlink => IndexMode::COMMIT,
    }
}
