//! The reports of `validate`: the result of a run, `--history` and `--list`.
//!
//! ```text
//! passed    lint   1.2 s
//! FAILED    types  0.8 s  exit code 1
//! not healthy: 1 of 2 checks failed: types (2.1 s)
//! ```

use serde::{Deserialize, Serialize};

pub mod check_history;
pub mod check_list;
pub mod findings;
pub mod github;
pub mod junit;
pub mod merge;
pub mod sanitize;
pub mod sarif;

use super::outcome::{CheckOutcome, CheckResult, FixStatus};
use super::shard::ShardInfo;
use xtask_base::words::{join_names, pluralize};
use xtask_report::{BOLD, DIM, GREEN, RED, Style, YELLOW};

/// How many failed checks the last line names.
const MAX_NAMED_CHECKS: usize = 5;

/// The schema of a [`ValidateReport`].
pub const REPORT_SCHEMA: &str = "xtask.validate/1";

/// The JSON output of `validate` (`xtask.validate/1`).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ValidateReport {
    pub schema: String,
    /// The ID of the run, for `--undo` and the log.
    pub run: String,
    pub worktree: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
    /// The commit that is checked out, or `None` before the first one.
    pub commit: Option<String>,
    /// `setup/validate.toml`, or `None` if it does not exist and the default checks ran.
    pub config: Option<String>,
    /// The start, RFC 3339 in UTC.
    pub started: String,
    /// The duration in milliseconds.
    pub duration_ms: u64,
    /// Whether checks could be skipped (`--fast`).
    pub fast: bool,
    pub dry_run: bool,
    /// Whether every selected check is good.
    pub ok: bool,
    /// The checks, in the order of phases.
    pub checks: Vec<CheckResult>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The path of the log.
    pub log: Option<String>,
    /// Which part of a run this is (`--shard`).
    pub shard: Option<ShardInfo>,
    #[serde(skip)]
    pub is_interrupted: bool,
}

/// How many lines of a failed check's output are shown without `-v`.
const MAX_OUTPUT_LINES: usize = 40;

/// What stands for the lines that are not shown.
pub const MORE_LINES: &str = "(-v shows all)";

/// How detailed a report is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportDetail {
    /// Also show checks that were left out, and the output of passed ones.
    pub all: bool,
    /// Only show failures.
    pub quiet: bool,
    /// Show why each check ran or was skipped.
    pub why: bool,
}

/// Formats a duration, e.g. `3.1 s` or `2 m 05 s`.
#[must_use]
pub fn format_duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} m {:02} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

impl CheckResult {
    fn status_style(&self) -> Style {
        match self.outcome {
            CheckOutcome::Passed | CheckOutcome::Fixed => GREEN,
            CheckOutcome::Cached | CheckOutcome::LeftOut | CheckOutcome::Planned => DIM,
            CheckOutcome::Failed => RED,
            CheckOutcome::Blocked | CheckOutcome::Interrupted => YELLOW,
        }
    }

    /// Renders one line, as a pipe gets it when the check has ended; `width` is that of the longest name.
    #[must_use]
    pub fn render_line(&self, width: usize) -> String {
        let style = self.status_style();
        let word = match self.outcome {
            CheckOutcome::LeftOut => "left out",
            CheckOutcome::Failed => "FAILED",
            outcome => outcome.name(),
        };
        let took = match self.outcome {
            CheckOutcome::Passed | CheckOutcome::Fixed | CheckOutcome::Failed => {
                format_duration(self.duration_ms)
            }
            _ => String::new(),
        };
        let line = format!("{style}{word:<8}{style:#}  {:<width$}  {took:>9}", self.name);
        let line = if self.reason.is_empty() { line } else { format!("{line}  {}", self.reason) };
        line.trim_end().to_owned()
    }

    /// Renders the notes below the line.
    #[must_use]
    pub fn render_notes(&self, detail: ReportDetail) -> Vec<String> {
        let mut lines = Vec::new();
        if detail.why {
            lines.extend(self.run_reasons.iter().map(|why| format!("{DIM}why: {why}{DIM:#}")));
        }
        for note in &self.notes {
            lines.push(format!("{YELLOW}note{YELLOW:#}: {note}"));
        }
        lines
    }

    /// Renders the output and the fix.
    fn render_block(&self, detail: ReportDetail) -> Option<String> {
        let is_bad = self.outcome == CheckOutcome::Failed;
        let has_run = matches!(
            self.outcome,
            CheckOutcome::Passed | CheckOutcome::Cached | CheckOutcome::Fixed
        );
        let is_shown = is_bad || detail.all && has_run && !self.output.trim().is_empty();
        let fix = self.fix.as_ref();
        if !is_shown && fix.is_none() {
            return None;
        }
        let style = self.status_style();
        let mut text = format!("\n{style}{}{style:#}", self.name);
        if !self.reason.is_empty() {
            text.push_str(&format!(": {}", self.reason));
        }
        text.push('\n');
        if is_shown {
            if self.runs_command {
                text.push_str(&format!("  {DIM}$ {}{DIM:#}\n", self.command));
            }
            let lines: Vec<&str> = self.output.trim_end().lines().collect();
            let shown = if detail.all { lines.len() } else { MAX_OUTPUT_LINES };
            if let Some(hidden) = lines.len().checked_sub(shown).filter(|hidden| *hidden > 0) {
                let word = if hidden == 1 { "line" } else { "lines" };
                text.push_str(&format!("  {DIM}… {hidden} {word} before {MORE_LINES}{DIM:#}\n"));
            }
            for line in &lines[lines.len().saturating_sub(shown)..] {
                text.push_str(&format!("  {line}\n"));
            }
        }
        if let Some(fix) = fix {
            let done = match fix.status {
                FixStatus::Advised => format!("not run: {}", fix.reason),
                _ => fix.reason.clone(),
            };
            text.push_str(&format!("  {BOLD}fix{BOLD:#} `{}`: {done}\n", fix.command));
            if !fix.paths.is_empty() && fix.status != FixStatus::Restored {
                text.push_str(&format!("      changed {}\n", join_names(&fix.paths, 5)));
            }
            if let Some(undo) = &fix.undo {
                text.push_str(&format!("      `cargo xtask validate --undo {undo}` reverts it\n"));
            }
        }
        Some(text)
    }
}

impl ValidateReport {
    fn name_width(&self) -> usize {
        self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0)
    }

    fn count_checks(&self, is: impl Fn(CheckOutcome) -> bool) -> usize {
        self.checks.iter().filter(|check| is(check.outcome)).count()
    }

    /// Renders the table of all checks, and the summary.
    #[must_use]
    pub fn render_text(&self, detail: ReportDetail) -> String {
        self.render_table(detail) + &self.render_summary(detail)
    }

    /// Renders the table of all checks, by phase.
    fn render_table(&self, detail: ReportDetail) -> String {
        let width = self.name_width();
        let mut text = String::new();
        let mut phase = None;
        for check in &self.checks {
            let is_hidden = match check.outcome {
                CheckOutcome::LeftOut => !detail.all,
                CheckOutcome::Failed | CheckOutcome::Blocked | CheckOutcome::Interrupted => false,
                _ => detail.quiet,
            };
            if is_hidden {
                continue;
            }
            if phase != Some(&check.phase) {
                phase = Some(&check.phase);
                text.push_str(&format!("{BOLD}{}{BOLD:#}\n", check.phase));
            }
            text.push_str(&format!("  {}\n", check.render_line(width)));
            for line in check.render_notes(detail) {
                text.push_str(&format!("            {line}\n"));
            }
        }
        text
    }

    /// Renders the output and fixes of failed checks, and the last line.
    #[must_use]
    pub fn render_summary(&self, detail: ReportDetail) -> String {
        let mut text: String =
            self.checks.iter().filter_map(|check| check.render_block(detail)).collect();
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&self.render_verdict());
        text.push('\n');
        text
    }

    /// Renders the last line, e.g. `healthy: 12 checks (8 skipped as unchanged, 3.1 s)`.
    fn render_verdict(&self) -> String {
        let ran = self.count_checks(|outcome| {
            !matches!(
                outcome,
                CheckOutcome::LeftOut | CheckOutcome::Blocked | CheckOutcome::Interrupted
            )
        });
        let mut more = Vec::new();
        let mut add = |number: usize, word: &str| {
            if number > 0 {
                more.push(format!("{number} {word}"));
            }
        };
        add(self.count_checks(|outcome| outcome == CheckOutcome::Cached), "skipped as unchanged");
        add(self.count_checks(|outcome| outcome == CheckOutcome::Fixed), "fixed");
        add(self.count_checks(|outcome| outcome == CheckOutcome::Blocked), "blocked");
        add(self.count_checks(|outcome| outcome == CheckOutcome::Interrupted), "interrupted");
        add(self.count_checks(|outcome| outcome == CheckOutcome::LeftOut), "left out");
        more.push(format_duration(self.duration_ms));
        let more = more.join(", ");
        if self.dry_run {
            let planned = self.count_checks(|outcome| outcome == CheckOutcome::Planned);
            return format!("{} would run ({more})", pluralize(planned, "check"));
        }
        let failed = self.count_checks(|outcome| outcome == CheckOutcome::Failed);
        match (self.ok, ran) {
            (true, 0) => format!("{YELLOW}no checks ran{YELLOW:#} ({more})"),
            (true, _) => format!("{GREEN}healthy{GREEN:#}: {} ({more})", pluralize(ran, "check")),
            (false, _) if failed == 0 => format!("{YELLOW}not finished{YELLOW:#} ({more})"),
            (false, _) => {
                let names: Vec<String> = self
                    .checks
                    .iter()
                    .filter(|line| line.outcome == CheckOutcome::Failed)
                    .map(|line| line.name.clone())
                    .collect();
                format!(
                    "{RED}not healthy{RED:#}: {failed} of {} failed: {} ({more})",
                    pluralize(ran, "check"),
                    join_names(&names, MAX_NAMED_CHECKS)
                )
            }
        }
    }
}
