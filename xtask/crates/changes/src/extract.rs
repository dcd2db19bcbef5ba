//! One extraction from beginning to end: what a branch changes, its commit on the branch of changes,
//! and that branch here and at the remote. It is all begun again where somebody else is faster.

use std::collections::BTreeSet;

use super::collect::{
    Built, Clashing, Collected, Extraction, Side, Waiting, build, extract, note_seen, summary,
    waiting,
};
use super::source::{Source, source};
use super::words::Summary;
use xtask_base::error::{Error, Result};
use xtask_git::Tools;
use xtask_git::{Id, Pushed, RefPush, Repo};
use xtask_sync::context::{self, Context};

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
    /// Why the branch of changes here still has an older commit of this source, if it has.
    pub kept: Option<String>,
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
        let (mut is_gone, mut is_fresh) = (false, false);
        if aim.push && !aim.dry_run {
            let config = &context.config;
            let wanted = [&config.branch[..], &config.changes, &aim.branch];
            let there = repo.fetch(&config.remote, &wanted)?;
            is_gone = !there.contains(&config.changes);
            is_fresh = there.contains(&aim.branch);
            context = context::of_remote(repo)?;
        }
        let from = source(repo, &context, &aim.branch)?;
        // What only this clone has collected is not pushed along.
        let side = if aim.push { Side::Remote } else { Side::Both };
        let mut waiting = waiting(repo, &context, side)?;
        if is_gone {
            // Somebody has removed it there, with what it held.
            waiting.remote = None;
            waiting.commits.clear();
        }
        if !is_fresh {
            check_fresh(repo, &from, &waiting)?;
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
            let kept = if aim.push && !aim.dry_run && waiting.local.is_some() {
                follow(repo, &context, &own, aim, tools)?
            } else {
                None
            };
            return Ok(Ok(Extracted { context, waiting, own, built, summary, kept }));
        }
    }
    let changes = context::read(repo)?.config.changes;
    Err(Error::unable(format!(
        "`{changes}` moved again and again while this ran; it is as others left it"
    ))
    .hint("try again"))
}

/// A source that is only known from the last fetch must not take away what was collected from a newer
/// state of it.
fn check_fresh(repo: &Repo, from: &Source, waiting: &Waiting) -> Result<()> {
    let name = &from.name;
    let collected = waiting.commits.iter().find(|one| one.branch.as_ref() == Some(name));
    let Some(seen) = collected.and_then(Collected::made_from) else { return Ok(()) };
    let is_here = repo.resolve(&format!("refs/heads/{name}"))?.is_some();
    if is_here || seen == from.tip {
        return Ok(());
    }
    if repo.has_object(seen) && !repo.is_ancestor(from.tip, seen)? {
        return Ok(());
    }
    Err(Error::unable(format!(
        "what is collected from `{name}` is from a newer state of it than the one known here; nothing \
         was changed"
    ))
    .hint(format!("`git fetch` brings it; if `{name}` was rebased, `git switch {name}` says that this is it")))
}

/// Lets the branch of changes here follow what was pushed, as far as this source goes. Answers why not,
/// if it cannot.
fn follow(
    repo: &Repo,
    context: &Context,
    own: &Extraction,
    aim: &Aim,
    tools: &Tools<'_>,
) -> Result<Option<String>> {
    let waiting = waiting(repo, context, Side::Both)?;
    let none = BTreeSet::new();
    let built = match build(repo, tools.disk, context, &waiting, Some(own), &none)? {
        Ok(built) => built,
        Err(clashing) => return Ok(Some(format!("{} conflicts there", clashing.branch))),
    };
    let aim = Aim { push: false, ..aim.clone() };
    match put(repo, context, &waiting, &built, &aim, tools) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some("somebody has moved it".to_owned())),
        Err(failure) => Ok(Some(failure.to_string())),
    }
}

/// Gives the branch of changes its new commit: at the remote if that is wanted, and else here. Says
/// whether it still was where it had been seen.
fn put(
    repo: &Repo,
    context: &Context,
    waiting: &Waiting,
    built: &Built,
    aim: &Aim,
    tools: &Tools<'_>,
) -> Result<bool> {
    let (changes, remote) = (&context.config.changes, &context.config.remote);
    let old = if aim.push { waiting.remote } else { waiting.local };
    let is_needless = built.waiting.is_empty() && old.is_none();
    if is_needless || old == Some(built.tip) {
        if !aim.push && old.is_some() {
            note_seen(repo, waiting.remote)?;
        }
        return Ok(true);
    }
    let name = format!("refs/heads/{changes}");
    let failed = |cause| Error::unable(format!("`{changes}` cannot be moved")).because(cause);
    tools.disk.other("move the branch of changes").map_err(failed)?;
    if aim.push {
        let one = RefPush { name, old, new: Some(built.tip) };
        return match repo.push_refs(remote, &[one])?.pop() {
            Some(Pushed::Done) => Ok(true),
            Some(Pushed::Moved) | None => Ok(false),
            Some(Pushed::Refused(why)) => {
                Err(Error::unable(format!("`{remote}` refuses `{changes}`: {why}"))
                    .hint("nothing was changed; `git push` may tell more"))
            }
        };
    }
    if let Some(held) = repo.branches_in_use()?.into_iter().find(|one| one.branch == *changes) {
        return Err(Error::unable(format!(
            "`{changes}` is checked out in `{}`, and is made anew by this; nothing was changed",
            held.root.display()
        ))
        .hint("switch that worktree to another branch first"));
    }
    let is_put = repo.swap_ref(&name, old, Some(built.tip), "xtask: extract")?;
    if is_put {
        note_seen(repo, waiting.remote)?;
    }
    Ok(is_put)
}
