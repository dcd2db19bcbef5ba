//! What services print: through pipes, and a process of its own that copies them into the logs.
//!
//! A service whose output is a plain file can empty it: `echo … > /dev/stderr` opens the file anew. A pipe
//! has nothing to empty. The pipe has a name beside the log, so that whoever comes next finds it, and the
//! service holds an end to read from it as well (`hold`): nobody's death is the end of the service, and what was
//! printed while nobody read is still there, up to what a pipe holds. What it prints to can only be written to:
//! a program that finds it readable, as asyncio of Python looks, takes that for its end. The copying is done by a process that outlives the supervisor, one for a
//! stack. It ends when nobody has a pipe open any more.
//!
//! Where no pipe can be made, the output is the log itself.

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
use super::teardown::{MARKER_VARIABLE, SUPERVISOR_VARIABLE};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::error::Result;
use xtask_base::lock::{self, Lock};
use xtask_base::process::Program;

/// The word by which this program is asked to copy: the folder of the logs follows.
pub const WRITE_LOGS_COMMAND: &str = "write-logs";

/// How much is copied at once: what a pipe holds.
const COPY_CHUNK: usize = 64 << 10;

/// How long it is waited for that what was printed is in the log. A disk that hangs holds nobody up for longer.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The pause between two looks whether it is.
const FLUSH_POLL: Duration = Duration::from_micros(300);

/// The number from which on a service has the end that it never looks at.
const MIN_HELD_FD: i32 = 100;

/// How soon a pipe that could not be opened is tried again.
const REOPEN_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How long a second one waits for the first to end.
const WRITER_LOCK_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The pipe by which the writer is told which others there are.
fn control_path(logs: &Path) -> PathBuf {
    logs.join(".names")
}

fn lock_path(logs: &Path) -> PathBuf {
    logs.join(".writer.lock")
}

/// Makes a pipe with a name, if it is not there.
fn make_pipe(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_fifo() => return Ok(()),
        // Something else of this name is somebody's, and the service does without.
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

/// Opens a pipe for both, which never waits for anybody.
fn open_read_write(path: &Path) -> io::Result<File> {
    make_pipe(path)?;
    OpenOptions::new().read(true).write(true).open(path)
}

/// The same for the pipe of names, to which the loop of the supervisor writes: if nobody takes them it is full one day,
/// and then it says so and holds nobody up.
fn open_control_pipe(logs: &Path) -> io::Result<File> {
    make_pipe(&control_path(logs))?;
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).write(true).custom_flags(nonblocking).open(control_path(logs))
}

/// The two ends of a pipe that the supervisor has.
#[derive(Debug)]
pub struct LogPipe {
    /// What the service prints to.
    pub write_end: File,
    /// Open for both, so that what was printed stays while nobody reads.
    pub held: File,
}

/// Keeps an end to read from the pipe to which this process prints, for the program that it becomes and all that this
/// starts: where everybody else is gone, what they print waits, and ends nobody.
pub fn hold_stdout_pipe() {
    let path = if cfg!(target_os = "linux") { "/proc/self/fd/1" } else { "/dev/fd/1" };
    let is_pipe = std::fs::metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    let Some(end) = is_pipe.then(|| open_nonblocking(Path::new(path)).ok()).flatten() else {
        return;
    };
    // Beyond the numbers that shells and services use.
    if let Ok(kept) = rustix::io::fcntl_dupfd_cloexec(&end, MIN_HELD_FD)
        && rustix::io::fcntl_setfd(&kept, rustix::io::FdFlags::empty()).is_ok()
    {
        // It is closed with the process.
        std::mem::forget(kept);
    }
}

/// The supervisor's side: it makes the pipes, and sees to it that somebody copies.
#[derive(Debug)]
pub struct LogWriter {
    logs: PathBuf,
    program: PathBuf,
    /// Open for as long as there is a supervisor, which is how the writer knows.
    control: Mutex<Option<Arc<File>>>,
    child: Mutex<Option<Child>>,
}

impl LogWriter {
    /// For the logs in a folder; `program` is this one.
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

    /// The pipe by which the writer is told. One that was taken away is made anew, where its stack is still there.
    fn ensure_control_pipe(&self) -> Option<Arc<File>> {
        let mut held = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let path = control_path(&self.logs);
        let named = std::fs::symlink_metadata(&path).ok().map(|meta| (meta.dev(), meta.ino()));
        if held.as_ref().is_some_and(|held| read_file_id(held) != named) {
            // Its own folder, and none above it.
            std::fs::DirBuilder::new().create(&self.logs).ok();
            *held = open_control_pipe(&self.logs).ok().map(Arc::new);
        }
        held.clone()
    }

    /// What a service is to print to, and what keeps that from being lost until it is given back. Nothing where
    /// there can be no pipe.
    #[must_use]
    pub fn open_pipe(&self, log: &ServiceLog) -> Option<LogPipe> {
        let control = self.ensure_control_pipe()?;
        let held = open_read_write(&log.pipe_path()).ok()?;
        let end = OpenOptions::new().write(true).open(log.pipe_path()).ok()?;
        self.ensure_running().ok()?;
        (&*control).write_all(format!("{}\n", log.name()).as_bytes()).ok()?;
        Some(LogPipe { write_end: end, held })
    }

    /// Sees to it that somebody copies.
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
            // The one of a supervisor before this one.
            return Ok(());
        }
        let args = [OsStr::new(WRITE_LOGS_COMMAND), self.logs.as_os_str()];
        let writer = Program::new(&self.program, Path::new("/")).args(args);
        let writer = writer.env_remove(MARKER_VARIABLE).env(SUPERVISOR_VARIABLE, "1");
        *child = Some(writer.spawn(Stdio::null(), Stdio::null(), Stdio::inherit())?);
        Ok(())
    }

    /// Waits until all that was printed before is in the logs.
    ///
    /// The writer takes what it is told only after it has copied what was there; so a line that says nothing
    /// is gone when it has.
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

    /// The process of the writer, if it was started here.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.as_ref().map(Child::id)
    }

    /// Lets the writer go, and waits a moment for its end. Who still holds a pipe keeps it.
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

/// A pipe and the log into which it goes.
struct CopiedPipe {
    pipe: File,
    id: (u64, u64),
    log: ServiceLog,
    file: Option<File>,
    /// How many bytes could not be written, and why.
    lost: Option<(u64, io::Error)>,
}

impl CopiedPipe {
    fn open(logs: &Path, name: &str) -> io::Result<CopiedPipe> {
        let log = ServiceLog::new(logs, name);
        let pipe = open_nonblocking(&log.pipe_path())?;
        let id = read_file_id(&pipe).ok_or(io::ErrorKind::NotFound)?;
        Ok(CopiedPipe { id, pipe, log, file: None, lost: None })
    }

    /// Copies what is there, but no more than a pipe holds; whether somebody may still write to it.
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

    /// A full disk must not hold up the service; what was lost by it is told when there is room again.
    fn write_to_log(&mut self, bytes: &[u8]) {
        let is_gone = |file: &File| file.metadata().is_ok_and(|meta| meta.nlink() == 0);
        if self.file.as_ref().is_none_or(is_gone) {
            self.file = None;
            // In a worktree that was removed and made again, what has the name is the log of others.
            let named = std::fs::symlink_metadata(self.log.pipe_path());
            if named.ok().map(|meta| (meta.dev(), meta.ino())) != Some(self.id) {
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

/// Which file it is, by device and number.
fn read_file_id(file: &File) -> Option<(u64, u64)> {
    let meta = file.metadata().ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Lets this process have as many files open as the system allows: one or two for each service.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let most = Rlimit { current: now.maximum, maximum: now.maximum };
    // Where it may not, it has what it has.
    setrlimit(Resource::Nofile, most).ok();
}

fn open_nonblocking(path: &Path) -> io::Result<File> {
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(nonblocking).open(path)
}

/// Copies what comes out of the pipes in a folder into the logs beside them, until nobody has one open.
pub fn write_logs(logs: &Path) -> Result<()> {
    let who = format!("pid {}", std::process::id());
    let take = || Lock::acquire(&lock_path(logs), &who, WRITER_LOCK_TIMEOUT, |_| {});
    let mut lock = take()?;
    let mut told = open_nonblocking(&control_path(logs)).ok();
    // Where the folder has gone with its worktree, nobody comes who could tell anything; and in another one of
    // the same name another writer is at work. What is open keeps its number.
    let again = |told: &Option<File>| {
        let opened = open_nonblocking(&control_path(logs)).ok()?;
        (read_file_id(&opened) == read_file_id(told.as_ref()?)).then_some(opened)
    };
    raise_file_limit();
    // Those that are there already, if somebody has them open. What cannot be opened is tried again.
    let mut open: Vec<CopiedPipe> = Vec::new();
    let mut names = ServiceLog::list_pipe_names(logs);
    let mut part = vec![0; COPY_CHUNK];
    let mut said = Vec::new();
    // Whether somebody has it open is found out before it ends.
    let mut is_led = false;
    loop {
        // What was there before it is told something is copied before it takes that.
        let waiting = told.as_ref().and_then(|told| rustix::io::ioctl_fionread(told).ok());
        open.retain_mut(|copied| copied.copy_available(&mut part));
        let count =
            waiting.and_then(|count| usize::try_from(count).ok()).unwrap_or(0).min(COPY_CHUNK);
        if let Some(told) = told.as_mut().filter(|_| count > 0) {
            is_led = true;
            let count = told.read(&mut part[..count]).unwrap_or(0);
            said.extend_from_slice(&part[..count]);
            while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = said.drain(..=end).collect();
                let name = String::from_utf8_lossy(&line[..end]).into_owned();
                names.extend((!name.is_empty()).then_some(name));
            }
        }
        let before = open.len();
        names.retain(|name| match CopiedPipe::open(logs, name) {
            Ok(new) => {
                if open.iter().all(|old| old.id != new.id) {
                    open.push(new);
                }
                false
            }
            Err(cause) => cause.kind() != io::ErrorKind::NotFound,
        });
        if count > 0 || open.len() > before {
            continue;
        }
        if !is_led && open.is_empty() {
            drop(lock);
            // Who has come meanwhile has seen the lock held, or begins another writer that waits for it.
            told = again(&told);
            let mut byte = [0];
            match told.as_mut().map(|told| told.read(&mut byte)) {
                None | Some(Ok(0)) => return Ok(()),
                Some(Ok(_)) => said.push(byte[0]),
                Some(Err(_)) => {}
            }
            (lock, is_led) = (take()?, true);
            continue;
        }
        let pipes = open.iter().map(|copied| &copied.pipe).chain(told.as_ref());
        let mut polled: Vec<PollFd<'_>> =
            pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
        // Interrupted or not, the next round sees what is there.
        let longest = if names.is_empty() { None } else { Some(&REOPEN_INTERVAL) };
        let _is_interrupted = poll(&mut polled, longest);
        let last = polled.last().filter(|_| told.is_some());
        let last = last.map_or(PollFlags::empty(), PollFd::revents);
        if last.contains(PollFlags::HUP) && !last.contains(PollFlags::IN) {
            // The supervisor is gone. What is opened anew says nothing until the next one has come.
            (told, is_led) = (again(&told), false);
        }
    }
}
