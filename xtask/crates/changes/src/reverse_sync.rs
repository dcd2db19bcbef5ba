//! Reverse sync of approved commits to the canonical branch: first a proposal, in memory for a dry
//! run, then landing. For example:
//!
//! ```text
//! reverse-sync feature 4f1c… -> canonical: + 4f1c…'s managed changes, with its author
//! ```

use super::cherry_pick_range::{CherryPickItem, CherryPickOutcome, cherry_pick_commits};
use super::fast_forward_branch::{
    CanonicalBranch, fast_forward_canonical, list_earlier_picks, locate_canonical_branch,
};
use super::resolve::canonical_moved_error;
use super::retry::{MAX_ATTEMPTS, back_off};
use super::source::{SelectedCommit, SourceBranch, resolve_commits};
use xtask_base::error::{Error, Result};
use xtask_base::words::pluralize;
use xtask_git::Tools;
use xtask_git::reflog_messages::REVERSE_SYNC;
use xtask_git::{Id, Repo};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::pins::BranchPins;

/// Proposed commits for the canonical branch.
pub struct ReverseSyncProposal {
    pub context: SyncContext,
    pub canonical_branch: CanonicalBranch,
    /// Branch that the commits come from.
    pub source: SourceBranch,
    pub selected: Vec<SelectedCommit>,
    /// Status of each commit.
    pub series: CherryPickOutcome,
}

/// Commits landed on the canonical branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedCommits {
    /// Canonical branch.
    pub branch: String,
    /// Number of new commits.
    pub commits: usize,
    /// New tip of `branch`.
    pub tip: Id,
}

/// Returns the error for a missing COMMIT, with the candidates and a command to paste.
pub fn unnamed_commit_error(
    repo: &Repo,
    context: &SyncContext,
    source: &SourceBranch,
    pins: &BranchPins,
) -> Result<Error> {
    let remote = &context.config.remote;
    let shared =
        context.branches.protected.iter().flat_map(|name| {
            [format!("refs/remotes/{remote}/{name}"), format!("refs/heads/{name}")]
        });
    // The newest point where the branch left the canonical or a protected branch.
    let mut tips = vec![context.canonical.commit];
    for name in shared {
        tips.extend(repo.resolve_ref(&name)?.filter(|tip| *tip != source.tip));
    }
    let mut base: Option<(usize, Id)> = None;
    for tip in tips {
        let Some(found) = repo.merge_base(source.tip, tip)? else { continue };
        let own = repo.count_commits_between(found, source.tip)?;
        if base.is_none_or(|(fewest, _)| own < fewest) {
            base = Some((own, found));
        }
    }
    let refused = Error::usage("no commit was named");
    let Some((_, base)) = base else { return Ok(refused) };
    let range = format!("{base}..{}", source.tip);
    let found = resolve_commits(repo, context, source, &[range], None, pins)?;
    if found.is_empty() {
        return Ok(
            refused.with_hint(format!("no commit of `{}` changes a managed file", source.name))
        );
    }
    let lines = found.iter().map(|pick| {
        let files = pluralize(pick.changes.len(), "managed file");
        format!("{}  {}  ({files})", repo.short_id(pick.commit.id), pick.commit.subject())
    });
    let ids: Vec<String> = found.iter().map(|pick| repo.short_id(pick.commit.id)).collect();
    let refused = lines.fold(refused, Error::with_detail);
    Ok(refused.with_hint(format!(
        "all of them: `cargo xtask reverse-sync {} {}`",
        source.name,
        ids.join(" ")
    )))
}

/// Picks the commits onto the present canonical branch. Objects are written into `repo`, which may
/// be in memory; no ref is moved.
pub fn propose_commits(
    repo: &Repo,
    source: SourceBranch,
    picks: Vec<SelectedCommit>,
    tools: &Tools<'_>,
) -> Result<ReverseSyncProposal> {
    let context = context::read_context(repo)?;
    let ground = locate_canonical_branch(repo, &context)?;
    let items: Vec<CherryPickItem> =
        picks.iter().map(|pick| pick.to_item(repo, &source.name)).collect();
    let taken = list_earlier_picks(repo, ground.tip, source.tip)?;
    // A dry run works without a configured committer as well.
    let committer = repo.committer(tools.world.now_seconds()).ok();
    let (tip, onto) = (ground.tip, &ground.branch);
    let series =
        cherry_pick_commits(repo, tools.disk, tip, &items, committer.as_ref(), &taken, onto)?;
    Ok(ReverseSyncProposal { context, canonical_branch: ground, source, selected: picks, series })
}

/// Lands a proposal on the canonical branch, retrying if others move it concurrently. A different
/// result than the proposed one is an error.
pub fn land_proposal(
    repo: &Repo,
    proposal: ReverseSyncProposal,
    tools: &Tools<'_>,
) -> Result<LandedCommits> {
    let shown = proposal.series.picked_count();
    let ReverseSyncProposal { mut source, selected: mut picks, .. } = proposal;
    for round in 0..MAX_ATTEMPTS {
        back_off(round);
        let again = propose_commits(repo, source, picks, tools)?;
        if again.series.first_conflict().is_some() || again.series.picked_count() > shown {
            return Err(proposal_changed_error(&again.canonical_branch));
        }
        let ReverseSyncProposal { context, canonical_branch: ground, series, .. } = &again;
        let message = format!("{REVERSE_SYNC} from {}", again.source.name);
        if series.picked_count() == 0
            || fast_forward_canonical(repo, context, ground, series.tip, &message, tools)?
        {
            let branch = ground.branch.clone();
            return Ok(LandedCommits { branch, commits: series.picked_count(), tip: series.tip });
        }
        (source, picks) = (again.source, again.selected);
    }
    Err(canonical_moved_error())
}

/// The user's confirmation covers only the shown proposal.
pub(super) fn proposal_changed_error(ground: &CanonicalBranch) -> Error {
    let branch = &ground.branch;
    Error::unable(format!(
        "the result has changed since it was shown, because a branch moved; `{branch}` is as it was"
    ))
    .with_hint("run it again to see the new result")
}
