//! Collected changes, onto the canonical branch: all that is chosen or nothing, and the rest waits on
//! top of it.

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
use xtask_git::{Id, Repo};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;

/// What was chosen, and what would come of it.
pub struct PromoteSelection {
    /// What sync goes by.
    pub context: SyncContext,
    /// Where the canonical branch stands.
    pub canonical_branch: CanonicalBranch,
    /// All that waits.
    pub changes_branch: ChangesBranch,
    /// What was chosen of it.
    pub chosen: Vec<PendingChange>,
    /// What was made by hand and not named.
    pub manual: Vec<PendingChange>,
    /// What of each is carried.
    pub items: Vec<CherryPickItem>,
    /// What of each is not managed, and stays.
    pub left_out: Vec<BTreeSet<RepoPath>>,
    /// What becomes of each.
    pub series: CherryPickOutcome,
}

/// What came of it.
pub struct PromoteOutcome {
    /// The canonical branch.
    pub landed: LandedCommits,
    /// What still waits, by name.
    pub waiting: Vec<String>,
    /// Why the branch of changes stays as it was, if it does.
    pub kept_reason: Option<String>,
}

/// Chooses the sources of these names, or all, and carries them onto the canonical branch as it is.
/// Objects are written into `repo`, which may be one in memory, and no ref is moved.
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
        let refused = Error::usage(format!("nothing from {} is waiting", join_names(&unknown, 5)));
        return Err(if known.is_empty() {
            let changes = &context.config.changes_branch;
            refused.with_hint(format!(
                "`{changes}` has nothing at all; `cargo xtask extract` collects"
            ))
        } else {
            let by_hand = waiting.commits.iter().filter(|one| one.branch.is_none());
            let by_hand =
                by_hand.map(|one| format!("{} {}", repo.short_id(one.commit.id), one.name()));
            let refused = refused.with_hint(format!("waiting: {}", join_names(&known, 10)));
            by_hand.fold(refused, |refused, one| refused.with_hint(format!("by hand: {one}")))
        });
    }
    // What extract has not made goes along only if somebody means it.
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

/// What of a collected commit may go on the canonical branch: the managed paths alone.
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
    /// The sources before one of the chosen that were not chosen.
    #[must_use]
    pub fn list_skipped_before(&self, at: usize) -> Vec<String> {
        let (id, gone) = (self.chosen[at].commit.id, self.list_fully_taken());
        let before = self.changes_branch.commits.iter().take_while(|one| one.commit.id != id);
        before.filter(|one| !gone.contains(&one.commit.id)).map(PendingChange::name).collect()
    }

    /// What nothing is left of once it is taken.
    fn list_fully_taken(&self) -> BTreeSet<Id> {
        let whole = self.chosen.iter().zip(&self.left_out).filter(|(_, left)| left.is_empty());
        whole.map(|(one, _)| one.commit.id).collect()
    }

    /// What is put on the canonical branch: each source with its changes.
    #[must_use]
    pub fn selected_changes(&self) -> Vec<(String, Vec<PathChange>)> {
        let names = self.chosen.iter().map(PendingChange::name);
        names.zip(self.items.iter().map(|item| item.changes.clone())).collect()
    }
}

/// Puts what is chosen on the canonical branch, as often as others move it meanwhile. `shown` is what
/// somebody has said yes to, and nothing else is taken.
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
        let message = "xtask: promote";
        if series.picked_count() > 0
            && !fast_forward_canonical(repo, context, ground, series.tip, message, tools)?
        {
            continue;
        }
        let branch = ground.branch.clone();
        let taken = LandedCommits { branch, commits: series.picked_count(), tip: series.tip };
        // What was taken is where it belongs. That the rest could not be put on top of it is worth
        // a word, and is mended by the next extract.
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

/// The branch of changes, without what was taken, on the new canonical commit. That it stays as it
/// is loses nothing: what has become canonical drops out of it the next time.
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
                "{} conflicts with what was taken, in {in_paths}",
                clashing.branch
            )));
        }
    };
    if repo.branches_in_use()?.iter().any(|one| one.branch == *changes) {
        return Ok(Err("a worktree has it checked out".to_owned()));
    }
    let (name, old) = (format!("refs/heads/{changes}"), choice.changes_branch.local);
    let is_put =
        old == Some(built.tip) || repo.swap_ref(&name, old, Some(built.tip), "xtask: promote")?;
    if is_put {
        record_seen_remote(repo, choice.changes_branch.remote)?;
    }
    Ok(if is_put { Ok(built.waiting) } else { Err("somebody else has moved it".to_owned()) })
}
