//! Files of the worktree: their stat data, and their content as git would store it.
//!
//! No symlink is followed: a path below a symlink is reported as `BelowSymlink`, whatever the link
//! points to. For example, `a/b` with `a -> /tmp` is `BelowSymlink("a")`.

use std::collections::HashMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{FileMode, Filters, Index, Repo, TreeEntry};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::is_executable;
use xtask_base::parallel::map_halves;
use xtask_base::path::RepoPath;

/// Stat data of a file, to detect a change without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileStat {
    /// In bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Last change of content or metadata, in nanoseconds since the epoch.
    pub ctime_ns: i64,
    pub inode: u64,
    /// File type and permissions.
    pub mode: u32,
}

impl FileStat {
    /// Returns whether both belong to the same unchanged file, by stat data. `ctime_ns` is ignored:
    /// moving a file changes it.
    #[must_use]
    pub fn is_same_file(&self, other: &FileStat) -> bool {
        FileStat { ctime_ns: other.ctime_ns, ..*self } == *other
    }

    #[must_use]
    pub fn from_metadata(meta: &Metadata) -> Self {
        let nanos = |seconds: i64, nanos: i64| seconds.wrapping_mul(1_000_000_000) + nanos;
        FileStat {
            size: meta.len(),
            mtime_ns: nanos(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: nanos(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            mode: meta.mode(),
        }
    }
}

/// A file or symlink that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorktreeFile {
    /// Mode and content as git would store them.
    pub entry: TreeEntry,
    /// Mode and content on disk, before filters.
    pub raw: TreeEntry,
    /// The stat data before the file was read.
    pub stat: FileStat,
}

/// The state of a path in the worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorktreeItem {
    Absent,
    /// A file or symlink.
    Present(WorktreeFile),
    Folder,
    /// A socket, device or pipe.
    Special,
    /// A parent folder is this symlink.
    BelowSymlink(RepoPath),
    /// A parent folder is this file.
    BelowFile(RepoPath),
}

impl WorktreeItem {
    /// Returns the file or symlink, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&WorktreeFile> {
        match self {
            WorktreeItem::Present(file) => Some(file),
            _ => None,
        }
    }
}

/// The state of a parent folder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FolderKind {
    Folder,
    Missing,
    Symlink,
    Other,
}

/// Caches the parent folders of many paths.
#[derive(Default)]
pub struct PathCache {
    folder_kinds: HashMap<RepoPath, FolderKind>,
}

/// The result of `PathCache::look_up_path`.
pub enum PathLookup {
    Found(Metadata),
    /// Absent, or a parent folder is a symlink or no folder.
    NotFound(WorktreeItem),
}

impl PathCache {
    /// Looks up a path without following symlinks in its parent folders.
    pub fn look_up_path(&mut self, root: &Path, path: &RepoPath) -> Result<PathLookup> {
        if let Some(barred) = self.find_obstacle(root, path)? {
            return Ok(PathLookup::NotFound(barred));
        }
        match fs::symlink_metadata(path.to_disk_path(root)) {
            Ok(meta) => Ok(PathLookup::Found(meta)),
            Err(cause) if is_not_found(&cause) => Ok(PathLookup::NotFound(WorktreeItem::Absent)),
            Err(cause) => Err(Error::unable(format!("cannot stat `{path}`")).with_cause(cause)),
        }
    }

    /// Looks up many paths in two threads.
    pub fn look_up_paths(root: &Path, paths: &[&RepoPath]) -> Vec<Result<PathLookup>> {
        map_halves(paths, |half| {
            let mut path_cache = PathCache::default();
            half.iter().map(|path| path_cache.look_up_path(root, path)).collect()
        })
    }

    /// Returns the symlink among the parent folders of `path`.
    pub fn find_symlink_above(&mut self, root: &Path, path: &RepoPath) -> Result<Option<RepoPath>> {
        Ok(match self.find_obstacle(root, path)? {
            Some(WorktreeItem::BelowSymlink(link)) => Some(link),
            _ => None,
        })
    }

    fn find_obstacle(&mut self, root: &Path, path: &RepoPath) -> Result<Option<WorktreeItem>> {
        let Some(parent) = path.parent() else { return Ok(None) };
        if self.folder_kinds.get(&parent) == Some(&FolderKind::Folder) {
            return Ok(None);
        }
        let mut above: Vec<RepoPath> = path.ancestors().collect();
        above.reverse();
        for folder in above {
            let way = match self.folder_kinds.get(&folder) {
                Some(way) => *way,
                None => {
                    let way = inspect_folder(root, &folder)?;
                    self.folder_kinds.insert(folder.clone(), way);
                    way
                }
            };
            match way {
                FolderKind::Folder => {}
                FolderKind::Missing => return Ok(Some(WorktreeItem::Absent)),
                FolderKind::Symlink => return Ok(Some(WorktreeItem::BelowSymlink(folder))),
                FolderKind::Other => return Ok(Some(WorktreeItem::BelowFile(folder))),
            }
        }
        Ok(None)
    }
}

fn inspect_folder(root: &Path, folder: &RepoPath) -> Result<FolderKind> {
    match fs::symlink_metadata(folder.to_disk_path(root)) {
        Ok(meta) if meta.is_dir() => Ok(FolderKind::Folder),
        Ok(meta) if meta.is_symlink() => Ok(FolderKind::Symlink),
        Ok(_) => Ok(FolderKind::Other),
        Err(cause) if is_not_found(&cause) => Ok(FolderKind::Missing),
        Err(cause) => Err(Error::unable(format!("cannot stat `{folder}`")).with_cause(cause)),
    }
}

pub(super) fn is_not_found(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Repo {
    /// Reads the item at `path`. `staged` supplies properties that the file system cannot hold: the
    /// executable bit if `core.fileMode` is off, the symlink mode if `core.symlinks` is off.
    pub fn read_worktree_item(
        &self,
        path: &RepoPath,
        staged: Option<TreeEntry>,
        path_cache: &mut PathCache,
        filters: &mut Filters<'_>,
        index: &Index,
    ) -> Result<WorktreeItem> {
        let meta = match path_cache.look_up_path(self.root(), path)? {
            PathLookup::NotFound(work) => return Ok(work),
            PathLookup::Found(meta) => meta,
        };
        let on_disk = path.to_disk_path(self.root());
        let failed = || format!("cannot read `{path}`");
        if meta.is_symlink() {
            let target = fs::read_link(&on_disk).with_context(failed)?;
            let id = self.blob_id(target.as_os_str().as_bytes())?;
            let entry = TreeEntry { mode: FileMode::Symlink, id };
            return Ok(WorktreeItem::Present(WorktreeFile {
                entry,
                raw: entry,
                stat: FileStat::from_metadata(&meta),
            }));
        }
        if meta.is_dir() {
            return Ok(WorktreeItem::Folder);
        }
        if !meta.is_file() {
            return Ok(WorktreeItem::Special);
        }
        let content = fs::read(&on_disk).with_context(failed)?;
        let disk_mode = if is_executable(&meta) { FileMode::Executable } else { FileMode::File };
        let raw = TreeEntry { mode: disk_mode, id: self.blob_id(&content)? };
        let staged_mode = staged.map(|entry| entry.mode);
        if staged_mode == Some(FileMode::Symlink) && !self.config_bool("core.symlinks", true) {
            let entry = TreeEntry { mode: FileMode::Symlink, id: raw.id };
            return Ok(WorktreeItem::Present(WorktreeFile {
                entry,
                raw,
                stat: FileStat::from_metadata(&meta),
            }));
        }
        let mode = if self.config_bool("core.fileMode", true) {
            disk_mode
        } else {
            staged_mode.filter(|mode| *mode == FileMode::Executable).unwrap_or(FileMode::File)
        };
        let cleaned = filters.clean(path, content, index)?;
        let id = self.blob_id(&cleaned)?;
        let entry = TreeEntry { mode, id };
        Ok(WorktreeItem::Present(WorktreeFile { entry, raw, stat: FileStat::from_metadata(&meta) }))
    }
}

/// Reads the bytes of a file or the target of a symlink; `None` if absent or of another type.
pub fn read_raw_file(on_disk: &Path) -> Result<Option<Vec<u8>>> {
    let failed = || format!("cannot read `{}`", on_disk.display());
    let meta = match fs::symlink_metadata(on_disk) {
        Ok(meta) => meta,
        Err(cause) if is_not_found(&cause) => return Ok(None),
        Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
    };
    if meta.is_symlink() {
        let target = fs::read_link(on_disk).with_context(failed)?;
        return Ok(Some(target.as_os_str().as_bytes().to_vec()));
    }
    if !meta.is_file() {
        return Ok(None);
    }
    Ok(Some(fs::read(on_disk).with_context(failed)?))
}
