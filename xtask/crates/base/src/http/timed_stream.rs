//! A connection that has only so long, whatever is done on it: what is left is looked at before every
//! single read and write, so a byte now and then keeps nobody here.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;

use crate::deadline::Deadline;

/// A connection and its deadline. Past it, everything fails with `TimedOut`.
pub(super) struct TimedStream {
    stream: Arc<TcpStream>,
    deadline: Deadline,
}

impl TimedStream {
    pub(super) fn new(stream: Arc<TcpStream>, until: Deadline) -> Result<TimedStream> {
        // To wait is `poll`'s job, which knows how long.
        stream.set_nonblocking(true)?;
        Ok(TimedStream { stream, deadline: until })
    }

    /// Whether the other side has closed it already. What it has sent beyond that is lost.
    pub(super) fn is_closed_by_peer(&self) -> bool {
        matches!((&*self.stream).read(&mut [0; 512]), Ok(0))
    }

    /// Closing it from here on is a reset: nothing of it stays behind on either side.
    pub(super) fn reset_when_closed(&self) {
        // Where it cannot be set, the connection lingers in the system, and no more than that.
        set_socket_linger(&*self.stream, Some(Duration::ZERO)).ok();
    }

    /// Reads and forgets what still comes, until the other side closes, for at most so long.
    pub(super) fn wait_for_close(self, longest: Duration) {
        let longest = longest.min(self.deadline.remaining().unwrap_or_default());
        let mut last = TimedStream { stream: self.stream, deadline: Deadline::after(longest) };
        while let Ok(1..) = last.read(&mut [0; 4096]) {}
    }

    fn time_left(&self) -> Result<Duration> {
        self.deadline.remaining().ok_or_else(|| Error::from(ErrorKind::TimedOut))
    }

    /// Does something again and again until it need not wait.
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
                    // A time that is too long to be said is none.
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
