//! What is known about files from before: the digest that a file had when it last looked so.
//!
//! A file whose size, times, inode and mode are the same is not read again. One that was changed at the
//! very moment it was read could be changed once more without looking different; such a look is not
//! remembered. The memory belongs to one folder, and is never more than a way to read less: one that
//! is damaged, or that a newer xtask has written, counts as none and is replaced.

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

/// The first line of the file, with its version. What follows is the digest of the rest, the number of
/// files and each of them: numbers of eight bytes, paths after their length.
const MAGIC: &[u8] = b"xtask.looks/1\n";

/// The largest file that is read: 256 MB, for a million files.
const MAX_CACHE_BYTES: u64 = 256_000_000;

/// How close to now a time is too close: the clocks of file systems go in steps of up to ten
/// milliseconds.
const CLOCK_STEP_NS: i64 = 20_000_000;

/// The same where a file system keeps whole seconds, or two of them.
const COARSE_CLOCK_STEP_NS: i64 = 2_000_000_000;

/// How often a file that changes under our eyes is read again.
const MAX_TRIES: usize = 3;

/// From how many files on reading is worth a second thread.
const MIN_FILES_FOR_THREADS: usize = 32;

/// From how many files on reading is worth a word to whoever waits.
const MIN_FILES_FOR_PROGRESS: usize = 1000;

/// One file as it was.
#[derive(Clone, Debug)]
struct CachedStat {
    stat: FileStat,
    digest: Digest,
}

/// The memory.
#[derive(Default)]
pub struct StatCache {
    file: PathBuf,
    files: HashMap<Vec<u8>, CachedStat>,
    is_changed: bool,
}

/// The moment before which a time is safely in the past, as a span before now.
fn clock_step(time_ns: i64) -> i64 {
    if time_ns % 1_000_000_000 == 0 { COARSE_CLOCK_STEP_NS } else { CLOCK_STEP_NS }
}

/// How long to wait until a change of this file would look different, in nanoseconds; nothing to wait
/// for is 0.
#[must_use]
pub fn settle_time_ns(stat: &FileStat, now_ns: i64) -> i64 {
    let age = now_ns.saturating_sub(stat.ctime_ns);
    let step = clock_step(stat.ctime_ns);
    // A time in the future is no danger: a change sets another one.
    if (-CLOCK_STEP_NS..step).contains(&age) { step - age.max(0) } else { 0 }
}

impl StatCache {
    /// Reads what is remembered. What is torn or foreign is forgotten.
    #[must_use]
    pub fn read_cache(file: PathBuf) -> StatCache {
        // A pipe in its place would be waited for.
        let is_fit = std::fs::metadata(&file)
            .is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_CACHE_BYTES);
        let bytes = if is_fit { std::fs::read(&file).unwrap_or_default() } else { Vec::new() };
        let mut looks = parse_stat_cache(&bytes).unwrap_or_default();
        looks.file = file;
        looks
    }

    /// The digest of a file that still looks as it did.
    #[must_use]
    pub fn known_digest(&self, path: &[u8], stat: &FileStat) -> Option<Digest> {
        self.files.get(path).filter(|look| look.stat == *stat).map(|look| look.digest)
    }

    /// Remembers how a file looked when it had this digest, if that can be told from later.
    fn remember_digest(&mut self, path: &[u8], stat: FileStat, digest: Digest, now_ns: i64) {
        if settle_time_ns(&stat, now_ns) > 0 {
            self.is_changed |= self.files.remove(path).is_some();
        } else {
            self.files.insert(path.to_vec(), CachedStat { stat, digest });
            self.is_changed = true;
        }
    }

    /// The digests of files: those that are known, and the others read. Each answer is the look that
    /// belongs to the digest. `name` is what a file is remembered by.
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

    /// Writes the memory, if it has learnt something. `keep` says which files are still of use.
    pub fn write(&mut self, disk: &Disk<'_>, keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        self.files.retain(|path, _| keep(path));
        disk.write_atomically(&self.file, &self.to_bytes())?;
        self.is_changed = false;
        Ok(())
    }

    /// Whether it has learnt something since it was read.
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

/// The memory that bytes hold; nothing where they are not all of it and nothing else.
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

/// What is left to be read.
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
    io::Error::other("it was not read")
}

/// Reads some of the files, side by side where there are many.
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

/// Reads a regular file: how it looked and what it held at one and the same time. What is something
/// else by now is an error, and is not waited for.
pub fn digest_file(path: &Path) -> io::Result<(FileStat, Digest)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).unwrap_or(0);
    for _ in 0..MAX_TRIES {
        let mut file = File::options().read(true).custom_flags(flags).open(path)?;
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("it is no longer a file"));
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
    Err(io::Error::other("it is being written all the time"))
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
