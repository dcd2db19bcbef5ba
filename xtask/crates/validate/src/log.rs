//! The log file of a run: one file per run, of which the newest few are kept.
//!
//! Times are UTC. A log that cannot be written never stops a run; `RunLog::failure` reports it once. A line:
//!
//! ```text
//! [2026-01-01 09:00:00] ERROR: lint: exited with code 1 (812 ms)
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xtask_base::environment::{Environment, format_compact_time, format_rfc3339};
use xtask_base::files::{CreateMode, Disk};

/// The kind of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A run starts.
    Header,
    /// A phase starts.
    Section,
    /// Progress, e.g. a check or a fix that starts.
    Status,
    Success,
    Error,
    Warning,
    Info,
    /// A check did not run.
    Skip,
    /// The run took the lock that keeps out other validations.
    LockAcquired,
    /// The run released that lock.
    LockReleased,
    /// A pass was saved in the result cache.
    StateSaved,
    /// A check was skipped because of a cached pass.
    CacheHit,
    /// Old logs were removed.
    LogRotation,
}

impl LogLevel {
    fn name(self) -> &'static str {
        match self {
            LogLevel::Header => "HEADER",
            LogLevel::Section => "SECTION",
            LogLevel::Status => "STATUS",
            LogLevel::Success => "SUCCESS",
            LogLevel::Error => "ERROR",
            LogLevel::Warning => "WARNING",
            LogLevel::Info => "INFO",
            LogLevel::Skip => "SKIP",
            LogLevel::LockAcquired => "LOCK_ACQUIRED",
            LogLevel::LockReleased => "LOCK_RELEASED",
            LogLevel::StateSaved => "STATE_SAVED",
            LogLevel::CacheHit => "CACHE_HIT",
            LogLevel::LogRotation => "LOG_ROTATION",
        }
    }
}

/// An open log, or a disabled one that discards all lines.
pub struct RunLog<'a> {
    world: &'a Environment,
    /// The log file; `None` if the log is disabled.
    pub path: Option<PathBuf>,
    file: Option<File>,
    /// The error that stopped the log, if any.
    pub failure: Option<String>,
}

/// The prefix of log file names, e.g. `validate-20260101T090000Z-4711.log`.
const LOG_PREFIX: &str = "validate-";

/// Returns the path of the log of `run` in `folder`.
#[must_use]
pub fn log_file(folder: &Path, run: &str) -> PathBuf {
    folder.join(format!("{LOG_PREFIX}{run}.log"))
}

/// Returns the id of a new run: its start time and the process id.
#[must_use]
pub fn new_run_id(world: &Environment) -> String {
    format!("{}-{}", format_compact_time(world.now_seconds()), std::process::id())
}

impl<'a> RunLog<'a> {
    /// Returns a log that discards all lines.
    #[must_use]
    pub fn disabled(world: &'a Environment) -> RunLog<'a> {
        RunLog { world, path: None, file: None, failure: None }
    }

    /// Creates the log of `run` in `folder` and removes the oldest logs so that `kept` remain.
    pub fn create_log(
        world: &'a Environment,
        disk: &Disk<'_>,
        folder: &Path,
        run: &str,
        kept: usize,
    ) -> RunLog<'a> {
        let path = log_file(folder, run);
        let opened = std::fs::create_dir_all(folder)
            .and_then(|()| disk.create_file(&path, b"", CreateMode::Plain))
            .and_then(|()| File::options().append(true).open(&path));
        let mut log = RunLog::disabled(world);
        match opened {
            Ok(file) => {
                log.file = Some(file);
                log.path = Some(path);
            }
            Err(cause) => {
                log.failure = Some(format!("cannot write the log `{}`: {cause}", path.display()));
                return log;
            }
        }
        match remove_old_logs(disk, folder, kept) {
            Ok(0) => {}
            Ok(gone) => log.write_line(LogLevel::LogRotation, &format!("{gone} old logs removed")),
            Err(cause) => {
                log.write_line(LogLevel::Warning, &format!("cannot remove old logs: {cause}"))
            }
        }
        log
    }

    /// Writes `message`, each of its lines as a line of its own.
    pub fn write_line(&mut self, level: LogLevel, message: &str) {
        let Some(file) = &mut self.file else { return };
        let time = format_rfc3339(self.world.now_seconds()).replace('T', " ").replace('Z', "");
        let lines: String = message
            .lines()
            .map(|line| format!("[{time}] {}: {}\n", level.name(), line.trim_end()))
            .collect();
        if let Err(cause) = file.write_all(lines.as_bytes()) {
            self.failure = Some(format!("the log is incomplete: {cause}"));
            self.file = None;
        }
    }
}

/// Removes all but the newest `kept` logs and returns the number removed. Orders by modification time: file
/// names cannot order runs of the same second.
fn remove_old_logs(disk: &Disk<'_>, folder: &Path, kept: usize) -> io::Result<usize> {
    let mut logs: Vec<(Option<SystemTime>, PathBuf)> = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(LOG_PREFIX) && name.ends_with(".log") {
            logs.push((entry.metadata().and_then(|meta| meta.modified()).ok(), path));
        }
    }
    logs.sort();
    let over = logs.len().saturating_sub(kept);
    for (_, path) in &logs[..over] {
        disk.remove_file(path)?;
    }
    Ok(over)
}
