//! The log of a run: a file of its own among the newest few, one line for each thing that happened.
//!
//! Lines are `[YYYY-MM-DD HH:MM:SS] LEVEL: message`, in UTC. A log that cannot be written never stops a
//! run; that is said once.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use xtask_base::files::{Bits, Disk};
use xtask_base::world::{World, compact, rfc3339};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
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

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Header => "HEADER",
            Level::Section => "SECTION",
            Level::Status => "STATUS",
            Level::Success => "SUCCESS",
            Level::Error => "ERROR",
            Level::Warning => "WARNING",
            Level::Info => "INFO",
            Level::Skip => "SKIP",
            Level::LockAcquired => "LOCK_ACQUIRED",
            Level::LockReleased => "LOCK_RELEASED",
            Level::StateSaved => "STATE_SAVED",
            Level::CacheHit => "CACHE_HIT",
            Level::LogRotation => "LOG_ROTATION",
        }
    }
}

/// A log that is being written, or one that is not.
pub struct Log<'a> {
    world: &'a World,
    /// Its file; nothing where there is none.
    pub path: Option<PathBuf>,
    file: Option<File>,
    /// Why it could not be written, if it could not.
    pub failure: Option<String>,
}

/// How the files of logs are named.
const PREFIX: &str = "validate-";

/// How a run is called: when it began, and the number of its process.
#[must_use]
pub fn run_id(world: &World) -> String {
    format!("{}-{}", compact(world.now_seconds()), std::process::id())
}

impl<'a> Log<'a> {
    /// No log at all.
    #[must_use]
    pub fn none(world: &'a World) -> Log<'a> {
        Log { world, path: None, file: None, failure: None }
    }

    /// Begins a log in a folder, and removes the oldest so that `kept` stay.
    pub fn begin(
        world: &'a World,
        disk: &Disk<'_>,
        folder: &Path,
        run: &str,
        kept: usize,
    ) -> Log<'a> {
        let path = folder.join(format!("{PREFIX}{run}.log"));
        let opened = std::fs::create_dir_all(folder)
            .and_then(|()| disk.create(&path, b"", Bits::Plain))
            .and_then(|()| File::options().append(true).open(&path));
        let mut log = Log::none(world);
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
        match rotate(disk, folder, kept) {
            Ok(0) => {}
            Ok(gone) => log.line(Level::LogRotation, &format!("{gone} old logs removed")),
            Err(cause) => log.line(Level::Warning, &format!("old logs stay: {cause}")),
        }
        log
    }

    /// Writes what happened, a line for each line.
    pub fn line(&mut self, level: Level, message: &str) {
        let Some(file) = &mut self.file else { return };
        let time = rfc3339(self.world.now_seconds()).replace('T', " ").replace('Z', "");
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
fn rotate(disk: &Disk<'_>, folder: &Path, kept: usize) -> io::Result<usize> {
    let mut logs: Vec<(Option<SystemTime>, PathBuf)> = Vec::new();
    for entry in folder.read_dir()? {
        let entry = entry?;
        let path = entry.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(".log") {
            logs.push((entry.metadata().and_then(|meta| meta.modified()).ok(), path));
        }
    }
    logs.sort();
    let over = logs.len().saturating_sub(kept);
    for (_, path) in &logs[..over] {
        disk.remove(path)?;
    }
    Ok(over)
}
