//! Every worktree and every branch, for `status --all`.
//!
//! ```text
//! * feature/menu  2 behind  /home/ada/shop
//! ```

use serde::Serialize;

use super::fleet_bar::render_fleet_bar;
use super::report::ClassCounts;
use xtask_base::error::Result;
use xtask_base::words::pluralize;
use xtask_git::{Repo, Tools, Worktree};
use xtask_report::{BOLD, DIM};
use xtask_sync::branch_overview::{BranchOverview, survey_branches};
use xtask_sync::classify::PathClass;
use xtask_sync::context::SyncContext;
use xtask_sync::rollback;
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;

/// All worktrees and branches.
#[derive(Clone, Debug, Serialize)]
pub struct AllLines {
    pub worktrees: Vec<WorktreeStatusLine>,
    pub branches: Vec<BranchStatusLine>,
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
    /// Why its pins cannot be read; all paths that differ then count as unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Reads the status of every worktree and branch.
pub(super) fn read_all(repo: &Repo, context: &SyncContext, tools: &Tools<'_>) -> Result<AllLines> {
    let worktrees = repo.list_worktrees()?.into_iter();
    let branches = survey_branches(repo, context, tools.world.now_seconds(), tools.progress)?;
    Ok(AllLines {
        worktrees: worktrees.map(|tree| read_worktree(repo, context, tree, tools)).collect(),
        branches: branches.into_iter().map(BranchStatusLine::new).collect(),
    })
}

/// Returns the line of one worktree. If it cannot be inspected, its note is the error.
fn read_worktree(
    repo: &Repo,
    context: &SyncContext,
    tree: Worktree,
    tools: &Tools<'_>,
) -> WorktreeStatusLine {
    let mut line = WorktreeStatusLine {
        worktree: tree.root.display().to_string(),
        branch: tree.branch.clone(),
        current: tree.root == repo.root(),
        counts: None,
        note: None,
    };
    if !tree.is_there {
        line.note = Some("its folder is gone (`git worktree prune`)".to_owned());
        return line;
    }
    let inspection = repo.open_worktree(&tree.root).and_then(|repo| {
        if rollback::has_unfinished_transaction(&repo) {
            line.note = Some("an earlier run was interrupted".to_owned());
        }
        let options = SyncOptions::plain();
        inspect_checkout(&repo, context.clone(), &options, ScanDepth::Everything, tools)
    });
    match inspection {
        Ok(SyncInspection::OnCanonical(_)) => line.note = Some("canonical".to_owned()),
        Ok(SyncInspection::Planned(planned)) => {
            line.counts = Some(ClassCounts::of_plan(&planned.plan));
        }
        Err(failure) => line.note = Some(failure.to_string()),
    }
    line
}

impl BranchStatusLine {
    fn new(overview: BranchOverview) -> BranchStatusLine {
        BranchStatusLine {
            counts: ClassCounts {
                behind: overview.count(PathClass::Behind),
                customised: overview.count(PathClass::Customised),
                pinned: overview.count(PathClass::Pinned),
                edited: None,
                untracked: None,
                unknown: overview.count(PathClass::Unknown),
            },
            commit: overview.commit.to_string(),
            note: overview.fault,
            branch: overview.name,
        }
    }
}

impl WorktreeStatusLine {
    fn branch_name(&self) -> &str {
        self.branch.as_deref().unwrap_or("detached HEAD")
    }

    fn render_text(&self, width: usize) -> String {
        let mark = if self.current { "*" } else { " " };
        let parts = [self.counts.as_ref().map(ClassCounts::describe_counts), self.note.clone()];
        let words = parts.into_iter().flatten().collect::<Vec<_>>().join("; ");
        let (branch, root) = (self.branch_name(), &self.worktree);
        format!("{mark} {branch:<width$}  {words}  {DIM}{root}{DIM:#}")
    }
}

impl AllLines {
    pub(super) fn render_bar(&self) -> Option<String> {
        render_fleet_bar(self.branches.iter().map(|line| &line.counts))
    }

    pub(super) fn render_lines(&self) -> Vec<String> {
        let AllLines { worktrees, branches } = self;
        let mut lines = vec![format!("\n{BOLD}worktrees{BOLD:#}")];
        let width = worktrees.iter().map(|line| line.branch_name().chars().count()).max();
        lines.extend(worktrees.iter().map(|line| line.render_text(width.unwrap_or(0))));
        lines.push(format!("\n{BOLD}branches{BOLD:#}"));
        let width = branches.iter().map(|line| line.branch.chars().count()).max().unwrap_or(0);
        lines.extend(branches.iter().map(|BranchStatusLine { branch, counts, note, .. }| {
            let note = note.as_ref().map_or(String::new(), |note| format!("; {note}"));
            format!("  {branch:<width$}  {}{note}", counts.render_counts())
        }));
        let behind = branches.iter().filter(|line| line.counts.behind > 0).count();
        let own = branches.iter().filter(|line| line.counts.customised > 0).count();
        let pinned = match branches.iter().filter(|line| line.counts.pinned > 0).count() {
            0 => String::new(),
            pinned => format!(", {pinned} pinned"),
        };
        lines.push(format!(
            "{}: {behind} behind, {own} customised{pinned}",
            pluralize(branches.len(), "branch")
        ));
        lines
    }
}
