//! Replacement of a file in the worktree in one step, unless somebody has saved it since it was read.
//!
//! The new content is exchanged with the file under a name beside it. What was there is looked at only then, and put
//! back if it is not what was read: an editor that saves in between has the last word.
//!
//! ```text
//! a.py "x \n"  ->  .xtask-fix-4711-12 "x\n"  <-exchange->  a.py  ->  a.py "x\n"
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{FileStat, PathCache, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::path::RepoPath;
use xtask_base::processes::find_process;

/// The first letters of the name under which a new content waits, and then the replaced one.
const PREFIX: &str = ".xtask-fix-";

/// How often a file is exchanged at most, while somebody saves it again and again.
const MAX_EXCHANGES: usize = 100;

/// A regular file as it was read.
#[derive(Clone, Debug)]
pub struct KnownFile {
    pub stat: FileStat,
    pub content: Vec<u8>,
}

impl KnownFile {
    /// Whether it is the same file with the same content.
    fn is(&self, other: &KnownFile) -> bool {
        self.stat.is_same_file(&other.stat) && self.content == other.content
    }
}

/// Reads a regular file. `None` for anything else, and if it changes while it is read.
#[must_use]
pub fn read_regular_file(path: &Path) -> Option<KnownFile> {
    let stat = |path: &Path| {
        let meta = fs::symlink_metadata(path).ok()?;
        meta.is_file().then(|| FileStat::from_metadata(&meta))
    };
    let before = stat(path)?;
    let content = fs::read(path).ok()?;
    (stat(path) == Some(before)).then_some(KnownFile { stat: before, content })
}

/// Replaces the file at `path`, which was read as `known`, by one with the content `new` and the permissions `mode`.
/// Returns `false`, and leaves the file, if it is another one by now.
pub fn replace_unchanged(
    disk: &Disk<'_>,
    path: &Path,
    known: &KnownFile,
    new: &[u8],
    mode: u32,
) -> Result<bool> {
    let failed = || format!("cannot write `{}`", path.display());
    let name = format!("{PREFIX}{}-{}", std::process::id(), known.stat.inode);
    let beside = path.with_file_name(name);
    let created = disk.create_file(&beside, new, CreateMode::Exact(mode));
    // What is replaced may be on the disk, and nowhere else.
    if let Err(cause) = created.and_then(|()| disk.fsync(&beside)) {
        // A file that already existed at this name must not be removed.
        if cause.kind() != ErrorKind::AlreadyExists {
            drop(disk.remove_file(&beside));
        }
        return Err(Error::unable(failed()).with_cause(cause));
    }
    // What is about to be placed, and what is to come out.
    let (mut placed, mut expected) = (read_regular_file(&beside), Some(known.clone()));
    let lost = || format!("`{}` was saved, and is `{}` now", path.display(), beside.display());
    for round in 0..MAX_EXCHANGES {
        match disk.exchange(&beside, path) {
            Ok(()) => {}
            Err(cause) if round > 0 => return Err(Error::unable(lost()).with_cause(cause)),
            Err(cause) => {
                drop(disk.remove_file(&beside));
                // It was removed concurrently.
                let is_gone = cause.kind() == ErrorKind::NotFound;
                return if is_gone {
                    Ok(false)
                } else {
                    Err(Error::unable(failed()).with_cause(cause))
                };
            }
        }
        let found = read_regular_file(&beside);
        if found.as_ref().zip(expected.as_ref()).is_some_and(|(found, known)| found.is(known)) {
            // What cannot be removed is swept later.
            drop(disk.remove_file(&beside));
            return Ok(round == 0);
        }
        // Somebody has saved it since: that goes back, and what was placed comes out, unless it was saved again.
        (placed, expected) = (found, placed);
    }
    Err(Error::unable(lost()))
}

/// Returns the process ID in the name of a file that waits beside the one that it replaces. Where names cannot be
/// exchanged in one step there is a second one, `….spare`.
fn parse_writer(name: &str) -> Option<u32> {
    let (pid, inode) = name.strip_prefix(PREFIX)?.trim_end_matches(".spare").split_once('-')?;
    inode.parse::<u64>().ok()?;
    pid.parse().ok()
}

impl Repo {
    /// Sweeps what killed runs have left beside the files at `paths`. Content that git has is removed; any other may be
    /// the only copy, and is moved to the state folder. Returns where it was and where it is. What cannot be swept stays
    /// for the next time.
    pub fn sweep_replaced_files(
        &self,
        disk: &Disk<'_>,
        paths: &BTreeSet<RepoPath>,
    ) -> Vec<(PathBuf, PathBuf)> {
        let (mut seen, mut path_cache) = (BTreeSet::new(), PathCache::default());
        let mut moved = Vec::new();
        for path in paths {
            let folder = path.parent();
            if !seen.insert(folder.clone())
                || !matches!(path_cache.find_symlink_above(self.root(), path), Ok(None))
            {
                continue;
            }
            let on_disk = folder.map_or(self.root().to_owned(), |at| at.to_disk_path(self.root()));
            for entry in fs::read_dir(on_disk).into_iter().flatten().flatten() {
                let writer = entry.file_name().to_str().and_then(parse_writer);
                // Nothing of this process waits here: whose number it has is gone.
                let is_gone = |pid| pid == std::process::id() || find_process(pid).is_none();
                if writer.is_some_and(is_gone) {
                    moved.extend(self.sweep_file(disk, &entry.path()));
                }
            }
        }
        moved
    }

    fn sweep_file(&self, disk: &Disk<'_>, left: &Path) -> Option<(PathBuf, PathBuf)> {
        let path = left.strip_prefix(self.root()).ok()?;
        if self.read_index().ok()?.is_tracked(path.as_os_str().as_bytes()) {
            return None;
        }
        let content = read_regular_file(left)?.content;
        if self.has_object(self.blob_id(&content).ok()?) {
            disk.remove_file(left).ok()?;
            return None;
        }
        let folder = self.state_folder().join("put-aside");
        let name = left.file_name()?.to_str()?.trim_start_matches('.');
        let free = (1..).map(|time| folder.join(format!("{name}-{time}")));
        let place = free.into_iter().find(|place| place.symlink_metadata().is_err())?;
        disk.make_private_folders(&folder).ok()?;
        disk.rename_noreplace(left, &place).ok()?;
        Some((left.to_owned(), place))
    }
}
