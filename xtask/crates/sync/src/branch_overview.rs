//! Overview of all branches, from their trees alone: for each branch the number of managed paths of
//! every class, e.g. `feature: behind 3, customised 1`.
//!
//! No branch is checked out and no file is read.

use std::collections::BTreeMap;

use super::classify::{PathClass, PathState, classify_path};
use super::context::SyncContext;
use super::deletions::trace_canonical_history;
use super::managed::ManagedPaths;
use super::obstacles::{WriteTarget, find_obstacles};
use super::pin_reader::{BranchPlace, PinReader};
use super::plan::{PlannedPath, SyncPlan};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_git::{
    CanonicalHistory, EntryPair, EverCanonical, FileStat, Head, Id, IndexStatus, MergeBaseFinder,
    Repo, TreeComparer, WorktreeFile, WorktreeItem,
};

/// A branch with its managed paths, counted by class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchOverview {
    /// Name without `refs/heads/`.
    pub name: String,
    pub commit: Id,
    /// Number of paths per class, without those in sync.
    pub counts: BTreeMap<PathClass, usize>,
    /// Why the pins of the branch cannot be read; all paths that differ then count as unknown.
    pub fault: Option<String>,
}

impl BranchOverview {
    /// Returns the number of paths of `class`.
    #[must_use]
    pub fn count(&self, class: PathClass) -> usize {
        self.counts.get(&class).copied().unwrap_or(0)
    }
}

/// Inspects all local branches except reserved ones (`SyncContext::is_reserved_branch`), by name.
/// `now` is in seconds since the epoch.
pub fn survey_branches(
    repo: &Repo,
    context: &SyncContext,
    now: i64,
    progress: &dyn Progress,
) -> Result<Vec<BranchOverview>> {
    let canonical = &context.canonical;
    let everywhere = ManagedPaths::new(&context.config, None);
    let once = repo.read_canonical_history(
        canonical.commit,
        &everywhere,
        everywhere.rules_digest(),
        progress,
    )?;
    let branches = repo.refs_below("refs/heads/")?;
    progress.begin_task("comparing branches", Some(branches.len() as u64));
    let mut states = Vec::new();
    let mut reader = BranchReader::new(repo, context, &once, now);
    for (reference, commit) in branches {
        progress.advance(1);
        let name = reference["refs/heads/".len()..].to_owned();
        if context.is_reserved_branch(&name) {
            continue;
        }
        let head = Head { tree: repo.tree_of(commit)?, commit, branch: Some(name.clone()) };
        let overview = match reader.classify(&head) {
            Ok(classes) => {
                let mut counts = BTreeMap::new();
                for class in classes.into_values() {
                    *counts.entry(class).or_insert(0) += 1;
                }
                BranchOverview { name, commit, counts, fault: None }
            }
            // Pins that cannot be read are a fault of this branch alone.
            Err(failure) => {
                let Err(fault) = reader.pins.read_branch(context, &head) else {
                    return Err(failure);
                };
                let counts = [(PathClass::Unknown, count_differing(repo, context, &head)?)];
                let fault = Some(fault.message().to_owned());
                BranchOverview { name, commit, counts: counts.into(), fault }
            }
        };
        states.push(overview);
    }
    progress.end_task();
    Ok(states)
}

/// Counts the managed paths at which a commit is not canonical, and at least one: whoever asks does not
/// know that it is in sync.
pub fn count_differing(repo: &Repo, context: &SyncContext, head: &Head) -> Result<usize> {
    let managed = ManagedPaths::new(&context.config, head.branch.as_deref());
    let differing = repo.compare_trees(Some(head.tree), Some(context.canonical.tree), &managed)?;
    Ok(differing.len().max(1))
}

/// A reader of many branches on their trees alone, which reads what they have in common once.
pub struct BranchReader<'r> {
    repo: &'r Repo,
    context: &'r SyncContext,
    once: &'r CanonicalHistory,
    lineage: MergeBaseFinder<'r>,
    pins: PinReader<'r>,
    trees: TreeComparer<'r, ManagedPaths>,
}

impl<'r> BranchReader<'r> {
    /// Creates a reader; `now` is in seconds since the epoch, by which pins lapse.
    #[must_use]
    pub fn new(
        repo: &'r Repo,
        context: &'r SyncContext,
        once: &'r CanonicalHistory,
        now: i64,
    ) -> BranchReader<'r> {
        BranchReader {
            repo,
            context,
            once,
            lineage: repo.merge_base_finder(),
            pins: PinReader::new(repo, now).for_many(),
            trees: TreeComparer::new(repo, ManagedPaths::new(&context.config, None)),
        }
    }

    /// Returns the reader for branches at the remote instead of those in this clone.
    #[must_use]
    pub fn for_remote(self, now: i64) -> BranchReader<'r> {
        let pins = PinReader::for_place(self.repo, now, BranchPlace::Remote).for_many();
        BranchReader { pins, ..self }
    }

    /// Describes the paths that a plan for a branch writes, of which a pin in its commit may be about it, under another
    /// name.
    pub fn describe_other_pins(&self, head: &Head, plan: &SyncPlan) -> Result<Vec<String>> {
        let written: Vec<&RepoPath> = plan.written_paths().map(PlannedPath::path).collect();
        self.pins.describe_others(self.context, head, self.pins.today(), &written)
    }

    /// Returns the class of each managed path at which the commit of a branch is not canonical.
    pub fn classify(&mut self, head: &Head) -> Result<BTreeMap<RepoPath, PathClass>> {
        let states = self.read_states(head)?.into_iter();
        Ok(states.map(|state| (state.path.clone(), classify_path(&state).class)).collect())
    }

    /// Returns the managed paths at which the commit of a branch is not canonical, with the state
    /// that a clean and full checkout would have.
    pub fn read_states(&mut self, head: &Head) -> Result<Vec<PathState>> {
        let BranchReader { repo, context, once, .. } = *self;
        let pins = self.pins.read_branch(context, head)?;
        let managed = ManagedPaths::new(&context.config, head.branch.as_deref());
        let differing = self.trees.compare(head.tree, context.canonical.tree)?;
        let lineage = &mut self.lineage;
        let known = trace_canonical_history(repo, head, context, Some(once), &differing, lineage)?;
        let mut obstacles =
            find_obstacles(repo, head, context, &managed, &differing, WriteTarget::InTree)?;
        let state = |(path, pair): (RepoPath, EntryPair)| PathState {
            head: pair.one,
            canonical: pair.two,
            index: pair.one.map_or(IndexStatus::Absent, |entry| IndexStatus::Entry {
                entry,
                is_skipped: false,
            }),
            work: pair.one.map_or(WorktreeItem::Absent, |entry| {
                WorktreeItem::Present(WorktreeFile { entry, raw: entry, stat: FileStat::default() })
            }),
            was_canonical: known.get(&path).copied().unwrap_or(EverCanonical::Unknown),
            is_overlay: false,
            is_sparse: false,
            is_excluded: managed.is_kept_by_branch(&path),
            pin: pins.mark(&path),
            obstacle: obstacles.remove(&path),
            path,
        };
        Ok(differing.into_iter().map(state).collect())
    }
}
