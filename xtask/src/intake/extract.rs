//! One extraction from beginning to end: what a branch changes, its commit on the branch of changes,
//! and that branch here and at the remote. It is all begun again where somebody else is faster.

use std::collections::BTreeSet;

use super::collect::{Built, Clashing, Extraction, Waiting, build, extract, summary, waiting};
use super::source::{Source, source};
use super::words::Summary;
use crate::base::error::{Error, Result};
use crate::repo::{Id, Pushed, RefPush, Repo};
use crate::sync::context::{self, Context};
use crate::sync::run::Tools;

/// How often the branch of changes may move while this runs: every push of every branch moves it.
const ROUNDS: usize = 8;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Aim {
    /// The source, by name.
    pub branch: String,
    /// The commit against which its changes are seen, if not the canonical content they came from.
    pub base: Option<Id>,
    /// The branch of changes is pushed.
    pub push: bool,
    /// Nothing is written.
    pub dry_run: bool,
}

/// What came of it.
pub struct Extracted {
    /// What sync went by.
    pub context: Context,
    /// What was there before.
    pub waiting: Waiting,
    /// What the branch changes.
    pub own: Extraction,
    /// The branch of changes.
    pub built: Built,
    /// What its commit says; nothing where there is nothing to collect.
    pub summary: Option<Summary>,
}

/// Collects. A conflict is an answer, and changes nothing.
pub fn collect(
    repo: &Repo,
    aim: &Aim,
    tools: &Tools<'_>,
) -> Result<std::result::Result<Extracted, (Context, Clashing)>> {
    let memory = if aim.dry_run { Some(repo.in_memory()) } else { None };
    let place = memory.as_ref().unwrap_or(repo);
    for _ in 0..ROUNDS {
        let mut context = context::read(repo)?;
        let mut is_gone = false;
        if aim.push && !aim.dry_run {
            let config = &context.config;
            let wanted = [&config.branch[..], &config.changes, &aim.branch];
            let there = repo.fetch(&config.remote, &wanted)?;
            is_gone = !there.contains(&config.changes);
            context = context::read(repo)?;
        }
        let from: Source = source(repo, &context, &aim.branch)?;
        let mut waiting = waiting(repo, &context)?;
        if is_gone {
            // Somebody has removed it there. What it held waits all the same.
            waiting.remote = None;
        }
        let own = extract(place, &context, from, aim.base, tools.progress)?;
        let none = BTreeSet::new();
        let built = match build(place, tools.disk, &context, &waiting, Some(&own), &none)? {
            Ok(built) => built,
            Err(clashing) => return Ok(Err((context, clashing))),
        };
        let summary = match built.own {
            Some(_) => Some(summary(place, &own, &built.changed)?),
            None => None,
        };
        if aim.dry_run || put(repo, &context, &waiting, &built, aim, tools)? {
            return Ok(Ok(Extracted { context, waiting, own, built, summary }));
        }
    }
    let changes = context::read(repo)?.config.changes;
    Err(Error::unable(format!(
        "`{changes}` moved again and again while this ran; it is as others left it"
    ))
    .hint("try again"))
}

/// Gives the branch of changes its new commit: first at the remote, if that is wanted, then here.
/// Says whether it still was where it had been seen.
fn put(
    repo: &Repo,
    context: &Context,
    waiting: &Waiting,
    built: &Built,
    aim: &Aim,
    tools: &Tools<'_>,
) -> Result<bool> {
    let (changes, remote) = (&context.config.changes, &context.config.remote);
    let is_empty = built.waiting.is_empty();
    let name = format!("refs/heads/{changes}");
    let is_wanted = waiting.local.is_some() || !aim.push && !is_empty;
    let moves_here = is_wanted && waiting.local != Some(built.tip);
    let held = repo.branches_in_use()?.into_iter().find(|one| one.branch == *changes);
    if let Some(held) = held.filter(|_| moves_here) {
        return Err(Error::unable(format!(
            "`{changes}` is checked out in `{}`, and is made anew by this; nothing was changed",
            held.root.display()
        ))
        .hint("switch that worktree to another branch first"));
    }
    let failed = |cause| Error::unable(format!("`{changes}` cannot be moved")).because(cause);
    tools.disk.other("move the branch of changes").map_err(failed)?;
    let is_new = waiting.remote != Some(built.tip) && !(is_empty && waiting.remote.is_none());
    if aim.push && is_new {
        let one = RefPush { name: name.clone(), old: waiting.remote, new: Some(built.tip) };
        match repo.push_refs(remote, &[one])?.pop() {
            Some(Pushed::Done) => {}
            Some(Pushed::Moved) | None => return Ok(false),
            Some(Pushed::Refused(why)) => {
                return Err(Error::unable(format!("`{remote}` refuses `{changes}`: {why}"))
                    .hint("nothing was changed; `git push` may tell more"));
            }
        }
    }
    if !moves_here {
        return Ok(true);
    }
    let seconds = tools.world.now_seconds();
    repo.swap_ref(&name, waiting.local, Some(built.tip), "xtask: extract", seconds)
}
