//! A TCP connection with one deadline for all operations. The time left is checked before each read
//! and write, so a peer that sends a byte now and then cannot keep the connection open.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;

use crate::deadline::Deadline;

/// A connection and its deadline, after which every operation fails with `TimedOut`.
pub(super) struct TimedStream {
    stream: Arc<TcpStream>,
    deadline: Deadline,
}

impl TimedStream {
    pub(super) fn new(stream: Arc<TcpStream>, until: Deadline) -> Result<TimedStream> {
        // Waiting is left to `poll`, which takes a timeout.
        stream.set_nonblocking(true)?;
        Ok(TimedStream { stream, deadline: until })
    }

    /// Replaces the deadline.
    pub(super) fn set_deadline(&mut self, until: Deadline) {
        self.deadline = until;
    }

    /// Waits for `longest`, or until the peer has closed the connection, and returns whether it
    /// has. Bytes that it sends are discarded.
    pub(super) fn closes_within(&mut self, longest: Duration) -> bool {
        self.deadline = Deadline::after(longest);
        loop {
            match self.read(&mut [0; 512]) {
                Ok(1..) => {}
                Ok(0) => return true,
                Err(cause) => return cause.kind() != ErrorKind::TimedOut,
            }
        }
    }

    /// Returns whether the peer has closed the connection. Bytes received by this check are
    /// discarded.
    pub(super) fn is_closed_by_peer(&self) -> bool {
        matches!((&*self.stream).read(&mut [0; 512]), Ok(0))
    }

    /// Turns the later close into a reset, which leaves no `TIME_WAIT` on either side.
    pub(super) fn reset_when_closed(&self) {
        // If the option cannot be set, the connection lingers in the system, and no more than that.
        set_socket_linger(&*self.stream, Some(Duration::ZERO)).ok();
    }

    /// Reads and discards data until the peer closes, for at most `longest`.
    pub(super) fn wait_for_close(self, longest: Duration) {
        let longest = longest.min(self.deadline.remaining().unwrap_or_default());
        let mut last = TimedStream { stream: self.stream, deadline: Deadline::after(longest) };
        while let Ok(1..) = last.read(&mut [0; 4096]) {}
    }

    fn time_left(&self) -> Result<Duration> {
        self.deadline.remaining().ok_or_else(|| Error::from(ErrorKind::TimedOut))
    }

    /// Repeats `act` until it no longer returns `WouldBlock`, polling for `what` in between.
    fn retry_until_ready(
        &self,
        what: PollFlags,
        mut act: impl FnMut(&TcpStream) -> Result<usize>,
    ) -> Result<usize> {
        loop {
            let left = self.time_left()?;
            match act(&self.stream) {
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) if cause.kind() == ErrorKind::WouldBlock => {
                    // A duration too long for `Timespec` means no timeout.
                    let left = Timespec::try_from(left).ok();
                    match poll(&mut [PollFd::new(&*self.stream, what)], left.as_ref()) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(cause) => return Err(cause.into()),
                    }
                }
                done => return done,
            }
        }
    }
}

impl Read for TimedStream {
    fn read(&mut self, part: &mut [u8]) -> Result<usize> {
        self.retry_until_ready(PollFlags::IN, |mut stream| stream.read(part))
    }
}

impl Write for TimedStream {
    fn write(&mut self, part: &[u8]) -> Result<usize> {
        self.retry_until_ready(PollFlags::OUT, |mut stream| stream.write(part))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }
}
