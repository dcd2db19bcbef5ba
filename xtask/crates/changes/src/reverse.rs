//! Approved commits, onto the canonical branch: first proposed, in memory if nothing may be written,
//! then taken.

use super::land::{Ground, ground, land, taken};
use super::resolve::moves_on;
use super::rounds::{ROUNDS, pause};
use super::series::{Item, Series, carry_all};
use super::source::{Pick, Source};
use xtask_base::error::{Error, Result};
use xtask_git::Tools;
use xtask_git::{Id, Repo};
use xtask_sync::context::{self, Context};

/// What would be put on the canonical branch.
pub struct Proposal {
    /// What sync goes by.
    pub context: Context,
    /// Where the canonical branch stands.
    pub ground: Ground,
    /// The branch from which the commits come.
    pub source: Source,
    /// The commits.
    pub picks: Vec<Pick>,
    /// What becomes of each.
    pub series: Series,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The canonical branch.
    pub branch: String,
    /// How many commits it has more.
    pub commits: usize,
    /// Where it is.
    pub tip: Id,
}

/// Carries the commits onto the canonical branch as it is. Objects are written into `repo`, which may
/// be one in memory, and no ref is moved.
pub fn propose(
    repo: &Repo,
    source: Source,
    picks: Vec<Pick>,
    tools: &Tools<'_>,
) -> Result<Proposal> {
    let context = context::read(repo)?;
    let ground = ground(repo, &context)?;
    let items: Vec<Item> = picks.iter().map(|pick| pick.item(repo, &source.name)).collect();
    let taken = taken(repo, ground.tip, source.tip)?;
    // Where nobody is known to git, looking still works.
    let committer = repo.committer(tools.world.now_seconds()).ok();
    let (tip, onto) = (ground.tip, &ground.branch);
    let series = carry_all(repo, tools.disk, tip, &items, committer.as_ref(), &taken, onto)?;
    Ok(Proposal { context, ground, source, picks, series })
}

/// Writes the commits of a proposal and moves the canonical branch, as often as others move it
/// meanwhile. What is not as it was proposed any more is not taken.
pub fn take(repo: &Repo, proposal: Proposal, tools: &Tools<'_>) -> Result<Taken> {
    let shown = proposal.series.made();
    let Proposal { mut source, mut picks, .. } = proposal;
    for round in 0..ROUNDS {
        pause(round);
        let again = propose(repo, source, picks, tools)?;
        if again.series.conflict().is_some() || again.series.made() > shown {
            return Err(looks_different(&again.ground));
        }
        let Proposal { context, ground, series, .. } = &again;
        let message = format!("xtask: reverse-sync from {}", again.source.name);
        if series.made() == 0 || land(repo, context, ground, series.tip, &message, tools)? {
            let branch = ground.branch.clone();
            return Ok(Taken { branch, commits: series.made(), tip: series.tip });
        }
        (source, picks) = (again.source, again.picks);
    }
    Err(moves_on())
}

/// Whoever has said yes has said it to what was shown.
pub(super) fn looks_different(ground: &Ground) -> Error {
    let branch = &ground.branch;
    Error::unable(format!(
        "something has moved meanwhile, and this looks different now; `{branch}` is as it was"
    ))
    .hint("run it again to see how")
}
