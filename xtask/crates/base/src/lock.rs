//! A lock that cannot go stale: the operating system holds it for as long as the process lives.
//!
//! The file stays where it is and is never removed; what is written in it is for people only.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use super::error::{Error, Result, ResultExt};

/// How often a held lock is asked for again.
const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock at `path`, waiting for at most `wait`. `who` is written into the file, so
    /// that somebody who waits can be told for whom. `waiting` is called once, with that text, when
    /// there is somebody to wait for.
    pub fn acquire(
        path: &Path,
        who: &str,
        wait: Duration,
        waiting: impl FnOnce(&str),
    ) -> Result<Lock> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("the folder `{}` cannot be made", folder.display()))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("the lock `{}` cannot be opened", path.display()))?;
        let mut waiting = Some(waiting);
        let mut rounds = wait.as_millis() / POLL_INTERVAL.as_millis();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(cause)) => {
                    return Err(Error::unable(format!("the lock `{}` failed", path.display()))
                        .with_cause(cause));
                }
            }
            let holder = read_holder(&mut file);
            if let Some(tell) = waiting.take() {
                tell(&holder);
            }
            if rounds == 0 {
                return Err(Error::unable(format!(
                    "another xtask is at work in this worktree ({holder})"
                ))
                .with_hint("wait until it has ended and try again"));
            }
            rounds -= 1;
            std::thread::sleep(POLL_INTERVAL);
        }
        // The text is a courtesy; a full disk must not keep anybody from holding the lock.
        let noted = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| {
            file.write_all(who.as_bytes())?;
            file.flush()
        });
        drop(noted);
        Ok(Lock { _file: file })
    }
}

/// Who holds the lock at `path`, in words; nothing where nobody does. Nothing is written.
#[must_use]
pub fn find_lock_holder(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
        // It is free again as soon as the file is closed.
        _ => None,
    }
}

/// Takes the lock at `path` if nobody holds it; nothing where somebody does.
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
    // Whatever it is, it is shown on a terminal.
    let text = text.trim().replace(char::is_control, " ");
    if read.is_err() || text.is_empty() { "unknown".to_owned() } else { text }
}
