//! Logs of services: appended by `log_writer`, limited in size, and read with timestamps.
//!
//! `log_rotator` only watches the length of the file: it records the time of each growth, which dates
//! the lines, and moves excess data into a separate piece. Guarantee: that loses no data, because
//! the moved part is freed inside the file (a hole), while the writer goes on appending. An offset in
//! a log therefore stays valid; the file is as long as all that was ever written, and occupies only
//! the space of the part that is kept.
//!
//! ```text
//! api.log (length 5000, hole up to 4000), api.log.2000-4000 (full piece), api.times, api.runs
//! ```

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xtask_base::files::{Disk, FileId};
use xtask_base::words::format_size;

/// Number of bytes read at once.
pub(super) const READ_CHUNK: usize = 256 << 10;

/// Maximum length of a line, in bytes: a longer one is shown in parts, each as a line. The same as
/// in Docker.
const MAX_LINE_BYTES: usize = 16 << 10;

/// Maximum size of the list of runs, in bytes: about a thousand runs.
const MAX_RUNS_BYTES: u64 = 24 << 10;

/// Suffix of the names of pipes.
const PIPE: &str = ".pipe";

/// Log of one service in a folder of logs.
#[derive(Clone, Debug)]
pub struct ServiceLog {
    pub(super) folder: PathBuf,
    name: String,
}

/// Line with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Offset in the log, in bytes.
    pub at: u64,
    /// Milliseconds since the Unix epoch; 0 if unknown.
    pub at_ms: i64,
    /// Text without the line ending.
    pub text: String,
}

/// Start of a process of the service, as a position in its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRun {
    /// Length of the log at the start, in bytes.
    pub at: u64,
    /// Time of the start, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Whether the supervisor restarted it after a failure.
    pub is_auto_restart: bool,
}

impl fmt::Display for LogRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} {} {}",
            self.at,
            self.at_ms,
            if self.is_auto_restart { "again" } else { "new" }
        )
    }
}

/// Range of bytes of a log, and the file that holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogPiece {
    start: u64,
    end: u64,
    path: PathBuf,
    /// Offset of `start` in the file.
    at: u64,
}

impl ServiceLog {
    /// Returns the log of a service; creates no file.
    #[must_use]
    pub fn new(folder: &Path, name: &str) -> ServiceLog {
        ServiceLog { folder: folder.to_path_buf(), name: name.to_owned() }
    }

    /// Returns the name of the service.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the path of the log file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    /// Returns the path of the pipe that feeds the log.
    #[must_use]
    pub fn pipe_path(&self) -> PathBuf {
        self.folder.join(format!("{}{PIPE}", self.name))
    }

    /// Returns the files that processes of the service write to: the pipe, and the log itself.
    #[must_use]
    pub fn file_ids(&self) -> Vec<FileId> {
        [self.pipe_path(), self.path()].iter().filter_map(|path| FileId::at(path)).collect()
    }

    /// Returns whether the log file exists.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.path().exists()
    }

    fn runs_path(&self) -> PathBuf {
        self.folder.join(format!("{}.runs", self.name))
    }

    pub(super) fn timestamps_path(&self) -> PathBuf {
        self.folder.join(format!("{}.times", self.name))
    }

    /// Returns the names of the services that have a log in a folder.
    #[must_use]
    pub fn list_names(folder: &Path) -> Vec<String> {
        list_names_with_suffix(folder, ".log")
    }

    /// Returns the names of the services that have a pipe in a folder.
    #[must_use]
    pub fn list_pipe_names(folder: &Path) -> Vec<String> {
        list_names_with_suffix(folder, PIPE)
    }

    /// Opens the log for appending, and returns its length as well.
    pub fn open_append(&self) -> io::Result<(File, u64)> {
        std::fs::create_dir_all(&self.folder)?;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(self.path())?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }

    /// Opens the log for appending without creating its folder: a log that was removed with its worktree
    /// is not recreated.
    pub fn reopen_append(&self) -> io::Result<File> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(self.path())
    }

    /// Records that a process of the service starts. `is_again` marks a restart by the supervisor after
    /// a failure.
    pub fn record_run(&self, disk: &Disk<'_>, at_ms: i64, is_again: bool) -> io::Result<()> {
        let run = LogRun { at: self.length(), at_ms, is_auto_restart: is_again };
        let path = self.runs_path();
        if std::fs::metadata(&path).is_ok_and(|meta| meta.len() > MAX_RUNS_BYTES) {
            let runs = self.read_runs();
            let kept: String = runs[runs.len() / 2..].iter().map(LogRun::to_string).collect();
            disk.write_atomically_unsynced(&path, kept.as_bytes())?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        file.write_all(run.to_string().as_bytes())
    }

    /// Returns the recorded starts of processes, in order.
    #[must_use]
    pub fn read_runs(&self) -> Vec<LogRun> {
        let text = std::fs::read_to_string(self.runs_path()).unwrap_or_default();
        let length = self.length();
        let runs = text.lines().filter_map(|line| {
            let mut words = line.split(' ');
            let (at, at_ms) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(LogRun { at, at_ms, is_auto_restart: words.next()? == "again" })
        });
        // The log may have been emptied manually.
        runs.filter(|run| run.at <= length).collect()
    }

    /// Returns the number of bytes that were ever written.
    #[must_use]
    pub fn length(&self) -> u64 {
        std::fs::metadata(self.path()).map_or(0, |meta| meta.len())
    }

    /// Appends a line of our own. Failures are ignored.
    pub fn append_line(&self, text: &str) {
        if let Ok((mut file, _)) = self.open_append() {
            drop(writeln!(file, "{text}"));
        }
    }

    /// Removes the log with its pieces, times, runs and pipe.
    pub fn remove_files(&self, disk: &Disk<'_>) -> io::Result<()> {
        for (_, _, path) in self.list_full_pieces() {
            disk.remove_file(&path)?;
        }
        disk.remove_file(&self.timestamps_path())?;
        disk.remove_file(&self.runs_path())?;
        disk.remove_file(&self.pipe_path())?;
        disk.remove_file(&self.path())
    }

    /// Returns the full pieces, oldest first, as start, end and path.
    pub(super) fn list_full_pieces(&self) -> Vec<(u64, u64, PathBuf)> {
        let prefix = format!("{}.log.", self.name);
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let pieces = entries.filter_map(|entry| {
            let name = entry.file_name();
            let (start, end) = name.to_str()?.strip_prefix(&prefix)?.split_once('-')?;
            Some((start.parse().ok()?, end.parse().ok()?, entry.path()))
        });
        let mut pieces: Vec<(u64, u64, PathBuf)> = pieces.collect();
        pieces.sort();
        pieces
    }

    /// Returns all kept pieces, in order and without overlaps.
    fn list_pieces(&self) -> Vec<LogPiece> {
        let mut pieces: Vec<LogPiece> = Vec::new();
        for (start, end, path) in self.list_full_pieces() {
            pieces.push(LogPiece { start, end, path, at: 0 });
        }
        let start = pieces.last().map_or(0, |piece| piece.end);
        let end = self.length();
        if end > start {
            pieces.push(LogPiece { start, end, path: self.path(), at: start });
        }
        pieces
    }

    /// Reads the bytes from `from` to `to`, as far as they are kept: as contiguous ranges, each with
    /// its start.
    pub(super) fn read_range(&self, from: u64, to: u64) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut stretches: Vec<(u64, Vec<u8>)> = Vec::new();
        for piece in self.list_pieces() {
            let (start, end) = (piece.start.max(from), piece.end.min(to));
            if start >= end {
                continue;
            }
            let follows = |(begin, bytes): &(u64, Vec<u8>)| begin + bytes.len() as u64 == start;
            if !stretches.last().is_some_and(follows) {
                stretches.push((start, Vec::new()));
            }
            let mut file = File::open(&piece.path)?;
            file.seek(SeekFrom::Start(piece.at + (start - piece.start)))?;
            if let Some((_, bytes)) = stretches.last_mut() {
                file.take(end - start).read_to_end(bytes)?;
            }
        }
        Ok(stretches)
    }

    /// Returns the start of the last `count` lines before `upto`. A line over `MAX_LINE_BYTES` counts
    /// as several, so the number of lines bounds the number of bytes read.
    fn find_tail_start(&self, count: usize, from: u64, upto: u64) -> io::Result<u64> {
        let first = self.list_pieces().first().map_or(0, |piece| piece.start).max(from);
        let (mut at, mut ends, mut length) = (upto, 0, 0);
        while at > first {
            let start = at.saturating_sub(READ_CHUNK as u64).max(first);
            for (begin, bytes) in self.read_range(start, at)?.iter().rev() {
                for (index, byte) in bytes.iter().enumerate().rev() {
                    length += 1;
                    let here = begin + index as u64;
                    let is_end = *byte == b'\n' && here + 1 != upto;
                    if is_end || length > MAX_LINE_BYTES {
                        (ends, length) = (ends + 1, 0);
                    }
                    if ends == count {
                        return Ok(here + 1);
                    }
                }
            }
            at = start;
        }
        Ok(first)
    }

    /// Reads the last `count` lines from `from` to `upto`.
    pub fn read_last_lines(&self, count: usize, from: u64, upto: u64) -> io::Result<Vec<LogLine>> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let from = self.find_tail_start(count, from, upto)?.max(from);
        let mut lines = self.read_lines(from, upto)?;
        Ok(lines.split_off(lines.len().saturating_sub(count)))
    }

    /// Reads the lines from `from` to `to`. A text without a line ending, at the end or before a gap,
    /// counts as a line.
    pub fn read_lines(&self, from: u64, to: u64) -> io::Result<Vec<LogLine>> {
        let marks = self.read_timestamps();
        let modified_ms = std::cell::LazyCell::new(|| self.modified_ms());
        let mut lines = Vec::new();
        let mut expected = from;
        for (mut at, bytes) in self.read_range(from, to)? {
            if at > expected && expected > 0 {
                let at_ms = lines.last().map_or(0, |line: &LogLine| line.at_ms);
                let text = format!("[… {} left out …]", format_size(at - expected));
                lines.push(LogLine { at, at_ms, text });
            }
            expected = at + bytes.len() as u64;
            for line in bytes.split_inclusive(|byte| *byte == b'\n').flat_map(split_long_line) {
                let begin = at;
                at += line.len() as u64;
                // The first timestamp after the line was written dates it.
                let mark = marks.partition_point(|(length, _)| *length < at);
                let at_ms = marks.get(mark).map_or_else(|| *modified_ms, |(_, time)| *time);
                let line = line.strip_suffix(b"\n").unwrap_or(line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                let text = String::from_utf8_lossy(line).into_owned();
                lines.push(LogLine { at: begin, at_ms, text });
            }
        }
        Ok(lines)
    }

    /// Reads the complete lines from `from` to `to`, up to a limit, and returns the start of the next
    /// line as well. A line over `MAX_LINE_BYTES` counts as complete.
    pub fn read_whole_lines(&self, from: u64, to: u64) -> io::Result<(Vec<LogLine>, u64)> {
        let part = to.min(from + (4 * READ_CHUNK) as u64);
        let stretches = self.read_range(from, part)?;
        let Some((begin, bytes)) = stretches.last() else {
            return Ok((Vec::new(), part.max(from)));
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // The last part of an incomplete line is left for the next call.
        let parts: Vec<usize> = split_long_line(&bytes[whole..]).map(<[u8]>::len).collect();
        let ended: usize = parts.split_last().map_or(0, |(_, before)| before.iter().sum());
        let next = begin + (whole + ended) as u64;
        Ok((self.read_lines(from, next)?, next))
    }

    /// Returns the modification time, in milliseconds since the Unix epoch.
    fn modified_ms(&self) -> i64 {
        std::fs::metadata(self.path()).map_or(0, |meta| to_modified_ms(&meta))
    }

    /// Returns the recorded lengths with their times, in order.
    pub(super) fn read_timestamps(&self) -> Vec<(u64, i64)> {
        let text = std::fs::read_to_string(self.timestamps_path()).unwrap_or_default();
        let marks = text.lines().filter_map(|line| {
            let (length, time) = line.split_once(' ')?;
            Some((length.parse().ok()?, time.parse().ok()?))
        });
        let mut marks: Vec<(u64, i64)> = marks.collect();
        // Entries that a crash has torn are left out.
        marks.sort_unstable();
        marks
    }
}

/// Splits a line over `MAX_LINE_BYTES` into parts. No part ends within a UTF-8 character.
fn split_long_line(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let mut end = rest.len();
        // The line ending stays with the last part.
        if end > MAX_LINE_BYTES + 2 {
            end = MAX_LINE_BYTES;
            let is_within = |end: usize| rest[end] & 0b1100_0000 == 0b1000_0000;
            end -= (0..4).find(|back| !is_within(end - back)).unwrap_or(0);
        }
        let (part, more) = rest.split_at(end);
        rest = more;
        (!part.is_empty()).then_some(part)
    })
}

fn list_names_with_suffix(folder: &Path, ending: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(ending)?.to_owned()));
    let mut names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    names.sort();
    names
}

pub(super) fn to_modified_ms(meta: &std::fs::Metadata) -> i64 {
    meta.mtime() * 1000 + meta.mtime_nsec() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_rotator::LogRotator;
    use xtask_config::LogConfig;

    fn scene(name: &str) -> (PathBuf, ServiceLog) {
        let folder = std::env::temp_dir().join(format!("xtask-logs-{}-{name}", std::process::id()));
        Disk::real().remove_folder(&folder).unwrap();
        let log = ServiceLog::new(&folder, "api");
        (folder, log)
    }

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn no_byte_is_lost_while_a_log_is_moved_under_its_writer() {
        let (folder, log) = scene("turn");
        let (mut file, _) = log.open_append().unwrap();
        let limits = LogConfig { size: 20_000, keep: 1000 };
        let mut rotator = LogRotator::new(log.clone(), limits);
        let (tell, hear) = std::sync::mpsc::channel::<()>();
        let writer = std::thread::spawn(move || {
            for number in 0..20_000 {
                writeln!(file, "line {number}").unwrap();
            }
            drop(tell);
        });
        loop {
            rotator.poll(&Disk::real()).unwrap();
            if hear.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                break;
            }
        }
        writer.join().unwrap();
        rotator.poll(&Disk::real()).unwrap();
        let lines = log.read_lines(0, log.length()).unwrap();
        if log.list_full_pieces().is_empty() {
            assert!(!rotator.can_free, "it was moved, or cannot be");
        }
        // A flood between two looks may leave out what would not be kept. A line says so, and the one before
        // it may be cut off.
        let is_gap = |line: &LogLine| line.text.ends_with(" left out …]");
        let is_cut = |at: usize| lines.get(at + 1).is_some_and(is_gap);
        let whole = lines.iter().enumerate().filter(|(at, line)| !is_gap(line) && !is_cut(*at));
        let numbers: Vec<u32> = whole
            .map(|(_, line)| line.text.strip_prefix("line ").unwrap().parse().unwrap())
            .collect();
        assert!(numbers.windows(2).all(|two| two[0] < two[1]), "in order, and none twice");
        assert_eq!(numbers.last(), Some(&19_999));
        let kept = std::fs::metadata(log.path()).unwrap();
        assert!(kept.blocks() * 512 < kept.len() || !rotator.can_free, "the file is freed");
        Disk::real().remove_folder(&folder).unwrap();
    }

    #[test]
    fn lines_have_the_time_at_which_they_were_seen() {
        let (folder, log) = scene("times");
        let (mut file, _) = log.open_append().unwrap();
        let mut rotator = LogRotator::new(log.clone(), LogConfig { size: 1 << 20, keep: 3 });
        write!(file, "one\ntw").unwrap();
        assert!(rotator.poll(&Disk::real()).unwrap());
        assert!(!rotator.poll(&Disk::real()).unwrap(), "nothing is new");
        std::thread::sleep(std::time::Duration::from_millis(30));
        write!(file, "o\r\nthree").unwrap();
        rotator.poll(&Disk::real()).unwrap();
        let lines = log.read_lines(0, log.length()).unwrap();
        assert_eq!(texts(&lines), ["one", "two", "three"]);
        let (whole, next) = log.read_whole_lines(0, log.length()).unwrap();
        assert_eq!((texts(&whole), next), (vec!["one", "two"], log.length() - 5));
        assert!(lines[0].at_ms > 0 && lines[0].at_ms < lines[1].at_ms);
        assert_eq!(lines[1].at_ms, lines[2].at_ms);
        Disk::real().remove_folder(&folder).unwrap();
    }

    #[test]
    fn the_last_lines_are_found_over_pieces() {
        let (folder, log) = scene("tail");
        let (mut file, _) = log.open_append().unwrap();
        let mut rotator = LogRotator::new(log.clone(), LogConfig { size: 50, keep: 2 });
        for number in 0..100 {
            writeln!(file, "line {number}").unwrap();
            rotator.poll(&Disk::real()).unwrap();
        }
        let upto = log.length();
        assert_eq!(
            texts(&log.read_last_lines(3, 0, upto).unwrap()),
            ["line 97", "line 98", "line 99"]
        );
        assert!(log.read_last_lines(0, 0, upto).unwrap().is_empty());
        if rotator.can_free {
            assert_eq!(log.list_full_pieces().len(), 2);
            let all = log.read_last_lines(1000, 0, upto).unwrap();
            assert!(all.len() < 30 && all.len() > 10, "{}", all.len());
            let longest = log.read_timestamps().len();
            assert!(longest < 30, "{longest} times are kept");
        }
        // Emptied by hand, it goes on.
        file.set_len(0).unwrap();
        writeln!(file, "anew").unwrap();
        log.remove_files(&Disk::real()).unwrap();
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
        Disk::real().remove_folder(&folder).unwrap();
    }
}
