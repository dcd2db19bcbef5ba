//! Promotion of extracted changes to the canonical branch: all selected sources or none. The others
//! stay on the changes branch, rebased on the new canonical commit. For example:
//!
//! ```text
//! promote feature-a -> canonical: + feature-a's commit; changes branch: feature-b
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::build_branch::{BuildError, build_changes_branch};
use super::changes_branch::{
    ChangesBranch, ChangesSide, PendingChange, read_changes_branch, record_seen_remote,
};
use super::cherry_pick::{PathChange, list_changes_between};
use super::cherry_pick_range::{CherryPickItem, CherryPickOutcome, cherry_pick_commits};
use super::extract::KeptReason;
use super::fast_forward_branch::{
    CanonicalBranch, fast_forward_canonical, locate_canonical_branch,
};
use super::resolve::canonical_moved_error;
use super::retry::{MAX_ATTEMPTS, back_off};
use super::reverse_sync::{LandedCommits, proposal_changed_error};
use super::source::{SelectedCommit, check_path_names, managed_path_filter};
use xtask_base::error::{Error, Result};
use xtask_base::words::join_names;
use xtask_git::Tools;
use xtask_git::reflog_messages::PROMOTE;
use xtask_git::{Id, Repo};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;

/// Selected changes, and the result of picking them.
pub struct PromoteSelection {
    pub context: SyncContext,
    pub canonical_branch: CanonicalBranch,
    pub changes_branch: ChangesBranch,
    /// Selected commits.
    pub chosen: Vec<PendingChange>,
    /// Manual commits that were not named, and so not selected.
    pub manual: Vec<PendingChange>,
    /// Selected commits with their managed changes; the other paths stay.
    pub selected: Vec<SelectedCommit>,
    /// Result of picking `selected` onto the canonical branch.
    pub series: CherryPickOutcome,
}

/// Outcome of a promotion.
pub struct PromoteOutcome {
    pub landed: LandedCommits,
    /// Names of the sources still pending.
    pub waiting: Vec<String>,
    /// Reason why the changes branch was not updated, if so.
    pub kept_reason: Option<KeptReason>,
}

/// Selects the sources in `names`, or all if empty, and picks them onto the present canonical
/// branch. Objects are written into `repo`, which may be in memory; no ref is moved.
pub fn select_changes(
    repo: &Repo,
    names: &[String],
    tools: &Tools<'_>,
) -> Result<PromoteSelection> {
    let context = context::read_context(repo)?;
    let ground = locate_canonical_branch(repo, &context)?;
    let waiting = read_changes_branch(repo, &context, ChangesSide::Both)?;
    check_names(repo, &context, &waiting, names)?;
    // Manual commits are selected only by name.
    let (mut chosen, mut by_hand) = (Vec::new(), Vec::new());
    for one in &waiting.commits {
        match (names.is_empty(), &one.branch) {
            (true, Some(_)) => chosen.push(one.clone()),
            (true, None) => by_hand.push(one.clone()),
            (false, _) if names.iter().any(|word| one.is_named_by(word)) => {
                chosen.push(one.clone())
            }
            (false, _) => {}
        }
    }
    let selected = chosen.iter().map(|one| select_commit(repo, &context, one));
    let selected = selected.collect::<Result<Vec<SelectedCommit>>>()?;
    let items: Vec<CherryPickItem> = chosen
        .iter()
        .zip(&selected)
        .map(|(one, SelectedCommit { commit, changes, .. })| CherryPickItem {
            commit: commit.id,
            changes: changes.clone(),
            trailers: Vec::new(),
            label: one.name(),
        })
        .collect();
    let committer = repo.committer(tools.world.now_seconds()).ok();
    let (tip, onto, none) = (ground.tip, &ground.branch, BTreeMap::new());
    let series =
        cherry_pick_commits(repo, tools.disk, tip, &items, committer.as_ref(), &none, onto)?;
    Ok(PromoteSelection {
        context,
        canonical_branch: ground,
        changes_branch: waiting,
        chosen,
        manual: by_hand,
        selected,
        series,
    })
}

/// Refuses names without pending changes.
fn check_names(
    repo: &Repo,
    context: &SyncContext,
    waiting: &ChangesBranch,
    names: &[String],
) -> Result<()> {
    let known: Vec<String> = waiting.commits.iter().map(PendingChange::name).collect();
    let is_unknown =
        |word: &&String| !waiting.commits.iter().any(|one| one.is_named_by(word.as_str()));
    let unknown: Vec<String> = names.iter().filter(is_unknown).cloned().collect();
    if !unknown.is_empty() {
        let refused = Error::usage(format!("no pending changes from {}", join_names(&unknown, 5)));
        return Err(if known.is_empty() {
            let changes = &context.config.changes_branch;
            refused
                .with_hint(format!("`{changes}` is empty; `cargo xtask extract` collects changes"))
        } else {
            let by_hand = waiting.commits.iter().filter(|one| one.branch.is_none());
            let by_hand =
                by_hand.map(|one| format!("{} {}", repo.short_id(one.commit.id), one.name()));
            let refused = refused.with_hint(format!("pending: {}", join_names(&known, 10)));
            by_hand.fold(refused, |refused, one| refused.with_hint(format!("manual commit: {one}")))
        });
    }
    Ok(())
}

/// Returns a commit with its managed changes, which may go to the canonical branch.
fn select_commit(
    repo: &Repo,
    context: &SyncContext,
    one: &PendingChange,
) -> Result<SelectedCommit> {
    let managed = ManagedPaths::new(&context.config, one.branch.as_deref());
    let parent = one.commit.parents[0];
    let (before, after) = (repo.tree_of(parent)?, one.commit.tree);
    let (changes, left_out) =
        list_changes_between(repo, Some(before), after, &managed_path_filter(&managed))?;
    check_path_names(&changes)?;
    let commit = one.commit.clone();
    // What was collected before it was pinned has been approved since.
    Ok(SelectedCommit { commit, parent: Some(parent), changes, left_out, pinned: Vec::new() })
}

impl PromoteSelection {
    /// Lists the sources before the selected one at index `at` that were not selected.
    #[must_use]
    pub fn list_skipped_before(&self, at: usize) -> Vec<String> {
        let (id, gone) = (self.chosen[at].commit.id, self.list_fully_taken());
        let before = self.changes_branch.commits.iter().take_while(|one| one.commit.id != id);
        before.filter(|one| !gone.contains(&one.commit.id)).map(PendingChange::name).collect()
    }

    /// Returns the commits of which promotion leaves no changes.
    fn list_fully_taken(&self) -> BTreeSet<Id> {
        let whole = self.selected.iter().filter(|one| one.left_out.is_empty());
        whole.map(|one| one.commit.id).collect()
    }

    /// Returns the changes for the canonical branch, by source.
    #[must_use]
    pub fn selected_changes(&self) -> Vec<(String, Vec<PathChange>)> {
        let names = self.chosen.iter().map(PendingChange::name);
        names.zip(self.selected.iter().map(|one| one.changes.clone())).collect()
    }
}

/// Lands the selected changes on the canonical branch, retrying if others move it concurrently.
/// `shown` is the content that the user confirmed; any difference is an error.
pub fn promote_changes(
    repo: &Repo,
    names: &[String],
    shown: &[(String, Vec<PathChange>)],
    tools: &Tools<'_>,
) -> Result<PromoteOutcome> {
    for round in 0..MAX_ATTEMPTS {
        back_off(round);
        let choice = select_changes(repo, names, tools)?;
        let PromoteSelection { context, canonical_branch: ground, series, .. } = &choice;
        if series.first_conflict().is_some() || choice.selected_changes() != shown {
            return Err(proposal_changed_error(ground));
        }
        let message = PROMOTE;
        if series.picked_count() > 0
            && !fast_forward_canonical(repo, context, ground, series.tip, message, tools)?
        {
            continue;
        }
        let branch = ground.branch.clone();
        let landed = LandedCommits { branch, commits: series.picked_count(), tip: series.tip };
        // The promoted changes have landed. A failure to rebuild the rest is only a warning; the
        // next extract repairs it.
        let (waiting, kept_reason) = match rebuild_changes_branch(repo, &choice, tools) {
            Ok(waiting) => (waiting, None),
            Err(reason) => (Vec::new(), Some(reason)),
        };
        return Ok(PromoteOutcome { landed, waiting, kept_reason });
    }
    Err(canonical_moved_error())
}

/// Rebuilds the changes branch on the new canonical commit, without the promoted sources. If it
/// stays as is, no work is lost: contents that became canonical drop out the next time.
fn rebuild_changes_branch(
    repo: &Repo,
    choice: &PromoteSelection,
    tools: &Tools<'_>,
) -> Result<Vec<String>, KeptReason> {
    let context = context::read_context(repo).map_err(KeptReason::Failed)?;
    let changes = &context.config.changes_branch;
    let (branch, gone) = (&choice.changes_branch, choice.list_fully_taken());
    let built = build_changes_branch(repo, tools.disk, &context, branch, None, &gone);
    let built = built.map_err(|error| match error {
        BuildError::Failed(failure) => KeptReason::Failed(failure),
        BuildError::Conflict(conflict) => {
            let paths = conflict.conflicts.iter().map(|one| one.path.to_string()).collect();
            KeptReason::PromotedConflict(conflict.branch, paths)
        }
    })?;
    let move_branch = || -> Result<Option<KeptReason>> {
        if repo.branches_in_use()?.iter().any(|one| one.branch == *changes) {
            return Ok(Some(KeptReason::CheckedOut));
        }
        let (name, old) = (format!("refs/heads/{changes}"), branch.local);
        if old != Some(built.tip) && !repo.swap_ref(&name, old, Some(built.tip), PROMOTE)? {
            return Ok(Some(KeptReason::Moved));
        }
        record_seen_remote(repo, branch.remote).map(|()| None)
    };
    match move_branch().map_err(KeptReason::Failed)? {
        Some(reason) => Err(reason),
        None => Ok(built.waiting),
    }
}
