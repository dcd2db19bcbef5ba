//! A file lock that cannot become stale: the operating system releases it when the process ends.
//!
//! The file is never removed. Its content only tells people who holds the lock, e.g. `pid 1234`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::deadline::Deadline;
use super::error::{Error, Result, ResultExt};

/// The interval between attempts to take a held lock.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// A lock that is held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, waiting for at most `wait`. Writes `who` into the file, so that
    /// waiting processes can report the holder. Calls `waiting` once, with the text of the holder,
    /// if the lock is held. Returns an error if the lock is still held after `wait`.
    pub fn acquire(
        path: &Path,
        who: &str,
        wait: Duration,
        waiting: impl FnOnce(&str),
    ) -> Result<Lock> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot create folder `{}`", folder.display()))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot open lock file `{}`", path.display()))?;
        let mut waiting = Some(waiting);
        let deadline = Deadline::after(wait);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(cause)) => {
                    return Err(Error::unable(format!("cannot lock `{}`", path.display()))
                        .with_cause(cause));
                }
            }
            let holder = read_holder(&mut file);
            if let Some(tell) = waiting.take() {
                tell(&holder);
            }
            if deadline.remaining().is_none() {
                return Err(Error::unable(format!(
                    "another xtask is running in this worktree ({holder})"
                ))
                .with_hint("wait until it has ended and try again"));
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        // The text is informational; a full disk must not prevent anybody from holding the lock.
        let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| {
            file.write_all(who.as_bytes())?;
            file.flush()
        });
        drop(noted);
        Ok(Lock { _file: file })
    }
}

/// Returns a description of the holder of the lock at `path`, or `None` if nobody holds it. Writes
/// no files.
#[must_use]
pub fn find_lock_holder(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
        // Closing the file releases the shared lock.
        _ => None,
    }
}

/// Takes the lock at `path` without waiting. Returns `None` if another process holds it.
pub fn try_acquire(path: &Path, who: &str) -> Result<Option<Lock>> {
    let mut is_held = false;
    match Lock::acquire(path, who, Duration::ZERO, |_| is_held = true) {
        Ok(lock) => Ok(Some(lock)),
        Err(_) if is_held => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn read_holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(200).read_to_string(&mut text));
    // The text is untrusted, and shown on a terminal.
    let text = text.trim().replace(char::is_control, " ");
    if read.is_err() || text.is_empty() { "unknown".to_owned() } else { text }
}
