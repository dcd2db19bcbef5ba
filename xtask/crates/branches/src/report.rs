//! The report of `branch check`, as text and as JSON (`xtask.branch-check/1`).
//!
//! ```text
//! good     feature/menu  2 commits on `main`, 3 days old
//! broken   wip           on no base
//!          it has a name that the rule does not accept
//!          → `cargo xtask branch new feature/wip`
//! ```

use serde::{Serialize, Serializer};

use super::check::{CheckVerdict, CheckedBranch, CheckedBy};
use super::rules::{AgeBasis, BaseFacts, BranchFindingKind, Severity};
use xtask_config::Enforcement;
use xtask_report::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW, join_lines};

/// The JSON output of `branch check` (`xtask.branch-check/1`).
#[derive(Serialize)]
pub struct BranchCheckReport {
    schema: &'static str,
    /// What `pre-push` does if a rule is broken: `warn` or `refuse`.
    enforce: &'static str,
    /// The worst result of all branches.
    pub result: CheckVerdict,
    /// The branches, in the order in which they were named, or by name.
    branches: Vec<CheckedBranch>,
}

/// A branch in JSON.
#[derive(Serialize)]
struct BranchLine<'a> {
    branch: &'a str,
    commit: Option<String>,
    /// The `match` pattern of the rule that applies.
    rule: Option<&'a str>,
    result: CheckVerdict,
    /// The age in milliseconds, or `None` if the branch has no commits of its own or its age is unknown.
    age_ms: Option<i64>,
    age_since: Option<AgeBasis>,
    /// The relation to its base, or `None` if it has no base or the base is unknown.
    base: Option<&'a BaseFacts>,
    findings: Vec<FindingLine<'a>>,
}

/// A finding in JSON.
#[derive(Serialize)]
struct FindingLine<'a> {
    about: BranchFindingKind,
    result: Severity,
    what: &'a str,
    next: &'a str,
}

impl Serialize for CheckedBranch {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let facts = self.facts.as_ref();
        let age = facts.and_then(|facts| facts.age.as_ref().ok().copied().flatten());
        let findings = self.findings.iter().map(|finding| FindingLine {
            about: finding.kind,
            result: finding.kind.severity(),
            what: &finding.message,
            next: &finding.next_step,
        });
        let line = BranchLine {
            branch: &self.branch,
            commit: self.commit.map(|commit| commit.to_string()),
            rule: match &self.checked_by {
                CheckedBy::Rule(rule) => Some(rule),
                CheckedBy::Shared | CheckedBy::NoRule => None,
            },
            result: self.verdict(),
            age_ms: age.map(|age| age.seconds.saturating_mul(1000)),
            age_since: age.map(|age| age.basis),
            base: facts.and_then(|facts| facts.base.as_ref()?.as_ref().ok()),
            findings: findings.collect(),
        };
        line.serialize(to)
    }
}

impl BranchCheckReport {
    #[must_use]
    pub fn new(enforce: Enforcement, branches: Vec<CheckedBranch>) -> BranchCheckReport {
        let enforce = match enforce {
            Enforcement::Warn => "warn",
            Enforcement::Refuse => "refuse",
        };
        let result = branches.iter().map(CheckedBranch::verdict).max();
        let result = result.unwrap_or(CheckVerdict::NotAsked);
        BranchCheckReport { schema: "xtask.branch-check/1", enforce, result, branches }
    }

    /// Renders the report as text: a line for each branch, followed by its findings. Branches
    /// without a rule are only shown with `-v`, or if one alone was named.
    #[must_use]
    pub fn render_text(&self, verbosity: Verbosity) -> String {
        let is_one = self.branches.len() == 1;
        let is_shown = |checked: &&CheckedBranch| match verbosity {
            Verbosity::Quiet => !checked.findings.is_empty(),
            Verbosity::Normal => checked.verdict() != CheckVerdict::NotAsked || is_one,
            Verbosity::Verbose => true,
        };
        let shown = self.branches.iter().filter(is_shown);
        let mut lines: Vec<String> = shown.flat_map(render_branch).collect();
        if self.branches.len() > 1 && verbosity > Verbosity::Quiet {
            let of = |verdict| {
                self.branches.iter().filter(|checked| checked.verdict() == verdict).count()
            };
            lines.push(format!(
                "{} branches: {} good, {} broken, {} unknown, {} without a rule",
                self.branches.len(),
                of(CheckVerdict::Good),
                of(CheckVerdict::Broken),
                of(CheckVerdict::Unknown),
                of(CheckVerdict::NotAsked)
            ));
        }
        join_lines(&lines)
    }
}

fn render_branch(checked: &CheckedBranch) -> Vec<String> {
    let (style, word) = match checked.verdict() {
        CheckVerdict::NotAsked => (DIM, "-"),
        CheckVerdict::Good if checked.findings.is_empty() => (GREEN, "good"),
        CheckVerdict::Good => (YELLOW, "good"),
        CheckVerdict::Unknown => (YELLOW, "unknown"),
        CheckVerdict::Broken => (RED, "broken"),
    };
    let (branch, summary) = (&checked.branch, checked.describe());
    let mut lines =
        vec![format!("{style}{word:<7}{style:#}  {BOLD}{branch}{BOLD:#}  {DIM}{summary}{DIM:#}")];
    for finding in &checked.findings {
        lines.push(format!("           it {}", finding.message));
        lines.push(format!("           {DIM}→ {}{DIM:#}", finding.next_step));
    }
    lines
}
