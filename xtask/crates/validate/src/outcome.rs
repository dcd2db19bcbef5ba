//! Results of checks and fixes as values, and the translation of a command's exit into a result *(pure)*.
//!
//! ```text
//! GroupOutput { exit_reason: Code(1), .. } -> Verdict { outcome: Failed, reason: "exited with code 1" }
//! ```

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use xtask_base::digest::Digest;
use xtask_base::path::RepoPath;
use xtask_base::process_group::{ExitReason, GroupOutput};
use xtask_config::{Check, Fix};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixStatus {
    /// The fix did not run; `reason` says why.
    Advised,
    /// The fix ran, and the check passed afterwards.
    Applied,
    /// The fix ran without success, and all files were restored.
    Restored,
    /// The fix ran without success, and some files could not be restored.
    #[serde(rename = "left")]
    PartlyRestored,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FixResult {
    pub command: String,
    /// `safe` or `risky`.
    pub risk: String,
    #[serde(rename = "outcome")]
    pub status: FixStatus,
    /// The cause of `status`, in a line, e.g. `fixes are off`.
    pub reason: String,
    /// The run ID with which `validate --undo` reverts the fix, if it changed files.
    pub undo: Option<String>,
    /// The paths that the fix changed.
    pub paths: Vec<String>,
    /// The same paths, with the digests of their new contents; `None` for a file that is gone.
    #[serde(skip)]
    pub written: Vec<(RepoPath, Option<Digest>)>,
}

impl FixResult {
    /// Creates the result of a fix that did not run.
    pub(super) fn advised(fix: &Fix, reason: &str) -> FixResult {
        FixResult {
            command: fix.text().to_owned(),
            risk: fix.risk().to_owned(),
            status: FixStatus::Advised,
            reason: reason.to_owned(),
            undo: None,
            paths: Vec::new(),
            written: Vec::new(),
        }
    }
}

/// A hint for the user about a check that ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckNote {
    /// These patterns in `inputs` match no file.
    UnmatchedInputs(String),
    /// These files in `inputs` do not exist.
    MissingInputs(String),
    /// These inputs changed while the check ran.
    ChangedInputs(String),
    LeftProcesses,
    PromptedForInput,
    /// Any other note, as in a report that was read.
    Text(String),
}

impl CheckNote {
    /// Returns whether the note is about an entry of `inputs` that has no file.
    #[must_use]
    pub fn is_about_inputs(&self) -> bool {
        matches!(self, CheckNote::UnmatchedInputs(_) | CheckNote::MissingInputs(_))
    }
}

impl fmt::Display for CheckNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckNote::UnmatchedInputs(globs) => {
                write!(f, "`inputs` has {globs}, which matches no file")
            }
            CheckNote::MissingInputs(paths) => {
                write!(f, "`inputs` has {paths}, and there is no such file")
            }
            CheckNote::ChangedInputs(names) => {
                write!(f, "{names} changed while it ran: its pass is not cached")
            }
            CheckNote::LeftProcesses => f.write_str("it left processes running, which were killed"),
            CheckNote::PromptedForInput => f.write_str(
                "it prompted for input, but a check has no terminal: use an environment variable, a file or an agent",
            ),
            CheckNote::Text(text) => f.write_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for CheckNote {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<CheckNote, D::Error> {
        String::deserialize(deserializer).map(CheckNote::Text)
    }
}

impl Serialize for CheckNote {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a check gave, before it is completed to a `CheckResult`.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub outcome: CheckOutcome,
    /// The cause of a failure, or the finding of a built-in check, in a line.
    pub reason: String,
    pub notes: Vec<CheckNote>,
    pub duration_ms: u64,
    pub exit_code: Option<i32>,
    pub output: String,
    pub fix: Option<FixResult>,
}

impl Verdict {
    /// Creates the verdict on a check that ran no command.
    pub(super) fn new(outcome: CheckOutcome, reason: &str) -> Verdict {
        Verdict {
            outcome,
            reason: reason.to_owned(),
            notes: Vec::new(),
            duration_ms: 0,
            exit_code: None,
            output: String::new(),
            fix: None,
        }
    }

    pub(super) fn failed(reason: &str) -> Verdict {
        Verdict::new(CheckOutcome::Failed, reason)
    }
}

/// The result of one check, also in the JSON output of `validate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckResult {
    pub name: String,
    pub phase: String,
    pub outcome: CheckOutcome,
    /// The cause of a failure, or the finding of a built-in check, in a line.
    pub reason: String,
    /// Why the check ran or was skipped, for `--why`.
    #[serde(rename = "why")]
    pub run_reasons: Vec<String>,
    /// Hints for the user.
    pub notes: Vec<CheckNote>,
    /// The command, or a description of a built-in check.
    pub command: String,
    /// Whether `command` is a shell command.
    #[serde(default)]
    pub runs_command: bool,
    pub duration_ms: u64,
    /// The exit code of the command; `None` if a signal or the timeout ended it, or if no command ran.
    pub exit_code: Option<i32>,
    /// The combined stdout and stderr of the command.
    pub output: String,
    #[serde(flatten)]
    pub state: CheckedState,
    pub fix: Option<FixResult>,
    /// The line in the configuration that defines the check, or `None` for a default check.
    pub line: Option<usize>,
}

/// The state in which a check ran.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedState {
    /// The number of files covered by `key`.
    pub inputs: usize,
    /// The cache key of the state, in hexadecimal.
    pub key: Option<String>,
    /// Whether everything that the check depends on is in the key, so that its result can be cached.
    #[serde(default)]
    pub cacheable: bool,
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

/// Converts the exit of a command into the verdict on its check: exit code 0 passes, all else fails, except
/// that `ExitReason::Stopped` means `Interrupted`.
pub(super) fn judge_exit(check: &Check, end: GroupOutput) -> Verdict {
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
        notes.push(CheckNote::LeftProcesses);
    }
    if outcome == CheckOutcome::Failed
        && PROMPT_MARKERS.iter().any(|words| end.output.contains(words))
    {
        notes.push(CheckNote::PromptedForInput);
    }
    let exit_code = match end.exit_reason {
        ExitReason::Code(code) => Some(code),
        _ => None,
    };
    Verdict { notes, exit_code, output: end.output, ..Verdict::new(outcome, &reason) }
}
