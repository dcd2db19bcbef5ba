//! Handles to processes, for sending signals and waiting.
//!
//! With a pidfd (Linux 5.3), a signal reaches the intended process or none. Without one, the
//! identity is checked right before the signal, which leaves a short race.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::{ProcessIdentity, matches_pid, try_is_alive};

/// The length of one `poll` of a descriptor: a wait that is interrupted by a signal ends at most
/// this much early.
const POLL_SLICE: Duration = Duration::from_millis(50);

/// The interval between checks of a process without a descriptor.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A handle to one process.
#[derive(Debug)]
pub struct ProcessHandle {
    identity: ProcessIdentity,
    descriptor: Option<OwnedFd>,
}

impl ProcessHandle {
    /// Opens a handle, or returns `None` if the process has ended.
    #[must_use]
    pub fn open(who: &ProcessIdentity) -> Option<ProcessHandle> {
        // The descriptor is opened before the check: a process that has the ID at both times is the
        // same.
        let descriptor = descriptor(who.pid);
        match try_is_alive(who) {
            Ok(true) => Some(ProcessHandle { identity: who.clone(), descriptor }),
            Ok(false) => None,
            // The descriptor may belong to another process.
            Err(_) => Some(ProcessHandle { identity: who.clone(), descriptor: None }),
        }
    }

    /// Sends `signal`. Succeeds if the process has already ended.
    pub fn send_signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match &self.descriptor {
            Some(descriptor) => send(descriptor, signal),
            None => self.send_signal_by_pid(signal)?,
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    fn send_signal_by_pid(&self, signal: Signal) -> io::Result<rustix::io::Result<()>> {
        let pid = i32::try_from(self.identity.pid).ok().and_then(Pid::from_raw);
        let is_there = try_is_alive(&self.identity).map_err(io::Error::other)?;
        Ok(pid.filter(|_| is_there).map_or(Ok(()), |pid| kill_process(pid, signal)))
    }

    /// Waits up to `longest` and returns whether the process has ended. A zombie has.
    #[must_use]
    pub fn wait_timeout(&self, longest: Duration) -> bool {
        let mut left = longest;
        loop {
            let round = left.min(POLL_SLICE);
            if self.exits_within(round) {
                return true;
            }
            left -= round;
            if left.is_zero() {
                return false;
            }
        }
    }

    /// Waits until the process has ended.
    pub fn wait_until_exit(&self) {
        // One wake-up per hour costs next to no CPU time.
        while !self.exits_within(Duration::from_hours(1)) {}
    }

    /// Returns whether the process ends within `round`. May return `false` early.
    fn exits_within(&self, round: Duration) -> bool {
        let Some(descriptor) = &self.descriptor else {
            // The boot was checked when the handle was opened.
            let has_ended = || matches_pid(&self.identity).is_ok_and(|there| !there);
            return has_ended() || {
                std::thread::sleep(round.min(POLL_INTERVAL));
                has_ended()
            };
        };
        let mut asked = [PollFd::new(descriptor, PollFlags::IN)];
        let round = Timespec::try_from(round).ok();
        poll(&mut asked, round.as_ref()).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(target_os = "linux")]
fn descriptor(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    // Old kernels and some containers lack pidfds; then the identity is checked.
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

#[cfg(target_os = "linux")]
fn send(descriptor: &OwnedFd, signal: Signal) -> rustix::io::Result<()> {
    rustix::process::pidfd_send_signal(descriptor, signal)
}

#[cfg(not(target_os = "linux"))]
fn descriptor(_pid: u32) -> Option<OwnedFd> {
    None
}

#[cfg(not(target_os = "linux"))]
fn send(_descriptor: &OwnedFd, _signal: Signal) -> rustix::io::Result<()> {
    Err(Errno::NOSYS)
}

#[cfg(test)]
impl ProcessHandle {
    /// As on a system without descriptors of processes, and without a look.
    pub(super) fn by_number(who: &ProcessIdentity) -> ProcessHandle {
        ProcessHandle { identity: who.clone(), descriptor: None }
    }
}
