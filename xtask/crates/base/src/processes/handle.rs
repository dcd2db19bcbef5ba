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

use super::{Identity, has_its_number, is_there};

/// How long is waited for one descriptor before the time is counted: a wait that a signal of ours
/// interrupts ends at most this much early.
const ROUND: Duration = Duration::from_millis(50);

/// How often a process without a descriptor is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A process that is held on to.
#[derive(Debug)]
pub struct Handle {
    who: Identity,
    descriptor: Option<OwnedFd>,
}

impl Handle {
    /// Holds on to a process; nothing where it has ended.
    #[must_use]
    pub fn open(who: &Identity) -> Option<Handle> {
        // First the descriptor, then the look: whoever has the number at both times is the same.
        let descriptor = descriptor(who.pid);
        match is_there(who) {
            Ok(true) => Some(Handle { who: who.clone(), descriptor }),
            Ok(false) => None,
            // Nobody can say whose the descriptor is.
            Err(_) => Some(Handle { who: who.clone(), descriptor: None }),
        }
    }

    /// Sends a signal. It is well where the process has ended.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let sent = match &self.descriptor {
            Some(descriptor) => send(descriptor, signal),
            None => self.send_by_number(signal)?,
        };
        match sent {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    fn send_by_number(&self, signal: Signal) -> io::Result<rustix::io::Result<()>> {
        let pid = i32::try_from(self.who.pid).ok().and_then(Pid::from_raw);
        let is_there = is_there(&self.who).map_err(io::Error::other)?;
        Ok(pid.filter(|_| is_there).map_or(Ok(()), |pid| kill_process(pid, signal)))
    }

    /// Waits for at most so long, and says whether it has ended. A zombie has.
    #[must_use]
    pub fn wait(&self, longest: Duration) -> bool {
        let mut left = longest;
        loop {
            let round = left.min(ROUND);
            if self.ends_within(round) {
                return true;
            }
            left -= round;
            if left.is_zero() {
                return false;
            }
        }
    }

    /// Waits until it has ended.
    pub fn wait_for_ever(&self) {
        // An hour, because a process costs nothing that sleeps for an hour.
        while !self.ends_within(Duration::from_hours(1)) {}
    }

    /// Whether it has ended or does so soon. May say no too early.
    fn ends_within(&self, round: Duration) -> bool {
        let Some(descriptor) = &self.descriptor else {
            // In this boot it was when it was opened.
            let has_ended = || has_its_number(&self.who).is_ok_and(|there| !there);
            return has_ended() || {
                std::thread::sleep(round.min(LOOK));
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
impl Handle {
    /// As on a system without descriptors of processes, and without a look.
    pub(super) fn by_number(who: &Identity) -> Handle {
        Handle { who: who.clone(), descriptor: None }
    }
}
