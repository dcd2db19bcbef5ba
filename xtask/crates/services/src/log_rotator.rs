//! `LogRotator`: dates the lines of a log by its growth, and keeps it within its limits.
//!
//! ```text
//! api.log over 10 MB -> api.log.0-10000123, and a hole in api.log up to 10000123
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::logs::{READ_CHUNK, ServiceLog, to_modified_ms};
use xtask_base::files::Disk;
use xtask_config::LogConfig;

/// Number of pieces that are kept of a burst between two polls. Older data of the burst is left
/// out, as it would soon be removed anyway.
const MAX_PIECES_AT_ONCE: u64 = 4;

/// Rotates the log of one service.
#[derive(Debug)]
pub struct LogRotator {
    log: ServiceLog,
    limits: LogConfig,
    has_begun: bool,
    /// Length of the file at the last poll.
    seen_length: u64,
    /// Offset from which on data is not in a full piece yet.
    start: u64,
    /// Whether the file system has holes.
    pub(super) can_free: bool,
}

impl LogRotator {
    /// Creates a rotator; the file is first read by `poll`.
    #[must_use]
    pub fn new(log: ServiceLog, limits: LogConfig) -> LogRotator {
        LogRotator { log, limits, has_begun: false, seen_length: 0, start: 0, can_free: true }
    }

    /// Restores the position of the previous rotator of this log.
    fn restore_position(&mut self) {
        self.has_begun = true;
        self.start = self.log.list_full_pieces().last().map_or(0, |(_, end, _)| *end);
        self.seen_length =
            self.log.read_timestamps().last().map_or(self.start, |(length, _)| *length);
    }

    /// Records growth, and rotates the log if it is too large. Returns whether it has grown.
    pub fn poll(&mut self, disk: &Disk<'_>) -> io::Result<bool> {
        let meta = match std::fs::metadata(self.log.path()) {
            Ok(meta) => meta,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(cause) => return Err(cause),
        };
        if !self.has_begun {
            self.restore_position();
        }
        if meta.len() < self.seen_length {
            // The log was emptied manually.
            (self.seen_length, self.start) = (0, 0);
        }
        if meta.len() == self.seen_length {
            return Ok(false);
        }
        let mark = format!("{} {}\n", meta.len(), to_modified_ms(&meta));
        let marks = self.log.timestamps_path();
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(marks)?;
        file.write_all(mark.as_bytes())?;
        self.seen_length = meta.len();
        if self.seen_length - self.start > self.limits.size && self.can_free {
            self.rotate(disk)?;
        }
        Ok(true)
    }

    /// Moves the current data into a piece of its own, and frees it in the file.
    fn rotate(&mut self, disk: &Disk<'_>) -> io::Result<()> {
        let (start, end) = (self.start, self.seen_length);
        let source = OpenOptions::new().read(true).write(true).open(self.log.path())?;
        let from = find_flood_start(&source, start, end, self.limits.size * MAX_PIECES_AT_ONCE)?;
        let piece = self.log.folder.join(format!("{}.log.{from}-{end}", self.log.name()));
        let beside = self.log.folder.join(format!("{}.moving", self.log.name()));
        disk.remove_file(&beside)?;
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        let mut reader = &source;
        reader.seek(SeekFrom::Start(from))?;
        io::copy(&mut reader.take(end - from), &mut copy)?;
        disk.replace_file(&beside, &piece)?;
        self.start = end;
        if !free(&source, end) {
            // The file system has no holes: the log keeps all data, and the piece would repeat it.
            disk.remove_file(&piece)?;
            self.start = start;
            self.can_free = false;
            return Ok(());
        }
        self.remove_old_pieces(disk)
    }

    /// Removes the oldest pieces beyond `LogConfig::keep`, and the timestamps of their lines.
    fn remove_old_pieces(&self, disk: &Disk<'_>) -> io::Result<()> {
        let pieces = self.log.list_full_pieces();
        let over = pieces.len().saturating_sub(self.limits.keep as usize);
        for (_, _, path) in &pieces[..over] {
            disk.remove_file(path)?;
        }
        let first = pieces.get(over).map_or(self.start, |(start, _, _)| *start);
        let marks = self.log.read_timestamps().into_iter().filter(|(length, _)| *length > first);
        let text: String = marks.map(|(length, time)| format!("{length} {time}\n")).collect();
        disk.write_atomically_unsynced(&self.log.timestamps_path(), text.as_bytes())
    }
}

/// Frees the beginning of a file up to `upto` without moving the rest (a hole). Returns whether the
/// file system supports that.
#[cfg(target_os = "linux")]
fn free(file: &File, upto: u64) -> bool {
    use rustix::fs::FallocateFlags;
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(file, flags, 0, upto).is_ok()
}

/// Returns false: other systems have no comparable call.
#[cfg(not(target_os = "linux"))]
fn free(_: &File, _: u64) -> bool {
    false
}

/// Returns the start of the part of a burst that is kept: a beginning of a line, at most `most`
/// bytes before `end`.
fn find_flood_start(source: &File, start: u64, end: u64, most: u64) -> io::Result<u64> {
    if end - start <= most {
        return Ok(start);
    }
    let from = end - most;
    let mut reader = io::BufReader::new(source);
    reader.seek(SeekFrom::Start(from))?;
    let mut line = Vec::new();
    reader.take(READ_CHUNK as u64).read_until(b'\n', &mut line)?;
    Ok(if line.ends_with(b"\n") { from + line.len() as u64 } else { from })
}
