//! Digests of files from earlier runs, by path and stat data, so that unchanged files are not read again.
//!
//! A digest is reused only if size, times, inode and mode are equal. A file whose ctime is too recent could
//! change once more without a visible difference (as with git's racy index entries), so its digest is not
//! kept. The cache belongs to one folder. A damaged file, or one of a newer xtask, is discarded and
//! rewritten.
//!
//! ```text
//! "src/a.py" + FileStat { size: 7, mtime_ns, ctime_ns, inode, mode } -> SHA-256
//! ```

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use xtask_base::digest::{self, Digest};
use xtask_base::files::Disk;
use xtask_base::progress::{Progress, SilentProgress};
use xtask_git::FileStat;

/// The first line of the cache file, with its version. Then follow the SHA-256 of the rest, the number of
/// files and the files, in little-endian numbers of eight bytes; paths are prefixed by their length.
const MAGIC: &[u8] = b"xtask.looks/1\n";

/// The largest cache file that is read: 256 MB, for a million files.
const MAX_CACHE_BYTES: u64 = 256_000_000;

/// The age in nanoseconds below which a ctime is too recent: file system clocks advance in steps of up to 10
/// ms.
const CLOCK_STEP_NS: i64 = 20_000_000;

/// The same for file systems that store whole seconds, or multiples of two seconds.
const COARSE_CLOCK_STEP_NS: i64 = 2_000_000_000;

/// The number of attempts to read a file that changes while being read.
const MAX_TRIES: usize = 3;

/// The number of files from which reading uses several threads.
const MIN_FILES_FOR_THREADS: usize = 32;

/// The number of files from which reading shows progress.
const MIN_FILES_FOR_PROGRESS: usize = 1000;

/// The digest of a file, and its stat data at that time.
#[derive(Clone, Debug)]
struct CachedStat {
    stat: FileStat,
    digest: Digest,
}

#[derive(Default)]
pub struct StatCache {
    file: PathBuf,
    files: HashMap<Vec<u8>, CachedStat>,
    is_changed: bool,
}

/// Returns the step of the clock that set `time_ns`, in nanoseconds.
fn clock_step(time_ns: i64) -> i64 {
    if time_ns % 1_000_000_000 == 0 { COARSE_CLOCK_STEP_NS } else { CLOCK_STEP_NS }
}

/// Returns how long to wait until any change of this file will be visible in its stat data, in nanoseconds; 0
/// if no wait is needed.
#[must_use]
pub fn settle_time_ns(stat: &FileStat, now_ns: i64) -> i64 {
    let age = now_ns.saturating_sub(stat.ctime_ns);
    let step = clock_step(stat.ctime_ns);
    // A ctime in the future is harmless: a change sets a different one.
    if (-CLOCK_STEP_NS..step).contains(&age) { step - age.max(0) } else { 0 }
}

impl StatCache {
    /// Reads a cache file. A missing, truncated or unknown file gives an empty cache.
    #[must_use]
    pub fn read_cache(file: PathBuf) -> StatCache {
        // Reading a FIFO would block.
        let is_fit = std::fs::metadata(&file)
            .is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_CACHE_BYTES);
        let bytes = if is_fit { std::fs::read(&file).unwrap_or_default() } else { Vec::new() };
        let mut looks = parse_stat_cache(&bytes).unwrap_or_default();
        looks.file = file;
        looks
    }

    /// Returns the digest of the file at `path` if its stat data are unchanged.
    #[must_use]
    pub fn known_digest(&self, path: &[u8], stat: &FileStat) -> Option<Digest> {
        self.files.get(path).filter(|look| look.stat == *stat).map(|look| look.digest)
    }

    /// Stores the digest of a file, unless a later change of it could go unnoticed.
    fn remember_digest(&mut self, path: &[u8], stat: FileStat, digest: Digest, now_ns: i64) {
        if settle_time_ns(&stat, now_ns) > 0 {
            self.is_changed |= self.files.remove(path).is_some();
        } else {
            self.files.insert(path.to_vec(), CachedStat { stat, digest });
            self.is_changed = true;
        }
    }

    /// Returns the digests of `files`, reading those that are not cached. Each result holds the stat data
    /// that belong to the digest. Paths are relative to `root` and serve as the names in the cache.
    pub fn resolve_digests(
        &mut self,
        root: &Path,
        files: &[(&[u8], FileStat)],
        now_ns: &dyn Fn() -> i64,
        progress: &dyn Progress,
    ) -> Vec<io::Result<(FileStat, Digest)>> {
        let known: Vec<Option<Digest>> =
            files.iter().map(|(path, stat)| self.known_digest(path, stat)).collect();
        let unknown: Vec<usize> = (0..files.len()).filter(|at| known[*at].is_none()).collect();
        let before = now_ns();
        let is_long = unknown.len() >= MIN_FILES_FOR_PROGRESS;
        if is_long {
            progress.begin_task("reading inputs", Some(unknown.len() as u64));
        }
        let read =
            digest_all(root, files, &unknown, if is_long { progress } else { &SilentProgress });
        if is_long {
            progress.end_task();
        }
        let mut answers: Vec<io::Result<(FileStat, Digest)>> = files
            .iter()
            .zip(known)
            .map(|((_, stat), known)| known.map(|digest| (*stat, digest)).ok_or_else(unread_error))
            .collect();
        for (at, answer) in unknown.into_iter().zip(read) {
            if let Ok((stat, digest)) = &answer {
                self.remember_digest(files[at].0, *stat, *digest, before);
            }
            answers[at] = answer;
        }
        answers
    }

    /// Writes the cache file if the cache has changed, with only the paths for which `keep` returns `true`.
    pub fn write(&mut self, disk: &Disk<'_>, keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        self.files.retain(|path, _| keep(path));
        disk.write_atomically(&self.file, &self.to_bytes())?;
        self.is_changed = false;
        Ok(())
    }

    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut list = Vec::new();
        push_number(&mut list, self.files.len());
        let mut files: Vec<(&Vec<u8>, &CachedStat)> = self.files.iter().collect();
        files.sort_by(|one, two| one.0.cmp(two.0));
        for (path, look) in files {
            push_text(&mut list, path);
            push_stat(&mut list, &look.stat);
            list.extend(look.digest);
        }
        [MAGIC, &digest::hash_parts([&list[..]]), &list].concat()
    }
}

fn push_number(list: &mut Vec<u8>, number: usize) {
    list.extend((number as u64).to_le_bytes());
}

fn push_text(list: &mut Vec<u8>, text: &[u8]) {
    push_number(list, text.len());
    list.extend(text);
}

fn push_stat(list: &mut Vec<u8>, stat: &FileStat) {
    list.extend(stat.size.to_le_bytes());
    list.extend(stat.mtime_ns.to_le_bytes());
    list.extend(stat.ctime_ns.to_le_bytes());
    list.extend(stat.inode.to_le_bytes());
    list.extend(u64::from(stat.mode).to_le_bytes());
}

/// Parses a cache file. Returns `None` unless checksum and length are exact.
fn parse_stat_cache(bytes: &[u8]) -> Option<StatCache> {
    let (sum, list) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    if digest::hash_parts([list]) != *sum {
        return None;
    }
    let mut rest = ByteReader(list);
    let mut looks = StatCache::default();
    for _ in 0..rest.read_number()? {
        let path = rest.read_text()?.to_vec();
        let look = CachedStat { stat: rest.read_stat()?, digest: *rest.read_chunk::<32>()? };
        looks.files.insert(path, look);
    }
    rest.0.is_empty().then_some(looks)
}

/// The unread rest of a cache file.
struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn read_chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(chunk)
    }

    fn read_number(&mut self) -> Option<u64> {
        self.read_chunk::<8>().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn read_signed(&mut self) -> Option<i64> {
        self.read_chunk::<8>().map(|bytes| i64::from_le_bytes(*bytes))
    }

    fn read_text(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.read_number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(text)
    }

    fn read_stat(&mut self) -> Option<FileStat> {
        Some(FileStat {
            size: self.read_number()?,
            mtime_ns: self.read_signed()?,
            ctime_ns: self.read_signed()?,
            inode: self.read_number()?,
            mode: u32::try_from(self.read_number()?).ok()?,
        })
    }
}

fn unread_error() -> io::Error {
    io::Error::other("not read")
}

/// Reads the files at the indices `which`, in several threads if there are many.
fn digest_all(
    root: &Path,
    files: &[(&[u8], FileStat)],
    which: &[usize],
    progress: &dyn Progress,
) -> Vec<io::Result<(FileStat, Digest)>> {
    let read = |at: &usize| {
        let read = digest_file(&root.join(OsStr::from_bytes(files[*at].0)));
        progress.advance(1);
        read
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    if which.len() < MIN_FILES_FOR_THREADS || workers == 1 {
        return which.iter().map(read).collect();
    }
    let share = which.len().div_ceil(workers);
    std::thread::scope(|scope| {
        let parts: Vec<_> = which
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(read).collect::<Vec<_>>()))
            .collect();
        let joined = parts.into_iter().map(|part| part.join());
        joined.flat_map(|part| part.expect("because reading does not panic")).collect()
    })
}

/// Reads a regular file and returns its digest with the stat data that held throughout the read. Fails,
/// without blocking, if the path is no longer a regular file, or if the file kept changing for `MAX_TRIES`
/// attempts.
pub fn digest_file(path: &Path) -> io::Result<(FileStat, Digest)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).unwrap_or(0);
    for _ in 0..MAX_TRIES {
        let mut file = File::options().read(true).custom_flags(flags).open(path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("no longer a regular file"));
        }
        let mut sha = Sha256::new();
        let mut part = vec![0; 64 << 10];
        loop {
            let count = file.read(&mut part)?;
            if count == 0 {
                break;
            }
            sha.update(&part[..count]);
        }
        let stat = FileStat::from_metadata(&before);
        if FileStat::from_metadata(&file.metadata()?) == stat {
            return Ok((stat, sha.finalize().into()));
        }
    }
    Err(io::Error::other("it keeps changing while it is read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let mut looks = StatCache::default();
        let stat = FileStat { size: 7, mtime_ns: -3, ctime_ns: 9, inode: 11, mode: 0o100_644 };
        looks.files.insert(b"a\xff/b".to_vec(), CachedStat { stat, digest: [5; 32] });
        let bytes = looks.to_bytes();
        let back = parse_stat_cache(&bytes).unwrap();
        assert_eq!(back.known_digest(b"a\xff/b", &stat), Some([5; 32]));
        assert_eq!(back.known_digest(b"a\xff/b", &FileStat { inode: 12, ..stat }), None);
        for at in 0..bytes.len() {
            assert!(parse_stat_cache(&bytes[..at]).is_none(), "cut at {at}");
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            assert!(parse_stat_cache(&broken).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_file_is_unsettled_until_its_clock_has_ticked() {
        let at = |ctime_ns: i64| FileStat { ctime_ns, ..FileStat::default() };
        let now = 1_700_000_000_123_456_789;
        assert_eq!(settle_time_ns(&at(now - 5_000_000), now), 15_000_000);
        assert_eq!(settle_time_ns(&at(now - 25_000_000), now), 0);
        assert_eq!(settle_time_ns(&at(now + 3_600_000_000_000), now), 0, "a clock was set back");
        let whole = 1_700_000_000_000_000_000;
        assert_eq!(settle_time_ns(&at(whole), whole + 500_000_000), 1_500_000_000);
    }
}
