//! Holding on to a process, to signal it and to wait for its end.
//!
//! Where the kernel gives out descriptors of processes, a signal reaches the process that was meant or
//! nobody. Elsewhere the identity is checked right before; what is left is the moment between the two.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::{ProcessIdentity, matches_pid, try_is_alive};

/// How long is waited for one descriptor before the time is counted: a wait that a signal of ours
/// interrupts ends at most this much early.
const POLL_SLICE: Duration = Duration::from_millis(50);

/// How often a process without a descriptor is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// A process that is held on to.
#[derive(Debug)]
pub struct ProcessHandle {
    identity: ProcessIdentity,
    descriptor: Option<OwnedFd>,
}

impl ProcessHandle {
    /// Holds on to a process; nothing where it has ended.
    #[must_use]
    pub fn open(who: &ProcessIdentity) -> Option<ProcessHandle> {
        // First the descriptor, then the look: whoever has the number at both times is the same.
        let descriptor = descriptor(who.pid);
        match try_is_alive(who) {
            Ok(true) => Some(ProcessHandle { identity: who.clone(), descriptor }),
            Ok(false) => None,
            // Nobody can say whose the descriptor is.
            Err(_) => Some(ProcessHandle { identity: who.clone(), descriptor: None }),
        }
    }

    /// Sends a signal. It is well where the process has ended.
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

    /// Waits for at most so long, and says whether it has ended. A zombie has.
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

    /// Waits until it has ended.
    pub fn wait_until_exit(&self) {
        // An hour, because a process costs nothing that sleeps for an hour.
        while !self.exits_within(Duration::from_hours(1)) {}
    }

    /// Whether it has ended or does so soon. May say no too early.
    fn exits_within(&self, round: Duration) -> bool {
        let Some(descriptor) = &self.descriptor else {
            // In this boot it was when it was opened.
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
    // Old kernels and some containers have none, and then there is the identity.
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
