//! Replacement of a file in the worktree in one step, unless somebody has saved it since it was read.
//!
//! The new content is exchanged with the file under a name beside it. What was there is looked at only then, and put
//! back if it is not what was read: an editor that saves in between has the last word.
//!
//! ```text
//! a.py "x \n"  ->  .xtask-fix-4711-12 "x\n"  <-exchange->  a.py  ->  a.py "x\n"
//! ```

use std::fs;
use std::path::Path;

use super::FileStat;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};

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
    let name = format!(".xtask-fix-{}-{}", std::process::id(), known.stat.inode);
    let beside = path.with_file_name(name);
    disk.remove_file(&beside).with_context(failed)?;
    disk.create_file(&beside, new, CreateMode::Exact(mode)).with_context(failed)?;
    // What was there before is beside it now.
    let is_known = || {
        read_regular_file(&beside)
            .is_some_and(|old| old.stat.is_same_file(&known.stat) && old.content == known.content)
    };
    let is_replaced = match disk.exchange(&beside, path) {
        Ok(()) if is_known() => true,
        Ok(()) => {
            disk.exchange(&beside, path).with_context(failed)?;
            false
        }
        // It was removed concurrently.
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => false,
        Err(cause) => {
            drop(disk.remove_file(&beside));
            return Err(Error::unable(failed()).with_cause(cause));
        }
    };
    disk.remove_file(&beside).with_context(failed)?;
    Ok(is_replaced)
}
