//! How checks end, in words and values *(pure)*.

use xtask_base::path::RepoPath;
use xtask_base::process_group::{ExitReason, GroupOutput};
use xtask_config::Check;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// It ran and passed.
    Passed,
    /// It was skipped: it has passed in this very state.
    Cached,
    /// It failed, a fix ran, and it passed then.
    Fixed,
    /// It failed.
    Failed,
    /// It did not run, because what must pass before it did not.
    Blocked,
    /// It does not belong to the run.
    LeftOut,
    /// It was to run, and the run was interrupted.
    Interrupted,
    /// It would run, if this were more than a look.
    Planned,
}

impl CheckOutcome {
    /// Its name, as in JSON and in the history.
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

    /// Whether all is well, as far as this check can tell.
    #[must_use]
    pub fn is_good(self) -> bool {
        !matches!(self, CheckOutcome::Failed | CheckOutcome::Blocked | CheckOutcome::Interrupted)
    }
}

/// What became of a fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixStatus {
    /// It was not run.
    Advised,
    /// It ran, and the check passed then.
    Applied,
    /// It ran in vain, and the files are as they were.
    Restored,
    /// It ran in vain, and not everything could be put back.
    PartlyRestored,
}

/// A fix, and what became of it.
#[derive(Clone, Debug)]
pub struct FixResult {
    /// What became of it.
    pub status: FixStatus,
    /// Why.
    pub reason: String,
    /// The paths that it changed.
    pub paths: Vec<RepoPath>,
    /// Whether it can be taken back.
    pub can_be_undone: bool,
}

/// How a check ended, and why.
#[derive(Clone, Debug)]
pub struct CheckResult {
    /// How.
    pub outcome: CheckOutcome,
    /// Why, or what it found.
    pub reason: String,
    /// Why it ran or was skipped.
    pub run_reasons: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
    /// How long it took.
    pub duration_ms: u64,
    /// With which code its command ended.
    pub exit_code: Option<i32>,
    /// What it printed.
    pub output: String,
    /// How many files its key covers.
    pub inputs: usize,
    /// The key of its state.
    pub key: Option<String>,
    /// Its fix.
    pub fix: Option<FixResult>,
}

/// An end without a command.
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

/// What programs print that wanted to ask somebody and found no terminal: git, ssh, sudo, gpg and others.
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

/// What the end of a command means for its check.
pub(super) fn judge_exit(check: &Check, end: GroupOutput) -> CheckResult {
    let (outcome, reason) = match end.exit_reason {
        ExitReason::Code(0) => (CheckOutcome::Passed, String::new()),
        ExitReason::Code(code) => (CheckOutcome::Failed, format!("it ended with {code}")),
        ExitReason::Signal(signal) => (CheckOutcome::Failed, format!("signal {signal} ended it")),
        ExitReason::TimedOut => {
            let seconds = check.timeout_s;
            (
                CheckOutcome::Failed,
                format!("it took longer than {seconds} s (`timeout`) and was ended"),
            )
        }
        ExitReason::Stopped => (CheckOutcome::Interrupted, "it was interrupted".to_owned()),
    };
    let mut notes = Vec::new();
    if end.left_processes {
        notes.push("it left processes behind, which were ended".to_owned());
    }
    if outcome == CheckOutcome::Failed
        && PROMPT_MARKERS.iter().any(|words| end.output.contains(words))
    {
        notes.push(
            "it asked for something, and a check has no terminal: give it by a variable, a file or an agent"
                .to_owned(),
        );
    }
    let exit_code = match end.exit_reason {
        ExitReason::Code(code) => Some(code),
        _ => None,
    };
    CheckResult { notes, exit_code, output: end.output, ..plain_result(outcome, &reason) }
}
