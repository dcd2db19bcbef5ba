//! Which branches can go: those whose work has arrived in their base, and that nobody is on.
//!
//! A branch with commits that are nowhere else is never among them, and whatever cannot be told is a reason
//! to keep it.

use super::check::{commit_of, is_shared};
use super::facts::{Look, Source};
use super::made;
use super::merged::Pairing;
use super::names::rule_for;
use super::rules::Merged;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::words::{count, typed};
use xtask_base::world::compact;
use xtask_git::{Id, InUse, Repo};

/// Where the commits of branches are kept that have arrived by their content, by when the branch went.
const PRUNED: &str = "refs/xtask/pruned/";

/// For how long: 90 days, in seconds, as git keeps what a reflog names.
const KEPT_SECONDS: i64 = 90 * 86_400;

/// A local branch, and whether it can go.
#[derive(Clone, Debug)]
pub struct Row {
    /// The branch.
    pub branch: String,
    /// Its commit.
    pub commit: Id,
    /// Where its work has arrived and how, or why it stays.
    pub fate: Result<(String, Merged), Kept>,
}

impl Row {
    /// The line that brings it back.
    #[must_use]
    pub fn way_back(&self) -> String {
        // Git would take such a name for an option.
        if self.branch.starts_with('-') {
            return format!(
                "git update-ref {} {}",
                typed(&format!("refs/heads/{}", self.branch)),
                self.commit
            );
        }
        format!("git branch {} {}", typed(&self.branch), self.commit)
    }
}

/// Why a branch stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Others come from it.
    Shared,
    /// A worktree is on it, in the middle of this or simply so.
    InUse(String),
    /// It has so many commits that the other one does not have.
    Unique(usize, String),
    /// It has nothing of its own yet.
    Fresh,
    /// It could not be told.
    Unknown(String),
}

impl Kept {
    /// In words, behind the name of the branch.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Kept::Shared => "is protected, or others come from it".to_owned(),
            Kept::InUse(place) => format!("is in use: {place}"),
            Kept::Unique(commits, base) => {
                format!("has {} that `{base}` does not have", count(*commits, "commit"))
            }
            Kept::Fresh => "has nothing of its own yet".to_owned(),
            Kept::Unknown(why) => format!("cannot be judged: {why}"),
        }
    }
}

/// The branches that are named, or all of this clone. One that is named goes also if nothing was ever done
/// on it.
pub fn rows(look: &Look<'_>, named: &[String]) -> Result<Vec<Row>> {
    let repo = look.repo;
    let in_use = repo.branches_in_use()?;
    if named.is_empty() {
        let all = repo.branches_below("refs/heads/")?.into_iter();
        let all = all.filter_map(|(branch, commit)| Some((branch, commit.ok()?)));
        return Ok(all.map(|(branch, commit)| row(look, &in_use, branch, commit)).collect());
    }
    let mut rows = Vec::new();
    for branch in named {
        let Some(commit) = repo.resolve(&format!("refs/heads/{branch}"))? else {
            let elsewhere = commit_of(repo, look.context, branch)?.is_some();
            let missing = Error::usage(format!("there is no branch `{branch}` here"));
            let remote = typed(&look.context.config.remote);
            return Err(if elsewhere {
                let branch = typed(branch);
                missing.hint(format!("`git push {remote} --delete {branch}` deletes the one there"))
            } else {
                missing.hint("`git branch` lists them")
            });
        };
        let mut row = row(look, &in_use, branch.clone(), commit);
        if row.fate == Err(Kept::Fresh) {
            row.fate = Ok((base_words(look, branch), Merged::Commits));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn base_words(look: &Look<'_>, branch: &str) -> String {
    sources(look, branch).map_or_else(
        |_| String::new(),
        |found| found.first().map_or(String::new(), |source| source.typed.clone()),
    )
}

fn row(look: &Look<'_>, in_use: &[InUse], branch: String, commit: Id) -> Row {
    let fate = fate(look, in_use, &branch, commit);
    let fate = fate.unwrap_or_else(|failure| Err(Kept::Unknown(failure.to_string())));
    Row { branch, commit, fate }
}

/// Where the work of a branch would have arrived: its base, or where no rule says one, any shared branch.
fn sources(look: &Look<'_>, branch: &str) -> Result<Vec<Source>> {
    let rules = &look.context.branches.rules;
    Ok(match rule_for(rules, branch).and_then(|rule| rule.base.as_deref()) {
        Some(base) => {
            let remote = &look.context.config.remote;
            Source::find(look.repo, remote, base)?.into_iter().collect()
        }
        None => look.shared().to_vec(),
    })
}

fn fate(
    look: &Look<'_>,
    in_use: &[InUse],
    branch: &str,
    tip: Id,
) -> Result<Result<(String, Merged), Kept>> {
    let repo = look.repo;
    if is_shared(look.context, branch) || look.shared().iter().any(|one| one.branch == branch) {
        return Ok(Err(Kept::Shared));
    }
    if let Some(place) = in_use.iter().find(|place| place.branch == branch) {
        let how = place.operation.unwrap_or("it is checked out");
        return Ok(Err(Kept::InUse(format!("{how} in {}", place.root.display()))));
    }
    if repo.is_shallow() {
        let why = "the history is cut off here; `git fetch --unshallow` gets the rest";
        return Ok(Err(Kept::Unknown(why.to_owned())));
    }
    let sources = sources(look, branch)?;
    let mut kept = Kept::Unknown("the branch into which it would go is not here".to_owned());
    for source in &sources {
        let own = repo.beyond(&[source.commit], tip)?;
        let since = repo.beyond(&[tip], source.commit)?;
        let has_base = repo.merge_base(tip, source.commit)?.is_some();
        let forecast = if has_base && !own.is_empty() && !since.is_empty() {
            Some(repo.forecast_merge(source.commit, tip)?)
        } else {
            None
        };
        let pair = Pairing {
            branch,
            tip,
            base: source.commit,
            own: &own,
            since: &since,
            forecast: forecast.as_ref(),
        };
        if let Some(merged) = look.arrivals.how(&pair)? {
            return Ok(Ok((source.typed.clone(), merged)));
        }
        // The least that is missing anywhere says most.
        kept = match kept {
            _ if own.is_empty() => Kept::Fresh,
            Kept::Fresh => Kept::Fresh,
            Kept::Unique(fewer, base) if fewer <= own.len() => Kept::Unique(fewer, base),
            _ => Kept::Unique(own.len(), source.typed.clone()),
        };
    }
    Ok(Err(kept))
}

/// Deletes a branch if it still is where it was when it was judged, and nobody has gone there since. What has
/// arrived by its content alone has commits that nothing else holds: a ref of ours keeps them for a while.
pub fn delete(repo: &Repo, disk: &Disk<'_>, row: &Row, now: i64) -> Result<()> {
    repo.wait_for_switches()?;
    let Row { branch, commit, .. } = row;
    if let Some(place) = repo.branches_in_use()?.iter().find(|place| place.branch == *branch) {
        let place = place.root.display();
        return Err(Error::no(format!("`{branch}` was checked out meanwhile in {place}")));
    }
    if row.fate.as_ref().is_ok_and(|(_, merged)| *merged != Merged::Commits) {
        let name = format!("{PRUNED}{}/{branch}", compact(now));
        repo.swap_ref(&name, None, Some(*commit), "xtask: branch prune")?;
    }
    repo.delete_ref(&format!("refs/heads/{branch}"), *commit)?;
    forget_old(repo, now)?;
    // What the next branch of this name follows, and how old it is, is not for this one to say.
    repo.forget_branch_settings(branch)?;
    made::forget(repo, disk, branch)
}

fn forget_old(repo: &Repo, now: i64) -> Result<()> {
    let oldest = format!("{PRUNED}{}", compact(now - KEPT_SECONDS));
    for (name, commit) in repo.refs_below(PRUNED)?.into_iter().filter(|(name, _)| *name < oldest) {
        repo.delete_ref(&name, commit)?;
    }
    Ok(())
}
