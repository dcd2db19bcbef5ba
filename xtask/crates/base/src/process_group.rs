//! Commands in their own process group, with limits on time and output, and without processes left
//! behind.
//!
//! The first process is reaped only after the whole group has been killed, so the ID of the group
//! cannot have been reused. Processes that leave the group on purpose, such as daemons, are left
//! alone. For example:
//!
//! ```text
//! sh -c "sleep 600 & echo started"
//!   -> GroupOutput { exit_reason: Code(0), output: "started\n", left_processes: true, … }
//! ```

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::error::{Result, ResultExt};
use super::pipe_reader::{KeptBytes, PipeReader};
use super::process::{Program, spawn_error, watch_exit};

/// The amount of output kept from its beginning and from its end: 256 KiB each.
const KEPT_AT_EACH_END: usize = 256 << 10;

/// The interval between calls of `stop`.
const STOP_POLL: Duration = Duration::from_millis(20);

/// The time between `SIGTERM` and `SIGKILL`: 2 seconds.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// The time for the system to end killed processes. An uninterruptible system call takes longer;
/// such a process is then left to the system.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// The time for the rest of the output to arrive.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// The way in which a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Exited with this code.
    Code(i32),
    /// Killed by a signal that xtask did not send.
    Signal(i32),
    /// Killed after the time limit.
    TimedOut,
    /// Killed because `stop` returned `true`.
    Stopped,
}

/// The result of a command.
#[derive(Clone, Debug)]
pub struct GroupOutput {
    pub exit_reason: ExitReason,
    /// The combined stdout and stderr in order of arrival. If too long, a note replaces the middle:
    /// `[… 123 bytes left out …]`.
    pub output: String,
    /// Whether the middle of `output` was left out.
    pub is_truncated: bool,
    /// Whether processes that still held the output open were left, and killed.
    pub left_processes: bool,
}

impl Program {
    /// Runs the command without input in its own process group, for at most `longest` or until
    /// `stop` returns `true`.
    pub fn run_in_group(self, longest: Duration, stop: &dyn Fn() -> bool) -> Result<GroupOutput> {
        self.run_isolated(longest, stop, true)
    }

    /// Runs like [`Program::run_in_group`], for a program that calls `setsid` itself, which the
    /// leader of a group cannot do.
    pub fn run_in_session(self, longest: Duration, stop: &dyn Fn() -> bool) -> Result<GroupOutput> {
        self.run_isolated(longest, stop, false)
    }

    fn run_isolated(
        mut self,
        longest: Duration,
        stop: &dyn Fn() -> bool,
        leads: bool,
    ) -> Result<GroupOutput> {
        let name = self.name().to_owned();
        let (pipe, writer) =
            std::io::pipe().with_context(|| format!("cannot read the output of `{name}`"))?;
        let second =
            writer.try_clone().with_context(|| format!("cannot read the output of `{name}`"))?;
        let command = self.command_mut().stdin(Stdio::null()).stdout(writer).stderr(second);
        let command = if leads { command.process_group(0) } else { command };
        let child = command.spawn().map_err(|cause| spawn_error(&name, cause));
        // The command holds copies of the write end, which must be closed for the reader to reach
        // the end.
        drop(self);
        let mut child = child?;
        let heard = PipeReader::spawn(pipe, KEPT_AT_EACH_END, KEPT_AT_EACH_END);
        let pid = Pid::from_child(&child);
        let ended = watch_exit(pid);
        let mut waited = Duration::ZERO;
        let cut_short = loop {
            let pause = STOP_POLL.min(longest.saturating_sub(waited));
            match ended.recv_timeout(pause) {
                Err(RecvTimeoutError::Timeout) if stop() => break Some(ExitReason::Stopped),
                Err(RecvTimeoutError::Timeout) => {
                    waited += pause;
                    if waited >= longest {
                        break Some(ExitReason::TimedOut);
                    }
                }
                _ => break None,
            }
        };
        let left_others = cut_short.is_none() && !heard.has_ended(DRAIN_TIMEOUT);
        if cut_short.is_some() || left_others {
            // An error means that the processes have already ended.
            kill_process_group(pid, Signal::TERM).ok();
        }
        if cut_short.is_some() && !leads {
            // The program may not be the leader of a session yet.
            rustix::process::kill_process(pid, Signal::TERM).ok();
        }
        if cut_short.is_some() {
            // The group is killed below in either case.
            ended.recv_timeout(TERM_GRACE).ok();
        }
        heard.has_ended(DRAIN_TIMEOUT);
        kill_process_group(pid, Signal::KILL).ok();
        let end = match cut_short {
            Some(end) => {
                if ended.recv_timeout(KILL_TIMEOUT) != Err(RecvTimeoutError::Timeout) {
                    reap_child(&mut child, &name)?;
                }
                end
            }
            None => reap_child(&mut child, &name)?,
        };
        let kept = heard.into_kept();
        Ok(GroupOutput {
            exit_reason: end,
            output: render_output(&kept),
            is_truncated: kept.left_out > 0,
            left_processes: left_others,
        })
    }
}

fn reap_child(child: &mut Child, name: &str) -> Result<ExitReason> {
    let status = child.wait().with_context(|| format!("cannot wait for `{name}`"))?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => ExitReason::Code(code),
        (None, signal) => ExitReason::Signal(signal.unwrap_or(0)),
    })
}

/// Returns the output as text, with a note in place of bytes that were left out.
fn render_output(kept: &KeptBytes) -> String {
    let mut text = String::from_utf8_lossy(&kept.head).into_owned();
    if kept.left_out > 0 {
        text.push_str(&format!("\n[… {} bytes left out …]\n", kept.left_out));
    }
    let tail: Vec<u8> = kept.tail.iter().copied().collect();
    text.push_str(&String::from_utf8_lossy(&tail));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, longest: Duration, stop: &dyn Fn() -> bool) -> GroupOutput {
        let shell = Program::new("sh", &std::env::temp_dir()).args(["-c", script]);
        shell.run_in_group(longest, stop).expect("a shell can be started")
    }

    const LONG: Duration = Duration::from_secs(600);

    fn is_gone(pid: &str) -> bool {
        let pid = pid.trim().parse().expect("a number");
        (0..2000).any(|_| {
            // Nobody reaps it here but the system.
            let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let is_zombie = state.contains(") Z ");
            let gone = is_zombie || !super::super::process::is_running(pid);
            if !gone {
                std::thread::sleep(Duration::from_millis(5));
            }
            gone
        })
    }

    #[test]
    fn both_streams_and_the_code_are_kept() {
        let done = sh("echo out; echo err >&2; exit 3", LONG, &|| false);
        assert_eq!((done.exit_reason, done.output.as_str()), (ExitReason::Code(3), "out\nerr\n"));
        assert!(!done.is_truncated && !done.left_processes);
    }

    #[test]
    fn a_signal_is_no_code() {
        assert_eq!(sh("kill -9 $$", LONG, &|| false).exit_reason, ExitReason::Signal(9));
    }

    #[test]
    fn who_ignores_term_is_killed_and_grandchildren_go_along() {
        let script = "trap '' TERM; sleep 600 & echo $!; while :; do sleep 600; done";
        let done = sh(script, Duration::from_millis(300), &|| false);
        assert_eq!(done.exit_reason, ExitReason::TimedOut);
        assert!(is_gone(&done.output), "{}", done.output);
    }

    #[test]
    fn what_is_left_behind_is_ended() {
        let done = sh("sleep 600 & echo $!", LONG, &|| false);
        assert_eq!((done.exit_reason, done.left_processes), (ExitReason::Code(0), true));
        assert!(is_gone(&done.output), "{}", done.output);
        let done = sh("sleep 600 >/dev/null 2>&1 & echo $!", LONG, &|| false);
        assert!(is_gone(&done.output), "{}", done.output);
    }

    #[test]
    fn a_stop_ends_it() {
        assert_eq!(sh("sleep 600", LONG, &|| true).exit_reason, ExitReason::Stopped);
    }

    #[test]
    fn a_flood_is_cut_in_the_middle() {
        let done =
            sh("echo first; head -c 9000000 /dev/zero | tr '\\0' x; echo last", LONG, &|| false);
        assert!(done.is_truncated && done.output.len() < 3 * KEPT_AT_EACH_END);
        assert!(done.output.starts_with("first\n") && done.output.ends_with("last\n"));
        assert!(done.output.contains("bytes left out"));
    }
}
