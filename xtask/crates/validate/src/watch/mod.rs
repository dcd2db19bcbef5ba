//! Changes of the worktree's files, as they happen.
//!
//! Folders that git ignores, and `.git`, are not watched, however many files they hold. On Linux a watch is needed for
//! each other folder, on macOS one for all.
//!
//! ```text
//! an editor saves src/a.py  ->  FileChanges { paths: {src/a.py}, is_complete: true }
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use xtask_base::deadline::Deadline;
use xtask_base::digest::{self, Digest};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_git::{IgnoreRules, IndexStamp, Repo};

#[cfg(target_os = "macos")]
mod fsevents;
#[cfg(target_os = "macos")]
use fsevents::EventSource;
#[cfg(not(target_os = "macos"))]
mod inotify;
mod inputs;
#[cfg(not(target_os = "macos"))]
use inotify::EventSource;

pub use inputs::{KnownInputs, WatchedInputs};

/// How long it has to be quiet before changes are reported: an editor saves in several steps.
const QUIET: Duration = Duration::from_millis(8);

/// The longest time for which changes are collected.
const LONGEST_BURST: Duration = Duration::from_millis(500);

/// The file whose rules decide what is watched.
const IGNORE_FILE: &[u8] = b".gitignore";

/// What has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileChanges {
    /// Files and folders that were written, made or removed.
    pub paths: BTreeSet<RepoPath>,
    /// Whether the system has lost some, so that anything may have changed.
    pub has_lost: bool,
    /// Whether folders came or went, or the rules of what is ignored have changed.
    pub has_folders: bool,
}

impl FileChanges {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty() && !self.has_lost && !self.has_folders
    }
}

/// What an event source reports.
#[derive(Debug, Default)]
struct RawChanges {
    paths: BTreeSet<RepoPath>,
    /// Folders that are new under their names, and have to be watched.
    new_folders: BTreeSet<RepoPath>,
    /// Whether a folder is gone from its place.
    has_lost_folder: bool,
    has_lost: bool,
}

/// The watch over a worktree.
struct WorktreeWatch<'r> {
    repo: &'r Repo,
    ignores: IgnoreRules<'r>,
    /// The index by which the rules were read, and the digest of the paths that it tracks: these are not ignored.
    index: (Option<IndexStamp>, Digest),
    source: EventSource,
}

impl<'r> WorktreeWatch<'r> {
    /// Begins to watch.
    fn start(repo: &'r Repo) -> Result<WorktreeWatch<'r>> {
        let source = EventSource::new(repo.root())?;
        let stamp = repo.index_stamp();
        let ignores = repo.read_ignore_rules()?;
        let index = (stamp, digest_tracked(&ignores));
        let mut watch = WorktreeWatch { repo, ignores, index, source };
        watch.watch_below(&RepoPath::new(""), &mut BTreeSet::new())?;
        Ok(watch)
    }

    /// The number of folders that are watched; `None` if the system needs no watch for each.
    fn count_folders(&self) -> Option<usize> {
        self.source.count_folders()
    }

    /// Waits for changes, at most `longest` for the first one, and collects those that follow within `quiet`.
    fn next_changes(&mut self, longest: Duration, quiet: Duration) -> Result<FileChanges> {
        let mut changes = FileChanges::default();
        let mut wait = longest;
        let burst = Deadline::after(longest + LONGEST_BURST);
        while burst.remaining().is_some() {
            let Some(raw) = self.source.read(wait)? else { break };
            changes.has_folders |= raw.has_lost_folder || !raw.new_folders.is_empty();
            self.add_changes(raw, &mut changes)?;
            if !changes.is_empty() {
                wait = quiet;
            }
        }
        if longest.is_zero() && self.index.0 != self.repo.index_stamp() {
            let tracked = self.index.1;
            self.read_rules()?;
            if tracked != self.index.1 {
                self.watch_below(&RepoPath::new(""), &mut BTreeSet::new())?;
                changes.has_folders = true;
            }
        }
        Ok(changes)
    }

    fn read_rules(&mut self) -> Result<()> {
        let stamp = self.repo.index_stamp();
        self.ignores = self.repo.read_ignore_rules()?;
        self.index = (stamp, digest_tracked(&self.ignores));
        Ok(())
    }

    fn read_rules_again(&mut self) -> Result<()> {
        self.read_rules()?;
        self.watch_below(&RepoPath::new(""), &mut BTreeSet::new())
    }

    fn add_changes(&mut self, raw: RawChanges, changes: &mut FileChanges) -> Result<()> {
        if raw.has_lost {
            changes.has_lost = true;
            self.read_rules_again()?;
        }
        let rules: Vec<&RepoPath> =
            raw.paths.iter().filter(|path| path.file_name() == IGNORE_FILE).collect();
        if !rules.is_empty() {
            self.read_rules_again()?;
            changes.has_folders = true;
            // Other files than before may belong to a check. Caches of tools often have a file that ignores itself.
            changes.has_lost |= rules.iter().any(|path| !self.ignores.is_ignored(path, false));
        }
        for folder in &raw.new_folders {
            if self.can_enter(folder) {
                // Files may have been made in it before it was watched.
                self.watch_below(folder, &mut changes.paths)?;
            }
        }
        let is_wanted = |path: &RepoPath| {
            path.components().all(|part| part != b".git")
                && !raw.new_folders.contains(path)
                && !self.ignores.is_ignored(path, false)
        };
        changes.paths.extend(raw.paths.iter().filter(|path| is_wanted(path)).cloned());
        Ok(())
    }

    fn can_enter(&self, folder: &RepoPath) -> bool {
        let is_gits = folder.components().any(|part| part == b".git");
        let holds_repo = || folder.to_disk_path(self.repo.root()).join(".git").exists();
        folder.as_bytes().is_empty()
            || !is_gits && !self.ignores.is_ignored(folder, true) && !holds_repo()
    }

    /// Watches a folder and those in it, and adds the files in them.
    fn watch_below(&mut self, folder: &RepoPath, files: &mut BTreeSet<RepoPath>) -> Result<()> {
        let mut open = vec![folder.clone()];
        while let Some(folder) = open.pop() {
            if !self.source.watch_folder(&folder)? {
                continue;
            }
            let Ok(entries) = std::fs::read_dir(folder.to_disk_path(self.repo.root())) else {
                // It is gone again, or may not be read; checks say so if they need it.
                continue;
            };
            for entry in entries.flatten() {
                let path = join(&folder, &entry.file_name());
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() && self.can_enter(&path) => open.push(path),
                    Ok(kind) if kind.is_dir() => {}
                    Ok(_) if !self.ignores.is_ignored(&path, false) => drop(files.insert(path)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

fn digest_tracked(ignores: &IgnoreRules<'_>) -> Digest {
    let tracked = ignores.list_tracked();
    digest::hash_parts(tracked.iter().map(RepoPath::as_bytes))
}

fn join(folder: &RepoPath, name: &std::ffi::OsStr) -> RepoPath {
    use std::os::unix::ffi::OsStrExt as _;
    let separator: &[u8] = if folder.as_bytes().is_empty() { b"" } else { b"/" };
    RepoPath::new([folder.as_bytes(), separator, name.as_bytes()].concat())
}

fn watch_error(what: &str, cause: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unable(format!("cannot watch {what}")).with_cause(cause)
}
