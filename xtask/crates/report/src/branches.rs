//! The report of `branch check`.
//!
//! ```text
//! good     feature/menu  2 commits on `main`, 3 days old
//! broken   wip           on no base
//!          it has a name that the rule does not accept
//!          → `cargo xtask branch new feature/wip`
//! ```

use std::fmt::Write;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW};

/// The JSON output of `branch check` (`xtask.branch-check/1`).
#[derive(Clone, Debug, Serialize)]
pub struct BranchCheckReport {
    pub schema: &'static str,
    /// What `pre-push` does if a rule is broken: `warn` or `refuse`.
    pub enforce: &'static str,
    /// The worst result of all branches.
    pub result: BranchCheckResult,
    /// The branches, in the order in which they were named, or by name.
    pub branches: Vec<BranchCheckLine>,
}

/// The result for a branch or a finding, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BranchCheckResult {
    /// No rule applies to the branch.
    NotAsked,
    /// The branch meets its rule.
    Good,
    /// A fact is unknown, so the rule could not be checked.
    Unknown,
    Broken,
}

/// The result for one branch.
#[derive(Clone, Debug, Serialize)]
pub struct BranchCheckLine {
    /// The name of the branch.
    pub branch: String,
    /// The commit, or `None` if the branch has none.
    pub commit: Option<String>,
    /// The `match` pattern of the rule that applies.
    pub rule: Option<String>,
    pub result: BranchCheckResult,
    /// The age in milliseconds, or `None` if the branch has no commits of its own or its age is unknown.
    pub age_ms: Option<i64>,
    /// The basis of the age: `made` (a record of its creation) or `commit` (its oldest commit).
    pub age_since: Option<&'static str>,
    /// The relation to its base, or `None` if it has no base or the base is unknown.
    pub base: Option<BranchBaseLine>,
    /// Broken rules, unknown facts and notes.
    pub findings: Vec<BranchFindingLine>,
    /// A description in one line, shown if there are no findings.
    #[serde(skip)]
    pub summary: String,
}

/// The relation of a branch to its base.
#[derive(Clone, Debug, Serialize)]
pub struct BranchBaseLine {
    /// The base as git resolves it, e.g. `origin/main`.
    pub name: String,
    /// The number of commits that only the branch has.
    pub ahead: usize,
    /// The number of commits that only the base has.
    pub behind: usize,
    /// The time since the base was fetched, in milliseconds, or `None` if it is unknown.
    pub fetched_ms: Option<i64>,
    /// The paths at which a merge would conflict.
    pub conflicts: Vec<String>,
    /// How it is merged: `commits` or `content` (after a squash or rebase); `None` if it is not merged.
    pub merged: Option<&'static str>,
}

/// A broken rule, an unknown fact, or a note about a branch.
#[derive(Clone, Debug, Serialize)]
pub struct BranchFindingLine {
    /// The kind of finding, e.g. `name` or `age`.
    pub about: &'static str,
    pub result: BranchCheckResult,
    /// The message, as a sentence that continues the name of the branch, e.g. `is 40 days old`.
    pub what: String,
    /// The command to run next.
    pub next: String,
}

impl BranchCheckReport {
    /// Renders the report as text: a line for each branch, followed by its findings. Branches without a rule are only
    /// shown with `-v`, or if one alone was named.
    #[must_use]
    pub fn render_text(&self, loudness: Verbosity) -> String {
        let mut text = String::new();
        let mut put = |line: String| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        let is_one = self.branches.len() == 1;
        let is_shown = |line: &&BranchCheckLine| match loudness {
            Verbosity::Quiet => !line.findings.is_empty(),
            Verbosity::Normal => line.result != BranchCheckResult::NotAsked || is_one,
            Verbosity::Verbose => true,
        };
        for line in self.branches.iter().filter(is_shown) {
            let (style, word) = match line.result {
                BranchCheckResult::NotAsked => (DIM, "-"),
                BranchCheckResult::Good if line.findings.is_empty() => (GREEN, "good"),
                BranchCheckResult::Good => (YELLOW, "good"),
                BranchCheckResult::Unknown => (YELLOW, "unknown"),
                BranchCheckResult::Broken => (RED, "broken"),
            };
            let summary = &line.summary;
            put(format!(
                "{style}{word:<7}{style:#}  {BOLD}{}{BOLD:#}  {DIM}{summary}{DIM:#}",
                line.branch
            ));
            for finding in &line.findings {
                put(format!("           it {}", finding.what));
                put(format!("           {DIM}→ {}{DIM:#}", finding.next));
            }
        }
        if self.branches.len() > 1 && loudness > Verbosity::Quiet {
            let of = |result| self.branches.iter().filter(|line| line.result == result).count();
            put(format!(
                "{} branches: {} good, {} broken, {} unknown, {} without a rule",
                self.branches.len(),
                of(BranchCheckResult::Good),
                of(BranchCheckResult::Broken),
                of(BranchCheckResult::Unknown),
                of(BranchCheckResult::NotAsked)
            ));
        }
        text
    }
}
