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

use super::{Entry, Filters, Index, Mode, Repo};
use xtask_base::error::{Context, Error, Result};
use xtask_base::files::is_executable;
use xtask_base::halves::in_halves;
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
    pub fn of(meta: &Metadata) -> Self {
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
pub struct OnDisk {
    /// Its content as git would store it.
    pub entry: Entry,
    /// Its very bytes, before any filter, and its kind on this disk.
    pub raw: Entry,
    /// How it looked before it was read.
    pub look: FileStat,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing.
    Absent,
    /// A file or a symlink.
    Present(OnDisk),
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
enum Way {
    Folder,
    Missing,
    Symlink,
    Other,
}

/// Remembers the folders that were looked at, for one pass over many paths.
#[derive(Default)]
pub struct Ways {
    known: HashMap<RepoPath, Way>,
}

/// The way to a path is barred, or where it ends.
pub enum Reached {
    /// Something is there.
    There(Metadata),
    /// A folder on the way is a symlink, or not a folder; or there is nothing.
    Not(Work),
}

impl Ways {
    /// Looks at what is at a path, without following symlinks on the way.
    pub fn reach(&mut self, root: &Path, path: &RepoPath) -> Result<Reached> {
        if let Some(barred) = self.barred(root, path)? {
            return Ok(Reached::Not(barred));
        }
        match fs::symlink_metadata(path.on_disk(root)) {
            Ok(meta) => Ok(Reached::There(meta)),
            Err(cause) if is_nothing(&cause) => Ok(Reached::Not(Work::Absent)),
            Err(cause) => {
                Err(Error::unable(format!("`{path}` cannot be looked at")).because(cause))
            }
        }
    }

    /// The same for many paths, by two threads.
    pub fn reach_all(root: &Path, paths: &[&RepoPath]) -> Vec<Result<Reached>> {
        in_halves(paths, |half| {
            let mut ways = Ways::default();
            half.iter().map(|path| ways.reach(root, path)).collect()
        })
    }

    /// The symlink among the folders above a path, if one of them is one.
    pub fn symlink_above(&mut self, root: &Path, path: &RepoPath) -> Result<Option<RepoPath>> {
        Ok(match self.barred(root, path)? {
            Some(Work::BelowSymlink(link)) => Some(link),
            _ => None,
        })
    }

    fn barred(&mut self, root: &Path, path: &RepoPath) -> Result<Option<Work>> {
        let Some(parent) = path.parent() else { return Ok(None) };
        if self.known.get(&parent) == Some(&Way::Folder) {
            return Ok(None);
        }
        let mut above: Vec<RepoPath> = path.ancestors().collect();
        above.reverse();
        for folder in above {
            let way = match self.known.get(&folder) {
                Some(way) => *way,
                None => {
                    let way = look(root, &folder)?;
                    self.known.insert(folder.clone(), way);
                    way
                }
            };
            match way {
                Way::Folder => {}
                Way::Missing => return Ok(Some(Work::Absent)),
                Way::Symlink => return Ok(Some(Work::BelowSymlink(folder))),
                Way::Other => return Ok(Some(Work::BelowFile(folder))),
            }
        }
        Ok(None)
    }
}

fn look(root: &Path, folder: &RepoPath) -> Result<Way> {
    match fs::symlink_metadata(folder.on_disk(root)) {
        Ok(meta) if meta.is_dir() => Ok(Way::Folder),
        Ok(meta) if meta.is_symlink() => Ok(Way::Symlink),
        Ok(_) => Ok(Way::Other),
        Err(cause) if is_nothing(&cause) => Ok(Way::Missing),
        Err(cause) => Err(Error::unable(format!("`{folder}` cannot be looked at")).because(cause)),
    }
}

fn is_nothing(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

impl Repo {
    /// Reads what is at a path. `staged` stands in for what this file system cannot hold: the
    /// executable bit where `core.fileMode` is off, the symlink where `core.symlinks` is.
    pub fn work(
        &self,
        path: &RepoPath,
        staged: Option<Entry>,
        ways: &mut Ways,
        filters: &mut Filters<'_>,
        index: &Index,
    ) -> Result<Work> {
        let meta = match ways.reach(self.root(), path)? {
            Reached::Not(work) => return Ok(work),
            Reached::There(meta) => meta,
        };
        let on_disk = path.on_disk(self.root());
        let failed = || format!("`{path}` cannot be read");
        if meta.is_symlink() {
            let target = fs::read_link(&on_disk).unable(failed)?;
            let id = self.blob_id(target.as_os_str().as_bytes())?;
            let entry = Entry { mode: Mode::Symlink, id };
            return Ok(Work::Present(OnDisk { entry, raw: entry, look: FileStat::of(&meta) }));
        }
        if meta.is_dir() {
            return Ok(Work::Folder);
        }
        if !meta.is_file() {
            return Ok(Work::Special);
        }
        let content = fs::read(&on_disk).unable(failed)?;
        let disk_mode = if is_executable(&meta) { Mode::Executable } else { Mode::File };
        let raw = Entry { mode: disk_mode, id: self.blob_id(&content)? };
        let staged_mode = staged.map(|entry| entry.mode);
        if staged_mode == Some(Mode::Symlink) && !self.setting_is("core.symlinks", true) {
            let entry = Entry { mode: Mode::Symlink, id: raw.id };
            return Ok(Work::Present(OnDisk { entry, raw, look: FileStat::of(&meta) }));
        }
        let mode = if self.setting_is("core.fileMode", true) {
            disk_mode
        } else {
            staged_mode.filter(|mode| *mode == Mode::Executable).unwrap_or(Mode::File)
        };
        let cleaned = filters.clean(path, content, index)?;
        let id = self.blob_id(&cleaned)?;
        let entry = Entry { mode, id };
        Ok(Work::Present(OnDisk { entry, raw, look: FileStat::of(&meta) }))
    }
}

/// The very bytes of a file, or the target of a symlink; nothing where there is neither.
pub fn read_raw(on_disk: &Path) -> Result<Option<Vec<u8>>> {
    let failed = || format!("`{}` cannot be read", on_disk.display());
    let meta = match fs::symlink_metadata(on_disk) {
        Ok(meta) => meta,
        Err(cause) if is_nothing(&cause) => return Ok(None),
        Err(cause) => return Err(Error::unable(failed()).because(cause)),
    };
    if meta.is_symlink() {
        let target = fs::read_link(on_disk).unable(failed)?;
        return Ok(Some(target.as_os_str().as_bytes().to_vec()));
    }
    if !meta.is_file() {
        return Ok(None);
    }
    Ok(Some(fs::read(on_disk).unable(failed)?))
}
