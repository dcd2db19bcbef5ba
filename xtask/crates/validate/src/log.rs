//! The log of a run: a file of its own among the newest few, one line for each thing that happened.
//!
//! Lines are `[YYYY-MM-DD HH:MM:SS] LEVEL: message`, in UTC. A log that cannot be written never stops a
//! run; that is said once.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xtask_base::environment::{Environment, format_compact_time, format_rfc3339};
use xtask_base::files::{CreateMode, Disk};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// A run begins.
    Header,
    /// A phase begins.
    Section,
    /// How it stands.
    Status,
    /// A check passed.
    Success,
    /// A check failed.
    Error,
    /// What the user should know.
    Warning,
    /// Anything else.
    Info,
    /// A check did not run.
    Skip,
    /// The run has begun to be the only one.
    LockAcquired,
    /// It is over.
    LockReleased,
    /// A pass was written down.
    StateSaved,
    /// A check was skipped, because it passed in this very state.
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

/// A log that is being written, or one that is not.
pub struct RunLog<'a> {
    world: &'a Environment,
    /// Its file; nothing where there is none.
    pub path: Option<PathBuf>,
    file: Option<File>,
    /// Why it could not be written, if it could not.
    pub failure: Option<String>,
}

/// How the files of logs are named.
const LOG_PREFIX: &str = "validate-";

/// How a run is called: when it began, and the number of its process.
#[must_use]
pub fn new_run_id(world: &Environment) -> String {
    format!("{}-{}", format_compact_time(world.now_seconds()), std::process::id())
}

impl<'a> RunLog<'a> {
    /// No log at all.
    #[must_use]
    pub fn disabled(world: &'a Environment) -> RunLog<'a> {
        RunLog { world, path: None, file: None, failure: None }
    }

    /// Begins a log in a folder, and removes the oldest so that `kept` stay.
    pub fn create_log(
        world: &'a Environment,
        disk: &Disk<'_>,
        folder: &Path,
        run: &str,
        kept: usize,
    ) -> RunLog<'a> {
        let path = folder.join(format!("{LOG_PREFIX}{run}.log"));
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
                log.failure = Some(format!("no log is kept: `{}`: {cause}", path.display()));
                return log;
            }
        }
        match remove_old_logs(disk, folder, kept) {
            Ok(0) => {}
            Ok(gone) => log.write_line(LogLevel::LogRotation, &format!("{gone} old logs removed")),
            Err(cause) => log.write_line(LogLevel::Warning, &format!("old logs stay: {cause}")),
        }
        log
    }

    /// Writes what happened, a line for each line.
    pub fn write_line(&mut self, level: LogLevel, message: &str) {
        let Some(file) = &mut self.file else { return };
        let time = format_rfc3339(self.world.now_seconds()).replace('T', " ").replace('Z', "");
        let lines: String = message
            .lines()
            .map(|line| format!("[{time}] {}: {}\n", level.name(), line.trim_end()))
            .collect();
        if let Err(cause) = file.write_all(lines.as_bytes()) {
            self.failure = Some(format!("the log ends early: {cause}"));
            self.file = None;
        }
    }
}

/// Removes all but the newest logs, by when they were last written: runs of the same second tell nothing by
/// their names.
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
