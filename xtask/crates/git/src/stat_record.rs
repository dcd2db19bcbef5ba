//! Stat record of clean files: size, times and inode of each managed file of HEAD, taken when the
//! file was last found equal to HEAD.
//!
//! With it, checking an unchanged worktree costs one `lstat` per managed file: neither the index
//! nor a tree is read, however large the repository is. The record only rules files out of a closer
//! check; it is never the reason to replace a file.
//!
//! The record counts only for the managed content and rules that it was made for
//! (`managed_fingerprint`), and for a single file only if the file is older than the record. A
//! damaged record, or one of a newer xtask, counts as missing and is replaced.
//!
//! ```text
//! xtask.clean/1 LF, digest of the rest (32 bytes), fingerprint (32 bytes), then per folder:
//!   length + "setup", number of files, size of the list, then per file:
//!     length + "a", size, mtime, ctime, inode, mode
//! ```

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode as OpenMode, OFlags, Stat};

use super::tree::join_path;
use super::{Id, PathScope, Repo};
use xtask_base::digest::{self, Digest};
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;

/// First line of the file, with the format version.
const MAGIC: &[u8] = b"xtask.clean/1\n";

/// Number of files from which a second thread pays off.
const THREAD_THRESHOLD: usize = 1000;

/// Stat data of a file: size, mtime and ctime in nanoseconds, inode, mode. All zeros match no file.
pub type StatData = [u64; 5];

/// Stat data of a file that is not known to be clean.
pub const NO_STAT: StatData = [0; 5];

/// Size of `StatData` in the file, in bytes.
const STAT_BYTES: usize = 40;

/// A record for the present content of HEAD.
pub struct StatRecord {
    bytes: Vec<u8>,
    /// The offset of each folder in `bytes`, with its number of files.
    folders: Vec<(usize, usize)>,
    /// Modification time of the record, in nanoseconds since the epoch.
    written_ns: u64,
}

impl Repo {
    fn stat_record_file(&self) -> PathBuf {
        self.state_folder().join("clean")
    }

    /// Computes a digest of the managed content of a tree and of `rules`: equal only for equal
    /// content. A folder that is managed completely contributes its tree id alone.
    pub fn managed_fingerprint(
        &self,
        tree: Id,
        scope: &dyn PathScope,
        rules: Digest,
    ) -> Result<Digest> {
        let mut parts: Vec<Vec<u8>> = vec![rules.to_vec()];
        let mut entries = Vec::new();
        self.visit_tree(
            tree,
            scope,
            &mut |folder, id| {
                let is_whole = !folder.is_empty() && scope.contains_folder(folder);
                if is_whole {
                    parts.push([folder, b"/\0", id.as_slice()].concat());
                }
                !is_whole
            },
            &mut |path, entry| {
                let mode = entry.mode.octal().as_bytes();
                entries.push([path.as_bytes(), b"\0", mode, entry.id.as_slice()].concat());
            },
        )?;
        parts.extend(entries);
        Ok(digest::hash_parts(parts.iter().map(Vec::as_slice)))
    }

    /// Reads the record; `None` if missing, damaged or made for other content.
    #[must_use]
    pub fn read_stat_record(&self, content: Digest) -> Option<StatRecord> {
        let path = self.stat_record_file();
        let written = fs::symlink_metadata(&path).ok()?;
        let bytes = fs::read(path).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (sum, rest) = rest.split_at_checked(32)?;
        let (of, list) = rest.split_at_checked(32)?;
        if of != content || sum != digest::hash_parts([of, list]) {
            return None;
        }
        let folders = parse_folders(list, bytes.len() - list.len())?;
        let written_ns = to_nanos(written.mtime(), written.mtime_nsec());
        Some(StatRecord { bytes, folders, written_ns })
    }

    /// Writes the record. `files` are all managed files of HEAD; a file that is not clean has
    /// `NO_STAT` and is always checked closely.
    pub fn write_stat_record(
        &self,
        disk: &Disk<'_>,
        content: Digest,
        files: &BTreeMap<RepoPath, StatData>,
    ) -> Result<()> {
        let mut by_folder: BTreeMap<Vec<u8>, Vec<(&[u8], StatData)>> = BTreeMap::new();
        for (path, look) in files {
            let folder = path.parent().map_or(Vec::new(), |folder| folder.as_bytes().to_vec());
            let start = if folder.is_empty() { 0 } else { folder.len() + 1 };
            let look = *look;
            by_folder.entry(folder).or_default().push((&path.as_bytes()[start..], look));
        }
        let mut list = Vec::new();
        for (folder, files) in by_folder {
            let mut inside = Vec::new();
            let count = files.len();
            for (name, look) in files {
                write_number(&mut inside, name.len());
                inside.extend(name);
                inside.extend(look.iter().flat_map(|number| number.to_le_bytes()));
            }
            write_number(&mut list, folder.len());
            list.extend(folder);
            write_number(&mut list, count);
            write_number(&mut list, inside.len());
            list.extend(inside);
        }
        let sum = digest::hash_parts([&content[..], &list]);
        let bytes = [MAGIC, &sum, &content, &list].concat();
        let path = self.stat_record_file();
        disk.write_atomically(&path, &bytes)
            .with_context(|| format!("cannot write the record `{}`", path.display()))
    }
}

impl StatRecord {
    /// Lists the files to check closely, in no order: changed, deleted, or too young for a verdict.
    pub fn find_suspects(&self, repo: &Repo) -> Result<Vec<RepoPath>> {
        let root = File::open(repo.root()).with_context(|| "cannot open the worktree")?;
        let files: usize = self.folders.iter().map(|(_, files)| files).sum();
        if files < THREAD_THRESHOLD {
            return Ok(self.find_suspects_in(&root, &self.folders));
        }
        // Two halves with about the same number of files.
        let mut seen = 0;
        let middle = self.folders.iter().position(|(_, count)| {
            seen += count;
            seen > files / 2
        });
        let (one, two) = self.folders.split_at(middle.unwrap_or(0));
        let mut found = std::thread::scope(|scope| {
            let other = scope.spawn(|| self.find_suspects_in(&root, two));
            let mut found = self.find_suspects_in(&root, one);
            // If the thread panicked, all of its files are suspects.
            found.extend(other.join().unwrap_or_else(|_| self.paths_in(two)));
            found
        });
        found.sort();
        Ok(found)
    }

    /// Returns the stat data of each file. A file too young for a verdict gets `NO_STAT`, or a
    /// later record would trust it.
    #[must_use]
    pub fn file_stats(&self) -> BTreeMap<RepoPath, StatData> {
        let mut looks = BTreeMap::new();
        for (at, _) in &self.folders {
            self.for_each_file(*at, |folder, name, look| {
                let is_old = look[2].max(look[1]) < self.written_ns;
                looks.insert(join_path(folder, name), if is_old { look } else { NO_STAT });
            });
        }
        looks
    }

    /// Lists all files of the record, sorted.
    #[must_use]
    pub fn paths(&self) -> Vec<RepoPath> {
        let mut paths = self.paths_in(&self.folders);
        paths.sort();
        paths
    }

    fn paths_in(&self, folders: &[(usize, usize)]) -> Vec<RepoPath> {
        let mut names = Vec::new();
        for (at, _) in folders {
            self.for_each_file(*at, |folder, name, _| names.push(join_path(folder, name)));
        }
        names
    }

    fn find_suspects_in(&self, root: &File, folders: &[(usize, usize)]) -> Vec<RepoPath> {
        let mut found = Vec::new();
        for (at, _) in folders {
            let mut opened: Option<Option<OwnedFd>> = None;
            self.for_each_file(*at, |folder, name, look| {
                let folder_fd = opened.get_or_insert_with(|| open_folder(root, folder));
                let is_same = folder_fd.as_ref().is_some_and(|fd| {
                    let name = OsStr::from_bytes(name);
                    rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
                        stat_data_from_stat(&stat) == look && look[2].max(look[1]) < self.written_ns
                    })
                });
                if !is_same {
                    found.push(join_path(folder, name));
                }
            });
        }
        found
    }

    /// Calls `file` with folder, name and stat data of each file in the folder at offset `at`.
    fn for_each_file(&self, at: usize, mut file: impl FnMut(&[u8], &[u8], StatData)) {
        let mut cursor = StatCursor { bytes: &self.bytes, at };
        let walked: Option<()> = (|| {
            let folder = cursor.read_text()?;
            let count = cursor.read_number()?;
            cursor.read_number()?;
            for _ in 0..count {
                let name = cursor.read_text()?;
                file(folder, name, cursor.read_stat()?);
            }
            Some(())
        })();
        assert!(walked.is_some(), "because its digest says that it is as it was written");
    }
}

/// Opens a folder component by component, with `O_NOFOLLOW`.
fn open_folder(root: &File, folder: &[u8]) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut parts = folder.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    let open = |at: BorrowedFd<'_>, part: &[u8]| {
        rustix::fs::openat(at, OsStr::from_bytes(part), flags, OpenMode::empty()).ok()
    };
    let mut at = open(root.as_fd(), parts.next().unwrap_or(b"."))?;
    for part in parts {
        at = open(at.as_fd(), part)?;
    }
    Some(at)
}

/// Returns the offset and number of files of each folder; `None` if the list is malformed.
fn parse_folders(list: &[u8], base: usize) -> Option<Vec<(usize, usize)>> {
    let mut cursor = StatCursor { bytes: list, at: 0 };
    let mut found = Vec::new();
    while cursor.at < list.len() {
        let start = cursor.at;
        cursor.read_text()?;
        let files = cursor.read_number()?;
        let length = cursor.read_number()?;
        cursor.read_bytes(length)?;
        found.push((base + start, files));
    }
    Some(found)
}

struct StatCursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> StatCursor<'a> {
    fn read_bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn read_number(&mut self) -> Option<usize> {
        let bytes = self.read_bytes(4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    }

    fn read_text(&mut self) -> Option<&'a [u8]> {
        let length = self.read_number()?;
        self.read_bytes(length)
    }

    fn read_stat(&mut self) -> Option<StatData> {
        let bytes = self.read_bytes(STAT_BYTES)?;
        let mut look = [0; 5];
        for (number, chunk) in look.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *number = u64::from_le_bytes(*chunk);
        }
        Some(look)
    }
}

fn write_number(list: &mut Vec<u8>, number: usize) {
    let number = u32::try_from(number).expect("because no path and no folder is that large");
    list.extend(number.to_le_bytes());
}

fn to_nanos(seconds: i64, nanos: i64) -> u64 {
    seconds.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(nanos.cast_unsigned())
}

#[must_use]
pub fn stat_data_from_metadata(meta: &fs::Metadata) -> StatData {
    [
        meta.len(),
        to_nanos(meta.mtime(), meta.mtime_nsec()),
        to_nanos(meta.ctime(), meta.ctime_nsec()),
        meta.ino(),
        u64::from(meta.mode()),
    ]
}

#[expect(
    clippy::unnecessary_cast,
    clippy::cast_possible_wrap,
    reason = "the types of these fields differ between systems"
)]
fn stat_data_from_stat(stat: &Stat) -> StatData {
    [
        stat.st_size as u64,
        to_nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        to_nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        stat.st_ino as u64,
        u64::from(stat.st_mode as u32),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_that_was_too_young_is_not_believed_by_a_later_record_either() {
        let (old, young): (StatData, StatData) = ([1, 10, 10, 1, 1], [1, 10, 20, 1, 1]);
        let mut inside = Vec::new();
        for (name, look) in [(b"a", old), (b"b", young)] {
            write_number(&mut inside, name.len());
            inside.extend(name);
            inside.extend(look.iter().flat_map(|number| number.to_le_bytes()));
        }
        let mut list = Vec::new();
        write_number(&mut list, 1);
        list.extend(b"d");
        write_number(&mut list, 2);
        write_number(&mut list, inside.len());
        list.extend(inside);
        let folders = parse_folders(&list, 0).unwrap();
        let record = StatRecord { bytes: list, folders, written_ns: 20 };
        let looks: Vec<StatData> = record.file_stats().into_values().collect();
        assert_eq!(looks, [old, NO_STAT]);
    }
}
