//! What happens to each branch: one row a branch, with its new commit written but not yet named by
//! any ref.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::targets::{BranchSet, TargetBranch, UpdateMethod};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_git::{CanonicalHistory, Head, Id, MergeBaseFinder, Repo};
use xtask_sync::branch_overview::list_path_states;
use xtask_sync::classify::PathClass;
use xtask_sync::commit;
use xtask_sync::context::{SYNC_BRANCH_PREFIX, SyncContext};
use xtask_sync::hook_policy::{describe_unrelated_branch, is_unrelated_branch};
use xtask_sync::plan::{OverwritePolicy, PathAction, SyncPlan, WriteMode, build_plan};
use xtask_sync::run::check_mass_deletion;
use xtask_sync::upstream::{UpstreamStatus, find_upstream_status, has_only_sync_commits};

/// What happens to a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropagateStatus {
    /// Nothing: it has all that the rules let it have.
    UpToDate,
    /// A ref gets a new value, or goes.
    WillUpdate,
    /// It was moved, or would be.
    Updated,
    /// It was up to date already, and now is at the remote, too.
    Pushed,
    /// Its worktree sees to it.
    InWorktree,
    /// The rules leave it alone.
    Skipped,
    /// It needs a yes that was not given.
    Refused,
    /// It could not be done.
    Failed,
}

impl PropagateStatus {
    /// Its name in JSON.
    #[must_use]
    pub fn json_name(self) -> &'static str {
        match self {
            PropagateStatus::UpToDate => "none",
            PropagateStatus::WillUpdate | PropagateStatus::Updated => "update",
            PropagateStatus::Pushed => "push",
            PropagateStatus::InWorktree => "worktree",
            PropagateStatus::Skipped => "left",
            PropagateStatus::Refused => "refused",
            PropagateStatus::Failed => "failed",
        }
    }
}

/// A path of a branch that is not in sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathRow {
    /// The path.
    pub path: String,
    /// Its class.
    pub class: PathClass,
    /// What happens to it.
    pub action: PathAction,
}

/// What is decided about a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchRow {
    /// The branch.
    pub branch: String,
    /// The branch whose ref changes: it, or the one beside it.
    pub target: String,
    /// What that ref is now.
    pub old: Option<Id>,
    /// What it becomes; nothing where it goes, or where nothing happens.
    pub new: Option<Id>,
    /// What happens.
    pub status: PropagateStatus,
    /// Why, where that is not plain.
    pub reason: Option<String>,
    /// How many paths are of each class.
    pub counts: BTreeMap<PathClass, usize>,
    /// How many paths are written.
    pub writes: usize,
    /// The paths, if they were asked for.
    pub paths: Vec<PathRow>,
    /// Whether something that was wanted could not be done although the branch itself is as it
    /// should be.
    pub is_incomplete: bool,
}

impl BranchRow {
    /// A row in which nothing happens.
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
            is_incomplete: false,
        }
    }

    /// The same with another fate, and why.
    #[must_use]
    pub fn with_status(self, fate: PropagateStatus, why: impl Into<String>) -> BranchRow {
        BranchRow { status: fate, reason: Some(why.into()), new: None, ..self }
    }

    /// Adds a word on it.
    pub fn add_note(&mut self, text: &str) {
        self.reason = Some(match self.reason.take() {
            Some(why) => format!("{why}; {text}"),
            None => text.to_owned(),
        });
    }

    /// Notes something that could not be done although the branch itself is as it should be.
    pub fn add_shortfall(&mut self, text: &str) {
        self.add_note(text);
        self.is_incomplete = true;
    }

    /// Takes the numbers, and if wanted the paths, out of a plan.
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

/// What is the same for all rows.
pub struct DecisionInputs<'a> {
    /// What sync goes by.
    pub context: &'a SyncContext,
    /// What once was canonical.
    pub once_canonical: &'a CanonicalHistory,
    /// All branches, for those that stand beside protected ones.
    pub branch_set: &'a BranchSet,
    /// How many managed files the canonical commit has.
    pub canonical_files: usize,
    /// More than half of the managed files of a branch may go.
    pub allow_mass_deletion: bool,
    /// The paths are listed.
    pub lists_paths: bool,
}

/// What went wrong.
enum DecideError {
    /// Something about this branch.
    Branch(Error),
    /// Objects cannot be written, for this branch or any other.
    Objects(Error),
}

impl From<Error> for DecideError {
    fn from(failure: Error) -> Self {
        DecideError::Branch(failure)
    }
}

/// Decides, a row after the other.
pub struct BranchDecider<'a> {
    repo: &'a Repo,
    disk: &'a Disk<'a>,
    inputs: &'a DecisionInputs<'a>,
    lineage: RefCell<MergeBaseFinder<'a>>,
}

impl<'a> BranchDecider<'a> {
    /// One that writes objects into `repo`, after asking the disk.
    #[must_use]
    pub fn new(repo: &'a Repo, disk: &'a Disk<'a>, case: &'a DecisionInputs<'a>) -> Self {
        BranchDecider { repo, disk, inputs: case, lineage: RefCell::new(repo.merge_base_finder()) }
    }
}

impl BranchDecider<'_> {
    /// Decides about a branch. What is wrong with it is its fate, and not the end of the others; that
    /// objects cannot be written is.
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
        // Only branches that are here follow others.
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
        Ok(BranchRow { status: PropagateStatus::WillUpdate, new, ..row })
    }

    /// A protected branch: the commit stands on a branch beside it, made anew whenever the protected
    /// one has moved, as long as nobody has put anything on it.
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
                reason: Some(format!("waiting to be merged in `{name}`")),
                ..row
            });
        }
        if let Some(old) = old {
            if !has_only_sync_commits(repo, commit, old, context)? {
                let why =
                    format!("`{name}` holds commits that are not xtask's, and stays as it is");
                return Ok(row.with_status(PropagateStatus::Failed, why));
            }
            if fleet.worktree_method(&name).is_some() {
                return Ok(row.with_status(
                    PropagateStatus::Failed,
                    format!("a worktree has `{name}` checked out"),
                ));
            }
        }
        let why = if wants {
            format!("it is protected: `{name}` is to be merged into it")
        } else {
            format!("it has all that `{name}` was for, so that goes")
        };
        Ok(BranchRow { status: PropagateStatus::WillUpdate, reason: Some(why), new, ..row })
    }

    fn head_of(&self, target: &TargetBranch, commit: Id) -> Result<Head> {
        let tree = self.repo.tree_of(commit)?;
        Ok(Head { branch: Some(target.branch.clone()), commit, tree })
    }

    fn plan_branch(&self, head: &Head) -> Result<SyncPlan> {
        let mut lineage = self.lineage.borrow_mut();
        let states = list_path_states(
            self.repo,
            self.inputs.context,
            self.inputs.once_canonical,
            head,
            &mut lineage,
        )?;
        Ok(build_plan(states, WriteMode::Commit, OverwritePolicy::Keep, &BTreeMap::new()))
    }

    /// Why nothing happens to a branch although there would be something to do.
    fn check_blocked(
        &self,
        row: &BranchRow,
        head: &Head,
        plan: &SyncPlan,
    ) -> Result<Option<BranchRow>> {
        let (repo, context) = (self.repo, self.inputs.context);
        if is_unrelated_branch(repo, head, context, plan, self.inputs.canonical_files)? {
            let why = format!(
                "{}; `cargo xtask sync` there brings them",
                describe_unrelated_branch(&row.branch, context)
            );
            return Ok(Some(row.clone().with_status(PropagateStatus::Skipped, why)));
        }
        if self.inputs.allow_mass_deletion {
            return Ok(None);
        }
        let checked = check_mass_deletion(repo, head, context, plan);
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
