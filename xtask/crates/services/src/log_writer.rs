//! The log writer: one process per stack that copies the output of services from named pipes into
//! their logs.
//!
//! A service whose output is a plain file can empty it: `echo … > /dev/stderr` opens the file anew.
//! A pipe cannot be emptied. It has a name next to the log, so that the next supervisor finds it,
//! and the service holds a read end as well (`hold_stdout_pipe`): its output survives the death of
//! supervisor and writer, up to the capacity of the pipe. Its stdout is write-only: a program that
//! finds it readable, as Python's asyncio checks, takes that for the end of the pipe. The writer
//! outlives the supervisor, and exits once nobody holds a pipe open.
//!
//! If no pipe can be created, the service writes to the log itself.
//!
//! ```text
//! stdout of `api` -> logs/api.pipe -> log writer -> logs/api.log
//! ```

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use super::logs::ServiceLog;
use super::marker::{MARKER_VARIABLE, SUPERVISOR_VARIABLE};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::error::Result;
use xtask_base::files::FileId;
use xtask_base::lock::{self, Lock};
use xtask_base::process::Program;

/// Subcommand that runs the log writer; the folder of the logs follows.
pub const WRITE_LOGS_COMMAND: &str = "write-logs";

/// Number of bytes copied at once: the capacity of a pipe.
const COPY_CHUNK: usize = 64 << 10;

/// Timeout for output to reach the log, so that a hanging disk blocks nobody for longer.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Interval of checks for that.
const FLUSH_POLL: Duration = Duration::from_micros(300);

/// Lowest descriptor of the read end that a service holds and never reads.
const MIN_HELD_FD: i32 = 100;

/// Delay before a pipe that could not be opened is tried again.
const REOPEN_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How long a second writer waits for the first one to exit.
const WRITER_LOCK_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Returns the path of the control pipe, which carries names of services to the writer.
fn control_path(logs: &Path) -> PathBuf {
    logs.join(".names")
}

fn lock_path(logs: &Path) -> PathBuf {
    logs.join(".writer.lock")
}

/// Creates a named pipe, unless it exists.
fn make_pipe(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_fifo() => return Ok(()),
        // Another kind of file is not ours: the service runs without a pipe.
        Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
        Err(_) => {}
    }
    #[cfg(target_os = "linux")]
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600))?;
    #[cfg(not(target_os = "linux"))]
    {
        let made = Program::new("mkfifo", Path::new("/")).args(["-m", "600"]).args([path]);
        made.run_with_timeout(Duration::from_secs(5)).map_err(io::Error::other)?;
        std::fs::symlink_metadata(path)?;
    }
    Ok(())
}

/// Opens a pipe for reading and writing, which never blocks.
fn open_read_write(path: &Path) -> io::Result<File> {
    make_pipe(path)?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// Opens the control pipe non-blocking: the loop of the supervisor writes to it, and if it fills up
/// without a reader, the write must fail instead of blocking.
fn open_control_pipe(logs: &Path) -> io::Result<File> {
    make_pipe(&control_path(logs))?;
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(control_path(logs))
}

/// Both ends of a pipe, as held by the supervisor.
#[derive(Debug)]
pub struct LogPipe {
    /// Stdout and stderr of the service.
    pub write_end: File,
    /// Open for reading and writing, so that unread output stays in the pipe.
    pub held: File,
}

/// Keeps a read end of this process's stdout pipe open, for the program that it becomes and all its
/// children: without another reader, their output waits in the pipe instead of raising SIGPIPE.
pub fn hold_stdout_pipe() {
    let path = if cfg!(target_os = "linux") { "/proc/self/fd/1" } else { "/dev/fd/1" };
    let is_pipe = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    let Some(end) = is_pipe.then(|| open_nonblocking(Path::new(path)).ok()).flatten() else {
        return;
    };
    // Above the descriptors that shells and services use.
    if let Ok(kept) = rustix::io::fcntl_dupfd_cloexec(&end, MIN_HELD_FD)
        && rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).is_ok()
    {
        // The descriptor is closed when the process exits.
        std::mem::forget(kept);
    }
}

/// Supervisor side of the log writer: creates the pipes, and keeps the writer process running.
#[derive(Debug)]
pub struct LogWriter {
    logs: PathBuf,
    program: PathBuf,
    /// Open as long as the supervisor runs: the writer detects its exit by that.
    control: Mutex<Option<Arc<File>>>,
    child: Mutex<Option<Child>>,
}

impl LogWriter {
    /// Creates the side for the logs in a folder; `program` is this one.
    #[must_use]
    pub fn new(logs: &Path, program: &Path) -> LogWriter {
        let made = std::fs::create_dir_all(logs).and_then(|()| open_control_pipe(logs));
        LogWriter {
            logs: logs.to_path_buf(),
            program: program.to_path_buf(),
            control: Mutex::new(made.ok().map(Arc::new)),
            child: Mutex::default(),
        }
    }

    /// Returns the control pipe. Recreates a removed one if its stack still exists.
    fn ensure_control_pipe(&self) -> Option<Arc<File>> {
        let mut held = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let path = control_path(&self.logs);
        let named = FileId::at_no_follow(&path);
        if held.as_ref().is_some_and(|held| read_file_id(held) != named) {
            // Create this folder only, without its parents.
            std::fs::DirBuilder::new().create(&self.logs).ok();
            *held = open_control_pipe(&self.logs).ok().map(Arc::new);
        }
        held.clone()
    }

    /// Opens the pipe of a service and announces it to the writer. Returns `None` if there can be no
    /// pipe.
    #[must_use]
    pub fn open_pipe(&self, log: &ServiceLog) -> Option<LogPipe> {
        let control = self.ensure_control_pipe()?;
        let held = open_read_write(&log.pipe_path()).ok()?;
        let end = OpenOptions::new().write(true).open(log.pipe_path()).ok()?;
        self.ensure_running().ok()?;
        (&*control).write_all(format!("{}\n", log.name()).as_bytes()).ok()?;
        Some(LogPipe { write_end: end, held })
    }

    /// Starts the writer process, unless one is running.
    pub fn ensure_running(&self) -> Result<()> {
        if self.ensure_control_pipe().is_none() {
            return Ok(());
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = child.as_mut() {
            if matches!(running.try_wait(), Ok(None)) {
                return Ok(());
            }
            *child = None;
        }
        if lock::try_acquire(&lock_path(&self.logs), "")?.is_none() {
            // The writer of a previous supervisor is running.
            return Ok(());
        }
        let args = [OsStr::new(WRITE_LOGS_COMMAND), self.logs.as_os_str()];
        let writer = Program::new(&self.program, Path::new("/")).args(args);
        let writer = writer.env_remove(MARKER_VARIABLE).env(SUPERVISOR_VARIABLE, "1");
        *child = Some(writer.spawn(Stdio::null(), Stdio::null(), Stdio::inherit())?);
        Ok(())
    }

    /// Waits until all output so far is in the logs, for up to `FLUSH_TIMEOUT`.
    ///
    /// The writer reads its control pipe only after it has copied all available output; so once it has
    /// consumed an empty line, the logs are up to date.
    pub fn wait_until_written(&self) {
        let Some(control) = self.ensure_control_pipe() else { return };
        if (&*control).write_all(b"\n").is_err() {
            return;
        }
        let begun = read_monotonic_clock();
        let is_taken = || rustix::io::ioctl_fionread(&*control).is_ok_and(|count| count == 0);
        while !is_taken() && read_monotonic_clock().saturating_sub(begun) < FLUSH_TIMEOUT {
            std::thread::sleep(FLUSH_POLL);
        }
    }

    /// Returns the pid of the writer, if it was started here.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_ref().map(Child::id)
    }

    /// Closes the control pipe, and waits up to `FLUSH_TIMEOUT` for the writer to exit. It keeps
    /// running while others hold a pipe.
    pub fn release(self) {
        let LogWriter { logs, control, child, .. } = self;
        drop(control);
        let mut child = child.into_inner().unwrap_or_else(PoisonError::into_inner);
        let begun = read_monotonic_clock();
        let is_there = |child: &mut Option<Child>| match child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => lock::find_lock_holder(&lock_path(&logs)).is_some(),
        };
        while is_there(&mut child) && read_monotonic_clock().saturating_sub(begun) < FLUSH_TIMEOUT {
            std::thread::sleep(FLUSH_POLL);
        }
    }
}

/// Pipe of a service, and its log.
struct CopiedPipe {
    pipe: File,
    id: FileId,
    log: ServiceLog,
    file: Option<File>,
    /// Number of bytes that could not be written, and the cause.
    lost: Option<(u64, io::Error)>,
}

impl CopiedPipe {
    fn open(logs: &Path, name: &str) -> io::Result<CopiedPipe> {
        let log = ServiceLog::new(logs, name);
        let pipe = open_nonblocking(&log.pipe_path())?;
        let id = read_file_id(&pipe).ok_or(io::ErrorKind::NotFound)?;
        Ok(CopiedPipe { id, pipe, log, file: None, lost: None })
    }

    /// Copies available output, up to `COPY_CHUNK`. Returns whether the pipe may still have a writer.
    fn copy_available(&mut self, part: &mut [u8]) -> bool {
        let mut copied = 0;
        while copied < COPY_CHUNK {
            match self.pipe.read(part) {
                Ok(0) => return false,
                Ok(count) => {
                    copied += count;
                    self.write_to_log(&part[..count]);
                }
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return cause.kind() == io::ErrorKind::WouldBlock,
            }
        }
        true
    }

    /// Appends to the log. A full disk must not block the service: the log reports the lost bytes once
    /// there is room again.
    fn write_to_log(&mut self, bytes: &[u8]) {
        let is_gone = |file: &File| file.metadata().is_ok_and(|meta| meta.nlink() == 0);
        if self.file.as_ref().is_none_or(is_gone) {
            self.file = None;
            // In a recreated worktree, the log of this name belongs to another stack.
            if FileId::at_no_follow(&self.log.pipe_path()) != Some(self.id) {
                return;
            }
            match self.log.reopen_append() {
                Ok(file) => self.file = Some(file),
                Err(cause) => {
                    let before = self.lost.take().map_or(0, |(count, _)| count);
                    self.lost = Some((before + bytes.len() as u64, cause));
                    return;
                }
            }
        }
        let Some(mut file) = self.file.as_ref() else { return };
        if let Some((count, cause)) = &self.lost {
            let line =
                format!("\nxtask: {count} bytes of this log could not be written: {cause}\n");
            if file.write_all(line.as_bytes()).is_ok() {
                self.lost = None;
            }
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(cause) if cause.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => {
                    let before = self.lost.take().map_or(0, |(count, _)| count);
                    self.lost = Some((before + rest.len() as u64, cause));
                    return;
                }
            }
        }
    }
}

fn read_file_id(file: &File) -> Option<FileId> {
    file.metadata().ok().as_ref().map(FileId::of)
}

/// Raises the limit of open files to its maximum: each service takes one or two.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = Rlimit { current: now.maximum, maximum: now.maximum };
    // On failure, the old limit stays.
    setrlimit(Resource::Nofile, most).ok();
}

fn open_nonblocking(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
}

/// Copies the output of all pipes in a folder into the logs next to them, until nobody holds a pipe
/// open.
pub fn write_logs(logs: &Path) -> Result<()> {
    let who = format!("pid {}", std::process::id());
    let take = || Lock::acquire(&lock_path(logs), &who, WRITER_LOCK_TIMEOUT, |_| {});
    let mut lock = take()?;
    raise_file_limit();
    let mut copier = LogCopier {
        logs,
        control_pipe: open_nonblocking(&control_path(logs)).ok(),
        is_led: false,
        open: Vec::new(),
        // Begin with the existing pipes that somebody holds open. Others are tried again.
        names: ServiceLog::list_pipe_names(logs),
        said: Vec::new(),
        part: vec![0; COPY_CHUNK],
    };
    loop {
        if copier.copy_once() {
            continue;
        }
        if copier.is_led || !copier.open.is_empty() {
            copier.wait_for_output();
            continue;
        }
        drop(lock);
        // A supervisor that came concurrently saw the lock held, or starts a writer that waits.
        if !copier.is_wanted_again() {
            return Ok(());
        }
        (lock, copier.is_led) = (take()?, true);
    }
}

/// State of `write_logs`.
struct LogCopier<'a> {
    logs: &'a Path,
    /// Control pipe.
    control_pipe: Option<File>,
    /// Whether a supervisor may hold the control pipe; verified before the exit.
    is_led: bool,
    open: Vec<CopiedPipe>,
    /// Services whose pipe is not open yet.
    names: Vec<String>,
    /// Incomplete line of the control pipe.
    said: Vec<u8>,
    part: Vec<u8>,
}

impl LogCopier<'_> {
    /// Copies available output, then reads names from the control pipe: `wait_until_written` relies on
    /// this order. Returns whether there was a name or a new pipe.
    fn copy_once(&mut self) -> bool {
        let waiting = self
            .control_pipe
            .as_ref()
            .and_then(|control_pipe| rustix::io::ioctl_fionread(control_pipe).ok());
        self.open.retain_mut(|copied| copied.copy_available(&mut self.part));
        let count =
            waiting.and_then(|count| usize::try_from(count).ok()).unwrap_or(0).min(COPY_CHUNK);
        if let Some(control_pipe) = self.control_pipe.as_mut().filter(|_| count > 0) {
            self.is_led = true;
            let count = control_pipe.read(&mut self.part[..count]).unwrap_or(0);
            self.said.extend_from_slice(&self.part[..count]);
            while let Some(end) = self.said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.said.drain(..=end).collect();
                let name = String::from_utf8_lossy(&line[..end]).into_owned();
                self.names.extend((!name.is_empty()).then_some(name));
            }
        }
        let before = self.open.len();
        self.names.retain(|name| match CopiedPipe::open(self.logs, name) {
            Ok(new) => {
                if self.open.iter().all(|old| old.id != new.id) {
                    self.open.push(new);
                }
                false
            }
            Err(cause) => cause.kind() != io::ErrorKind::NotFound,
        });
        count > 0 || self.open.len() > before
    }

    /// Waits until a pipe has data, or a pipe that could not be opened is tried again.
    fn wait_for_output(&mut self) {
        let pipes = self.open.iter().map(|copied| &copied.pipe).chain(self.control_pipe.as_ref());
        let mut polled: Vec<PollFd<'_>> =
            pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        // Interrupted or not, the next round reads all available data.
        let longest = if self.names.is_empty() { None } else { Some(&REOPEN_INTERVAL) };
        let _is_interrupted = poll(&mut polled, longest);
        let last = polled.last().filter(|_| self.control_pipe.is_some());
        let last = last.map_or(PollFlags::empty(), PollFd::revents);
        if last.contains(PollFlags::HUP) && !last.contains(PollFlags::IN) {
            // The supervisor is gone. The reopened pipe is silent until the next one comes.
            (self.control_pipe, self.is_led) = (self.reopen_control(), false);
        }
    }

    /// Reopens the control pipe if it is still the same file (an open file keeps its inode). In a removed
    /// folder no supervisor can write to it; in a recreated one another writer is at work.
    fn reopen_control(&self) -> Option<File> {
        let opened = open_nonblocking(&control_path(self.logs)).ok()?;
        (read_file_id(&opened) == read_file_id(self.control_pipe.as_ref()?)).then_some(opened)
    }

    /// Returns whether a supervisor holds the control pipe now.
    fn is_wanted_again(&mut self) -> bool {
        self.control_pipe = self.reopen_control();
        let mut byte = [0];
        match self.control_pipe.as_mut().map(|control_pipe| control_pipe.read(&mut byte)) {
            None | Some(Ok(0)) => return false,
            Some(Ok(_)) => self.said.push(byte[0]),
            Some(Err(_)) => {}
        }
        true
    }
}
