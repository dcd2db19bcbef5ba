//! Files as they are on disk.
//!
//! Looking follows no symlink: a path whose parent folder is one is reported as such, whatever lies
//! behind it.

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

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileStat {
    /// Its size in bytes.
    pub size: u64,
    /// When its content last changed, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// When it last changed in any way, in nanoseconds since the epoch.
    pub ctime_ns: i64,
    /// Its inode.
    pub inode: u64,
    /// Its type and permissions.
    pub mode: u32,
}

impl FileStat {
    /// Whether it is the same file with the same content, as far as that can be told from outside.
    /// The ctime does not count: it changes when a file is moved.
    #[must_use]
    pub fn is_same_file(&self, other: &FileStat) -> bool {
        FileStat { ctime_ns: other.ctime_ns, ..*self } == *other
    }

    /// From what the system says.
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
    /// Its content as git would store it.
    pub entry: TreeEntry,
    /// Its very bytes, before any filter, and its kind on this disk.
    pub raw: TreeEntry,
    /// How it looked before it was read.
    pub stat: FileStat,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorktreeItem {
    /// Nothing.
    Absent,
    /// A file or a symlink.
    Present(WorktreeFile),
    /// A folder.
    Folder,
    /// A socket, a device or a pipe.
    Special,
    /// It lies below a symlink: this one.
    BelowSymlink(RepoPath),
    /// It lies below something that is not a folder: this.
    BelowFile(RepoPath),
}

/// What a folder on the way to a path is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FolderKind {
    Folder,
    Missing,
    Symlink,
    Other,
}

/// Remembers the folders that were looked at, for one pass over many paths.
#[derive(Default)]
pub struct PathCache {
    folder_kinds: HashMap<RepoPath, FolderKind>,
}

/// The way to a path is barred, or where it ends.
pub enum PathLookup {
    /// Something is there.
    Found(Metadata),
    /// A folder on the way is a symlink, or not a folder; or there is nothing.
    NotFound(WorktreeItem),
}

impl PathCache {
    /// Looks at what is at a path, without following symlinks on the way.
    pub fn look_up_path(&mut self, root: &Path, path: &RepoPath) -> Result<PathLookup> {
        if let Some(barred) = self.find_obstacle(root, path)? {
            return Ok(PathLookup::NotFound(barred));
        }
        match fs::symlink_metadata(path.to_disk_path(root)) {
            Ok(meta) => Ok(PathLookup::Found(meta)),
            Err(cause) if is_not_found(&cause) => Ok(PathLookup::NotFound(WorktreeItem::Absent)),
            Err(cause) => {
                Err(Error::unable(format!("`{path}` cannot be looked at")).with_cause(cause))
            }
        }
    }

    /// The same for many paths, by two threads.
    pub fn look_up_paths(root: &Path, paths: &[&RepoPath]) -> Vec<Result<PathLookup>> {
        map_halves(paths, |half| {
            let mut ways = PathCache::default();
            half.iter().map(|path| ways.look_up_path(root, path)).collect()
        })
    }

    /// The symlink among the folders above a path, if one of them is one.
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
        Err(cause) => {
            Err(Error::unable(format!("`{folder}` cannot be looked at")).with_cause(cause))
        }
    }
}

fn is_not_found(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Repo {
    /// Reads what is at a path. `staged` stands in for what this file system cannot hold: the
    /// executable bit where `core.fileMode` is off, the symlink where `core.symlinks` is.
    pub fn read_worktree_item(
        &self,
        path: &RepoPath,
        staged: Option<TreeEntry>,
        ways: &mut PathCache,
        filters: &mut Filters<'_>,
        index: &Index,
    ) -> Result<WorktreeItem> {
        let meta = match ways.look_up_path(self.root(), path)? {
            PathLookup::NotFound(work) => return Ok(work),
            PathLookup::Found(meta) => meta,
        };
        let on_disk = path.to_disk_path(self.root());
        let failed = || format!("`{path}` cannot be read");
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

/// The very bytes of a file, or the target of a symlink; nothing where there is neither.
pub fn read_raw_file(on_disk: &Path) -> Result<Option<Vec<u8>>> {
    let failed = || format!("`{}` cannot be read", on_disk.display());
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
