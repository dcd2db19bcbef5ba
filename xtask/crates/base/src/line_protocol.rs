//! A program with which lines are exchanged for as long as it runs.
//!
//! It has a process group of its own, so what is typed on the terminal does not end it. Nobody waits for it
//! without a bound: what is said to it is written by a thread, what it says is read by others, and only so
//! many lines of only such a length are kept. Who lets go of it ends it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::deadline::Deadline;
use super::error::{Result, ResultExt};
use super::process::Program;

/// The longest line that is read: 16 MiB, far above all that is said.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// How many lines wait to be heard before whoever says more has to wait.
const MAX_QUEUED_LINES: usize = 1000;

/// How much is kept of what it complains about: the last 16 KiB.
const MAX_STDERR_BYTES: usize = 16 << 10;

/// How often it is looked whether it has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A program that runs.
pub struct LineProcess {
    child: Child,
    line_sender: Option<Sender<Vec<u8>>>,
    lines: Receiver<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
    stderr_closed: Receiver<()>,
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceivedLine {
    /// A line, without its end.
    Line(String),
    /// Nothing so far.
    Timeout,
    /// It says no more.
    Closed,
}

impl LineProcess {
    /// Starts it.
    pub fn spawn(program: Program) -> Result<LineProcess> {
        let (piped, name) = (Stdio::piped, program.name().to_owned());
        let mut child = program.in_own_group().spawn(piped(), piped(), piped())?;
        let (say, said) = channel::<Vec<u8>>();
        let (tell, lines) = sync_channel(MAX_QUEUED_LINES);
        let (complain, complained) = channel::<()>();
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut input), Some(output), Some(mut errors)) = pipes else {
            return Err(super::error::Error::unable(format!("`{name}` cannot be talked to")));
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

    /// Says a line. One who does not hear it any more says so by ending.
    pub fn send_line(&self, line: &str) {
        if let Some(say) = &self.line_sender {
            drop(say.send(format!("{line}\n").into_bytes()));
        }
    }

    /// The next line, within a time.
    #[must_use]
    pub fn receive_line(&self, within: Duration) -> ReceivedLine {
        match self.lines.recv_timeout(within) {
            Ok(line) => ReceivedLine::Line(line),
            Err(RecvTimeoutError::Timeout) => ReceivedLine::Timeout,
            Err(RecvTimeoutError::Disconnected) => ReceivedLine::Closed,
        }
    }

    /// Says no more, and waits for its end; one that does not end is ended. Answers with how it ended and
    /// with its complaints.
    pub fn close_and_wait(mut self, within: Duration) -> Result<(ExitStatus, String)> {
        self.line_sender = None;
        let deadline = Deadline::after(within);
        let failed = || "a program cannot be waited for";
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
