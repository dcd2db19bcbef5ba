//! The report of `propagate`: the result for every branch, as text and as JSON.
//!
//! ```text
//! 2 branches brought up to date with orchestration-tools (5e4d3c2b1a)
//!   update    feature/menu  1 file, now 1a2b3c4d5e
//! ```

use serde::Serialize;

use super::decide::{BranchAction, BranchRow, PathRow};
use super::rounds::{PropagateOptions, PropagateOutcome};
use xtask_base::words::pluralize;
use xtask_report::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW, join_lines, short_id};
use xtask_sync::classify::PathClass;
use xtask_sync::report::CanonicalLine;

/// How many branches of each kind are listed without `-v`.
const MAX_BRANCHES: usize = 20;

/// How many skipped branches are listed without `-v`; if there are more, none is.
const MAX_LEFT_ALONE: usize = 5;

/// The JSON output of `propagate` (`xtask.propagate/1`).
#[derive(Debug, Serialize)]
pub struct PropagateReport<'a> {
    pub schema: &'static str,
    pub canonical: CanonicalLine,
    /// The remote whose branches these are, or `None` for local branches.
    pub remote: Option<&'a str>,
    pub dry_run: bool,
    /// Warnings for the user.
    pub warnings: &'a [String],
    /// All branches, in order.
    pub branches: Vec<BranchLine<'a>>,
}

/// A branch in JSON.
#[derive(Debug, Serialize)]
pub struct BranchLine<'a> {
    pub branch: &'a str,
    pub action: BranchAction,
    /// The branch that changes if it is another one: the side branch of a protected branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<&'a str>,
    /// The previous commit of the branch that changes.
    pub old: Option<String>,
    /// The new commit of the branch that changes.
    pub new: Option<String>,
    /// The reason, unless it is obvious.
    pub reason: Option<String>,
    /// Whether a requested step failed (e.g. the push) although the branch is up to date.
    pub short: bool,
    /// The number of written paths.
    pub written: usize,
    pub behind: usize,
    pub customised: usize,
    pub pinned: usize,
    pub edited: usize,
    pub untracked: usize,
    pub unknown: usize,
    /// The paths that are not in sync, with `--json` only.
    #[serde(skip_serializing_if = "<[PathRow]>::is_empty")]
    pub paths: &'a [PathRow],
}

impl<'a> BranchLine<'a> {
    fn new(row: &'a BranchRow) -> BranchLine<'a> {
        BranchLine {
            branch: &row.branch,
            action: row.action(),
            target: row.has_side_branch().then_some(&row.target),
            old: row.old.map(|id| id.to_string()),
            new: row.new.map(|id| id.to_string()),
            reason: row.describe_reason(),
            short: row.is_incomplete(),
            written: row.writes,
            behind: row.count(PathClass::Behind),
            customised: row.count(PathClass::Customised),
            pinned: row.count(PathClass::Pinned),
            edited: row.count(PathClass::Edited),
            untracked: row.count(PathClass::Untracked),
            unknown: row.count(PathClass::Unknown),
            paths: &row.paths,
        }
    }
}

/// The branches by what was done with them; one whose push failed is in trouble as well.
struct BranchGroups<'a> {
    written: Vec<&'a BranchRow>,
    beside: Vec<&'a BranchRow>,
    pushed: Vec<&'a BranchRow>,
    in_sync: Vec<&'a BranchRow>,
    left: Vec<&'a BranchRow>,
    trouble: Vec<&'a BranchRow>,
}

impl PropagateOutcome {
    /// Returns the JSON output.
    #[must_use]
    pub fn to_report(&self, options: &PropagateOptions) -> PropagateReport<'_> {
        PropagateReport {
            schema: "xtask.propagate/1",
            canonical: CanonicalLine::new(&self.context),
            remote: options.remote.then_some(&self.context.config.remote),
            dry_run: options.dry_run,
            warnings: &self.context.warnings,
            branches: self.rows.values().map(BranchLine::new).collect(),
        }
    }

    /// Renders the outcome as text, which is empty if every branch is in sync.
    #[must_use]
    pub fn render_text(&self, options: &PropagateOptions, verbosity: Verbosity) -> String {
        let groups = self.group_branches();
        let is_verbose = verbosity == Verbosity::Verbose;
        if !groups.has_news() && !is_verbose {
            return String::new();
        }
        let mut lines = vec![self.describe_result(options, groups.written.len())];
        let now = if options.dry_run { "would be" } else { "now" };
        let most = if is_verbose { usize::MAX } else { MAX_BRANCHES };
        let is_loud = verbosity > Verbosity::Quiet;
        if is_loud {
            push_rows(&mut lines, &groups.written, most, now);
            push_rows(&mut lines, &groups.beside, most, now);
            push_rows(&mut lines, &groups.pushed, most, now);
        }
        if is_verbose {
            push_rows(&mut lines, &groups.in_sync, most, now);
        }
        if is_verbose || is_loud && groups.left.len() <= MAX_LEFT_ALONE {
            push_rows(&mut lines, &groups.left, most, now);
        }
        let width = groups.trouble.iter().map(|row| row.branch.chars().count()).max().unwrap_or(0);
        lines.extend(groups.trouble.iter().map(|row| render_row(row, width, now)));
        if is_loud {
            lines.extend(self.summarize(&groups));
        }
        join_lines(&lines)
    }

    fn group_branches(&self) -> BranchGroups<'_> {
        let of = |actions: &[BranchAction]| -> Vec<&BranchRow> {
            self.rows.values().filter(|row| actions.contains(&row.action())).collect()
        };
        let mut trouble = of(&[BranchAction::Refused, BranchAction::Failed]);
        trouble.extend(self.rows.values().filter(|row| row.is_incomplete()));
        BranchGroups {
            written: of(&[BranchAction::Update, BranchAction::Worktree]),
            beside: of(&[BranchAction::Beside]),
            pushed: of(&[BranchAction::Push]),
            in_sync: of(&[BranchAction::None]),
            left: of(&[BranchAction::Left]),
            trouble,
        }
    }

    fn describe_result(&self, options: &PropagateOptions, written: usize) -> String {
        let side_branches = self
            .rows
            .values()
            .filter(|row| row.action() == BranchAction::Beside && row.new.is_some());
        let branches = match (written, side_branches.count()) {
            (0, 0) => "no branch".to_owned(),
            (0, side) => pluralize(side, "side branch"),
            (many, 0) => pluralize(many, "branch"),
            (many, side) => {
                format!("{} and {}", pluralize(many, "branch"), pluralize(side, "side branch"))
            }
        };
        let is_none = branches == "no branch";
        let verb = match (options.dry_run, if is_none { 0 } else { 1 }) {
            (true, _) => "would be brought",
            (false, 0) => "had to be brought",
            (false, _) => "brought",
        };
        let remote = &self.context.config.remote;
        let place = if options.remote { format!(" of `{remote}`") } else { String::new() };
        let canonical = CanonicalLine::new(&self.context).describe();
        format!("{BOLD}{branches}{BOLD:#}{place} {verb} up to date with {canonical}")
    }

    /// Counts the branches that the first line does not count.
    fn summarize(&self, groups: &BranchGroups<'_>) -> Option<String> {
        let waiting = groups.beside.iter().filter(|row| row.new.is_some()).count();
        let counts = [
            (groups.in_sync.len(), "in sync already or kept as they are"),
            (groups.pushed.len(), "pushed as they were"),
            (waiting, "protected, with a side branch"),
            (groups.left.len(), "skipped by the rules"),
            (groups.trouble.len(), "not done"),
        ];
        let rest: Vec<String> = counts
            .iter()
            .filter(|(number, _)| *number > 0)
            .map(|(number, what)| format!("{number} {what}"))
            .collect();
        let customised = |row: &&BranchRow| row.count(PathClass::Customised) > 0;
        let own = match self.rows.values().filter(customised).count() {
            0 => String::new(),
            1 => "; 1 has customised files, which stay".to_owned(),
            own => format!("; {own} have customised files, which stay"),
        };
        let pinned = |row: &&BranchRow| row.count(PathClass::Pinned) > 0;
        let pinned = match self.rows.values().filter(pinned).count() {
            0 => String::new(),
            1 => "; 1 has pinned files, which stay".to_owned(),
            many => format!("; {many} have pinned files, which stay"),
        };
        let all = pluralize(self.rows.len(), "branch");
        (!rest.is_empty()).then(|| format!("of {all}: {}{own}{pinned}", rest.join(", ")))
    }
}

impl BranchGroups<'_> {
    /// Returns whether any branch is not as it was.
    fn has_news(&self) -> bool {
        let groups = [&self.written, &self.beside, &self.pushed, &self.trouble];
        groups.iter().any(|rows| !rows.is_empty())
    }
}

fn push_rows(lines: &mut Vec<String>, rows: &[&BranchRow], most: usize, now: &str) {
    let rows: Vec<_> = rows.iter().filter(|row| !row.is_incomplete()).collect();
    let width = rows.iter().take(most).map(|row| row.branch.chars().count()).max().unwrap_or(0);
    lines.extend(rows.iter().take(most).map(|row| render_row(row, width, now)));
    if rows.len() > most {
        lines.push(format!("  and {} more (-v lists them)", rows.len() - most));
    }
}

fn render_row(row: &BranchRow, width: usize, now: &str) -> String {
    let (style, action) = match row.action() {
        BranchAction::None => (DIM, "-"),
        BranchAction::Update => (GREEN, "update"),
        BranchAction::Push => (GREEN, "push"),
        BranchAction::Worktree => (GREEN, "worktree"),
        BranchAction::Beside => (GREEN, "beside"),
        BranchAction::Left => (YELLOW, "left"),
        BranchAction::Refused => (RED, "refused"),
        BranchAction::Failed => (RED, "failed"),
    };
    let style = if row.is_incomplete() { RED } else { style };
    let mut words = Vec::new();
    if row.writes > 0 {
        words.push(pluralize(row.writes, "file"));
    }
    for (class, what) in [
        (PathClass::Customised, "customised"),
        (PathClass::Pinned, "pinned"),
        (PathClass::Edited, "edited and kept"),
        (PathClass::Untracked, "untracked and kept"),
        (PathClass::Unknown, "undecided"),
    ] {
        let count = row.count(class);
        words.extend((count > 0).then(|| format!("{count} {what}")));
    }
    words.extend(row.new.map(|new| format!("{now} {}", short_id(&new.to_string()))));
    words.extend(row.describe_reason());
    let (branch, words) = (&row.branch, words.join(", "));
    format!("  {style}{action:<9}{style:#} {branch:<width$}  {DIM}{words}{DIM:#}")
}
