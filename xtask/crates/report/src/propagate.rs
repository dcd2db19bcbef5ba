//! The report of `propagate`: the result for every branch.
//!
//! ```text
//! 2 branches brought up to date with orchestration-tools (5e4d3c2b1a)
//!   update    feature/menu  1 file, now 1a2b3c4d5e
//! ```

use std::fmt::Write;

use serde::Serialize;

use super::sync::{CanonicalLine, short_id, short_ref};
use super::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW, pluralize};

/// How many branches of each kind are listed without `-v`.
const MAX_BRANCHES: usize = 20;

/// How many skipped branches are listed without `-v`; if there are more, none is.
const MAX_LEFT_ALONE: usize = 5;

/// A path of a branch that is not in sync.
#[derive(Clone, Debug, Serialize)]
pub struct PropagatePathLine {
    pub path: String,
    /// The class, e.g. `behind` or `customised`.
    pub class: &'static str,
    /// The action, e.g. `update` or `keep`.
    pub action: &'static str,
}

/// The result for one branch.
#[derive(Clone, Debug, Serialize)]
pub struct PropagateBranchLine {
    /// The name of the branch.
    pub branch: String,
    /// The action: `none`, `update`, `push` (nothing to update, only to push), `worktree` (synced in the worktree
    /// that has it checked out), `beside` (committed to a side branch, for a pull request), `left` (skipped),
    /// `refused` or `failed`.
    pub action: &'static str,
    /// The branch that changes if it is another one: the side branch of a protected branch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
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
    /// The number of paths that are behind.
    pub behind: usize,
    /// The number of paths with a committed version of the branch's own.
    pub customised: usize,
    /// The number of paths with uncommitted changes in a worktree.
    pub edited: usize,
    /// The number of paths with an untracked file in a worktree.
    pub untracked: usize,
    /// The number of paths that cannot be decided in a shallow clone.
    pub unknown: usize,
    /// The paths that are not in sync, with `--json` only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PropagatePathLine>,
}

/// The JSON output of `propagate` (`xtask.propagate/1`).
#[derive(Clone, Debug, Serialize)]
pub struct PropagateReport {
    pub schema: &'static str,
    pub canonical: CanonicalLine,
    /// The remote whose branches these are, or `None` for local branches.
    pub remote: Option<String>,
    pub dry_run: bool,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    /// All branches, in order.
    pub branches: Vec<PropagateBranchLine>,
}

impl PropagateReport {
    /// Renders the report as text, which is empty if every branch is in sync.
    #[must_use]
    pub fn render_text(&self, loudness: Verbosity) -> String {
        let mut text = String::new();
        let mut put = |line: &str| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        let of = |actions: &[&str]| -> Vec<&PropagateBranchLine> {
            self.branches.iter().filter(|line| actions.contains(&line.action)).collect()
        };
        let written = of(&["update", "worktree"]);
        let mut trouble = of(&["refused", "failed"]);
        trouble.extend(self.branches.iter().filter(|line| line.short));
        let quiet = of(&["none"]);
        let left = of(&["left"]);
        let own = self.branches.iter().filter(|line| line.customised > 0).count();
        let is_verbose = loudness == Verbosity::Verbose;
        let beside = of(&["beside"]);
        let pushed = of(&["push"]);
        if [&written, &beside, &pushed].iter().all(|list| list.is_empty())
            && trouble.is_empty()
            && !is_verbose
        {
            return text;
        }
        let from = short_ref(&self.canonical.reference);
        let verb = match (self.dry_run, written.len()) {
            (true, _) => "would be brought",
            (false, 0) => "had to be brought",
            (false, _) => "brought",
        };
        let now = if self.dry_run { "would be" } else { "now" };
        let place = self.remote.as_ref().map_or(String::new(), |name| format!(" of `{name}`"));
        let commit = short_id(&self.canonical.commit);
        put(&match written.len() {
            0 => format!("{BOLD}no branch{BOLD:#}{place} {verb} up to date with {from} ({commit})"),
            many => {
                let many = pluralize_branches(many);
                format!("{BOLD}{many}{BOLD:#}{place} {verb} up to date with {from} ({commit})")
            }
        });
        let list = |put: &mut dyn FnMut(&str), lines: &[&PropagateBranchLine], most: usize| {
            let lines: Vec<_> = lines.iter().filter(|line| !line.short).collect();
            let width = lines.iter().take(most).map(|l| l.branch.chars().count()).max();
            for line in lines.iter().take(most) {
                put(&line.render_line(width.unwrap_or(0), now));
            }
            if lines.len() > most {
                put(&format!("  and {} more (-v lists them)", lines.len() - most));
            }
        };
        let most = if is_verbose { usize::MAX } else { MAX_BRANCHES };
        if loudness > Verbosity::Quiet {
            list(&mut put, &written, most);
            list(&mut put, &beside, most);
            list(&mut put, &pushed, most);
        }
        if is_verbose {
            list(&mut put, &quiet, most);
        }
        if is_verbose || loudness > Verbosity::Quiet && left.len() <= MAX_LEFT_ALONE {
            list(&mut put, &left, most);
        }
        let width = trouble.iter().map(|line| line.branch.chars().count()).max().unwrap_or(0);
        for line in &trouble {
            put(&line.render_line(width, now));
        }
        let mut rest = Vec::new();
        let mut add = |number: usize, what: &str| {
            if number > 0 {
                rest.push(format!("{number} {what}"));
            }
        };
        add(quiet.len(), "in sync already or kept as they are");
        add(pushed.len(), "pushed as they were");
        let waits = beside.iter().filter(|line| line.new.is_some()).count();
        add(waits, "protected, with a side branch");
        add(left.len(), "skipped by the rules");
        add(trouble.len(), "not done");
        if loudness > Verbosity::Quiet && !rest.is_empty() {
            let own = match own {
                0 => String::new(),
                1 => "; 1 has customised files, which stay".to_owned(),
                own => format!("; {own} have customised files, which stay"),
            };
            put(&format!(
                "of {}: {}{own}",
                pluralize_branches(self.branches.len()),
                rest.join(", ")
            ));
        }
        text
    }
}

impl PropagateBranchLine {
    fn render_line(&self, width: usize, now: &str) -> String {
        let style = match self.action {
            _ if self.short => RED,
            "update" | "worktree" | "beside" | "push" => GREEN,
            "refused" | "failed" => RED,
            "left" => YELLOW,
            _ => DIM,
        };
        let mut words = Vec::new();
        if self.written > 0 {
            words.push(pluralize(self.written, "file"));
        }
        if self.customised > 0 {
            words.push(format!("{} customised", self.customised));
        }
        if self.edited > 0 {
            words.push(format!("{} edited and kept", self.edited));
        }
        if self.untracked > 0 {
            words.push(format!("{} untracked and kept", self.untracked));
        }
        if self.unknown > 0 {
            words.push(format!("{} undecided", self.unknown));
        }
        if let Some(new) = &self.new {
            words.push(format!("{now} {}", short_id(new)));
        }
        if let Some(reason) = &self.reason {
            words.push(reason.clone());
        }
        let word = if self.action == "none" { "-" } else { self.action };
        format!(
            "  {style}{word:<9}{style:#} {:<width$}  {DIM}{}{DIM:#}",
            self.branch,
            words.join(", ")
        )
    }
}

fn pluralize_branches(number: usize) -> String {
    if number == 1 { "1 branch".to_owned() } else { format!("{number} branches") }
}
