//! What is known about files from before: the digest that a file had when it last looked so.
//!
//! A file whose size, times, inode and mode are the same is not read again. One that was changed at the
//! very moment it was read could be changed once more without looking different; such a look is not
//! remembered. The memory belongs to one folder, and is never more than a way to read less.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::base::digest::{Digest, as_hex};
use crate::base::files::Disk;
use crate::base::record::{self, Found};
use crate::repo::FileStat;

/// The kind and version of the file.
const KIND: &str = "xtask.looks/1";

/// How close to now a time is too close: the clocks of file systems go in steps of up to ten
/// milliseconds.
const STEP_NS: i64 = 20_000_000;

/// The same where a file system keeps whole seconds, or two of them.
const COARSE_STEP_NS: i64 = 2_000_000_000;

/// How often a file that changes under our eyes is read again.
const TRIES: usize = 3;

/// From how many files on reading is worth a second thread.
const WORTH_A_THREAD: usize = 32;

/// The most versions of programs that are remembered.
const MOST_VERSIONS: usize = 500;

/// One file as it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Look {
    stat: FileStat,
    #[serde(with = "as_hex")]
    digest: Digest,
}

/// What is written down.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    files: Vec<(String, Look)>,
    versions: Vec<(String, FileStat, String)>,
}

/// The memory.
#[derive(Default)]
pub struct Looks {
    file: PathBuf,
    files: HashMap<Vec<u8>, Look>,
    versions: HashMap<String, (FileStat, String)>,
    is_changed: bool,
}

/// The moment before which a time is safely in the past, as a span before now.
fn step(time_ns: i64) -> i64 {
    if time_ns % 1_000_000_000 == 0 { COARSE_STEP_NS } else { STEP_NS }
}

/// How long to wait until a change of this file would look different, in nanoseconds; nothing to wait
/// for is 0.
#[must_use]
pub fn unsettled_for(stat: &FileStat, now_ns: i64) -> i64 {
    let age = now_ns.saturating_sub(stat.ctime_ns);
    let step = step(stat.ctime_ns);
    // A time in the future is no danger: a change sets another one.
    if (-STEP_NS..step).contains(&age) { step - age.max(0) } else { 0 }
}

impl Looks {
    /// Reads what is remembered. What is torn or foreign is forgotten.
    #[must_use]
    pub fn read(file: PathBuf) -> Looks {
        let kept = match record::read::<Kept>(&file, KIND) {
            Found::Whole(kept) => kept,
            Found::Nothing | Found::Broken(_) => Kept::default(),
        };
        let files = kept.files.into_iter().map(|(path, look)| (path.into_bytes(), look)).collect();
        let versions = kept.versions.into_iter().map(|(path, stat, text)| (path, (stat, text)));
        Looks { file, files, versions: versions.collect(), is_changed: false }
    }

    /// The digest of a file that still looks as it did.
    #[must_use]
    pub fn known(&self, path: &[u8], stat: &FileStat) -> Option<Digest> {
        self.files.get(path).filter(|look| look.stat == *stat).map(|look| look.digest)
    }

    /// Remembers how a file looked when it had this digest, if that can be told from later.
    fn remember(&mut self, path: &[u8], stat: FileStat, digest: Digest, now_ns: i64) {
        if unsettled_for(&stat, now_ns) > 0 {
            self.is_changed |= self.files.remove(path).is_some();
        } else {
            self.files.insert(path.to_vec(), Look { stat, digest });
            self.is_changed = true;
        }
    }

    /// The digests of files: those that are known, and the others read. Each answer is the look that
    /// belongs to the digest. `name` is what a file is remembered by.
    pub fn digests(
        &mut self,
        root: &Path,
        files: &[(&[u8], FileStat)],
        now_ns: &dyn Fn() -> i64,
    ) -> Vec<io::Result<(FileStat, Digest)>> {
        let known: Vec<Option<Digest>> =
            files.iter().map(|(path, stat)| self.known(path, stat)).collect();
        let unknown: Vec<usize> = (0..files.len()).filter(|at| known[*at].is_none()).collect();
        let before = now_ns();
        let read = read_all(root, files, &unknown);
        let mut answers: Vec<io::Result<(FileStat, Digest)>> = files
            .iter()
            .zip(known)
            .map(|((_, stat), known)| known.map(|digest| (*stat, digest)).ok_or_else(unread))
            .collect();
        for (at, answer) in unknown.into_iter().zip(read) {
            if let Ok((stat, digest)) = &answer {
                self.remember(files[at].0, *stat, *digest, before);
            }
            answers[at] = answer;
        }
        answers
    }

    /// What a program said of its version when it looked so.
    #[must_use]
    pub fn version(&self, path: &str, stat: &FileStat) -> Option<&str> {
        self.versions.get(path).filter(|(old, _)| old == stat).map(|(_, text)| text.as_str())
    }

    /// Remembers what a program said of its version.
    pub fn remember_version(&mut self, path: &str, stat: FileStat, text: &str, now_ns: i64) {
        if unsettled_for(&stat, now_ns) == 0 && self.versions.len() < MOST_VERSIONS {
            self.versions.insert(path.to_owned(), (stat, text.to_owned()));
            self.is_changed = true;
        }
    }

    /// Writes the memory, if it has learnt something. `keep` says which files are still of use.
    pub fn write(&mut self, disk: &Disk<'_>, keep: &dyn Fn(&[u8]) -> bool) -> io::Result<()> {
        if !self.is_changed {
            return Ok(());
        }
        // A name that is not UTF-8 is read every time.
        let text = |path: &[u8]| String::from_utf8(path.to_vec()).ok();
        let mut files: Vec<(String, Look)> = self
            .files
            .iter()
            .filter(|(path, _)| keep(path))
            .filter_map(|(path, look)| Some((text(path)?, look.clone())))
            .collect();
        files.sort_by(|one, two| one.0.cmp(&two.0));
        let versions = self.versions.iter();
        let mut versions: Vec<(String, FileStat, String)> =
            versions.map(|(path, (stat, text))| (path.clone(), *stat, text.clone())).collect();
        versions.sort_by(|one, two| one.0.cmp(&two.0));
        record::write(disk, &self.file, KIND, &Kept { files, versions })?;
        self.is_changed = false;
        Ok(())
    }
}

fn unread() -> io::Error {
    io::Error::other("it was not read")
}

/// Reads some of the files, side by side where there are many.
fn read_all(
    root: &Path,
    files: &[(&[u8], FileStat)],
    which: &[usize],
) -> Vec<io::Result<(FileStat, Digest)>> {
    let read = |at: &usize| read(&root.join(OsStr::from_bytes(files[*at].0)));
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    if which.len() < WORTH_A_THREAD || workers == 1 {
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
pub fn read(path: &Path) -> io::Result<(FileStat, Digest)> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let flags = i32::try_from(flags).unwrap_or(0);
    for _ in 0..TRIES {
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
        let stat = FileStat::of(&before);
        if FileStat::of(&file.metadata()?) == stat {
            return Ok((stat, sha.finalize().into()));
        }
    }
    Err(io::Error::other("it is being written all the time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_unsettled_until_its_clock_has_ticked() {
        let at = |ctime_ns: i64| FileStat { ctime_ns, ..FileStat::default() };
        let now = 1_700_000_000_123_456_789;
        assert_eq!(unsettled_for(&at(now - 5_000_000), now), 15_000_000);
        assert_eq!(unsettled_for(&at(now - 25_000_000), now), 0);
        assert_eq!(unsettled_for(&at(now + 3_600_000_000_000), now), 0, "a clock was set back");
        let whole = 1_700_000_000_000_000_000;
        assert_eq!(unsettled_for(&at(whole), whole + 500_000_000), 1_500_000_000);
    }
}
