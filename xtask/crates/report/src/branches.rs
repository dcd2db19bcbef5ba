//! What `branch check` says.

use std::fmt::Write;

use serde::Serialize;

use super::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW};

/// The answer of `branch check`.
#[derive(Clone, Debug, Serialize)]
pub struct BranchCheckReport {
    /// Names this shape.
    pub schema: &'static str,
    /// What `pre-push` does where a rule is broken: `warn` or `refuse`.
    pub enforce: &'static str,
    /// What all of it comes to.
    pub result: BranchCheckResult,
    /// The branches, in order.
    pub branches: Vec<BranchCheckLine>,
}

/// What a check came to; a later one means more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BranchCheckResult {
    /// No rule is asked.
    NotAsked,
    /// It keeps to its rule.
    Good,
    /// Something could not be told.
    Unknown,
    /// A rule is broken.
    Broken,
}

/// A branch.
#[derive(Clone, Debug, Serialize)]
pub struct BranchCheckLine {
    /// Its name.
    pub branch: String,
    /// Its commit; nothing where it has none.
    pub commit: Option<String>,
    /// The `match` of the rule that counts for it.
    pub rule: Option<String>,
    /// What it came to.
    pub result: BranchCheckResult,
    /// How old it is, in milliseconds; nothing where it has nothing of its own, or that is not known.
    pub age_ms: Option<i64>,
    /// From what its age is known: `made` or `commit`.
    pub age_since: Option<&'static str>,
    /// How it stands to its base; nothing where there is none, or that is not known.
    pub base: Option<BranchBaseLine>,
    /// What is to be said.
    pub findings: Vec<BranchFindingLine>,
    /// In a line, where nothing is to be said.
    #[serde(skip)]
    pub summary: String,
}

/// How a branch stands to its base.
#[derive(Clone, Debug, Serialize)]
pub struct BranchBaseLine {
    /// The base, as it can be typed.
    pub name: String,
    /// How many commits only the branch has.
    pub ahead: usize,
    /// How many commits only the base has.
    pub behind: usize,
    /// How long ago the base was fetched, in milliseconds; nothing where that is not known.
    pub fetched_ms: Option<i64>,
    /// The paths in which a merge would conflict.
    pub conflicts: Vec<String>,
    /// How its work has arrived: `commits` or `content`; nothing where it has not.
    pub merged: Option<&'static str>,
}

/// Something that is to be said.
#[derive(Clone, Debug, Serialize)]
pub struct BranchFindingLine {
    /// What it is about.
    pub about: &'static str,
    /// What it means for the branch.
    pub result: BranchCheckResult,
    /// What is so, behind the name of the branch.
    pub what: String,
    /// What to type next.
    pub next: String,
}

impl BranchCheckReport {
    /// As text: a line for each branch, and below it what is to be said. Of branches that no rule is asked
    /// about only `-v` tells, and of those that are named.
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
