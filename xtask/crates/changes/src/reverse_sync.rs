//! Approved commits, onto the canonical branch: first proposed, in memory if nothing may be written,
//! then taken.

use super::cherry_pick_range::{CherryPickItem, CherryPickOutcome, cherry_pick_commits};
use super::fast_forward_branch::{
    CanonicalBranch, fast_forward_canonical, list_earlier_picks, locate_canonical_branch,
};
use super::resolve::canonical_moved_error;
use super::retry::{MAX_ATTEMPTS, back_off};
use super::source::{SelectedCommit, SourceBranch};
use xtask_base::error::{Error, Result};
use xtask_git::Tools;
use xtask_git::{Id, Repo};
use xtask_sync::context::{self, SyncContext};

/// What would be put on the canonical branch.
pub struct ReverseSyncProposal {
    /// What sync goes by.
    pub context: SyncContext,
    /// Where the canonical branch stands.
    pub canonical_branch: CanonicalBranch,
    /// The branch from which the commits come.
    pub source: SourceBranch,
    /// The commits.
    pub selected: Vec<SelectedCommit>,
    /// What becomes of each.
    pub series: CherryPickOutcome,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedCommits {
    /// The canonical branch.
    pub branch: String,
    /// How many commits it has more.
    pub commits: usize,
    /// Where it is.
    pub tip: Id,
}

/// Carries the commits onto the canonical branch as it is. Objects are written into `repo`, which may
/// be one in memory, and no ref is moved.
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
    // Where nobody is known to git, looking still works.
    let committer = repo.committer(tools.world.now_seconds()).ok();
    let (tip, onto) = (ground.tip, &ground.branch);
    let series =
        cherry_pick_commits(repo, tools.disk, tip, &items, committer.as_ref(), &taken, onto)?;
    Ok(ReverseSyncProposal { context, canonical_branch: ground, source, selected: picks, series })
}

/// Writes the commits of a proposal and moves the canonical branch, as often as others move it
/// meanwhile. What is not as it was proposed any more is not taken.
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
        let message = format!("xtask: reverse-sync from {}", again.source.name);
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

/// Whoever has said yes has said it to what was shown.
pub(super) fn proposal_changed_error(ground: &CanonicalBranch) -> Error {
    let branch = &ground.branch;
    Error::unable(format!(
        "something has moved meanwhile, and this looks different now; `{branch}` is as it was"
    ))
    .with_hint("run it again to see how")
}
