//! Communication with a running program, line by line.
//!
//! The program has its own process group, so Ctrl-C on the terminal does not reach it. Every wait
//! is bounded: one thread writes its stdin, others read its stdout and stderr, and the number and
//! length of the queued lines are limited. Dropping [`LineProcess`] kills the program. For example:
//!
//! ```text
//! send_line("ping")    -> stdin  "ping\n"
//! stdout "pong\n"      -> receive_line(1 s) == ReceivedLine::Line("pong")
//! ```

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::deadline::Deadline;
use super::error::{Result, ResultExt};
use super::process::Program;

/// The maximum length of a line: 16 MiB, far more than any message.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// The number of unread lines after which the program blocks when writing more.
const MAX_QUEUED_LINES: usize = 1000;

/// The amount of stderr kept: the last 16 KiB.
const MAX_STDERR_BYTES: usize = 16 << 10;

/// The interval between checks for the exit of the program.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A running program with a line-based protocol.
pub struct LineProcess {
    child: Child,
    line_sender: Option<Sender<Vec<u8>>>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_closed: Receiver<()>,
}

/// The result of waiting for a line.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceivedLine {
    /// A line, without its line end.
    Line(String),
    /// No line within the time limit.
    Timeout,
    /// The end of the output.
    Closed,
}

impl LineProcess {
    /// Starts `program`.
    pub fn spawn(program: Program) -> Result<LineProcess> {
        let (piped, name) = (Stdio::piped, program.name().to_owned());
        let mut child = program.in_own_group().spawn(piped(), piped(), piped())?;
        let (say, said) = channel::<Vec<u8>>();
        let (tell, lines) = sync_channel(MAX_QUEUED_LINES);
        let (complain, complained) = channel::<()>();
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut input), Some(output), Some(mut errors)) = pipes else {
            return Err(super::error::Error::unable(format!("cannot open pipes to `{name}`")));
        };
        std::thread::spawn(move || {
            for line in said {
                if input.write_all(&line).and_then(|()| input.flush()).is_err() {
                    return;
                }
            }
        });
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            loop {
                let mut line = Vec::new();
                let read = output.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line);
                let is_whole = line.pop() == Some(b'\n');
                if read.is_err() || !is_whole {
                    return;
                }
                if tell.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
        let kept = Arc::clone(&complaints);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(count @ 1..) = errors.read(&mut part) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(&part[..count]);
                let over = kept.len().saturating_sub(MAX_STDERR_BYTES);
                kept.drain(..over);
            }
            drop(complain);
        });
        Ok(LineProcess {
            child,
            line_sender: Some(say),
            lines,
            stderr: complaints,
            stderr_closed: complained,
        })
    }

    /// Sends a line. Failures are not reported here: a program that no longer reads shows it by
    /// exiting.
    pub fn send_line(&self, line: &str) {
        if let Some(say) = &self.line_sender {
            drop(say.send(format!("{line}\n").into_bytes()));
        }
    }

    /// Waits up to `within` for the next line.
    #[must_use]
    pub fn receive_line(&self, within: Duration) -> ReceivedLine {
        match self.lines.recv_timeout(within) {
            Ok(line) => ReceivedLine::Line(line),
            Err(RecvTimeoutError::Timeout) => ReceivedLine::Timeout,
            Err(RecvTimeoutError::Disconnected) => ReceivedLine::Closed,
        }
    }

    /// Closes stdin and waits up to `within` for the program to exit; then kills it. Returns its
    /// exit status and the end of its stderr.
    pub fn close_and_wait(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        self.line_sender = None;
        let deadline = Deadline::after(within);
        let failed = || "cannot wait for the program to exit";
        let status = loop {
            if let Some(status) = self.child.try_wait().with_context(failed)? {
                break status;
            }
            if deadline.remaining().is_none() {
                self.child.kill().with_context(failed)?;
                break self.child.wait().with_context(failed)?;
            }
            std::thread::sleep(POLL_INTERVAL);
        };
        self.stderr_closed.recv_timeout(Duration::from_millis(500)).ok();
        let kept = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept).trim().to_owned();
        drop(kept);
        Ok((status, text))
    }
}

impl Drop for LineProcess {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            drop(self.child.kill().and_then(|()| self.child.wait()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> LineProcess {
        let shell = Program::new("sh", &std::env::temp_dir()).args(["-c", script]);
        LineProcess::spawn(shell).expect("a shell can be started")
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_go_both_ways_until_it_ends() {
        let talk = sh("read line; echo \"heard $line\"; echo oh >&2; exit 3");
        talk.send_line("one");
        assert_eq!(talk.receive_line(LONG), ReceivedLine::Line("heard one".to_owned()));
        assert_eq!(talk.receive_line(LONG), ReceivedLine::Closed);
        let (status, complaints) = talk.close_and_wait(LONG).unwrap();
        assert_eq!((status.code(), complaints.as_str()), (Some(3), "oh"));
    }

    #[test]
    fn silence_is_no_end_and_who_does_not_end_is_ended() {
        let talk = sh("echo half | tr -d '\\n'; exec sleep 600");
        assert_eq!(talk.receive_line(Duration::from_millis(20)), ReceivedLine::Timeout);
        let (status, _) = talk.close_and_wait(Duration::from_millis(20)).unwrap();
        assert_eq!(status.code(), None);
    }
}
