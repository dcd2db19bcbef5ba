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
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::path::RepoPath;
use xtask_base::processes::find_process;

/// The first letters of the name under which a new content waits, and then the replaced one.
const PREFIX: &str = ".xtask-fix-";

/// A regular file as it was read.
#[derive(Clone, Debug)]
pub struct KnownFile {
    pub stat: FileStat,
    pub content: Vec<u8>,
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
    // What was there before is beside it now.
    let is_known = || {
        read_regular_file(&beside)
            .is_some_and(|old| old.stat.is_same_file(&known.stat) && old.content == known.content)
    };
    let is_replaced = match disk.exchange(&beside, path) {
        Ok(()) if is_known() => true,
        Ok(()) => {
            let lost =
                || format!("what was saved as `{}` is `{}` now", path.display(), beside.display());
            disk.exchange(&beside, path).with_context(lost)?;
            false
        }
        // It was removed concurrently.
        Err(cause) if cause.kind() == ErrorKind::NotFound => false,
        Err(cause) => {
            drop(disk.remove_file(&beside));
            return Err(Error::unable(failed()).with_cause(cause));
        }
    };
    // What cannot be removed is swept later.
    drop(disk.remove_file(&beside));
    Ok(is_replaced)
}

/// Returns the process ID in the name of a file that waits beside the one that it replaces.
fn parse_writer(name: &str) -> Option<u32> {
    let (pid, inode) = name.strip_prefix(PREFIX)?.split_once('-')?;
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
