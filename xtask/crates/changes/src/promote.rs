//! Promotion of extracted changes to the canonical branch: all selected sources or none. The others
//! stay on the changes branch, rebased on the new canonical commit. For example:
//!
//! ```text
//! promote feature-a -> canonical: + feature-a's commit; changes branch: feature-b
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::changes_branch::{
    ChangesBranch, ChangesSide, PendingChange, build_changes_branch, read_changes_branch,
    record_seen_remote,
};
use super::cherry_pick::{PathChange, list_changes_between};
use super::cherry_pick_range::{CherryPickItem, CherryPickOutcome, cherry_pick_commits};
use super::fast_forward_branch::{
    CanonicalBranch, fast_forward_canonical, locate_canonical_branch,
};
use super::resolve::canonical_moved_error;
use super::retry::{MAX_ATTEMPTS, back_off};
use super::reverse_sync::{LandedCommits, proposal_changed_error};
use super::source::{check_path_names, managed_path_filter};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
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
    /// Managed changes of each selected commit.
    pub items: Vec<CherryPickItem>,
    /// Unmanaged paths of each selected commit, which stay.
    pub left_out: Vec<BTreeSet<RepoPath>>,
    /// Result of picking `items` onto the canonical branch.
    pub series: CherryPickOutcome,
}

/// Outcome of a promotion.
pub struct PromoteOutcome {
    pub landed: LandedCommits,
    /// Names of the sources still pending.
    pub waiting: Vec<String>,
    /// Reason why the changes branch was not updated, if so.
    pub kept_reason: Option<String>,
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
    let parts: Result<Vec<_>> = chosen.iter().map(|one| build_item(repo, &context, one)).collect();
    let (items, left_out): (Vec<CherryPickItem>, Vec<_>) = parts?.into_iter().unzip();
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
        items,
        left_out,
        series,
    })
}

/// Returns the managed changes of a commit, which may go to the canonical branch, and the other
/// paths.
fn build_item(
    repo: &Repo,
    context: &SyncContext,
    one: &PendingChange,
) -> Result<(CherryPickItem, BTreeSet<RepoPath>)> {
    let managed = ManagedPaths::new(&context.config, one.branch.as_deref());
    let before = repo.tree_of(one.commit.parents[0])?;
    let (changes, left_out) =
        list_changes_between(repo, Some(before), one.commit.tree, &managed_path_filter(&managed))?;
    check_path_names(&changes)?;
    let item =
        CherryPickItem { commit: one.commit.id, changes, trailers: Vec::new(), label: one.name() };
    Ok((item, left_out))
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
        let whole = self.chosen.iter().zip(&self.left_out).filter(|(_, left)| left.is_empty());
        whole.map(|(one, _)| one.commit.id).collect()
    }

    /// Returns the changes for the canonical branch, by source.
    #[must_use]
    pub fn selected_changes(&self) -> Vec<(String, Vec<PathChange>)> {
        let names = self.chosen.iter().map(PendingChange::name);
        names.zip(self.items.iter().map(|item| item.changes.clone())).collect()
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
        let taken = LandedCommits { branch, commits: series.picked_count(), tip: series.tip };
        // The promoted changes have landed. A failure to rebuild the rest is only a warning; the
        // next extract repairs it.
        return Ok(match rebuild_changes_branch(repo, &choice, tools) {
            Ok(Ok(waiting)) => PromoteOutcome { landed: taken, waiting, kept_reason: None },
            Ok(Err(why)) => {
                PromoteOutcome { landed: taken, waiting: Vec::new(), kept_reason: Some(why) }
            }
            Err(why) => PromoteOutcome {
                landed: taken,
                waiting: Vec::new(),
                kept_reason: Some(why.to_string()),
            },
        });
    }
    Err(canonical_moved_error())
}

/// Rebuilds the changes branch on the new canonical commit, without the promoted sources. If it
/// stays as is, no work is lost: contents that became canonical drop out the next time.
fn rebuild_changes_branch(
    repo: &Repo,
    choice: &PromoteSelection,
    tools: &Tools<'_>,
) -> Result<std::result::Result<Vec<String>, String>> {
    let context = context::read_context(repo)?;
    let changes = &context.config.changes_branch;
    let built = build_changes_branch(
        repo,
        tools.disk,
        &context,
        &choice.changes_branch,
        None,
        &choice.list_fully_taken(),
    )?;
    let built = match built {
        Ok(built) => built,
        Err(clashing) => {
            let paths: Vec<String> =
                clashing.conflicts.iter().map(|one| one.path.to_string()).collect();
            let in_paths = join_names(&paths, 5);
            return Ok(Err(format!(
                "{} conflicts with the promoted changes, in {in_paths}",
                clashing.branch
            )));
        }
    };
    if repo.branches_in_use()?.iter().any(|one| one.branch == *changes) {
        return Ok(Err("a worktree has it checked out".to_owned()));
    }
    let (name, old) = (format!("refs/heads/{changes}"), choice.changes_branch.local);
    let is_put = old == Some(built.tip) || repo.swap_ref(&name, old, Some(built.tip), PROMOTE)?;
    if is_put {
        record_seen_remote(repo, choice.changes_branch.remote)?;
    }
    Ok(if is_put { Ok(built.waiting) } else { Err("it was moved concurrently".to_owned()) })
}
