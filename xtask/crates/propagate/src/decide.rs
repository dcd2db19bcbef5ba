//! The decision about each branch, as one [`BranchRow`]. Its new commit is written to the object
//! database, and no ref names it yet. For example:
//!
//! ```text
//! branch: "feature", target: "feature",                 status: WillUpdate, writes: 2
//! branch: "main",    target: "orchestration-sync/main", status: WillUpdate, reason: "protected: …"
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::Serialize;

use super::push::PushOutcome;
use super::targets::{BranchSet, TargetBranch, UpdateMethod};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_git::{CanonicalHistory, Head, Id, Repo};
use xtask_sync::branch_overview::BranchReader;
use xtask_sync::classify::PathClass;
use xtask_sync::commit;
use xtask_sync::context::{SYNC_BRANCH_PREFIX, SyncContext};
use xtask_sync::hook_policy::{describe_unrelated_branch, is_unrelated_branch};
use xtask_sync::plan::{OverwritePolicy, PathAction, SyncPlan, WriteMode, build_plan};
use xtask_sync::run::HintStyle;
use xtask_sync::upstream::{UpstreamStatus, find_upstream_status, has_only_sync_commits};
use xtask_sync::write_rules::check_mass_deletion;

/// The planned or completed action on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropagateStatus {
    /// No action: the branch has everything that the rules allow.
    UpToDate,
    /// The ref will be moved, created or deleted.
    WillUpdate,
    /// The ref was moved, created or deleted.
    Updated,
    /// The branch was up to date, and was pushed (or would be, in a dry run).
    Pushed,
    /// The branch is synced in its worktree.
    InWorktree,
    /// The rules leave the branch alone.
    Skipped,
    /// The update needs a confirmation that was not given.
    Refused,
    /// The update failed.
    Failed,
}

/// The action on a branch, as reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BranchAction {
    None,
    Update,
    /// Nothing to update, only to push.
    Push,
    /// Synced in the worktree that has it checked out.
    Worktree,
    /// Committed to a side branch, for a pull request.
    Beside,
    /// Skipped.
    Left,
    Refused,
    Failed,
}

/// A path of a branch that is not in sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PathRow {
    pub path: String,
    pub class: PathClass,
    pub action: PathAction,
}

/// The decision about a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRow {
    pub branch: String,
    /// The branch whose ref changes: `branch`, or its side branch, e.g. `orchestration-sync/main`.
    pub target: String,
    /// The current commit of `target`.
    pub old: Option<Id>,
    /// The new commit of `target`; `None` if the ref is deleted or stays.
    pub new: Option<Id>,
    pub status: PropagateStatus,
    /// The reason, if not obvious.
    pub reason: Option<String>,
    /// The number of paths in each class.
    pub counts: BTreeMap<PathClass, usize>,
    /// The number of paths to write.
    pub writes: usize,
    /// The paths, if requested by [`DecisionInputs::lists_paths`].
    pub paths: Vec<PathRow>,
    /// What became of the push of the branch, if one was requested and needed.
    pub push: Option<PushOutcome>,
}

impl BranchRow {
    /// Creates a row without any action.
    #[must_use]
    pub fn for_target(target: &TargetBranch) -> BranchRow {
        BranchRow {
            branch: target.branch.clone(),
            target: target.branch.clone(),
            old: target.commit,
            new: None,
            status: PropagateStatus::UpToDate,
            reason: None,
            counts: BTreeMap::new(),
            writes: 0,
            paths: Vec::new(),
            push: None,
        }
    }

    /// Returns the row with another status and the reason, and without a new commit.
    #[must_use]
    pub fn with_status(self, status: PropagateStatus, why: impl Into<String>) -> BranchRow {
        BranchRow { status, reason: Some(why.into()), new: None, push: None, ..self }
    }

    /// Returns the row of a branch that is unrelated to the canonical one.
    pub(super) fn skip_unrelated(self, context: &SyncContext) -> BranchRow {
        let why = describe_unrelated_branch(&self.branch, context);
        let why = format!("{why}; `cargo xtask sync` there adds them");
        self.with_status(PropagateStatus::Skipped, why)
    }

    /// Returns whether the commit goes to a side branch, because the branch is protected.
    #[must_use]
    pub fn has_side_branch(&self) -> bool {
        self.target != self.branch
    }

    /// Returns the action, e.g. `Beside` for an update of the side branch.
    #[must_use]
    pub fn action(&self) -> BranchAction {
        match self.status {
            PropagateStatus::UpToDate => BranchAction::None,
            PropagateStatus::WillUpdate | PropagateStatus::Updated if self.has_side_branch() => {
                BranchAction::Beside
            }
            PropagateStatus::WillUpdate | PropagateStatus::Updated => BranchAction::Update,
            PropagateStatus::Pushed => BranchAction::Push,
            PropagateStatus::InWorktree => BranchAction::Worktree,
            PropagateStatus::Skipped => BranchAction::Left,
            PropagateStatus::Refused => BranchAction::Refused,
            PropagateStatus::Failed => BranchAction::Failed,
        }
    }

    /// Returns whether a requested push failed although the branch itself is correct.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        matches!(self.push, Some(PushOutcome::Failed(_)))
    }

    /// Describes the reason and what became of the push.
    #[must_use]
    pub fn describe_reason(&self) -> Option<String> {
        let push = self.push.as_ref().map(PushOutcome::to_string);
        let parts: Vec<String> = self.reason.clone().into_iter().chain(push).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    /// Adds notes to the reason.
    pub(super) fn add_reasons(&mut self, notes: Vec<String>) {
        let parts: Vec<String> = self.reason.take().into_iter().chain(notes).collect();
        self.reason = (!parts.is_empty()).then(|| parts.join("; "));
    }

    /// Returns the number of paths in a class.
    #[must_use]
    pub fn count(&self, class: PathClass) -> usize {
        self.counts.get(&class).copied().unwrap_or(0)
    }

    /// Copies the counts of `plan` into the row, and its paths if `lists`.
    pub fn record_plan(&mut self, plan: &SyncPlan, lists: bool) {
        for item in &plan.items {
            *self.counts.entry(item.class).or_insert(0) += 1;
        }
        self.writes = plan.written_paths().count();
        if lists {
            let row = plan.items.iter().filter(|item| item.class != PathClass::InSync);
            self.paths = row
                .map(|item| PathRow {
                    path: item.path().to_string(),
                    class: item.class,
                    action: item.action,
                })
                .collect();
        }
    }
}

/// The inputs that are the same for all rows.
pub struct DecisionInputs<'a> {
    /// The configuration and the canonical commit.
    pub context: &'a SyncContext,
    /// The earlier canonical versions of the managed files.
    pub once_canonical: &'a CanonicalHistory,
    /// All branches, to find the side branches of protected ones.
    pub branch_set: &'a BranchSet,
    /// The number of managed files in the canonical commit.
    pub canonical_files: usize,
    /// Whether more than half of the managed files of a branch may be deleted.
    pub allow_mass_deletion: bool,
    /// Whether to list the paths.
    pub lists_paths: bool,
    /// The current time in seconds since the epoch, by which pins lapse.
    pub now: i64,
}

/// A failure and the branches that it concerns.
enum DecideError {
    /// This branch only.
    Branch(Error),
    /// All branches, because objects cannot be written.
    Objects(Error),
}

impl From<Error> for DecideError {
    fn from(failure: Error) -> Self {
        DecideError::Branch(failure)
    }
}

/// Decides about branches, one row after the other.
pub struct BranchDecider<'a> {
    repo: &'a Repo,
    disk: &'a Disk<'a>,
    inputs: &'a DecisionInputs<'a>,
    reader: RefCell<BranchReader<'a>>,
}

impl<'a> BranchDecider<'a> {
    /// Creates a decider that writes objects into `repo`, after asking the gate of `disk`.
    #[must_use]
    pub fn new(repo: &'a Repo, disk: &'a Disk<'a>, case: &'a DecisionInputs<'a>) -> Self {
        let reader = BranchReader::new(repo, case.context, case.once_canonical, case.now);
        let reader = match case.branch_set.is_local() {
            true => reader,
            false => reader.for_remote(case.now),
        };
        BranchDecider { repo, disk, inputs: case, reader: RefCell::new(reader) }
    }
}

impl BranchDecider<'_> {
    /// Decides about a branch. A problem with the branch becomes its status and does not stop the
    /// others; a failure to write objects is returned as an error.
    pub fn decide_branch(&self, target: &TargetBranch) -> Result<BranchRow> {
        let row = BranchRow::for_target(target);
        match &target.method {
            UpdateMethod::Skipped { reason: why, needs_attention: is_in_the_way } => {
                let fate =
                    if *is_in_the_way { PropagateStatus::Failed } else { PropagateStatus::Skipped };
                Ok(row.with_status(fate, why.clone()))
            }
            UpdateMethod::Worktree(_) => {
                Ok(BranchRow { status: PropagateStatus::InWorktree, ..row })
            }
            UpdateMethod::Ref | UpdateMethod::SideBranch => {
                let Some(commit) = target.commit else { return Ok(row) };
                let decided = match &target.method {
                    UpdateMethod::Ref => self.decide_by_ref(target, commit, row.clone()),
                    _ => self.decide_side_branch(target, commit, row.clone()),
                };
                decided.or_else(|trouble| match trouble {
                    DecideError::Branch(failure) => {
                        Ok(row.with_status(PropagateStatus::Failed, failure.to_string()))
                    }
                    DecideError::Objects(failure) => Err(failure),
                })
            }
        }
    }

    fn decide_by_ref(
        &self,
        target: &TargetBranch,
        commit: Id,
        row: BranchRow,
    ) -> Result<BranchRow, DecideError> {
        let (repo, context) = (self.repo, self.inputs.context);
        let mut head = self.head_of(target, commit)?;
        let mut plan = self.plan_branch(&head)?;
        // Only local branches have an upstream.
        let is_here = self.inputs.branch_set.is_local();
        let standing = if is_here {
            find_upstream_status(repo, &head, context)?
        } else {
            UpstreamStatus::NoUpdate
        };
        let ahead = match standing {
            UpstreamStatus::OnlySyncCommits(ahead) => Some(ahead.commit),
            UpstreamStatus::Behind(ahead) if !plan.tree_changes().is_empty() => Some(ahead.commit),
            UpstreamStatus::Behind(_) | UpstreamStatus::NoUpdate => None,
        };
        if let Some(commit) = ahead {
            head = self.head_of(target, commit)?;
            plan = self.plan_branch(&head)?;
        }
        let mut row = row;
        row.record_plan(&plan, self.inputs.lists_paths);
        if let Some(row) = self.check_blocked(&row, &head, &plan)? {
            return Ok(row);
        }
        if ahead.is_none() && plan.tree_changes().is_empty() {
            return Ok(row);
        }
        let new = self.write_commit(&head, &plan)?.or(ahead);
        if is_here {
            let notes = self.reader.borrow().describe_other_pins(&head, &plan)?;
            row.add_reasons(notes);
        }
        Ok(BranchRow { status: PropagateStatus::WillUpdate, new, ..row })
    }

    /// Decides about a protected branch: the commit goes to a side branch, which is recreated
    /// whenever the protected branch has moved, as long as it contains only commits of xtask.
    fn decide_side_branch(
        &self,
        target: &TargetBranch,
        commit: Id,
        row: BranchRow,
    ) -> Result<BranchRow, DecideError> {
        let (repo, context, fleet) = (self.repo, self.inputs.context, self.inputs.branch_set);
        let name = format!("{SYNC_BRANCH_PREFIX}{}", target.branch);
        let old = fleet.branches.get(&name).copied();
        let head = self.head_of(target, commit)?;
        let plan = self.plan_branch(&head)?;
        let mut row = BranchRow { target: name.clone(), old, ..row };
        row.record_plan(&plan, self.inputs.lists_paths);
        if let Some(row) = self.check_blocked(&row, &head, &plan)? {
            return Ok(row);
        }
        let new = self.write_commit(&head, &plan)?;
        let wants = !plan.tree_changes().is_empty();
        if !wants && old.is_none() {
            return Ok(BranchRow { target: row.branch.clone(), old: Some(commit), ..row });
        }
        if wants && old.is_some() && old == new {
            return Ok(BranchRow {
                reason: Some(format!("waiting for `{name}` to be merged")),
                ..row
            });
        }
        if let Some(old) = old {
            if !has_only_sync_commits(repo, commit, old, context)? {
                let why = format!("`{name}` has commits that are not xtask's; left unchanged");
                return Ok(row.with_status(PropagateStatus::Failed, why));
            }
            if fleet.worktree_method(&name).is_some() {
                return Ok(row.with_status(
                    PropagateStatus::Failed,
                    format!("`{name}` is checked out in a worktree"),
                ));
            }
        }
        let why = if wants {
            format!("protected: merge `{name}` into it")
        } else {
            format!("up to date: `{name}` is no longer needed and is deleted")
        };
        Ok(BranchRow { status: PropagateStatus::WillUpdate, reason: Some(why), new, ..row })
    }

    fn head_of(&self, target: &TargetBranch, commit: Id) -> Result<Head> {
        let tree = self.repo.tree_of(commit)?;
        Ok(Head { branch: Some(target.branch.clone()), commit, tree })
    }

    fn plan_branch(&self, head: &Head) -> Result<SyncPlan> {
        let states = self.reader.borrow_mut().read_states(head)?;
        Ok(build_plan(states, WriteMode::Commit, OverwritePolicy::Keep, &BTreeMap::new()))
    }

    /// Returns the row of a branch that is left unchanged despite a pending update, or `None`.
    fn check_blocked(
        &self,
        row: &BranchRow,
        head: &Head,
        plan: &SyncPlan,
    ) -> Result<Option<BranchRow>> {
        let (repo, context) = (self.repo, self.inputs.context);
        if is_unrelated_branch(repo, head, context, plan, self.inputs.canonical_files)? {
            return Ok(Some(row.clone().skip_unrelated(context)));
        }
        if self.inputs.allow_mass_deletion {
            return Ok(None);
        }
        let checked = check_mass_deletion(repo, head, context, plan, HintStyle::Command);
        Ok(checked.err().map(|refused: Error| {
            row.clone().with_status(PropagateStatus::Refused, refused.message())
        }))
    }

    fn write_commit(&self, head: &Head, plan: &SyncPlan) -> Result<Option<Id>, DecideError> {
        let made = commit::write_sync_commit(self.repo, self.disk, head, self.inputs.context, plan)
            .map_err(DecideError::Objects)?;
        Ok(made.map(|made| made.new))
    }
}
