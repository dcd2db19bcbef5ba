//! The report of a sync, as text and as JSON (`xtask.sync/1`).
//!
//! ```text
//! feature/menu: 1 managed file synced from orchestration-tools (5e4d3c2b1a), commit 1a2b3c4d5e
//!   update     setup/format.toml  the canonical branch has changed it
//! ```

use serde::Serialize;

use super::classify::{ClassReason, PathClass};
use super::context::SyncContext;
use super::pin_notes::describe_removed_overlay;
use super::plan::{PathAction, PlannedPath, WriteMode};
use super::run::{PlannedSync, SyncOutcome};
use xtask_base::words::pluralize;
use xtask_git::Repo;
use xtask_report::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW, join_lines, short_id, short_ref};

/// How many paths of each kind are listed without `-v`.
const MAX_LINES: usize = 20;

/// The canonical commit in a report.
#[derive(Clone, Debug, Serialize)]
pub struct CanonicalLine {
    /// The full name of the ref, e.g. `refs/heads/orchestration-tools`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// The commit ID.
    pub commit: String,
}

impl CanonicalLine {
    #[must_use]
    pub fn new(context: &SyncContext) -> CanonicalLine {
        CanonicalLine {
            reference: context.canonical.reference.clone(),
            commit: context.canonical.commit.to_string(),
        }
    }

    /// Describes branch and commit, e.g. `orchestration-tools (5e4d3c2b1a)`.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{} ({})", short_ref(&self.reference), short_id(&self.commit))
    }
}

/// The decision about one path.
#[derive(Clone, Debug, Serialize)]
pub struct PathLine {
    pub path: String,
    pub class: PathClass,
    pub action: PathAction,
    /// The reason for the class.
    pub reason: String,
    /// Whether a merge was requested (`--merge`) and conflicts.
    #[serde(skip)]
    pub is_conflict: bool,
    /// The file with the conflict markers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge_file: Option<String>,
}

impl PathLine {
    #[must_use]
    pub fn new(item: &PlannedPath) -> PathLine {
        PathLine {
            path: item.path().to_string(),
            class: item.class,
            action: item.action,
            reason: item.reason(),
            is_conflict: item.is_conflict(),
            merge_file: None,
        }
    }

    fn render_text(&self, width: usize) -> String {
        let (style, word) = match self.action {
            PathAction::Keep => (YELLOW, self.class.name()),
            PathAction::Refuse => (RED, self.class.name()),
            PathAction::None => (DIM, self.class.name()),
            action => (GREEN, action.name()),
        };
        let PathLine { path, reason, .. } = self;
        format!("  {style}{word:<10}{style:#} {path:<width$}  {DIM}{reason}{DIM:#}")
    }
}

/// The mode of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunMode {
    /// The files were written.
    Real,
    /// `--dry-run`: only says what would happen.
    DryRun,
    /// `--check`: only says whether a path is behind.
    Check,
}

/// The JSON output of `sync` for one worktree (`xtask.sync/1`).
#[derive(Clone, Debug, Serialize)]
pub struct SyncReport {
    pub schema: &'static str,
    pub canonical: CanonicalLine,
    pub worktree: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
    pub mode: WriteMode,
    /// The new commit, if one was made.
    pub commit: Option<String>,
    /// The ID of the backup for `undo`.
    pub undo: Option<String>,
    /// The upstream commit to which the branch was fast-forwarded before the sync.
    pub moved_to: Option<String>,
    /// The reason if the worktree was skipped.
    pub skipped: Option<String>,
    /// Warnings for the user.
    pub warnings: Vec<String>,
    pub paths: Vec<PathLine>,
}

impl SyncReport {
    /// Builds a report without paths.
    #[must_use]
    pub fn empty(repo: &Repo, context: &SyncContext, mode: WriteMode) -> SyncReport {
        SyncReport {
            schema: "xtask.sync/1",
            canonical: CanonicalLine::new(context),
            worktree: repo.root().display().to_string(),
            branch: repo.current_branch(),
            mode,
            commit: None,
            undo: None,
            moved_to: None,
            skipped: None,
            warnings: context.warnings.clone(),
            paths: Vec::new(),
        }
    }

    /// Builds the report of a plan, with the paths that are in sync if `lists_in_sync`.
    #[must_use]
    pub fn new(repo: &Repo, planned: &PlannedSync, lists_in_sync: bool) -> SyncReport {
        let mut paths: Vec<PathLine> = planned.plan.items.iter().map(PathLine::new).collect();
        if lists_in_sync {
            paths.extend(planned.in_sync().into_iter().map(|path| PathLine {
                path: path.to_string(),
                class: PathClass::InSync,
                action: PathAction::None,
                reason: ClassReason::IsCanonical.to_string(),
                is_conflict: false,
                merge_file: None,
            }));
        }
        paths.sort_by(|one, two| one.path.cmp(&two.path));
        let branch = planned.head.branch.clone();
        let mut report = SyncReport::empty(repo, &planned.context, planned.plan.mode);
        report.warnings.extend(planned.describe_pins(repo));
        SyncReport { branch, paths, ..report }
    }

    /// Adds commit, backup and conflict files of the run.
    pub fn record_outcome(&mut self, outcome: SyncOutcome) {
        self.warnings.extend(describe_removed_overlay(&outcome));
        self.commit = outcome.commit.map(|id| id.to_string());
        self.undo = outcome.backup;
        for (path, file) in outcome.conflicts {
            let path = path.to_string();
            if let Some(line) = self.paths.iter_mut().find(|line| line.path == path) {
                line.merge_file = Some(file.display().to_string());
            }
        }
    }

    /// Renders the report as text, which is empty if there is no change to report.
    #[must_use]
    pub fn render_text(&self, mode: RunMode, verbosity: Verbosity) -> String {
        let branch = self.branch.as_deref().unwrap_or("detached HEAD");
        let branch = format!("{BOLD}{branch}{BOLD:#}");
        let is_verbose = verbosity == Verbosity::Verbose;
        let mut lines = Vec::new();
        if let Some(why) = &self.skipped {
            lines.extend(is_verbose.then(|| format!("{branch}: {why}")));
            return join_lines(&lines);
        }
        let mut kept = self.paths_with(|action| action == PathAction::Keep);
        kept.retain(|line| verbosity > Verbosity::Quiet || line.is_conflict);
        let written = self.paths_with(PathAction::is_write);
        let refused = self.paths_with(|action| action == PathAction::Refuse);
        if let Some(to) = &self.moved_to {
            lines.push(format!("{branch}: moved to its upstream {}", short_id(to)));
        }
        if !written.is_empty() {
            lines.push(format!("{branch}: {}", self.describe_written(written.len(), mode)));
            push_path_lines(&mut lines, &written, is_verbose);
        }
        if !kept.is_empty() {
            let files = pluralize(kept.len(), "path");
            let stay = if kept.len() == 1 { "is kept as it is" } else { "are kept as they are" };
            lines.push(format!("{branch}: {files} {stay}"));
            push_path_lines(&mut lines, &kept, is_verbose);
        }
        if !refused.is_empty() {
            let files = pluralize(refused.len(), "path");
            let verb = if refused.len() == 1 { "is" } else { "are" };
            lines.push(format!("{branch}: {files} {verb} not written to"));
            push_path_lines(&mut lines, &refused, is_verbose);
        }
        if is_verbose {
            push_path_lines(
                &mut lines,
                &self.paths_with(|action| action == PathAction::None),
                true,
            );
            if written.is_empty() && kept.is_empty() && refused.is_empty() {
                lines.push(format!("{branch}: in sync with {}", self.canonical.describe()));
            }
        }
        join_lines(&lines)
    }

    fn describe_written(&self, written: usize, mode: RunMode) -> String {
        let files = pluralize(written, "managed file");
        let canonical = self.canonical.describe();
        let line = match mode {
            RunMode::Real if self.commit.is_some() => format!("{files} synced from {canonical}"),
            RunMode::Real => format!("{files} written from {canonical}"),
            RunMode::DryRun => format!("{files} would be synced from {canonical}"),
            RunMode::Check if written == 1 => format!("{files} is behind {canonical}"),
            RunMode::Check => format!("{files} are behind {canonical}"),
        };
        match &self.commit {
            Some(commit) => format!("{line}, commit {}", short_id(commit)),
            None if mode == RunMode::Real && self.mode == WriteMode::Worktree => {
                format!("{line}, not committed")
            }
            None => line,
        }
    }

    /// Returns the next commands for the user. `at` is inserted between `cargo xtask` and the
    /// command: `-C DIR ` for another worktree, or empty.
    #[must_use]
    pub fn next_steps(&self, mode: RunMode, at: &str) -> Vec<String> {
        let mut steps = Vec::new();
        if let Some(undo) = &self.undo {
            steps.push(format!("`cargo xtask {at}undo {undo}` undoes it"));
        }
        if mode == RunMode::Check && !self.paths_with(PathAction::is_write).is_empty() {
            steps.push(format!("`cargo xtask {at}sync` updates them"));
        }
        let source = &self.canonical.commit;
        for line in &self.paths {
            if let Some(file) = &line.merge_file {
                steps.push(format!(
                    "conflict in {0}: resolve it in {file}, then\n  cp '{file}' '{0}' && git commit \
                     --allow-empty --trailer 'Orchestration-Source: {source}' --trailer \
                     'Orchestration-Settled: {0}' '{0}'",
                    line.path
                ));
            } else if line.is_conflict {
                steps.push(format!(
                    "cannot merge {0}: keep it as it is, or take the canonical version with `cargo \
                     xtask {at}sync --force {0}`",
                    line.path
                ));
            }
        }
        let kept = self.paths_with(|action| action == PathAction::Keep);
        let is_only_pinned = kept.iter().all(|line| line.class == PathClass::Pinned);
        let is_only_edited = !kept.iter().any(|line| line.class == PathClass::Customised);
        if steps.is_empty() && !kept.is_empty() && is_only_pinned {
            steps.push(format!(
                "pinned on purpose: `cargo xtask {at}unpin PATH` ends a pin; `sync --force PATH` \
                 replaces the file once, and the pin remains (`undo` restores it)"
            ));
        } else if steps.is_empty() && !kept.is_empty() && is_only_edited {
            steps.push(format!(
                "`cargo xtask {at}diff` shows what is kept; commit it, or `sync --force PATH` \
                 replaces it (undo brings it back)"
            ));
        } else if steps.is_empty() && !kept.is_empty() {
            steps.push(format!(
                "`cargo xtask {at}diff` shows what is kept; `sync --merge` merges the canonical changes, \
                 `sync --force PATH` replaces it (`undo` restores it)"
            ));
        }
        steps
    }

    fn paths_with(&self, is_wanted: impl Fn(PathAction) -> bool) -> Vec<&PathLine> {
        self.paths.iter().filter(|line| is_wanted(line.action)).collect()
    }
}

fn push_path_lines(text: &mut Vec<String>, lines: &[&PathLine], is_verbose: bool) {
    let shown = if is_verbose { lines.len() } else { MAX_LINES };
    let width = lines.iter().take(shown).map(|l| l.path.chars().count()).max().unwrap_or(0);
    text.extend(lines.iter().take(shown).map(|line| line.render_text(width)));
    if lines.len() > shown {
        text.push(format!("  and {} more (-v lists them)", lines.len() - shown));
    }
}

/// The JSON output of `sync --all-worktrees` (`xtask.sync-worktrees/1`).
#[derive(Clone, Debug, Serialize)]
pub struct SyncWorktreesReport {
    pub schema: &'static str,
    pub worktrees: Vec<SyncWorktreeLine>,
}

/// The result of one worktree.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum SyncWorktreeLine {
    /// The sync succeeded.
    Report(Box<SyncReport>),
    /// The sync failed.
    Failed {
        /// The root of the worktree.
        worktree: String,
        /// The error message.
        error: String,
    },
}
