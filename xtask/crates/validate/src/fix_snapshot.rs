//! The files below the `writes` of a fix, as they are at one moment, and copies of them.
//!
//! A path behind a symlink is refused, and so is more than can be copied in reasonable time. For example:
//!
//! ```text
//! writes = ["src"]  ->  FixSnapshot { files: [src/a.py: FileVersion { File, 0o644, sha256 }], folders: [src] }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::fix_backup::FixStore;
use xtask_base::digest::{self, Digest, as_hex};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::path::RepoPath;
use xtask_base::words::{format_size, pluralize};

/// The largest number and total size of the files in `writes`; more would take too long to copy.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 256_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SavedKind {
    File,
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileVersion {
    pub(super) thing: SavedKind,
    pub(super) mode: u32,
    /// The digest of the content, or of the link text.
    #[serde(with = "as_hex")]
    pub(super) digest: Digest,
}

impl FileVersion {
    /// The version of a FIFO, a socket or a device, which has no content.
    fn special() -> FileVersion {
        FileVersion { thing: SavedKind::Special, mode: 0, digest: Digest::default() }
    }
}

/// The files and folders below `writes`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FixSnapshot {
    pub(super) files: BTreeMap<RepoPath, FileVersion>,
    pub(super) folders: BTreeSet<Vec<u8>>,
}

impl FixStore<'_> {
    /// Scans everything below `writes`, and saves the files in `copies` if given.
    pub(super) fn take_snapshot(
        &self,
        writes: &[RepoPath],
        copies: Option<&Path>,
    ) -> Result<FixSnapshot> {
        let mut found = FixSnapshot::default();
        let mut bytes = 0;
        for path in writes {
            if path.to_disk_path(self.root).symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
                let what = format!("`{path}`, which `writes` lists, is a symlink");
                return Err(Error::unable(what).with_hint("list its target in `writes` instead"));
            }
        }
        let mut open: Vec<RepoPath> = writes.to_vec();
        while let Some(path) = open.pop() {
            // A path can be listed twice, or be inside a listed folder.
            if found.files.contains_key(&path) || found.folders.contains(path.as_bytes()) {
                continue;
            }
            let failed = || format!("cannot read `{path}`, which the fix may write");
            if has_symlink_above(self.root, &path) {
                return Err(Error::unable(failed()).with_detail("it is behind a symlink"));
            }
            let on_disk = path.to_disk_path(self.root);
            let meta = match fs::symlink_metadata(&on_disk) {
                Ok(meta) => meta,
                Err(cause) if is_not_found(&cause) => continue,
                Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
            };
            if meta.is_dir() {
                found.folders.insert(path.as_bytes().to_vec());
                for entry in on_disk.read_dir().with_context(failed)? {
                    let name = entry.with_context(failed)?.file_name();
                    open.push(RepoPath::new([path.as_bytes(), b"/", name.as_bytes()].concat()));
                }
            } else if meta.is_file() || meta.is_symlink() {
                bytes += meta.len();
                if found.files.len() >= MAX_FILES || bytes > MAX_BYTES {
                    return Err(Error::unable(format!(
                        "`writes` covers more than can be saved ({}, {})",
                        pluralize(MAX_FILES, "file"),
                        format_size(MAX_BYTES)
                    ))
                    .with_hint("list less in `writes`, or run the command manually"));
                }
                let Some((kept, content)) = read_file_version(&on_disk).with_context(failed)?
                else {
                    continue;
                };
                if let Some(copies) = copies {
                    self.save_copy(copies, &path, &content)?;
                }
                found.files.insert(path, kept);
            } else {
                found.files.insert(path, FileVersion::special());
            }
        }
        Ok(found)
    }

    pub(super) fn save_copy(&self, folder: &Path, path: &RepoPath, content: &[u8]) -> Result<()> {
        let copy = folder.join(copy_name(path));
        let written = self.disk.create_file(&copy, content, CreateMode::Plain);
        written
            .and_then(|()| self.disk.fsync(&copy))
            .with_context(|| format!("cannot save `{path}` as `{}`", copy.display()))
    }
}

pub(super) fn is_not_found(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

pub(super) fn copy_name(path: &RepoPath) -> String {
    digest::to_hex(&digest::hash_parts([path.as_bytes()]))
}

pub(super) fn create_private_folder(disk: &Disk<'_>, folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    disk.check_gate("make a private folder")?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

pub(super) fn has_symlink_above(root: &Path, path: &RepoPath) -> bool {
    path.ancestors().any(|above| {
        above.to_disk_path(root).symlink_metadata().is_ok_and(|meta| meta.is_symlink())
    })
}

/// Reads the file at `path`. Returns `None` if it is missing or a folder.
pub(super) fn read_file_version(path: &Path) -> io::Result<Option<(FileVersion, Vec<u8>)>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(None),
        Ok(meta) => meta,
        Err(cause) if is_not_found(&cause) => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let (thing, content) = if meta.is_symlink() {
        (SavedKind::Link, fs::read_link(path)?.into_os_string().into_vec())
    } else if meta.is_file() {
        (SavedKind::File, fs::read(path)?)
    } else {
        return Ok(Some((FileVersion::special(), Vec::new())));
    };
    let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
    let kept = FileVersion { thing, mode, digest: digest::hash_parts([&content[..]]) };
    Ok(Some((kept, content)))
}
