//! Where branches and worktrees stand.

use std::fmt::Write;

use serde::Serialize;

use super::sync::{CanonicalLine, PathLine, short_id, short_ref};
use super::{BOLD, DIM, GREEN, YELLOW, pluralize};
use xtask_base::words::join_names;

/// How many managed paths are of each class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    /// Brought up to date by a plain sync.
    pub behind: usize,
    /// With a content of the branch's own.
    pub customised: usize,
    /// With changes that are not committed; nothing where no worktree has the branch.
    pub edited: Option<usize>,
    /// With an untracked file in their place; nothing where no worktree has the branch.
    pub untracked: Option<usize>,
    /// Not to be told apart, because history is cut off.
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

/// A worktree.
#[derive(Clone, Debug, Serialize)]
pub struct WorktreeStatusLine {
    /// Its root.
    pub worktree: String,
    /// Its branch; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// Whether this is where the command was started.
    pub current: bool,
    /// Where it stands; nothing where it could not be looked at or is canonical itself.
    pub counts: Option<ClassCounts>,
    /// What is to be known about it.
    pub note: Option<String>,
}

/// A branch.
#[derive(Clone, Debug, Serialize)]
pub struct BranchStatusLine {
    /// Its name.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// Where it stands.
    #[serde(flatten)]
    pub counts: ClassCounts,
}

/// The last validation of a worktree.
#[derive(Clone, Debug, Serialize)]
pub struct ValidationLine {
    /// Its name.
    pub run: String,
    /// When it began, RFC 3339 UTC.
    pub started: String,
    /// Whether every check was good.
    pub ok: bool,
    /// What came of it and how long ago, in a few words.
    pub words: String,
}

/// The services of a layer.
#[derive(Clone, Debug, Serialize)]
pub struct ServicesLine {
    /// The layer.
    pub layer: String,
    /// Whether nothing is wrong with any.
    pub ok: bool,
    /// How they are, in a few words.
    pub words: String,
}

/// A layer that is deployed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeployedLine {
    /// The layer.
    pub layer: String,
    /// Where it is deployed to.
    pub to: String,
    /// Whether nothing is wrong with what is known.
    pub ok: bool,
    /// How it stands, in a few words.
    pub words: String,
    /// The release; nothing where there is none.
    pub release: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// Whether it serves, verified.
    pub verified: bool,
    /// When the run began that left it so, RFC 3339 UTC.
    pub deployed: Option<String>,
    /// When this was written down, where the target itself was not looked at.
    pub as_of: Option<String>,
    /// Whether a run is under way, or was cut short.
    pub unfinished: bool,
    /// The branch with which it is compared.
    pub branch: Option<String>,
    /// How many commits that branch has which are not deployed; nothing where it cannot be told.
    pub behind: Option<usize>,
}

/// The toolkit that a repository was given.
#[derive(Clone, Debug, Serialize)]
pub struct VendoredLine {
    /// Its version on this branch.
    pub version: String,
    /// The commit of the toolkit.
    pub commit: String,
    /// Its files that are not as they came.
    pub changed: Vec<String>,
    /// The version on the canonical branch, where that is another one.
    pub canonical: Option<String>,
    /// What is wrong with what is known about it.
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

/// The answer of `status`.
#[derive(Clone, Debug, Serialize)]
pub struct StatusReport {
    /// Names this shape.
    pub schema: &'static str,
    /// The canonical commit; nothing where there is none.
    pub canonical: Option<CanonicalLine>,
    /// The root of this worktree.
    pub worktree: String,
    /// The branch; nothing where HEAD is detached.
    pub branch: Option<String>,
    /// Where this branch stands.
    pub sync: Option<ClassCounts>,
    /// How the hooks stand, in a few words.
    pub hooks: String,
    /// The last validation, in a few words; nothing where there was none.
    pub validation: Option<ValidationLine>,
    /// The services of which something is known, a line for each layer.
    pub services: Vec<ServicesLine>,
    /// The layers that are deployed, a line each.
    pub deployed: Vec<DeployedLine>,
    /// Pull requests that pushes have asked for, a line each.
    pub requests: Vec<String>,
    /// The toolkit, where it was vendored.
    pub vendored: Option<VendoredLine>,
    /// How many files are an overlay that is not committed.
    pub overlay: usize,
    /// What the user should know.
    pub notes: Vec<String>,
    /// The paths that are not in sync.
    pub paths: Vec<PathLine>,
    /// Every worktree, with `--all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worktrees: Option<Vec<WorktreeStatusLine>>,
    /// Every branch, with `--all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches: Option<Vec<BranchStatusLine>>,
}

/// How many paths the page of one branch lists.
const MAX_PATHS: usize = 12;

impl StatusReport {
    /// As text: one page.
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
