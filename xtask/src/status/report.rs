//! The report of `status`, as text and as JSON (`xtask.status/1`).
//!
//! ```text
//! branch     feature/menu
//! canonical  orchestration-tools (5e4d3c2b1a)
//! sync       2 behind, 1 customised
//! hooks      installed
//! ```

use serde::Serialize;

use super::worktrees::AllLines;
use xtask_base::words::{join_names, pluralize};
use xtask_report::DeployedLine;
use xtask_report::{BOLD, DIM, GREEN, YELLOW, join_lines, short_id};
use xtask_sync::classify::PathClass;
use xtask_sync::plan::SyncPlan;
use xtask_sync::report::{CanonicalLine, PathLine};

/// How many paths are listed without `-v`.
const MAX_PATHS: usize = 12;

/// The number of managed paths in each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    /// Paths that a plain sync updates.
    pub behind: usize,
    /// Paths with a committed version of the branch's own.
    pub customised: usize,
    /// Paths whose content the branch has pinned.
    pub pinned: usize,
    /// Paths with uncommitted changes, or `None` if no worktree has the branch checked out.
    pub edited: Option<usize>,
    /// Paths with an untracked file, or `None` if no worktree has the branch checked out.
    pub untracked: Option<usize>,
    /// Paths that cannot be decided in a shallow clone.
    pub unknown: usize,
}

impl ClassCounts {
    pub(super) fn describe_counts(&self) -> String {
        let mut words = Vec::new();
        let mut add = |number: usize, word: &str| {
            if number > 0 {
                words.push(format!("{number} {word}"));
            }
        };
        add(self.behind, "behind");
        add(self.customised, "customised");
        add(self.pinned, "pinned");
        add(self.edited.unwrap_or(0), "edited");
        add(self.untracked.unwrap_or(0), "untracked");
        add(self.unknown, "unknown");
        if words.is_empty() { "in sync".to_owned() } else { words.join(", ") }
    }

    /// Counts the paths of a plan.
    pub(super) fn of_plan(plan: &SyncPlan) -> ClassCounts {
        ClassCounts {
            behind: plan.count(PathClass::Behind) + plan.count(PathClass::Sparse),
            customised: plan.count(PathClass::Customised),
            pinned: plan.count(PathClass::Pinned),
            edited: Some(plan.count(PathClass::Edited)),
            untracked: Some(plan.count(PathClass::Untracked)),
            unknown: plan.count(PathClass::Unknown),
        }
    }

    /// Counts `number` paths that cannot be decided.
    pub(super) fn of_unknown(number: usize) -> ClassCounts {
        ClassCounts { unknown: number, ..ClassCounts::default() }
    }

    /// Renders the counts in colour.
    pub(super) fn render_counts(&self) -> String {
        let style = if self.behind + self.unknown > 0 { YELLOW } else { GREEN };
        format!("{style}{}{style:#}", self.describe_counts())
    }
}

/// The last validation of a worktree.
#[derive(Clone, Debug, Serialize)]
pub struct ValidationLine {
    /// The ID of the run.
    pub run: String,
    /// The start, RFC 3339 in UTC.
    pub started: String,
    /// Whether all checks passed.
    pub ok: bool,
    /// The result and its age, e.g. `healthy: 12 checks, 2 hours ago`.
    pub words: String,
}

/// The status of the services of a layer.
#[derive(Clone, Debug, Serialize)]
pub struct ServicesLine {
    pub layer: String,
    /// Whether all services are healthy.
    pub ok: bool,
    /// A description, e.g. `api failed (exit code 1), 2 ready`.
    pub words: String,
}

/// The status of a vendored toolkit.
#[derive(Clone, Debug, Serialize)]
pub struct VendoredLine {
    /// The version on this branch.
    pub version: String,
    pub commit: String,
    /// The files that were changed locally.
    pub changed: Vec<String>,
    /// The version on the canonical branch, if it is another one.
    pub canonical: Option<String>,
    /// Why the manifest cannot be read.
    pub fault: Option<String>,
}

impl VendoredLine {
    fn describe_version(&self) -> String {
        if let Some(fault) = &self.fault {
            return fault.clone();
        }
        let mut words = format!("{} ({})", self.version, short_id(&self.commit));
        if let Some(canonical) = &self.canonical {
            words.push_str(&format!("; the canonical branch has {canonical}"));
        }
        match &self.changed[..] {
            [] => {}
            [one] => words.push_str(&format!("; {one} was changed here")),
            many => words.push_str(&format!(
                "; {} were changed here: {}",
                pluralize(many.len(), "file"),
                join_names(many, 3)
            )),
        }
        words
    }

    fn render_version(&self) -> String {
        let version = self.describe_version();
        match (&self.fault, &self.canonical) {
            (None, None) => version,
            _ => format!("{YELLOW}{version}{YELLOW:#}"),
        }
    }
}

/// The JSON output of `status` (`xtask.status/1`).
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    pub schema: &'static str,
    #[serde(flatten)]
    pub checkout: CheckoutLines,
    /// The managed files of this branch.
    pub sync: Option<ClassCounts>,
    #[serde(flatten)]
    pub toolkit: ToolkitLines,
    /// The number of files that `sync --no-commit` wrote.
    pub overlay: usize,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// The paths that are not in sync.
    pub paths: Vec<PathLine>,
    /// All worktrees and branches, with `--all`.
    #[serde(flatten)]
    pub all: Option<AllLines>,
}

/// What is checked out.
#[derive(Clone, Debug, Serialize)]
pub struct CheckoutLines {
    /// The canonical commit, or `None` if there is no canonical branch.
    pub canonical: Option<CanonicalLine>,
    pub worktree: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
}

/// The other parts of the toolkit in this worktree.
#[derive(Clone, Debug, Serialize)]
pub struct ToolkitLines {
    /// The state of the hooks, in one line.
    pub hooks: String,
    /// The last validation, or `None` if there was none.
    pub validation: Option<ValidationLine>,
    /// The services, a line for each layer with recorded state.
    pub services: Vec<ServicesLine>,
    /// The deployed layers, a line each.
    pub deployed: Vec<DeployedLine>,
    /// The pull requests that pushes have queued, a line each.
    pub requests: Vec<String>,
    /// The vendored toolkit, or `None` in its own repository.
    pub vendored: Option<VendoredLine>,
}

impl StatusReport {
    /// Returns the report with the lines of the services.
    #[must_use]
    pub fn with_services(mut self, services: Vec<ServicesLine>) -> StatusReport {
        self.toolkit.services = services;
        self
    }

    /// Returns the report with the lines of the deployed layers.
    #[must_use]
    pub fn with_deployed(mut self, deployed: Vec<DeployedLine>) -> StatusReport {
        self.toolkit.deployed = deployed;
        self
    }

    /// Renders the report as text; with `--all`, `has_bar` puts a bar of all branches before it.
    #[must_use]
    pub fn render_text(&self, is_verbose: bool, has_bar: bool) -> String {
        let bar = self.all.as_ref().filter(|_| has_bar).and_then(AllLines::render_bar);
        let mut lines: Vec<String> = bar.map(|bar| format!("{bar}\n")).into_iter().collect();
        lines.extend(self.render_checkout());
        lines.extend(self.toolkit.render_lines());
        let shown = if is_verbose { self.paths.len() } else { MAX_PATHS };
        let paths = || self.paths.iter().take(shown);
        let width = paths().map(|line| line.path.chars().count()).max().unwrap_or(0);
        lines.extend(paths().map(|PathLine { class, path, reason, .. }| {
            format!("  {:<10} {path:<width$}  {DIM}{reason}{DIM:#}", class.name())
        }));
        if self.paths.len() > shown {
            lines.push(format!("  and {} more (-v lists them)", self.paths.len() - shown));
        }
        lines.extend(self.notes.iter().map(|note| format!("{YELLOW}note{YELLOW:#}: {note}")));
        lines.extend(self.all.iter().flat_map(AllLines::render_lines));
        join_lines(&lines)
    }

    fn render_checkout(&self) -> Vec<String> {
        let CheckoutLines { canonical, branch, .. } = &self.checkout;
        let branch = branch.as_deref().unwrap_or("detached HEAD");
        let canonical = canonical.as_ref().map_or("none".to_owned(), CanonicalLine::describe);
        let mut lines = vec![
            format!("{BOLD}branch{BOLD:#}     {branch}"),
            format!("{BOLD}canonical{BOLD:#}  {canonical}"),
        ];
        if let Some(counts) = &self.sync {
            lines.push(format!("{BOLD}sync{BOLD:#}       {}", counts.render_counts()));
        }
        if self.overlay > 0 {
            let files = pluralize(self.overlay, "file");
            lines.push(format!("{BOLD}overlay{BOLD:#}    {files} written without a commit"));
        }
        lines
    }
}

impl ToolkitLines {
    fn render_lines(&self) -> Vec<String> {
        let style = |ok| if ok { GREEN } else { YELLOW };
        let mut lines = vec![format!("{BOLD}hooks{BOLD:#}      {}", self.hooks)];
        if let Some(ValidationLine { ok, words, .. }) = &self.validation {
            let style = style(*ok);
            lines.push(format!("{BOLD}validate{BOLD:#}   {style}{words}{style:#}"));
        }
        for ServicesLine { layer, ok, words } in &self.services {
            let style = style(*ok);
            lines.push(format!("{BOLD}services{BOLD:#}   {layer}: {style}{words}{style:#}"));
        }
        for DeployedLine { layer, ok, words, .. } in &self.deployed {
            let style = style(*ok);
            lines.push(format!("{BOLD}deployed{BOLD:#}   {layer}: {style}{words}{style:#}"));
        }
        if let Some(vendored) = &self.vendored {
            lines.push(format!("{BOLD}xtask{BOLD:#}      {}", vendored.render_version()));
        }
        lines.extend(self.requests.iter().map(|line| format!("{BOLD}request{BOLD:#}    {line}")));
        lines
    }
}
