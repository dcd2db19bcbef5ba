//! Building of the changes branch on a canonical commit: the commits of the other sources are
//! carried over, and the extracted source gets a new one. For example:
//!
//! ```text
//! [feature-a, feature-b] + extraction of feature-a -> feature-a' - feature-b'
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::changes_branch::{ChangesBranch, PendingChange};
use super::cherry_pick::{PathChange, PathConflict, cherry_pick_changes, list_changes_between};
use super::cherry_pick_range::{CherryPickItem, PickStatus, cherry_pick_commits};
use super::source_changes::{SourceChanges, build_summary};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_config::CommitIdentity;
use xtask_git::{Id, NewCommit, Repo, Signature};
use xtask_sync::context::SyncContext;

/// A changes branch built in the object database, without moving refs.
#[derive(Clone, Debug)]
pub struct BuiltBranch {
    pub tip: Id,
    /// New commit of the extracted source.
    pub own_commit: Option<Id>,
    /// Changes in `own_commit`.
    pub changed: Vec<PathChange>,
    /// Names of the pending sources, in order.
    pub waiting: Vec<String>,
    /// Source that keeps the branch on an older canonical commit, with its conflicts.
    pub stale: Option<(String, Vec<PathConflict>)>,
}

/// Conflict that prevents building the changes branch.
#[derive(Clone, Debug)]
pub struct MergeConflict {
    /// Source that conflicts.
    pub branch: String,
    /// Other sources that it conflicts with; empty for the canonical branch.
    pub with: Vec<String>,
    pub conflicts: Vec<PathConflict>,
}

/// The reason why the changes branch cannot be built.
pub enum BuildError {
    Conflict(MergeConflict),
    Failed(Error),
}

impl From<Error> for BuildError {
    fn from(failure: Error) -> BuildError {
        BuildError::Failed(failure)
    }
}

/// Builds the changes branch, with a new commit for the source of `extraction` if given, and
/// without the commits in `gone`. Objects are written; no ref is moved.
pub fn build_changes_branch(
    repo: &Repo,
    disk: &Disk<'_>,
    context: &SyncContext,
    waiting: &ChangesBranch,
    extraction: Option<&SourceChanges>,
    gone: &BTreeSet<Id>,
) -> Result<BuiltBranch, BuildError> {
    let build = BranchBuilder { repo, disk, context, extraction };
    let commits: Vec<&PendingChange> =
        waiting.commits.iter().filter(|one| !gone.contains(&one.commit.id)).collect();
    let tip = context.canonical.commit;
    let conflict = match build.build_on(tip, &commits) {
        Err(BuildError::Conflict(conflict)) => conflict,
        built_or_failed => return built_or_failed,
    };
    // A source that conflicts with the newest canonical commit must not block the others.
    let is_own = extraction.is_some_and(|own| own.source.name == conflict.branch);
    if let Some(base) = waiting.base.filter(|base| *base != tip)
        && !is_own
    {
        match build.build_on(base, &commits) {
            Err(BuildError::Conflict(_)) => {}
            built_or_failed => {
                let stale = Some((conflict.branch, conflict.conflicts));
                return built_or_failed.map(|built| BuiltBranch { stale, ..built });
            }
        }
    }
    Err(BuildError::Conflict(conflict))
}

struct BranchBuilder<'a> {
    repo: &'a Repo,
    disk: &'a Disk<'a>,
    context: &'a SyncContext,
    extraction: Option<&'a SourceChanges>,
}

impl BranchBuilder<'_> {
    fn build_on(&self, base: Id, commits: &[&PendingChange]) -> Result<BuiltBranch, BuildError> {
        let mut built = BuiltBranch {
            tip: base,
            own_commit: None,
            changed: Vec::new(),
            waiting: Vec::new(),
            stale: None,
        };
        let own_name = self.extraction.map(|own| own.source.name.as_str());
        let mut is_put = false;
        for one in commits {
            if one.branch.is_some() && one.branch.as_deref() == own_name {
                // Only manual edits can list a source twice: the first place counts.
                if !std::mem::replace(&mut is_put, true) {
                    self.commit_extraction(&mut built, base, commits)?;
                }
                continue;
            }
            self.carry_over(&mut built, one, commits)?;
        }
        if self.extraction.is_some() && !is_put {
            self.commit_extraction(&mut built, base, commits)?;
        }
        Ok(built)
    }

    /// Carries over an existing commit.
    fn carry_over(
        &self,
        built: &mut BuiltBranch,
        one: &PendingChange,
        commits: &[&PendingChange],
    ) -> Result<(), BuildError> {
        let BranchBuilder { repo, disk, .. } = self;
        let parent = one.commit.parents[0];
        if parent == built.tip {
            built.tip = one.commit.id;
            built.waiting.push(one.name());
            return Ok(());
        }
        let changes = self.list_changes(one)?;
        let item = CherryPickItem {
            commit: one.commit.id,
            changes,
            trailers: Vec::new(),
            label: one.name(),
        };
        let none = BTreeMap::new();
        let onto = &self.context.config.changes_branch;
        let series = cherry_pick_commits(repo, disk, built.tip, &[item], None, &none, onto)?;
        match &series.statuses[..] {
            [PickStatus::Conflicts(conflicts)] => {
                return self.refuse(one.name(), conflicts.clone(), commits);
            }
            [PickStatus::Picked { .. }] => built.waiting.push(one.name()),
            // Its content has become canonical.
            _ => {}
        }
        built.tip = series.tip;
        Ok(())
    }

    /// Adds the commit of the extraction.
    fn commit_extraction(
        &self,
        built: &mut BuiltBranch,
        base: Id,
        commits: &[&PendingChange],
    ) -> Result<(), BuildError> {
        let BranchBuilder { repo, disk, context, .. } = self;
        let Some(own) = self.extraction else { return Ok(()) };
        let name = own.source.name.clone();
        let labels = (context.config.changes_branch.as_str(), name.as_str());
        let carried =
            cherry_pick_changes(repo, disk, repo.tree_of(built.tip)?, &own.changes, labels)?;
        if !carried.conflicts.is_empty() {
            let labels = (context.config.branch.as_str(), name.as_str());
            let alone = cherry_pick_changes(repo, disk, repo.tree_of(base)?, &own.changes, labels)?;
            if !alone.conflicts.is_empty() {
                let (branch, conflicts) = (name, alone.conflicts);
                return Err(BuildError::Conflict(MergeConflict {
                    branch,
                    with: Vec::new(),
                    conflicts,
                }));
            }
            return self.refuse(name, carried.conflicts, commits);
        }
        if carried.changed.is_empty() {
            return Ok(());
        }
        let summary = build_summary(repo, own, &carried.changed)?;
        let parent = repo.read_commit(built.tip)?.committer.seconds;
        let CommitIdentity { name: ours, email, .. } = context.config.identity.clone();
        let seconds = parent.max(repo.read_commit(own.source.tip)?.committer.seconds);
        let committer = Signature { name: ours, email, seconds };
        disk.check_gate("write the commit")
            .map_err(|cause| Error::unable("cannot write the commit").with_cause(cause))?;
        built.tip = repo.write_commit(&NewCommit {
            tree: carried.tree,
            parents: &[built.tip],
            author: own.commits.first().map(|commit| &commit.author),
            committer: &committer,
            message: &summary.to_commit_message(),
        })?;
        built.own_commit = Some(built.tip);
        built.changed = carried.changed;
        built.waiting.push(name);
        Ok(())
    }

    fn list_changes(&self, one: &PendingChange) -> Result<Vec<PathChange>> {
        let before = self.repo.tree_of(one.commit.parents[0])?;
        let all = |_: &RepoPath| true;
        Ok(list_changes_between(self.repo, Some(before), one.commit.tree, &all)?.0)
    }

    /// Returns the conflict of `branch` with the sources that change the same paths.
    fn refuse(
        &self,
        branch: String,
        conflicts: Vec<PathConflict>,
        commits: &[&PendingChange],
    ) -> Result<(), BuildError> {
        let mut with = Vec::new();
        let clashes = |path: &RepoPath| {
            conflicts.iter().any(|conflict| {
                conflict.path == *path
                    || conflict.path.is_below(path)
                    || path.is_below(&conflict.path)
            })
        };
        for one in commits.iter().filter(|one| one.name() != branch) {
            if self.list_changes(one)?.iter().any(|change| clashes(&change.path)) {
                with.push(one.name());
            }
        }
        if let Some(own) = self.extraction.filter(|own| own.source.name != branch)
            && own.changes.iter().any(|change| clashes(&change.path))
            && !with.contains(&own.source.name)
        {
            with.push(own.source.name.clone());
        }
        Err(BuildError::Conflict(MergeConflict { branch, with, conflicts }))
    }
}
