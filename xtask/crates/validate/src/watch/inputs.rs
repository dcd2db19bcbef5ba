//! The input files of checks while a worktree is watched: searched once, and then kept up to date by what changes.
//!
//! Guarantee: what is returned is what a search would find now. Where that cannot be told from the changes alone
//! (folders, symlinks, files that git ignores or that are gone), everything is searched again.
//!
//! ```text
//! src/**: 10,000 files   src/a.py is saved  ->  its stat data are read, and those of no other file
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use super::{FileChanges, QUIET, WorktreeWatch};
use crate::input_set::InputSpec;
use crate::stat_cache::StatCache;
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{FileGlobs, FileStat, FoundFiles, Repo};

/// What is known of input files from one run to the next.
pub trait KnownInputs {
    /// Returns the files of a specification as they are now, if they are known.
    fn find_known(&self, spec: &InputSpec) -> Option<FoundFiles>;

    /// Keeps the files of a search, if changes of all of them can be detected.
    fn keep_found(&self, spec: &InputSpec, globs: &FileGlobs, found: &FoundFiles);

    /// Returns the digests that the last run knew.
    fn take_stat_cache(&self) -> Option<StatCache>;

    fn put_stat_cache(&self, cache: StatCache);
}

/// A watched worktree, and what is known of its files.
pub struct WatchedInputs<'r>(RefCell<WatchedState<'r>>);

struct WatchedState<'r> {
    watch: WorktreeWatch<'r>,
    known: HashMap<InputSpec, KnownFiles>,
    /// Changes that the known files have, and the watch loop has not.
    pending: FileChanges,
    stat_cache: Option<StatCache>,
}

struct KnownFiles {
    globs: FileGlobs,
    found: FoundFiles,
}

impl<'r> WatchedInputs<'r> {
    /// Begins to watch.
    pub fn start(repo: &'r Repo) -> Result<WatchedInputs<'r>> {
        Ok(WatchedInputs(RefCell::new(WatchedState {
            watch: WorktreeWatch::start(repo)?,
            known: HashMap::new(),
            pending: FileChanges::default(),
            stat_cache: None,
        })))
    }

    /// The number of folders that are watched; `None` if the system needs no watch for each.
    #[must_use]
    pub fn count_folders(&self) -> Option<usize> {
        self.0.borrow().watch.count_folders()
    }

    /// Waits for changes, at most `longest` for the first one, and returns all since the last call.
    pub fn next_changes(&self, longest: Duration) -> Result<FileChanges> {
        let mut state = self.0.borrow_mut();
        let longest = if state.pending.is_empty() { longest } else { Duration::ZERO };
        state.read_changes(longest, QUIET)?;
        Ok(std::mem::take(&mut state.pending))
    }

    /// Writes the digests for later runs.
    pub fn save_stat_cache(&self, disk: &Disk<'_>) -> std::io::Result<()> {
        let mut state = self.0.borrow_mut();
        state.stat_cache.as_mut().map_or(Ok(()), |cache| cache.write(disk, &|_| true))
    }
}

impl KnownInputs for WatchedInputs<'_> {
    fn find_known(&self, spec: &InputSpec) -> Option<FoundFiles> {
        let mut state = self.0.borrow_mut();
        if state.read_changes(Duration::ZERO, Duration::ZERO).is_err() {
            state.known.clear();
        }
        state.known.get(spec).map(|known| known.found.clone())
    }

    fn keep_found(&self, spec: &InputSpec, globs: &FileGlobs, found: &FoundFiles) {
        let mut state = self.0.borrow_mut();
        let is_whole = found.missing.is_empty()
            && found.links.is_empty()
            && found.unmatched.is_empty()
            && found.unreadable.is_empty()
            && !found.is_truncated;
        let is_seen = |state: &WatchedState<'_>| {
            let folders = found.folders.keys().map(|folder| RepoPath::new(folder.clone()));
            folders.into_iter().all(|folder| state.watch.can_enter(&folder))
                && !found.files.keys().any(|path| state.watch.ignores.is_ignored(path, false))
        };
        if is_whole && is_seen(&state) {
            let known = KnownFiles { globs: globs.clone(), found: found.clone() };
            state.known.insert(spec.clone(), known);
        }
    }

    fn take_stat_cache(&self) -> Option<StatCache> {
        self.0.borrow_mut().stat_cache.take()
    }

    fn put_stat_cache(&self, cache: StatCache) {
        self.0.borrow_mut().stat_cache = Some(cache);
    }
}

impl WatchedState<'_> {
    fn read_changes(&mut self, longest: Duration, quiet: Duration) -> Result<()> {
        let changes = self.watch.next_changes(longest, quiet)?;
        let is_unclear = changes.has_lost || changes.has_folders;
        let root = self.watch.repo.root().to_path_buf();
        self.known.retain(|_, known| {
            !is_unclear && changes.paths.iter().all(|path| known.update(&root, path))
        });
        self.pending.has_lost |= changes.has_lost;
        self.pending.has_folders |= changes.has_folders;
        self.pending.paths.extend(changes.paths);
        Ok(())
    }
}

impl KnownFiles {
    /// Takes a change over. Returns `false` if the files have to be searched again.
    fn update(&mut self, root: &Path, path: &RepoPath) -> bool {
        let folder = path.parent().map_or(Vec::new(), |folder| folder.as_bytes().to_vec());
        if let Some(known) = self.found.folders.get_mut(&folder) {
            let Ok(meta) = std::fs::metadata(RepoPath::new(folder).to_disk_path(root)) else {
                return false;
            };
            *known = FileStat::from_metadata(&meta);
        } else if self.globs.matches_path(path) && !self.found.files.contains_key(path) {
            return false;
        }
        if !self.globs.matches_path(path) {
            return true;
        }
        match std::fs::symlink_metadata(path.to_disk_path(root)) {
            Ok(meta) if meta.is_file() => {
                self.found.files.insert(path.clone(), FileStat::from_metadata(&meta));
                true
            }
            // It may have come and gone.
            Err(_) => !self.found.files.contains_key(path),
            Ok(_) => false,
        }
    }
}
