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
use std::time::Duration;

use super::error::{Result, ResultExt};
use super::pipe_reader::{KeptBytes, PipeReader};
use super::process::{Program, wait_with_timeout};

/// The maximum length of a line: 16 MiB, far more than any message.
const MAX_LINE_BYTES: u64 = 16 << 20;

/// The number of unread lines after which the program blocks when writing more.
const MAX_QUEUED_LINES: usize = 1000;

/// The amount of stderr kept: the last 16 KiB.
const MAX_STDERR_BYTES: usize = 16 << 10;

/// The time for the rest of stderr to arrive after the program has exited.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(500);

/// A running program with a line-based protocol.
pub struct LineProcess {
    child: Child,
    line_sender: Option<Sender<Vec<u8>>>,
    lines: Receiver<String>,
    /// Its stderr, until it is closed.
    stderr: Option<PipeReader>,
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
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut input), Some(output), Some(errors)) = pipes else {
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
        let stderr = PipeReader::spawn(errors, 0, MAX_STDERR_BYTES);
        Ok(LineProcess { child, line_sender: Some(say), lines, stderr: Some(stderr) })
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
        let failed = || "cannot wait for the program to exit";
        let waited = wait_with_timeout(&mut self.child, within).with_context(failed)?;
        let status = match waited {
            Some(status) => status,
            None => {
                self.child.kill().with_context(failed)?;
                self.child.wait().with_context(failed)?
            }
        };
        let kept = self.stderr.take().map_or_else(KeptBytes::default, |stderr| {
            stderr.has_ended(DRAIN_TIMEOUT);
            stderr.into_kept()
        });
        let text: Vec<u8> = kept.tail.into();
        Ok((status, String::from_utf8_lossy(&text).trim().to_owned()))
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
