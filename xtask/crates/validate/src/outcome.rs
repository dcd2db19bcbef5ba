//! Results of checks and fixes as values, and the translation of a command's exit into a result *(pure)*.
//!
//! ```text
//! GroupOutput { exit_reason: Code(1), .. } -> CheckResult { outcome: Failed, reason: "exited with code 1" }
//! ```

use xtask_base::path::RepoPath;
use xtask_base::process_group::{ExitReason, GroupOutput};
use xtask_config::Check;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The check ran and passed.
    Passed,
    /// The check was skipped: it passed before in exactly this state.
    Cached,
    /// The check failed, its fix ran, and it passed afterwards.
    Fixed,
    Failed,
    /// The check did not run because one of its `needs`, or an earlier gate phase, did not pass.
    Blocked,
    /// The check is not part of the run, e.g. because of `--skip`.
    LeftOut,
    /// The run was interrupted before the check finished.
    Interrupted,
    /// The check would run if this were not a `--dry-run`.
    Planned,
}

impl CheckOutcome {
    /// Returns the name used in JSON and in the history, e.g. `left-out`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Cached => "cached",
            CheckOutcome::Fixed => "fixed",
            CheckOutcome::Failed => "failed",
            CheckOutcome::Blocked => "blocked",
            CheckOutcome::LeftOut => "left-out",
            CheckOutcome::Interrupted => "interrupted",
            CheckOutcome::Planned => "planned",
        }
    }

    /// Returns `false` only for `Failed`, `Blocked` and `Interrupted`: a check that was left out does not
    /// fail a run.
    #[must_use]
    pub fn is_good(self) -> bool {
        !matches!(self, CheckOutcome::Failed | CheckOutcome::Blocked | CheckOutcome::Interrupted)
    }
}

/// The status of the fix of a failed check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixStatus {
    /// The fix did not run; `reason` says why.
    Advised,
    /// The fix ran, and the check passed afterwards.
    Applied,
    /// The fix ran without success, and all files were restored.
    Restored,
    /// The fix ran without success, and some files could not be restored.
    PartlyRestored,
}

#[derive(Clone, Debug)]
pub struct FixResult {
    pub status: FixStatus,
    /// The cause of `status`, in a line, e.g. `fixes are off`.
    pub reason: String,
    /// The paths that the fix changed.
    pub paths: Vec<RepoPath>,
    /// Whether `validate --undo` can revert the fix.
    pub can_be_undone: bool,
}

/// The result of one check.
#[derive(Clone, Debug)]
pub struct CheckResult {
    pub outcome: CheckOutcome,
    /// The cause of a failure, or the finding of a built-in check, in a line.
    pub reason: String,
    /// Why the check ran or was skipped, for `--why`.
    pub run_reasons: Vec<String>,
    /// Hints for the user.
    pub notes: Vec<String>,
    pub duration_ms: u64,
    /// The exit code of the command; `None` if a signal or the timeout ended it, or if no command ran.
    pub exit_code: Option<i32>,
    /// The combined stdout and stderr of the command.
    pub output: String,
    /// The number of files covered by `key`.
    pub inputs: usize,
    /// The cache key of the state in which the check ran, in hexadecimal.
    pub key: Option<String>,
    pub fix: Option<FixResult>,
}

/// Creates the result of a check that ran no command.
pub(super) fn plain_result(outcome: CheckOutcome, reason: &str) -> CheckResult {
    CheckResult {
        outcome,
        reason: reason.to_owned(),
        run_reasons: Vec::new(),
        notes: Vec::new(),
        duration_ms: 0,
        exit_code: None,
        output: String::new(),
        inputs: 0,
        key: None,
        fix: None,
    }
}

/// Output of programs (git, ssh, sudo, gpg and others) that wanted to prompt and found no terminal.
const PROMPT_MARKERS: [&str; 9] = [
    "/dev/tty",
    "terminal prompts disabled",
    "could not read Username",
    "could not read Password",
    "a terminal is required",
    "no tty present",
    "Inappropriate ioctl",
    "Host key verification failed",
    "not a tty",
];

/// Converts the exit of a command into the result of its check: exit code 0 passes, all else fails, except
/// that `ExitReason::Stopped` means `Interrupted`.
pub(super) fn judge_exit(check: &Check, end: GroupOutput) -> CheckResult {
    let (outcome, reason) = match end.exit_reason {
        ExitReason::Code(0) => (CheckOutcome::Passed, String::new()),
        ExitReason::Code(code) => (CheckOutcome::Failed, format!("exited with code {code}")),
        ExitReason::Signal(signal) => (CheckOutcome::Failed, format!("killed by signal {signal}")),
        ExitReason::TimedOut => {
            let seconds = check.timeout_s;
            (CheckOutcome::Failed, format!("timed out after {seconds} s (`timeout`)"))
        }
        ExitReason::Stopped => (CheckOutcome::Interrupted, "interrupted".to_owned()),
    };
    let mut notes = Vec::new();
    if end.left_processes {
        notes.push("it left processes running, which were killed".to_owned());
    }
    if outcome == CheckOutcome::Failed
        && PROMPT_MARKERS.iter().any(|words| end.output.contains(words))
    {
        notes.push(
            "it prompted for input, but a check has no terminal: use an environment variable, a file or an agent"
                .to_owned(),
        );
    }
    let exit_code = match end.exit_reason {
        ExitReason::Code(code) => Some(code),
        _ => None,
    };
    CheckResult { notes, exit_code, output: end.output, ..plain_result(outcome, &reason) }
}
