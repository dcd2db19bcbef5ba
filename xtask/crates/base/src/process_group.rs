//! A command in a process group of its own: run for at most so long, what it prints kept within a
//! bound, and nothing of its group left behind.
//!
//! Its first process is not reaped before the whole group has been ended, so the number by which the
//! group is ended cannot have become somebody else's. Who leaves the group on purpose, as daemons
//! do, is left alone.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::error::{Result, ResultExt};
use super::process::{Program, spawn_error};

/// How much is kept of the beginning of what a command prints, and of its end: 256 KiB each.
const KEPT_AT_EACH_END: usize = 256 << 10;

/// How often it is asked whether the command is to be stopped.
const STOP_POLL: Duration = Duration::from_millis(20);

/// How long a command may take to end after it was asked to: two seconds.
const TERM_GRACE: Duration = Duration::from_secs(2);

/// How long the system may take to end what was killed. What sits in an uninterruptible call takes
/// longer; it is left to the system then.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the last words of a command may take to arrive.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(200);

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// It took too long, and was ended.
    TimedOut,
    /// The run was stopped, and it with it.
    Stopped,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct GroupOutput {
    /// How it ended.
    pub exit_reason: ExitReason,
    /// What it printed, both streams in the order of arrival. The middle of very much is left out,
    /// and says so.
    pub output: String,
    /// Whether something was left out.
    pub is_truncated: bool,
    /// Whether it left processes behind that still held its output, which were ended.
    pub left_processes: bool,
}

impl Program {
    /// Runs it without input in a group of its own, for at most `longest` or until `stop` says so.
    pub fn run_in_group(self, longest: Duration, stop: &dyn Fn() -> bool) -> Result<GroupOutput> {
        self.run_isolated(longest, stop, true)
    }

    /// The same for a program that leaves our session itself, which the leader of a group cannot.
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
            std::io::pipe().with_context(|| format!("`{name}` cannot be listened to"))?;
        let second =
            writer.try_clone().with_context(|| format!("`{name}` cannot be listened to"))?;
        let command = self.command_mut().stdin(Stdio::null()).stdout(writer).stderr(second);
        let command = if leads { command.process_group(0) } else { command };
        let child = command.spawn().map_err(|cause| spawn_error(&name, cause));
        // The ends of the pipe in the command are ours as well, and must be closed to hear its end.
        drop(self);
        let mut child = child?;
        let heard = OutputReader::spawn_reader(pipe);
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
            // Who cannot be signalled has ended already.
            kill_process_group(pid, Signal::TERM).ok();
        }
        if cut_short.is_some() && !leads {
            // It may not lead anything yet.
            rustix::process::kill_process(pid, Signal::TERM).ok();
        }
        if cut_short.is_some() {
            // Whether it ends by itself or not, it is killed.
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
        let (output, is_cut) = heard.to_text();
        Ok(GroupOutput {
            exit_reason: end,
            output,
            is_truncated: is_cut,
            left_processes: left_others,
        })
    }
}

fn reap_child(child: &mut Child, name: &str) -> Result<ExitReason> {
    let status = child.wait().with_context(|| format!("`{name}` cannot be waited for"))?;
    Ok(match (status.code(), status.signal()) {
        (Some(code), _) => ExitReason::Code(code),
        (None, signal) => ExitReason::Signal(signal.unwrap_or(0)),
    })
}

/// Waits in a thread of its own for a process to end, without reaping it. The channel is closed when
/// it has ended.
fn watch_exit(pid: Pid) -> Receiver<()> {
    let (tell, ended) = channel();
    std::thread::spawn(move || {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options).err() == Some(rustix::io::Errno::INTR) {}
        drop(tell);
    });
    ended
}

/// The beginning and the end of what was printed.
#[derive(Default)]
struct HeadTailBuffer {
    head: Vec<u8>,
    tail: std::collections::VecDeque<u8>,
    left_out: u64,
}

impl HeadTailBuffer {
    fn append(&mut self, part: &[u8]) {
        let room = KEPT_AT_EACH_END.saturating_sub(self.head.len()).min(part.len());
        let (first, rest) = part.split_at(room);
        self.head.extend(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(KEPT_AT_EACH_END);
        self.tail.drain(..over);
        self.left_out += over as u64;
    }
}

/// Listens to a pipe. Somebody may hold it open for ever, so nobody waits for its end for long.
struct OutputReader {
    kept: Arc<Mutex<HeadTailBuffer>>,
    end: Receiver<()>,
}

impl OutputReader {
    fn spawn_reader(mut pipe: impl Read + Send + 'static) -> OutputReader {
        let kept = Arc::new(Mutex::new(HeadTailBuffer::default()));
        let (tell, end) = channel::<()>();
        let into = Arc::clone(&kept);
        std::thread::spawn(move || {
            let mut part = [0; 16384];
            while let Ok(count @ 1..) = pipe.read(&mut part) {
                into.lock().unwrap_or_else(PoisonError::into_inner).append(&part[..count]);
            }
            drop(tell);
        });
        OutputReader { kept, end }
    }

    /// Whether nobody holds the other end any more, or lets go of it soon.
    fn has_ended(&self, soon: Duration) -> bool {
        self.end.recv_timeout(soon) == Err(RecvTimeoutError::Disconnected)
    }

    fn to_text(&self) -> (String, bool) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::from_utf8_lossy(&kept.head).into_owned();
        if kept.left_out > 0 {
            text.push_str(&format!("\n[… {} bytes left out …]\n", kept.left_out));
        }
        let tail: Vec<u8> = kept.tail.iter().copied().collect();
        text.push_str(&String::from_utf8_lossy(&tail));
        (text, kept.left_out > 0)
    }
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
