//! Plan of a run: the action for each path, with its reason.
//!
//! `--check`, `--dry-run`, `status` and the run itself all use this plan. For example:
//!
//! ```text
//! setup/a     behind      update  it has an older canonical version
//! setup/own   customised  keep    this branch has its own version
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::classify::{
    ClassReason, Classification, PathClass, PathState, WriteObstacle, classify_path,
    classify_unpinned,
};
use xtask_base::path::RepoPath;
use xtask_git::{TreeEntry, WorktreeItem};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WriteMode {
    /// One commit on the branch, with index and files.
    Commit,
    /// Files only (`--no-commit`).
    Worktree,
}

/// Treatment of paths that a plain sync keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverwritePolicy {
    /// Keep them.
    Keep,
    /// Merge customised paths (`--merge`).
    Merge,
    /// Back them up and replace them (`--force`).
    Force,
}

/// Outcome of a three-way merge of a customised path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeOutcome {
    /// The canonical branch has not changed the path since the merge base.
    NothingNew,
    /// A clean merge with this content.
    Merged(TreeEntry),
    /// Both sides changed the same lines.
    Conflict,
    /// One side removed the file, the other changed it.
    RemovedOnOneSide,
    /// A binary file, symlink or submodule.
    NotText,
    /// Git attributes forbid merging (`-merge`).
    NotMerged,
    /// Git attributes name a custom merge driver, which is not run.
    HasDriver(String),
}

/// Action for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathAction {
    /// No change and no message.
    None,
    /// Replace by the canonical content.
    Update,
    Create,
    Delete,
    /// Replace by the merged content.
    Merge,
    /// Leave as is, and report it.
    Keep,
    /// Cannot be written, and report it.
    Refuse,
}

impl PathAction {
    /// Returns the name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            PathAction::None => "none",
            PathAction::Update => "update",
            PathAction::Create => "create",
            PathAction::Delete => "delete",
            PathAction::Merge => "merge",
            PathAction::Keep => "keep",
            PathAction::Refuse => "refuse",
        }
    }

    /// Returns whether the action changes the path.
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(
            self,
            PathAction::Update | PathAction::Create | PathAction::Delete | PathAction::Merge
        )
    }
}

#[derive(Clone, Debug)]
pub struct PlannedPath {
    pub state: PathState,
    pub class: PathClass,
    pub action: PathAction,
    pub why: ClassReason,
    /// Outcome of the merge, if one was tried.
    pub merge: Option<MergeOutcome>,
    /// Content afterwards; `None` for a removal or if the path is not written.
    pub target: Option<TreeEntry>,
    /// Whether the file itself is written.
    pub writes_file: bool,
}

impl PlannedPath {
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        &self.state.path
    }

    /// Returns whether the present content would be lost without a backup: neither in HEAD nor
    /// canonical.
    #[must_use]
    pub fn replaces_work(&self) -> bool {
        self.action.is_write() && !matches!(self.class, PathClass::Behind | PathClass::Sparse)
    }

    /// Returns whether a requested merge failed.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        !matches!(self.merge, None | Some(MergeOutcome::NothingNew | MergeOutcome::Merged(_)))
    }

    /// Describes the reason, for a message.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.merge {
            None if self.replaces_work() && self.class == PathClass::Pinned => {
                format!("{}; it is in the backup, and the pin remains (`unpin` ends it)", self.why)
            }
            None if self.replaces_work() => format!("{}; it is in the backup", self.why),
            None => self.why.to_string(),
            Some(MergeOutcome::NothingNew) => {
                format!("{}; the canonical branch has nothing new for it", self.why)
            }
            Some(MergeOutcome::Merged(_)) => format!("{}; merged", self.why),
            Some(MergeOutcome::Conflict) => format!("{}; the merge conflicts", self.why),
            Some(MergeOutcome::RemovedOnOneSide) => {
                format!("{}; one side removed what the other changed", self.why)
            }
            Some(MergeOutcome::NotText) => format!("{}; it is not text, so not merged", self.why),
            Some(MergeOutcome::NotMerged) => {
                format!("{}; git attributes forbid merging it", self.why)
            }
            Some(MergeOutcome::HasDriver(name)) => {
                format!("{}; its merge driver `{name}` is not run, so it is not merged", self.why)
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct SyncPlan {
    /// All scanned paths, sorted.
    pub items: Vec<PlannedPath>,
    pub mode: WriteMode,
}

impl SyncPlan {
    /// Returns the paths to be written.
    pub fn written_paths(&self) -> impl Iterator<Item = &PlannedPath> {
        self.items.iter().filter(|item| item.action.is_write())
    }

    /// Counts the paths of `class`.
    #[must_use]
    pub fn count(&self, class: PathClass) -> usize {
        self.items.iter().filter(|item| item.class == class).count()
    }

    /// Returns the changes to the branch's tree; `None` removes a path.
    #[must_use]
    pub fn tree_changes(&self) -> Vec<(RepoPath, Option<TreeEntry>)> {
        self.written_paths()
            .filter(|item| item.target != item.state.head)
            .map(|item| (item.path().clone(), item.target))
            .collect()
    }

    /// Returns the managed files that the branch loses, and those that it gains.
    #[must_use]
    pub fn deleted_and_created(&self) -> (Vec<&PlannedPath>, Vec<&PlannedPath>) {
        let of = |action: PathAction| {
            self.written_paths().filter(move |item| item.action == action).collect()
        };
        (of(PathAction::Delete), of(PathAction::Create))
    }

    /// Returns whether a requested merge left a conflict.
    #[must_use]
    pub fn has_conflicts(&self) -> bool {
        self.items.iter().any(PlannedPath::is_conflict)
    }
}

/// Decides the action for each path. `merges` has an outcome for every customised path if `beyond`
/// is `Merge`.
#[must_use]
pub fn build_plan(
    states: Vec<PathState>,
    mode: WriteMode,
    beyond: OverwritePolicy,
    merges: &BTreeMap<RepoPath, MergeOutcome>,
) -> SyncPlan {
    let mut items: Vec<PlannedPath> =
        states.into_iter().map(|state| decide_action(state, mode, beyond, merges)).collect();
    items.sort_by(|one, two| one.state.path.cmp(&two.state.path));
    refuse_blocked_paths(&mut items, mode);
    SyncPlan { items, mode }
}

/// Refuses paths whose place is occupied: a file at the place of a folder, or vice versa, must be
/// deleted in the same plan.
fn refuse_blocked_paths(items: &mut [PlannedPath], mode: WriteMode) {
    let staying: BTreeSet<RepoPath> = items
        .iter()
        .filter(|item| item.state.head.is_some() && item.target.is_none())
        .filter(|item| item.action != PathAction::Delete)
        // Without a commit only files that exist on disk occupy a path.
        .filter(|item| mode == WriteMode::Commit || item.state.work != WorktreeItem::Absent)
        .map(|item| item.path().clone())
        .collect();
    for item in items.iter_mut().filter(|item| item.action.is_write() && item.target.is_some()) {
        let path = &item.state.path;
        let above = path.ancestors().find(|folder| staying.contains(folder));
        let in_the_way = above
            .or_else(|| staying.range(path.clone()..).find(|other| other.is_below(path)).cloned());
        if let Some(other) = in_the_way.filter(|_| item.state.head.is_none()) {
            item.why = ClassReason::Blocked(WriteObstacle::InTheWay(other));
            item.action = PathAction::Refuse;
            item.target = None;
            item.writes_file = false;
        }
    }
}

fn decide_action(
    state: PathState,
    mode: WriteMode,
    beyond: OverwritePolicy,
    merges: &BTreeMap<RepoPath, MergeOutcome>,
) -> PlannedPath {
    let Classification { class, why, is_automatic: is_free, is_writable, writes_file } =
        classify_path(&state);
    let merge = match (beyond, class) {
        (OverwritePolicy::Merge, PathClass::Customised) if is_writable => {
            merges.get(&state.path).cloned()
        }
        _ => None,
    };
    let is_forced = beyond == OverwritePolicy::Force
        && is_writable
        && matches!(
            class,
            PathClass::Customised
                | PathClass::Edited
                | PathClass::Untracked
                | PathClass::Unknown
                | PathClass::Pinned
        );
    let is_to_be_forced = beyond == OverwritePolicy::Force;
    let (action, target) = match (class, &merge) {
        (PathClass::InSync | PathClass::Excluded, _) => (PathAction::None, None),
        (_, Some(MergeOutcome::Merged(entry))) => (PathAction::Merge, Some(*entry)),
        _ if is_free || is_forced => (choose_write_action(&state), state.canonical),
        _ if is_writable => (PathAction::Keep, None),
        // Nobody asked for a write, so that an obstacle does not matter.
        (PathClass::Pinned, _) if !is_to_be_forced => (PathAction::Keep, None),
        _ => (PathAction::Refuse, None),
    };
    // What prevents the write is the news, not the pin.
    let why = match (class, action) {
        (PathClass::Pinned, PathAction::Refuse) => classify_unpinned(&state).why,
        _ => why,
    };
    let writes_file = action.is_write() && (writes_file || action == PathAction::Merge);
    // In `Worktree` mode a path whose file already is right needs no action.
    let action = if mode == WriteMode::Worktree && action.is_write() && !writes_file {
        PathAction::None
    } else {
        action
    };
    PlannedPath { state, class, action, why, merge, target, writes_file }
}

fn choose_write_action(state: &PathState) -> PathAction {
    let is_replaced = state.work.file().is_some_and(|file| Some(file.entry) != state.canonical);
    let is_there = state.head.is_some() || state.index.entry().is_some() || is_replaced;
    match (state.canonical.is_some(), is_there) {
        (false, _) => PathAction::Delete,
        (true, true) => PathAction::Update,
        (true, false) => PathAction::Create,
    }
}
