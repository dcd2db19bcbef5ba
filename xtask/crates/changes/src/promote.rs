//! Collected changes, onto the canonical branch: all that is chosen or nothing, and the rest waits on
//! top of it.

use std::collections::{BTreeMap, BTreeSet};

use super::carry::{PathChange, changes_between};
use super::collect::{Collected, Side, Waiting, build, note_seen, waiting};
use super::land::{Ground, ground, land};
use super::resolve::moves_on;
use super::reverse::{Taken, looks_different};
use super::rounds::{ROUNDS, pause};
use super::series::{Item, Series, carry_all};
use super::source::{check_names, takes};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::some_of;
use xtask_git::Tools;
use xtask_git::{Id, Repo};
use xtask_sync::context::{self, Context};
use xtask_sync::managed::Managed;

/// What was chosen, and what would come of it.
pub struct Choice {
    /// What sync goes by.
    pub context: Context,
    /// Where the canonical branch stands.
    pub ground: Ground,
    /// All that waits.
    pub waiting: Waiting,
    /// What was chosen of it.
    pub chosen: Vec<Collected>,
    /// What was made by hand and not named.
    pub by_hand: Vec<Collected>,
    /// What of each is carried.
    pub items: Vec<Item>,
    /// What of each is not managed, and stays.
    pub left_out: Vec<BTreeSet<RepoPath>>,
    /// What becomes of each.
    pub series: Series,
}

/// What came of it.
pub struct Promoted {
    /// The canonical branch.
    pub taken: Taken,
    /// What still waits, by name.
    pub waiting: Vec<String>,
    /// Why the branch of changes stays as it was, if it does.
    pub stays: Option<String>,
}

/// Chooses the sources of these names, or all, and carries them onto the canonical branch as it is.
/// Objects are written into `repo`, which may be one in memory, and no ref is moved.
pub fn choose(repo: &Repo, names: &[String], tools: &Tools<'_>) -> Result<Choice> {
    let context = context::read(repo)?;
    let ground = ground(repo, &context)?;
    let waiting = waiting(repo, &context, Side::Both)?;
    let known: Vec<String> = waiting.commits.iter().map(Collected::name).collect();
    let is_unknown =
        |word: &&String| !waiting.commits.iter().any(|one| one.is_meant_by(word.as_str()));
    let unknown: Vec<String> = names.iter().filter(is_unknown).cloned().collect();
    if !unknown.is_empty() {
        let refused = Error::usage(format!("nothing from {} is waiting", some_of(&unknown, 5)));
        return Err(if known.is_empty() {
            let changes = &context.config.changes;
            refused.hint(format!("`{changes}` has nothing at all; `cargo xtask extract` collects"))
        } else {
            let by_hand = waiting.commits.iter().filter(|one| one.branch.is_none());
            let by_hand =
                by_hand.map(|one| format!("{} {}", repo.short(one.commit.id), one.name()));
            let refused = refused.hint(format!("waiting: {}", some_of(&known, 10)));
            by_hand.fold(refused, |refused, one| refused.hint(format!("by hand: {one}")))
        });
    }
    // What extract has not made goes along only if somebody means it.
    let (mut chosen, mut by_hand) = (Vec::new(), Vec::new());
    for one in &waiting.commits {
        match (names.is_empty(), &one.branch) {
            (true, Some(_)) => chosen.push(one.clone()),
            (true, None) => by_hand.push(one.clone()),
            (false, _) if names.iter().any(|word| one.is_meant_by(word)) => {
                chosen.push(one.clone())
            }
            (false, _) => {}
        }
    }
    let parts: Result<Vec<_>> = chosen.iter().map(|one| item(repo, &context, one)).collect();
    let (items, left_out): (Vec<Item>, Vec<_>) = parts?.into_iter().unzip();
    let committer = repo.committer(tools.world.now_seconds()).ok();
    let (tip, onto, none) = (ground.tip, &ground.branch, BTreeMap::new());
    let series = carry_all(repo, tools.disk, tip, &items, committer.as_ref(), &none, onto)?;
    Ok(Choice { context, ground, waiting, chosen, by_hand, items, left_out, series })
}

/// What of a collected commit may go on the canonical branch: the managed paths alone.
fn item(repo: &Repo, context: &Context, one: &Collected) -> Result<(Item, BTreeSet<RepoPath>)> {
    let managed = Managed::new(&context.config, one.branch.as_deref());
    let before = repo.tree_of(one.commit.parents[0])?;
    let (changes, left_out) =
        changes_between(repo, Some(before), one.commit.tree, &takes(&managed))?;
    check_names(&changes)?;
    let item = Item { commit: one.commit.id, changes, trailers: Vec::new(), label: one.name() };
    Ok((item, left_out))
}

impl Choice {
    /// The sources before one of the chosen that were not chosen.
    #[must_use]
    pub fn left_before(&self, at: usize) -> Vec<String> {
        let (id, gone) = (self.chosen[at].commit.id, self.gone());
        let before = self.waiting.commits.iter().take_while(|one| one.commit.id != id);
        before.filter(|one| !gone.contains(&one.commit.id)).map(Collected::name).collect()
    }

    /// What nothing is left of once it is taken.
    fn gone(&self) -> BTreeSet<Id> {
        let whole = self.chosen.iter().zip(&self.left_out).filter(|(_, left)| left.is_empty());
        whole.map(|(one, _)| one.commit.id).collect()
    }

    /// What is put on the canonical branch: each source with its changes.
    #[must_use]
    pub fn content(&self) -> Vec<(String, Vec<PathChange>)> {
        let names = self.chosen.iter().map(Collected::name);
        names.zip(self.items.iter().map(|item| item.changes.clone())).collect()
    }
}

/// Puts what is chosen on the canonical branch, as often as others move it meanwhile. `shown` is what
/// somebody has said yes to, and nothing else is taken.
pub fn take(
    repo: &Repo,
    names: &[String],
    shown: &[(String, Vec<PathChange>)],
    tools: &Tools<'_>,
) -> Result<Promoted> {
    for round in 0..ROUNDS {
        pause(round);
        let choice = choose(repo, names, tools)?;
        let Choice { context, ground, series, .. } = &choice;
        if series.conflict().is_some() || choice.content() != shown {
            return Err(looks_different(ground));
        }
        let message = "xtask: promote";
        if series.made() > 0 && !land(repo, context, ground, series.tip, message, tools)? {
            continue;
        }
        let branch = ground.branch.clone();
        let taken = Taken { branch, commits: series.made(), tip: series.tip };
        // What was taken is where it belongs. That the rest could not be put on top of it is worth
        // a word, and is mended by the next extract.
        return Ok(match rebuild(repo, &choice, tools) {
            Ok(Ok(waiting)) => Promoted { taken, waiting, stays: None },
            Ok(Err(why)) => Promoted { taken, waiting: Vec::new(), stays: Some(why) },
            Err(why) => Promoted { taken, waiting: Vec::new(), stays: Some(why.to_string()) },
        });
    }
    Err(moves_on())
}

/// The branch of changes, without what was taken, on the new canonical commit. That it stays as it
/// is loses nothing: what has become canonical drops out of it the next time.
fn rebuild(
    repo: &Repo,
    choice: &Choice,
    tools: &Tools<'_>,
) -> Result<std::result::Result<Vec<String>, String>> {
    let context = context::read(repo)?;
    let changes = &context.config.changes;
    let built = build(repo, tools.disk, &context, &choice.waiting, None, &choice.gone())?;
    let built = match built {
        Ok(built) => built,
        Err(clashing) => {
            let paths: Vec<String> =
                clashing.conflicts.iter().map(|one| one.path.to_string()).collect();
            let in_paths = some_of(&paths, 5);
            return Ok(Err(format!(
                "{} conflicts with what was taken, in {in_paths}",
                clashing.branch
            )));
        }
    };
    if repo.branches_in_use()?.iter().any(|one| one.branch == *changes) {
        return Ok(Err("a worktree has it checked out".to_owned()));
    }
    let (name, old) = (format!("refs/heads/{changes}"), choice.waiting.local);
    let is_put =
        old == Some(built.tip) || repo.swap_ref(&name, old, Some(built.tip), "xtask: promote")?;
    if is_put {
        note_seen(repo, choice.waiting.remote)?;
    }
    Ok(if is_put { Ok(built.waiting) } else { Err("somebody else has moved it".to_owned()) })
}
