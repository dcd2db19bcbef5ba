//! From classes to actions: what a run of sync will do with each path, and why.
//!
//! A plan is the whole truth about a run before it happens. `--check`, `--dry-run`, `status` and
//! the run itself use the same one.

use std::collections::{BTreeMap, BTreeSet};

use super::classify::{
    ClassReason, Classification, PathClass, PathState, WriteObstacle, classify_path,
};
use xtask_base::path::RepoPath;
use xtask_git::{TreeEntry, WorktreeItem};

/// How sync writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// One commit on the branch, index and files with it.
    Commit,
    /// Files only.
    Worktree,
}

impl WriteMode {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            WriteMode::Commit => "commit",
            WriteMode::Worktree => "worktree",
        }
    }
}

/// What the user asked for beyond the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverwritePolicy {
    /// Nothing.
    Keep,
    /// Customised paths are merged.
    Merge,
    /// What is kept otherwise is backed up and replaced.
    Force,
}

/// How a three-way merge of a customised path went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeOutcome {
    /// The canonical branch has not changed it since: there is nothing to merge.
    NothingNew,
    /// Both went together into this content.
    Merged(TreeEntry),
    /// Both changed the same lines.
    Conflict,
    /// One side removed what the other changed.
    RemovedOnOneSide,
    /// It is not text.
    NotText,
    /// Git's attributes say that it is not merged.
    NotMerged,
    /// Git's attributes say that a program of the user's merges it.
    HasDriver(String),
}

/// What happens to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathAction {
    /// Nothing, and nothing is to be said.
    None,
    /// It gets the canonical content.
    Update,
    /// It is made.
    Create,
    /// It is removed.
    Delete,
    /// It gets a merged content.
    Merge,
    /// It stays, and that is reported.
    Keep,
    /// It cannot be written, and that is reported.
    Refuse,
}

impl PathAction {
    /// Its name, as in JSON.
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

    /// Whether something is written.
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(
            self,
            PathAction::Update | PathAction::Create | PathAction::Delete | PathAction::Merge
        )
    }
}

/// One path of a plan.
#[derive(Clone, Debug)]
pub struct PlannedPath {
    /// What was found.
    pub state: PathState,
    /// Its class.
    pub class: PathClass,
    /// What happens.
    pub action: PathAction,
    /// Why it is of that class.
    pub why: ClassReason,
    /// What the merge came to, where one was tried.
    pub merge: Option<MergeOutcome>,
    /// What the path holds afterwards, where something is written.
    pub target: Option<TreeEntry>,
    /// Whether the file itself is written.
    pub writes_file: bool,
}

impl PlannedPath {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        &self.state.path
    }

    /// Whether what is there now would be lost without a backup: it is neither in HEAD nor
    /// canonical.
    #[must_use]
    pub fn replaces_work(&self) -> bool {
        self.action.is_write() && !matches!(self.class, PathClass::Behind | PathClass::Sparse)
    }

    /// Whether a merge that was asked for did not go through.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        !matches!(self.merge, None | Some(MergeOutcome::NothingNew | MergeOutcome::Merged(_)))
    }

    /// The reason, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        match &self.merge {
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
                format!("{}; git's attributes say that it is not merged", self.why)
            }
            Some(MergeOutcome::HasDriver(name)) => {
                format!("{}; its merge driver `{name}` is not run, so it is not merged", self.why)
            }
        }
    }
}

/// What a run will do.
#[derive(Clone, Debug)]
pub struct SyncPlan {
    /// Every path that was looked at, in order.
    pub items: Vec<PlannedPath>,
    /// How it writes.
    pub mode: WriteMode,
}

impl SyncPlan {
    /// The items that write something.
    pub fn written_paths(&self) -> impl Iterator<Item = &PlannedPath> {
        self.items.iter().filter(|item| item.action.is_write())
    }

    /// How many paths are of a class.
    #[must_use]
    pub fn count(&self, class: PathClass) -> usize {
        self.items.iter().filter(|item| item.class == class).count()
    }

    /// The changes to the tree of the branch.
    #[must_use]
    pub fn tree_changes(&self) -> Vec<(RepoPath, Option<TreeEntry>)> {
        self.written_paths()
            .filter(|item| item.target != item.state.head)
            .map(|item| (item.path().clone(), item.target))
            .collect()
    }

    /// The managed files that the branch loses, and those that it gets.
    #[must_use]
    pub fn deleted_and_created(&self) -> (Vec<&PlannedPath>, Vec<&PlannedPath>) {
        let of = |action: PathAction| {
            self.written_paths().filter(move |item| item.action == action).collect()
        };
        (of(PathAction::Delete), of(PathAction::Create))
    }

    /// Whether a merge that was asked for left a conflict.
    #[must_use]
    pub fn has_conflicts(&self) -> bool {
        self.items.iter().any(PlannedPath::is_conflict)
    }
}

/// Decides what happens to each path. `merges` has the outcome for every customised path if
/// merging was asked for.
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

/// A path that needs the place of another (a file where there was a folder, or the other way round)
/// is only made if the other goes in the same plan.
fn refuse_blocked_paths(items: &mut [PlannedPath], mode: WriteMode) {
    let staying: BTreeSet<RepoPath> = items
        .iter()
        .filter(|item| item.state.head.is_some() && item.target.is_none())
        .filter(|item| item.action != PathAction::Delete)
        // Where nothing is committed, only what lies there takes a place.
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
            PathClass::Customised | PathClass::Edited | PathClass::Untracked | PathClass::Unknown
        );
    let (action, target) = match (class, &merge) {
        (PathClass::InSync | PathClass::Excluded, _) => (PathAction::None, None),
        (_, Some(MergeOutcome::Merged(entry))) => (PathAction::Merge, Some(*entry)),
        _ if is_free || is_forced => (choose_write_action(&state), state.canonical),
        _ if is_writable => (PathAction::Keep, None),
        _ => (PathAction::Refuse, None),
    };
    let writes_file = action.is_write() && (writes_file || action == PathAction::Merge);
    // Without a commit, what is not about the file is not done: it already is as it should be.
    let action = if mode == WriteMode::Worktree && action.is_write() && !writes_file {
        PathAction::None
    } else {
        action
    };
    PlannedPath { state, class, action, why, merge, target, writes_file }
}

fn choose_write_action(state: &PathState) -> PathAction {
    let is_replaced = match &state.work {
        WorktreeItem::Present(found) => Some(found.entry) != state.canonical,
        _ => false,
    };
    let is_there = state.head.is_some() || state.index.entry().is_some() || is_replaced;
    match (state.canonical.is_some(), is_there) {
        (false, _) => PathAction::Delete,
        (true, true) => PathAction::Update,
        (true, false) => PathAction::Create,
    }
}
