//! Facts about a branch: its age, and its comparison with the base. Only commits and trees are
//! read; no program runs and no file is written.
//!
//! The base is the remote-tracking branch as last fetched, or the local one if that is missing: a
//! local branch may have commits that nobody else has. The age is that of the oldest commit in the
//! first-parent line of the branch that the base lacks (without a base: that all protected branches
//! and the canonical one lack), by author time, which a rebase keeps. Sync commits do not count,
//! since they are as old as the files they bring.
//!
//! ```text
//! BranchFacts { branch: "feature/a", age: 9 days (OldestCommit),
//!               base: { own: 3, behind: 5, conflicts: [] } }
//! ```

use std::collections::HashSet;

use super::created_at;
use super::merge_status::{MergeDetector, MergeQuery};
use super::rules::{
    AgeBasis, BaseFacts, BranchAge, BranchFacts, ForkOrigin, MergeKind, UnknownReason,
};
use xtask_base::error::{Error, Result};
use xtask_base::words::quote_for_shell;
use xtask_config::{BRANCHES_FILE, BranchRule};
use xtask_git::{Id, Repo};
use xtask_sync::context::SyncContext;
use xtask_sync::upstream::is_sync_commit;

/// The reason why a fact cannot be told.
enum FactError {
    /// It is unknown in this clone, which is a finding.
    Unknown(UnknownReason),
    Failed(Error),
}

impl From<Error> for FactError {
    fn from(failure: Error) -> FactError {
        FactError::Failed(failure)
    }
}

impl From<UnknownReason> for FactError {
    fn from(unknown: UnknownReason) -> FactError {
        FactError::Unknown(unknown)
    }
}

/// Takes an unknown fact for a value; only failures stay errors.
fn or_unknown<T>(fact: Result<T, FactError>) -> Result<Result<T, UnknownReason>> {
    match fact {
        Ok(fact) => Ok(Ok(fact)),
        Err(FactError::Unknown(unknown)) => Ok(Err(unknown)),
        Err(FactError::Failed(failure)) => Err(failure),
    }
}

/// The commits by which a branch and a base differ.
pub(super) struct BranchComparison {
    /// Number of commits that only the branch has.
    pub(super) own: usize,
    /// Number of commits that only the base has.
    pub(super) behind: usize,
    /// The paths that would conflict in a merge.
    pub(super) conflicts: Vec<String>,
    /// How the branch was merged into the base, if at all.
    pub(super) merged: Option<MergeKind>,
}

/// Collects facts about the branches of one repository.
pub struct BranchInspector<'r> {
    pub repo: &'r Repo,
    /// The configuration of sync and branches.
    pub context: &'r SyncContext,
    /// The current time, in seconds since the epoch.
    pub now: i64,
    merge_detector: MergeDetector<'r>,
    /// The shared branches: protected, canonical, or the base of a rule.
    shared: Vec<SharedBranch>,
}

/// A branch that other branches are forked from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedBranch {
    pub branch: String,
    /// The name as a revision: `origin/main`, or `main` if there is no remote-tracking branch.
    pub display_name: String,
    /// Whether `commit` is that of the remote-tracking branch.
    pub is_remote: bool,
    pub commit: Id,
    /// The commit of the local branch, if a remote-tracking one exists as well.
    pub local: Option<Id>,
}

impl SharedBranch {
    /// Finds the remote-tracking branch as last fetched, or else the local one.
    pub fn find(repo: &Repo, remote: &str, branch: &str) -> Result<Option<SharedBranch>> {
        let local = repo.resolve_ref(&format!("refs/heads/{branch}"))?;
        let tracked = repo.resolve_ref(&format!("refs/remotes/{remote}/{branch}"))?;
        let branch = branch.to_owned();
        Ok(match (tracked, local) {
            (Some(commit), local) => {
                let typed = format!("{remote}/{branch}");
                Some(SharedBranch { branch, display_name: typed, is_remote: true, commit, local })
            }
            (None, Some(commit)) => {
                let typed = branch.clone();
                Some(SharedBranch {
                    branch,
                    display_name: typed,
                    is_remote: false,
                    commit,
                    local: None,
                })
            }
            (None, None) => None,
        })
    }

    fn commits(&self) -> impl Iterator<Item = Id> {
        [Some(self.commit), self.local].into_iter().flatten()
    }
}

impl<'r> BranchInspector<'r> {
    /// Creates an inspector at the time `now`.
    pub fn new(repo: &'r Repo, context: &'r SyncContext, now: i64) -> Result<BranchInspector<'r>> {
        let remote = &context.config.remote;
        let mut names: Vec<String> =
            context.branches.rules.iter().filter_map(|rule| rule.base.clone()).collect();
        names.push(context.config.branch.clone());
        for prefix in ["refs/heads/".to_owned(), format!("refs/remotes/{remote}/")] {
            let found = repo.branches_below(&prefix)?.into_iter().map(|(name, _)| name);
            names.extend(found.filter(|name| context.is_protected(name)));
        }
        names.sort();
        names.dedup();
        let mut shared = Vec::new();
        for name in names {
            // A broken branch does not matter until it is needed.
            shared.extend(SharedBranch::find(repo, remote, &name).ok().flatten());
        }
        Ok(BranchInspector { repo, context, now, merge_detector: MergeDetector::new(repo), shared })
    }

    /// Returns the shared branches of this clone.
    #[must_use]
    pub fn shared_branches(&self) -> &[SharedBranch] {
        &self.shared
    }

    /// Collects the facts about a branch at the commit `tip`.
    pub fn collect_facts(&self, branch: &str, tip: Id, rule: &BranchRule) -> Result<BranchFacts> {
        let base = match &rule.base {
            None => None,
            Some(base) => Some(or_unknown(self.find_base(base))?),
        };
        let age = match &base {
            Some(Err(unknown)) => {
                self.recorded_age(branch, tip)?.map(Some).ok_or_else(|| unknown.clone())
            }
            Some(Ok(base)) => or_unknown(self.find_age(branch, tip, base.commits().collect()))?,
            None => {
                let shared: Vec<Id> = self.shared.iter().flat_map(SharedBranch::commits).collect();
                or_unknown(self.find_age(branch, tip, shared))?
            }
        };
        let base = match base {
            None => None,
            Some(Err(unknown)) => Some(Err(unknown)),
            Some(Ok(base)) => Some(or_unknown(self.collect_base_facts(branch, tip, &base))?),
        };
        Ok(BranchFacts { branch: branch.to_owned(), age, base })
    }

    fn find_base(&self, name: &str) -> Result<SharedBranch, FactError> {
        self.check_full_history()?;
        let remote = &self.context.config.remote;
        let (at, base) = (quote_for_shell(remote), quote_for_shell(name));
        let found = SharedBranch::find(self.repo, remote, name)?;
        Ok(found.ok_or_else(|| UnknownReason {
            reason: format!(
                "its base `{name}` exists neither locally nor as a remote-tracking branch of \
                 `{remote}`"
            ),
            next_step: if self.repo.has_remote(remote) {
                format!("`git fetch {at} {base}:refs/remotes/{at}/{base}` fetches it")
            } else {
                format!(
                    "`git branch {base} COMMIT` creates it, or name another in `{BRANCHES_FILE}`"
                )
            },
        })?)
    }

    /// Returns the reason for unknown facts in a shallow clone.
    pub(super) fn check_full_history(&self) -> Result<(), UnknownReason> {
        if !self.repo.is_shallow() {
            return Ok(());
        }
        Err(UnknownReason {
            reason: "this is a shallow clone".to_owned(),
            next_step: "`git fetch --unshallow` fetches the rest".to_owned(),
        })
    }

    fn recorded_age(&self, branch: &str, tip: Id) -> Result<Option<BranchAge>> {
        let made = created_at::find_creation_record(self.repo, branch, tip)?;
        Ok(made.map(|made| BranchAge {
            seconds: (self.now - made.at).max(0),
            basis: AgeBasis::CreationRecord,
        }))
    }

    fn find_age(
        &self,
        branch: &str,
        tip: Id,
        hidden: Vec<Id>,
    ) -> Result<Option<BranchAge>, FactError> {
        if let Some(age) = self.recorded_age(branch, tip)? {
            return Ok(Some(age));
        }
        self.check_full_history()?;
        if hidden.is_empty() {
            let protected = self.context.branches.protected.join("`, `");
            return Err(FactError::Unknown(UnknownReason {
                reason: format!(
                    "none of the protected branches (`{protected}`) exists in this clone"
                ),
                next_step: format!(
                    "`git fetch {}` fetches them",
                    quote_for_shell(&self.context.config.remote)
                ),
            }));
        }
        let own: HashSet<Id> = self.repo.commits_beyond(&hidden, tip)?.into_iter().collect();
        let mut oldest = None;
        let mut at = Some(tip);
        while let Some(id) = at.filter(|id| own.contains(id)) {
            let commit = self.repo.read_commit(id)?;
            if !is_sync_commit(&commit, &self.context.config.identity) {
                let seconds = commit.author.seconds;
                oldest = Some(oldest.map_or(seconds, |oldest: i64| oldest.min(seconds)));
            }
            at = commit.parents.first().copied();
        }
        let since = AgeBasis::OldestCommit;
        Ok(oldest.map(|then| BranchAge { seconds: (self.now - then).max(0), basis: since }))
    }

    fn collect_base_facts(
        &self,
        branch: &str,
        tip: Id,
        base: &SharedBranch,
    ) -> Result<BaseFacts, FactError> {
        if self.repo.merge_base(tip, base.commit)?.is_none() {
            return Err(FactError::Unknown(UnknownReason {
                reason: format!("it has no common ancestor with its base `{}`", base.display_name),
                next_step: format!(
                    "`cargo xtask branch new NAME` creates a branch from the base; `git cherry-pick` \
                     copies commits of `{branch}` to it"
                ),
            }));
        }
        let BranchComparison { own, behind, conflicts, merged } =
            self.compare_with(branch, tip, base.commit)?;
        let remote = &self.context.config.remote;
        let fetched =
            base.is_remote.then(|| self.repo.last_fetch_time(remote, &base.branch)).flatten();
        Ok(BaseFacts {
            name: base.display_name.clone(),
            own,
            behind,
            fetched_s: fetched.map(|then| (self.now - then).max(0)),
            conflicts,
            merged,
            fetch: base.is_remote.then(|| {
                format!("git fetch {} {}", quote_for_shell(remote), quote_for_shell(&base.branch))
            }),
            fork_origin: self.find_fork_origin(tip, base)?,
        })
    }

    /// Compares the commit `tip` of a branch with that of a base.
    pub(super) fn compare_with(&self, branch: &str, tip: Id, base: Id) -> Result<BranchComparison> {
        let own = self.repo.commits_beyond(&[base], tip)?;
        let since = self.repo.commits_beyond(&[tip], base)?;
        let has_both = !own.is_empty() && !since.is_empty();
        let preview = match has_both && self.repo.merge_base(tip, base)?.is_some() {
            true => Some(self.repo.preview_merge(base, tip)?),
            false => None,
        };
        let merged = self.merge_detector.detect_merge(&MergeQuery {
            branch,
            tip,
            base,
            own: &own,
            since: &since,
            preview: preview.as_ref(),
        })?;
        let conflicts = preview.map(|preview| preview.conflicts).unwrap_or_default();
        Ok(BranchComparison {
            own: own.len(),
            behind: since.len(),
            conflicts: conflicts.iter().map(ToString::to_string).collect(),
            merged,
        })
    }

    /// Returns the shared branch, other than the base, whose first-parent line has the most commits
    /// of the branch. One that contains the whole branch is skipped: it does not show the fork
    /// point.
    fn find_fork_origin(&self, tip: Id, base: &SharedBranch) -> Result<Option<ForkOrigin>> {
        let hidden: Vec<Id> = base.commits().collect();
        let own: HashSet<Id> = self.repo.commits_beyond(&hidden, tip)?.into_iter().collect();
        let mut most: Option<ForkOrigin> = None;
        for other in self.shared.iter().filter(|other| other.branch != base.branch) {
            let theirs: HashSet<Id> =
                self.repo.commits_beyond(&hidden, other.commit)?.into_iter().collect();
            if theirs.contains(&tip) || theirs.is_disjoint(&own) {
                continue;
            }
            let mut commits = 0;
            let mut at = Some(other.commit);
            while let Some(id) = at.filter(|id| theirs.contains(id)) {
                commits += usize::from(own.contains(&id));
                at = self.repo.read_commit(id)?.parents.first().copied();
            }
            if commits > most.as_ref().map_or(0, |most| most.commits) {
                most = Some(ForkOrigin { name: other.display_name.clone(), commits });
            }
        }
        Ok(most)
    }
}
