//! From classes to actions: what a run of sync will do with each path, and why.
//!
//! A plan is the whole truth about a run before it happens. `--check`, `--dry-run`, `status` and
//! the run itself use the same one.

use std::collections::{BTreeMap, BTreeSet};

use super::classify::{Class, Obstacle, PathState, Verdict, Why, classify};
use xtask_base::path::RepoPath;
use xtask_git::{Entry, Work};

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
pub enum Beyond {
    /// Nothing.
    Nothing,
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
    Merged(Entry),
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
pub enum Action {
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

impl Action {
    /// Its name, as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Action::None => "none",
            Action::Update => "update",
            Action::Create => "create",
            Action::Delete => "delete",
            Action::Merge => "merge",
            Action::Keep => "keep",
            Action::Refuse => "refuse",
        }
    }

    /// Whether something is written.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Action::Update | Action::Create | Action::Delete | Action::Merge)
    }
}

/// One path of a plan.
#[derive(Clone, Debug)]
pub struct Item {
    /// What was found.
    pub state: PathState,
    /// Its class.
    pub class: Class,
    /// What happens.
    pub action: Action,
    /// Why it is of that class.
    pub why: Why,
    /// What the merge came to, where one was tried.
    pub merge: Option<MergeOutcome>,
    /// What the path holds afterwards, where something is written.
    pub target: Option<Entry>,
    /// Whether the file itself is written.
    pub writes_file: bool,
}

impl Item {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        &self.state.path
    }

    /// Whether what is there now would be lost without a backup: it is neither in HEAD nor
    /// canonical.
    #[must_use]
    pub fn replaces_work(&self) -> bool {
        self.action.writes() && !matches!(self.class, Class::Behind | Class::Sparse)
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
pub struct Plan {
    /// Every path that was looked at, in order.
    pub items: Vec<Item>,
    /// How it writes.
    pub mode: WriteMode,
}

impl Plan {
    /// The items that write something.
    pub fn writes(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| item.action.writes())
    }

    /// How many paths are of a class.
    #[must_use]
    pub fn count(&self, class: Class) -> usize {
        self.items.iter().filter(|item| item.class == class).count()
    }

    /// The changes to the tree of the branch.
    #[must_use]
    pub fn tree_changes(&self) -> Vec<(RepoPath, Option<Entry>)> {
        self.writes()
            .filter(|item| item.target != item.state.head)
            .map(|item| (item.path().clone(), item.target))
            .collect()
    }

    /// The managed files that the branch loses, and those that it gets.
    #[must_use]
    pub fn goes_and_comes(&self) -> (Vec<&Item>, Vec<&Item>) {
        let of = |action: Action| self.writes().filter(move |item| item.action == action).collect();
        (of(Action::Delete), of(Action::Create))
    }

    /// Whether a merge that was asked for left a conflict.
    #[must_use]
    pub fn has_conflicts(&self) -> bool {
        self.items.iter().any(Item::is_conflict)
    }
}

/// Decides what happens to each path. `merges` has the outcome for every customised path if
/// merging was asked for.
#[must_use]
pub fn plan(
    states: Vec<PathState>,
    mode: WriteMode,
    beyond: Beyond,
    merges: &BTreeMap<RepoPath, MergeOutcome>,
) -> Plan {
    let mut items: Vec<Item> =
        states.into_iter().map(|state| decide(state, mode, beyond, merges)).collect();
    items.sort_by(|one, two| one.state.path.cmp(&two.state.path));
    make_way(&mut items, mode);
    Plan { items, mode }
}

/// A path that needs the place of another (a file where there was a folder, or the other way round)
/// is only made if the other goes in the same plan.
fn make_way(items: &mut [Item], mode: WriteMode) {
    let staying: BTreeSet<RepoPath> = items
        .iter()
        .filter(|item| item.state.head.is_some() && item.target.is_none())
        .filter(|item| item.action != Action::Delete)
        // Where nothing is committed, only what lies there takes a place.
        .filter(|item| mode == WriteMode::Commit || item.state.work != Work::Absent)
        .map(|item| item.path().clone())
        .collect();
    for item in items.iter_mut().filter(|item| item.action.writes() && item.target.is_some()) {
        let path = &item.state.path;
        let above = path.ancestors().find(|folder| staying.contains(folder));
        let in_the_way = above
            .or_else(|| staying.range(path.clone()..).find(|other| other.is_below(path)).cloned());
        if let Some(other) = in_the_way.filter(|_| item.state.head.is_none()) {
            item.why = Why::Barred(Obstacle::InTheWay(other));
            item.action = Action::Refuse;
            item.target = None;
            item.writes_file = false;
        }
    }
}

fn decide(
    state: PathState,
    mode: WriteMode,
    beyond: Beyond,
    merges: &BTreeMap<RepoPath, MergeOutcome>,
) -> Item {
    let Verdict { class, why, is_free, is_writable, writes_file } = classify(&state);
    let merge = match (beyond, class) {
        (Beyond::Merge, Class::Customised) if is_writable => merges.get(&state.path).cloned(),
        _ => None,
    };
    let is_forced = beyond == Beyond::Force
        && is_writable
        && matches!(class, Class::Customised | Class::Edited | Class::Untracked | Class::Unknown);
    let (action, target) = match (class, &merge) {
        (Class::InSync | Class::Excluded, _) => (Action::None, None),
        (_, Some(MergeOutcome::Merged(entry))) => (Action::Merge, Some(*entry)),
        _ if is_free || is_forced => (replacing(&state), state.canonical),
        _ if is_writable => (Action::Keep, None),
        _ => (Action::Refuse, None),
    };
    let writes_file = action.writes() && (writes_file || action == Action::Merge);
    // Without a commit, what is not about the file is not done: it already is as it should be.
    let action = if mode == WriteMode::Worktree && action.writes() && !writes_file {
        Action::None
    } else {
        action
    };
    Item { state, class, action, why, merge, target, writes_file }
}

fn replacing(state: &PathState) -> Action {
    let is_replaced = match &state.work {
        Work::Present(found) => Some(found.entry) != state.canonical,
        _ => false,
    };
    let is_there = state.head.is_some() || state.index.entry().is_some() || is_replaced;
    match (state.canonical.is_some(), is_there) {
        (false, _) => Action::Delete,
        (true, true) => Action::Update,
        (true, false) => Action::Create,
    }
}
