//! The report of `status`.
//!
//! ```text
//! branch     feature/menu
//! canonical  orchestration-tools (5e4d3c2b1a)
//! sync       2 behind, 1 customised
//! hooks      installed
//! ```

use std::fmt::Write;

use serde::Serialize;

use super::sync::{CanonicalLine, PathLine, short_id, short_ref};
use super::{BOLD, DIM, GREEN, YELLOW, pluralize};
use xtask_base::words::join_names;

/// The number of managed paths in each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    /// Paths that a plain sync updates.
    pub behind: usize,
    /// Paths with a committed version of the branch's own.
    pub customised: usize,
    /// Paths with uncommitted changes, or `None` if no worktree has the branch checked out.
    pub edited: Option<usize>,
    /// Paths with an untracked file, or `None` if no worktree has the branch checked out.
    pub untracked: Option<usize>,
    /// Paths that cannot be decided in a shallow clone.
    pub unknown: usize,
}

impl ClassCounts {
    fn describe_counts(&self) -> String {
        let mut words = Vec::new();
        let mut add = |number: usize, word: &str| {
            if number > 0 {
                words.push(format!("{number} {word}"));
            }
        };
        add(self.behind, "behind");
        add(self.customised, "customised");
        add(self.edited.unwrap_or(0), "edited");
        add(self.untracked.unwrap_or(0), "untracked");
        add(self.unknown, "unknown");
        if words.is_empty() { "in sync".to_owned() } else { words.join(", ") }
    }

    fn count_style(&self) -> anstyle::Style {
        if self.behind + self.unknown > 0 { YELLOW } else { GREEN }
    }
}

/// The status of a worktree.
#[derive(Clone, Debug, Serialize)]
pub struct WorktreeStatusLine {
    /// The root folder.
    pub worktree: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
    /// Whether the command was started in this worktree.
    pub current: bool,
    /// The counts, or `None` if it could not be inspected or has the canonical branch.
    pub counts: Option<ClassCounts>,
    /// A note, e.g. `canonical` or an error.
    pub note: Option<String>,
}

/// The status of a branch.
#[derive(Clone, Debug, Serialize)]
pub struct BranchStatusLine {
    pub branch: String,
    pub commit: String,
    #[serde(flatten)]
    pub counts: ClassCounts,
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

/// The status of a deployed layer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeployedLine {
    pub layer: String,
    /// The target, as in `[deploy] to`.
    pub to: String,
    /// Whether no problem is known.
    pub ok: bool,
    /// A description, e.g. `0123456789, verified 2 hours ago`.
    pub words: String,
    /// The serving release, or `None` if there is none.
    pub release: Option<String>,
    /// The commit of the release.
    pub commit: Option<String>,
    /// Whether it serves and is verified.
    pub verified: bool,
    /// The start of the run that deployed it, RFC 3339 in UTC.
    pub deployed: Option<String>,
    /// The time of this information if it was cached, not read from the target.
    pub as_of: Option<String>,
    /// Whether a run is in progress or was interrupted.
    pub unfinished: bool,
    /// The branch to compare with.
    pub branch: Option<String>,
    /// How many commits of that branch are not deployed, or `None` if that is unknown.
    pub behind: Option<usize>,
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

    fn is_unremarkable(&self) -> bool {
        self.fault.is_none() && self.canonical.is_none()
    }
}

/// The JSON output of `status` (`xtask.status/1`).
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    pub schema: &'static str,
    /// The canonical commit, or `None` if there is no canonical branch.
    pub canonical: Option<CanonicalLine>,
    pub worktree: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
    /// The managed files of this branch.
    pub sync: Option<ClassCounts>,
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
    /// The number of files that `sync --no-commit` wrote.
    pub overlay: usize,
    /// Notes for the user.
    pub notes: Vec<String>,
    /// The paths that are not in sync.
    pub paths: Vec<PathLine>,
    /// All worktrees, with `--all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktrees: Option<Vec<WorktreeStatusLine>>,
    /// All branches, with `--all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<BranchStatusLine>>,
}

/// How many paths are listed without `-v`.
const MAX_PATHS: usize = 12;

impl StatusReport {
    /// Renders the report as text.
    #[must_use]
    pub fn render_text(&self, is_verbose: bool) -> String {
        let mut text = String::new();
        let mut put = |line: String| {
            writeln!(text, "{line}").expect("because writing to a string cannot fail");
        };
        put(format!(
            "{BOLD}branch{BOLD:#}     {}",
            self.branch.as_deref().unwrap_or("detached HEAD")
        ));
        match &self.canonical {
            Some(canonical) => put(format!(
                "{BOLD}canonical{BOLD:#}  {} ({})",
                short_ref(&canonical.reference),
                short_id(&canonical.commit)
            )),
            None => put(format!("{BOLD}canonical{BOLD:#}  none")),
        }
        if let Some(counts) = &self.sync {
            let style = counts.count_style();
            put(format!("{BOLD}sync{BOLD:#}       {style}{}{style:#}", counts.describe_counts()));
        }
        if self.overlay > 0 {
            put(format!(
                "{BOLD}overlay{BOLD:#}    {} written without a commit",
                pluralize(self.overlay, "file")
            ));
        }
        put(format!("{BOLD}hooks{BOLD:#}      {}", self.hooks));
        if let Some(validation) = &self.validation {
            let style = if validation.ok { GREEN } else { YELLOW };
            put(format!("{BOLD}validate{BOLD:#}   {style}{}{style:#}", validation.words));
        }
        for services in &self.services {
            let style = if services.ok { GREEN } else { YELLOW };
            let (layer, words) = (&services.layer, &services.words);
            put(format!("{BOLD}services{BOLD:#}   {layer}: {style}{words}{style:#}"));
        }
        for deployed in &self.deployed {
            let style = if deployed.ok { GREEN } else { YELLOW };
            let (layer, words) = (&deployed.layer, &deployed.words);
            put(format!("{BOLD}deployed{BOLD:#}   {layer}: {style}{words}{style:#}"));
        }
        if let Some(vendored) = &self.vendored {
            let style = if vendored.is_unremarkable() { anstyle::Style::new() } else { YELLOW };
            put(format!(
                "{BOLD}xtask{BOLD:#}      {style}{}{style:#}",
                vendored.describe_version()
            ));
        }
        for line in &self.requests {
            put(format!("{BOLD}request{BOLD:#}    {line}"));
        }
        let shown = if is_verbose { self.paths.len() } else { MAX_PATHS };
        let width =
            self.paths.iter().take(shown).map(|l| l.path.chars().count()).max().unwrap_or(0);
        for line in self.paths.iter().take(shown) {
            put(format!("  {:<10} {:<width$}  {DIM}{}{DIM:#}", line.class, line.path, line.reason));
        }
        if self.paths.len() > shown {
            put(format!("  and {} more (-v lists them)", self.paths.len() - shown));
        }
        for note in &self.notes {
            put(format!("{YELLOW}note{YELLOW:#}: {note}"));
        }
        if let Some(worktrees) = &self.worktrees {
            put(format!("\n{BOLD}worktrees{BOLD:#}"));
            let name = |line: &WorktreeStatusLine| {
                line.branch.clone().unwrap_or_else(|| "detached HEAD".to_owned())
            };
            let width = worktrees.iter().map(|l| name(l).chars().count()).max().unwrap_or(0);
            for line in worktrees {
                let mark = if line.current { "*" } else { " " };
                let branch = name(line);
                let words = match (&line.counts, &line.note) {
                    (Some(counts), None) => counts.describe_counts(),
                    (Some(counts), Some(note)) => format!("{}; {note}", counts.describe_counts()),
                    (None, Some(note)) => note.clone(),
                    (None, None) => String::new(),
                };
                put(format!("{mark} {branch:<width$}  {words}  {DIM}{}{DIM:#}", line.worktree));
            }
        }
        if let Some(branches) = &self.branches {
            put(format!("\n{BOLD}branches{BOLD:#}"));
            let width = branches.iter().map(|l| l.branch.chars().count()).max().unwrap_or(0);
            for line in branches {
                let style = line.counts.count_style();
                put(format!(
                    "  {:<width$}  {style}{}{style:#}",
                    line.branch,
                    line.counts.describe_counts()
                ));
            }
            let behind = branches.iter().filter(|line| line.counts.behind > 0).count();
            let own = branches.iter().filter(|line| line.counts.customised > 0).count();
            put(format!(
                "{}: {behind} behind, {own} customised",
                if branches.len() == 1 {
                    "1 branch".to_owned()
                } else {
                    format!("{} branches", branches.len())
                }
            ));
        }
        text
    }
}
