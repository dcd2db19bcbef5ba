//! The reports of `validate`: the result of a run, `--history` and `--list`.
//!
//! ```text
//! passed    lint   1.2 s
//! FAILED    types  0.8 s  exit code 1
//! not healthy: 1 of 2 checks failed: types (2.1 s)
//! ```

use serde::Serialize;

use super::{BOLD, DIM, GREEN, RED, YELLOW, pluralize};
use xtask_base::words::join_names;

/// How many failed checks the last line names.
const MAX_NAMED_CHECKS: usize = 5;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
    /// It ran and passed.
    Passed,
    /// It was skipped, because it has passed before in the same state.
    Cached,
    /// It failed, was fixed, and then passed.
    Fixed,
    Failed,
    /// It did not run, because a check that must pass before it failed.
    Blocked,
    /// It did not run, because it was not selected.
    LeftOut,
    /// The run was interrupted before the check ended.
    Interrupted,
    /// It would run; this is a dry run.
    Planned,
}

impl CheckStatus {
    /// Returns whether the checkout counts as healthy according to this check.
    #[must_use]
    pub fn is_good(self) -> bool {
        !matches!(self, CheckStatus::Failed | CheckStatus::Blocked | CheckStatus::Interrupted)
    }

    /// Returns the name, as in JSON, e.g. `left-out`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            CheckStatus::Passed => "passed",
            CheckStatus::Cached => "cached",
            CheckStatus::Fixed => "fixed",
            CheckStatus::Failed => "failed",
            CheckStatus::Blocked => "blocked",
            CheckStatus::LeftOut => "left-out",
            CheckStatus::Interrupted => "interrupted",
            CheckStatus::Planned => "planned",
        }
    }
}

/// The result of the fix of a failed check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixOutcome {
    /// It was not run, only advised.
    Advised,
    /// It ran, and then the check passed.
    Applied,
    /// It ran, the check still failed, and the files were restored.
    Restored,
    /// It ran, the check still failed, and not all files could be restored.
    Left,
}

/// A fix and its result.
#[derive(Clone, Debug, Serialize)]
pub struct FixLine {
    pub command: String,
    /// `safe` or `risky`.
    pub risk: &'static str,
    pub outcome: FixOutcome,
    /// The reason for the outcome, in one line.
    pub reason: String,
    /// The run ID with which `--undo` reverts it, if it changed files.
    pub undo: Option<String>,
    /// The paths that it changed.
    pub paths: Vec<String>,
}

/// The result of a check.
#[derive(Clone, Debug, Serialize)]
pub struct CheckLine {
    pub name: String,
    pub phase: String,
    pub outcome: CheckStatus,
    /// The reason for the outcome, or its finding, in one line.
    pub reason: String,
    /// All reasons why it ran or was skipped.
    pub why: Vec<String>,
    /// Notes, e.g. that an `inputs` pattern matches no file.
    pub notes: Vec<String>,
    /// The command, or a description of a built-in check.
    pub command: String,
    /// Whether `command` is a shell command.
    #[serde(skip)]
    pub runs_command: bool,
    /// The duration in milliseconds.
    pub duration_ms: u64,
    /// The exit code, or `None` if the command was killed by a signal or timed out.
    pub exit_code: Option<i32>,
    /// The output (stdout and stderr).
    pub output: String,
    /// How many files its key covers.
    pub inputs: usize,
    /// The cache key of the state in which it ran.
    pub key: Option<String>,
    pub fix: Option<FixLine>,
    /// The line in the configuration that defines it, or `None` for a default check.
    pub line: Option<usize>,
}

/// The JSON output of `validate` (`xtask.validate/1`).
#[derive(Clone, Debug, Serialize)]
pub struct ValidateReport {
    pub schema: &'static str,
    /// The ID of the run, for `--undo` and the log.
    pub run: String,
    pub worktree: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
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
    pub checks: Vec<CheckLine>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// The path of the log.
    pub log: Option<String>,
}

/// How many lines of a failed check's output are shown without `-v`.
const MAX_OUTPUT_LINES: usize = 40;

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

impl CheckLine {
    fn status_style(&self) -> anstyle::Style {
        match self.outcome {
            CheckStatus::Passed | CheckStatus::Fixed => GREEN,
            CheckStatus::Cached | CheckStatus::LeftOut | CheckStatus::Planned => DIM,
            CheckStatus::Failed => RED,
            CheckStatus::Blocked | CheckStatus::Interrupted => YELLOW,
        }
    }

    /// Renders one line, as a pipe gets it when the check has ended; `width` is that of the longest name.
    #[must_use]
    pub fn render_line(&self, width: usize) -> String {
        let style = self.status_style();
        let word = match self.outcome {
            CheckStatus::LeftOut => "left out",
            CheckStatus::Failed => "FAILED",
            outcome => outcome.name(),
        };
        let took = match self.outcome {
            CheckStatus::Passed | CheckStatus::Fixed | CheckStatus::Failed => {
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
            lines.extend(self.why.iter().map(|why| format!("{DIM}why: {why}{DIM:#}")));
        }
        for note in &self.notes {
            lines.push(format!("{YELLOW}note{YELLOW:#}: {note}"));
        }
        lines
    }

    /// Renders the output and the fix.
    fn render_block(&self, detail: ReportDetail) -> Option<String> {
        let is_bad = self.outcome == CheckStatus::Failed;
        let has_run =
            matches!(self.outcome, CheckStatus::Passed | CheckStatus::Cached | CheckStatus::Fixed);
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
                text.push_str(&format!("  {DIM}… {hidden} {word} before (-v shows all){DIM:#}\n"));
            }
            for line in &lines[lines.len().saturating_sub(shown)..] {
                text.push_str(&format!("  {line}\n"));
            }
        }
        if let Some(fix) = fix {
            let done = match fix.outcome {
                FixOutcome::Advised => format!("not run: {}", fix.reason),
                _ => fix.reason.clone(),
            };
            text.push_str(&format!("  {BOLD}fix{BOLD:#} `{}`: {done}\n", fix.command));
            if !fix.paths.is_empty() && fix.outcome != FixOutcome::Restored {
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

    fn count_checks(&self, is: impl Fn(CheckStatus) -> bool) -> usize {
        self.checks.iter().filter(|check| is(check.outcome)).count()
    }

    /// Renders the table of all checks, by phase.
    #[must_use]
    pub fn render_table(&self, detail: ReportDetail) -> String {
        let width = self.name_width();
        let mut text = String::new();
        let mut phase = None;
        for check in &self.checks {
            let is_hidden = match check.outcome {
                CheckStatus::LeftOut => !detail.all,
                CheckStatus::Failed | CheckStatus::Blocked | CheckStatus::Interrupted => false,
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
                CheckStatus::LeftOut | CheckStatus::Blocked | CheckStatus::Interrupted
            )
        });
        let mut more = Vec::new();
        let mut add = |number: usize, word: &str| {
            if number > 0 {
                more.push(format!("{number} {word}"));
            }
        };
        add(self.count_checks(|outcome| outcome == CheckStatus::Cached), "skipped as unchanged");
        add(self.count_checks(|outcome| outcome == CheckStatus::Fixed), "fixed");
        add(self.count_checks(|outcome| outcome == CheckStatus::Blocked), "blocked");
        add(self.count_checks(|outcome| outcome == CheckStatus::Interrupted), "interrupted");
        add(self.count_checks(|outcome| outcome == CheckStatus::LeftOut), "left out");
        more.push(format_duration(self.duration_ms));
        let more = more.join(", ");
        if self.dry_run {
            let planned = self.count_checks(|outcome| outcome == CheckStatus::Planned);
            return format!("{} would run ({more})", pluralize(planned, "check"));
        }
        let failed = self.count_checks(|outcome| outcome == CheckStatus::Failed);
        match (self.ok, ran) {
            (true, 0) => format!("{YELLOW}no checks ran{YELLOW:#} ({more})"),
            (true, _) => format!("{GREEN}healthy{GREEN:#}: {} ({more})", pluralize(ran, "check")),
            (false, _) if failed == 0 => format!("{YELLOW}not finished{YELLOW:#} ({more})"),
            (false, _) => {
                let names: Vec<String> = self
                    .checks
                    .iter()
                    .filter(|line| line.outcome == CheckStatus::Failed)
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

/// The statistics of one check, for `--history`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckHistoryLine {
    pub check: String,
    /// The number of results.
    pub runs: usize,
    /// The share of good results, from 0 to 1.
    pub pass_rate: f64,
    /// The share of results from the cache, from 0 to 1.
    pub hit_rate: f64,
    /// The median duration of those that ran, in milliseconds.
    pub median_ms: Option<u64>,
    /// The 95th percentile of the durations, in milliseconds.
    pub p95_ms: Option<u64>,
    /// The last outcome.
    pub last: String,
}

/// The JSON output of `validate --history` (`xtask.validate-history/1`).
#[derive(Clone, Debug, Serialize)]
pub struct CheckHistoryReport {
    pub schema: &'static str,
    /// The number of recorded runs.
    pub runs: usize,
    /// The start of the first of them, RFC 3339 in UTC.
    pub since: Option<String>,
    /// The checks, by name.
    pub checks: Vec<CheckHistoryLine>,
}

impl CheckHistoryReport {
    /// Renders the statistics as a table.
    #[must_use]
    pub fn render_text(&self) -> String {
        let Some(since) = &self.since else { return String::new() };
        let width = self.checks.iter().map(|line| line.check.chars().count()).max().unwrap_or(0);
        let width = width.max("check".len());
        let mut text = format!("{} since {since}\n", pluralize(self.runs, "run"));
        let head = format!(
            "{:<width$}  {:>5}  {:>6}  {:>7}  {:>9}  {:>9}  last",
            "check", "runs", "passed", "skipped", "median", "95 %"
        );
        text.push_str(&format!("{BOLD}{head}{BOLD:#}\n"));
        let share = |share: f64| format!("{:.0} %", share * 100.0);
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), format_duration);
        for line in &self.checks {
            text.push_str(&format!(
                "{:<width$}  {:>5}  {:>6}  {:>7}  {:>9}  {:>9}  {}\n",
                line.check,
                line.runs,
                share(line.pass_rate),
                share(line.hit_rate),
                time(line.median_ms),
                time(line.p95_ms),
                line.last
            ));
        }
        text
    }
}

/// A configured check, for `--list`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckListLine {
    pub name: String,
    pub phase: String,
    /// The command, or a description of a built-in check.
    pub command: String,
    /// The checks that it needs.
    pub needs: Vec<String>,
    /// The tags by which `--only` and `--skip` select it.
    pub tags: Vec<String>,
    /// The operating systems on which it runs; empty for all.
    pub os: Vec<String>,
    pub tests: bool,
    /// Whether it also runs if `CI` is set.
    pub ci: bool,
    /// Whether the `pre-commit` hook runs it.
    pub before_commit: bool,
    /// Why it can never be skipped, or `None` if it can.
    pub always: Option<String>,
    /// How long a pass stays valid, in milliseconds; `None` for ever.
    pub ttl_ms: Option<u64>,
    /// The command of its fix.
    pub fix: Option<String>,
    /// The risk of its fix.
    pub risk: Option<&'static str>,
}

/// The JSON output of `validate --list` (`xtask.validate-list/1`).
#[derive(Clone, Debug, Serialize)]
pub struct CheckListReport {
    pub schema: &'static str,
    /// `setup/validate.toml`, or `None` for the default checks.
    pub config: Option<String>,
    /// The phases, and whether each is a gate.
    pub phases: Vec<(String, bool)>,
    pub checks: Vec<CheckListLine>,
}

impl CheckListReport {
    /// Renders the list, by phase.
    #[must_use]
    pub fn render_text(&self) -> String {
        let width = self.checks.iter().map(|line| line.name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        for (phase, is_gate) in &self.phases {
            let gate = if *is_gate { ", a gate" } else { "" };
            text.push_str(&format!("{BOLD}{phase}{BOLD:#}{gate}\n"));
            for line in self.checks.iter().filter(|line| line.phase == *phase) {
                text.push_str(&format!("  {:<width$}  {}\n", line.name, line.command));
                let more = line.render_properties();
                if !more.is_empty() {
                    text.push_str(&format!("  {:<width$}  {DIM}{more}{DIM:#}\n", ""));
                }
            }
        }
        text
    }
}

impl CheckListLine {
    fn render_properties(&self) -> String {
        let mut words = Vec::new();
        if !self.needs.is_empty() {
            words.push(format!("needs {}", self.needs.join(", ")));
        }
        match (&self.always, self.ttl_ms) {
            (Some(_), _) => words.push("always runs".to_owned()),
            (None, Some(ms)) => words.push(format!("a pass counts for {}", format_duration(ms))),
            (None, None) => {}
        }
        if self.tests {
            words.push("tests".to_owned());
        }
        if !self.ci {
            words.push("not in CI".to_owned());
        }
        if self.before_commit {
            words.push("before a commit".to_owned());
        }
        if !self.os.is_empty() {
            words.push(format!("on {}", self.os.join(" and ")));
        }
        if !self.tags.is_empty() {
            words.push(format!("tags {}", self.tags.join(", ")));
        }
        if let (Some(fix), Some(risk)) = (&self.fix, self.risk) {
            words.push(format!("fix `{fix}` ({risk})"));
        }
        words.join("; ")
    }
}
