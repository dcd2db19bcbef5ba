//! What a validation says: the values of a report, and its text.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ran and passed.
    Passed,
    /// It passed before in this very state, and was skipped.
    Cached,
    /// It failed, was put right, and passed then.
    Fixed,
    /// It failed.
    Failed,
    /// It did not run, because what must pass before it did not.
    Blocked,
    /// It did not run, because it was not asked for here.
    LeftOut,
    /// The run was interrupted before it had ended.
    Interrupted,
}

impl Outcome {
    /// Whether the checkout counts as healthy as far as this check is concerned.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Outcome::Passed | Outcome::Cached | Outcome::Fixed | Outcome::LeftOut)
    }

    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Cached => "cached",
            Outcome::Fixed => "fixed",
            Outcome::Failed => "failed",
            Outcome::Blocked => "blocked",
            Outcome::LeftOut => "left-out",
            Outcome::Interrupted => "interrupted",
        }
    }
}

/// What became of the fix of a check that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixOutcome {
    /// It was not run; it is advice.
    Advised,
    /// It ran, and the check passed afterwards.
    Applied,
    /// It ran, the check failed all the same, and the files are as they were.
    Restored,
    /// It ran, the check failed all the same, and not all files could be put back.
    Left,
}

/// A fix, and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct FixLine {
    /// The command.
    pub command: String,
    /// `safe` or `risky`.
    pub risk: &'static str,
    /// What became of it.
    pub outcome: FixOutcome,
    /// Why, in a few words.
    pub reason: String,
    /// The run by which `--undo` takes it back, where there is something to take back.
    pub undo: Option<String>,
    /// The paths that it changed.
    pub paths: Vec<String>,
}

/// A check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckLine {
    /// Its name.
    pub name: String,
    /// Its phase.
    pub phase: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it ended so, or what it found, in a line.
    pub reason: String,
    /// Why it ran or was skipped, each reason.
    pub why: Vec<String>,
    /// What is to be known about it.
    pub notes: Vec<String>,
    /// What it does, in a line: its command.
    pub command: String,
    /// How long it took.
    pub duration_ms: u64,
    /// How its command ended; nothing where a signal or the end of its time ended it.
    pub exit_code: Option<i32>,
    /// What it printed.
    pub output: String,
    /// How many files its key covers.
    pub inputs: usize,
    /// The key of the state in which it ran.
    pub key: Option<String>,
    /// Its fix.
    pub fix: Option<FixLine>,
    /// The line of the configuration on which it stands; nothing where there is no file.
    pub line: Option<usize>,
}

/// The answer of `validate`.
#[derive(Clone, Debug, Serialize)]
pub struct ValidateReport {
    /// Names this shape.
    pub schema: &'static str,
    /// Names this run, for `--undo` and the log.
    pub run: String,
    /// The root of the worktree.
    pub worktree: String,
    /// The branch; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// Where the checks come from: `setup/validate.toml`, or nothing where there is no such file.
    pub config: Option<String>,
    /// When it began, RFC 3339 UTC.
    pub started: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether checks could be skipped.
    pub fast: bool,
    /// Whether it only said what would happen.
    pub dry_run: bool,
    /// Whether every check that was asked for is good.
    pub ok: bool,
    /// The checks, in the order of phases.
    pub checks: Vec<CheckLine>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The file of the log.
    pub log: Option<String>,
}
