//! What a validation says: the values of a report, and its text.

use serde::Serialize;

use super::{BOLD, DIM, GREEN, RED, YELLOW, pluralize};
use xtask_base::words::join_names;

/// How many checks that failed are named at the end.
const MAX_NAMED_CHECKS: usize = 5;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckStatus {
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
    /// It would run, if this were more than a look.
    Planned,
}

impl CheckStatus {
    /// Whether the checkout counts as healthy as far as this check is concerned.
    #[must_use]
    pub fn is_good(self) -> bool {
        !matches!(self, CheckStatus::Failed | CheckStatus::Blocked | CheckStatus::Interrupted)
    }

    /// Its name, as in JSON.
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
    pub outcome: CheckStatus,
    /// Why it ended so, or what it found, in a line.
    pub reason: String,
    /// Why it ran or was skipped, each reason.
    pub why: Vec<String>,
    /// What is to be known about it.
    pub notes: Vec<String>,
    /// What it does, in a line: its command.
    pub command: String,
    /// Whether that is a command.
    #[serde(skip)]
    pub runs_command: bool,
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

/// How many lines of output of a failed check are shown, unless all are asked for.
const MAX_OUTPUT_LINES: usize = 40;

/// How much of a report is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportDetail {
    /// Also what was left out, and what passing checks printed.
    pub all: bool,
    /// Only what went wrong.
    pub quiet: bool,
    /// Why each check ran or was skipped.
    pub why: bool,
}

/// Seconds with a tenth, or minutes.
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

    /// One line, as a pipe gets it when the check has ended; `width` is that of the longest name.
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

    /// What belongs under its line.
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

    /// What it printed, and what can be done about it.
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
                text.push_str(&format!("      it changed {}\n", join_names(&fix.paths, 5)));
            }
            if let Some(undo) = &fix.undo {
                text.push_str(&format!(
                    "      `cargo xtask validate --undo {undo}` takes it back\n"
                ));
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

    /// The table of all checks, by phase.
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

    /// What failed checks printed and what was done about them, and the last line.
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

    /// The last line: whether all is well.
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
            (true, 0) => format!("{YELLOW}nothing was checked{YELLOW:#} ({more})"),
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

/// What the past says about one check, for `--history`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckHistoryLine {
    /// Its name.
    pub check: String,
    /// How often it came to a result.
    pub runs: usize,
    /// The share of them that was good, from 0 to 1.
    pub pass_rate: f64,
    /// The share that was skipped as unchanged, from 0 to 1.
    pub hit_rate: f64,
    /// The median time of those that ran.
    pub median_ms: Option<u64>,
    /// The time that 95 of 100 of those did not exceed.
    pub p95_ms: Option<u64>,
    /// How the last one ended.
    pub last: String,
}

/// The answer of `validate --history`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckHistoryReport {
    /// Names this shape.
    pub schema: &'static str,
    /// How many runs are remembered.
    pub runs: usize,
    /// When the first of them began, RFC 3339 UTC.
    pub since: Option<String>,
    /// Each check, by name.
    pub checks: Vec<CheckHistoryLine>,
}

impl CheckHistoryReport {
    /// As a table.
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

/// One check as it is configured, for `--list`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckListLine {
    /// Its name.
    pub name: String,
    /// Its phase.
    pub phase: String,
    /// What it does, in a line.
    pub command: String,
    /// What it needs.
    pub needs: Vec<String>,
    /// The words by which it can be chosen.
    pub tags: Vec<String>,
    /// The systems on which it runs; everywhere where there are none.
    pub os: Vec<String>,
    /// Whether it runs tests.
    pub tests: bool,
    /// Whether it also runs where `CI` is set.
    pub ci: bool,
    /// Whether it runs before a commit.
    pub before_commit: bool,
    /// Why it never can be skipped; nothing where it can.
    pub always: Option<String>,
    /// For how long a pass counts, in milliseconds; nothing where that has no end.
    pub ttl_ms: Option<u64>,
    /// The command of its fix.
    pub fix: Option<String>,
    /// The risk of that.
    pub risk: Option<&'static str>,
}

/// The answer of `validate --list`.
#[derive(Clone, Debug, Serialize)]
pub struct CheckListReport {
    /// Names this shape.
    pub schema: &'static str,
    /// Where the checks come from; nothing where they are those of a project without a file.
    pub config: Option<String>,
    /// The phases, and whether each is a gate.
    pub phases: Vec<(String, bool)>,
    /// The checks.
    pub checks: Vec<CheckListLine>,
}

impl CheckListReport {
    /// As a list by phase.
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
