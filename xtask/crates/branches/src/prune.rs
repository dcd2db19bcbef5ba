//! Which branches can go: those whose work has arrived in their base, and that nobody is on.
//!
//! A branch with commits that are nowhere else is never among them, and whatever cannot be told is a reason
//! to keep it.

use super::check::{find_branch_commit, is_shared};
use super::created_at;
use super::facts::{BranchInspector, SharedBranch};
use super::merge_status::MergeQuery;
use super::names::find_rule;
use super::rules::MergeKind;
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_git::{BranchInUse, Id, Repo};

/// Where the commits of branches are kept that have arrived by their content, by when the branch went.
const PRUNED: &str = "refs/xtask/pruned/";

/// For how long: 90 days, in seconds, as git keeps what a reflog names.
const KEPT_SECONDS: i64 = 90 * 86_400;

/// A local branch, and whether it can go.
#[derive(Clone, Debug)]
pub struct PruneCandidate {
    /// The branch.
    pub branch: String,
    /// Its commit.
    pub commit: Id,
    /// Where its work has arrived and how, or why it stays.
    pub verdict: Result<(String, MergeKind), KeepReason>,
}

impl PruneCandidate {
    /// The line that brings it back.
    #[must_use]
    pub fn restore_command(&self) -> String {
        // Git would take such a name for an option.
        if self.branch.starts_with('-') {
            return format!(
                "git update-ref {} {}",
                quote_for_shell(&format!("refs/heads/{}", self.branch)),
                self.commit
            );
        }
        format!("git branch {} {}", quote_for_shell(&self.branch), self.commit)
    }
}

/// Why a branch stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// Others come from it.
    Shared,
    /// A worktree is on it, in the middle of this or simply so.
    InUse(String),
    /// It has so many commits that the other one does not have.
    UnmergedCommits(usize, String),
    /// It has nothing of its own yet.
    NoCommits,
    /// It could not be told.
    Unknown(String),
}

impl KeepReason {
    /// In words, behind the name of the branch.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            KeepReason::Shared => "is protected, or others come from it".to_owned(),
            KeepReason::InUse(place) => format!("is in use: {place}"),
            KeepReason::UnmergedCommits(commits, base) => {
                format!("has {} that `{base}` does not have", pluralize(*commits, "commit"))
            }
            KeepReason::NoCommits => "has nothing of its own yet".to_owned(),
            KeepReason::Unknown(why) => format!("cannot be judged: {why}"),
        }
    }
}

/// The branches that are named, or all of this clone. One that is named goes also if nothing was ever done
/// on it.
pub fn list_candidates(
    look: &BranchInspector<'_>,
    named: &[String],
) -> Result<Vec<PruneCandidate>> {
    let repo = look.repo;
    let in_use = repo.branches_in_use()?;
    if named.is_empty() {
        let all = repo.branches_below("refs/heads/")?.into_iter();
        let all = all.filter_map(|(branch, commit)| Some((branch, commit.ok()?)));
        return Ok(all
            .map(|(branch, commit)| assess_branch(look, &in_use, branch, commit))
            .collect());
    }
    let mut rows = Vec::new();
    for branch in named {
        let Some(commit) = repo.resolve_ref(&format!("refs/heads/{branch}"))? else {
            let elsewhere = find_branch_commit(repo, look.context, branch)?.is_some();
            let missing = Error::usage(format!("there is no branch `{branch}` here"));
            let remote = quote_for_shell(&look.context.config.remote);
            return Err(if elsewhere {
                let branch = quote_for_shell(branch);
                missing.with_hint(format!(
                    "`git push {remote} --delete {branch}` deletes the one there"
                ))
            } else {
                missing.with_hint("`git branch` lists them")
            });
        };
        let mut row = assess_branch(look, &in_use, branch.clone(), commit);
        if row.verdict == Err(KeepReason::NoCommits) {
            row.verdict = Ok((base_name(look, branch), MergeKind::Commits));
        }
        rows.push(row);
    }
    Ok(rows)
}

fn base_name(look: &BranchInspector<'_>, branch: &str) -> String {
    merge_targets(look, branch).map_or_else(
        |_| String::new(),
        |found| found.first().map_or(String::new(), |source| source.display_name.clone()),
    )
}

fn assess_branch(
    look: &BranchInspector<'_>,
    in_use: &[BranchInUse],
    branch: String,
    commit: Id,
) -> PruneCandidate {
    let fate = find_verdict(look, in_use, &branch, commit);
    let fate = fate.unwrap_or_else(|failure| Err(KeepReason::Unknown(failure.to_string())));
    PruneCandidate { branch, commit, verdict: fate }
}

/// Where the work of a branch would have arrived: its base, or where no rule says one, any shared branch.
fn merge_targets(look: &BranchInspector<'_>, branch: &str) -> Result<Vec<SharedBranch>> {
    let rules = &look.context.branches.rules;
    Ok(match find_rule(rules, branch).and_then(|rule| rule.base.as_deref()) {
        Some(base) => {
            let remote = &look.context.config.remote;
            SharedBranch::find(look.repo, remote, base)?.into_iter().collect()
        }
        None => look.shared_branches().to_vec(),
    })
}

fn find_verdict(
    look: &BranchInspector<'_>,
    in_use: &[BranchInUse],
    branch: &str,
    tip: Id,
) -> Result<Result<(String, MergeKind), KeepReason>> {
    let repo = look.repo;
    if is_shared(look.context, branch)
        || look.shared_branches().iter().any(|one| one.branch == branch)
    {
        return Ok(Err(KeepReason::Shared));
    }
    if let Some(place) = in_use.iter().find(|place| place.branch == branch) {
        let how = place.operation.unwrap_or("it is checked out");
        return Ok(Err(KeepReason::InUse(format!("{how} in {}", place.root.display()))));
    }
    if repo.is_shallow() {
        let why = "the history is cut off here; `git fetch --unshallow` gets the rest";
        return Ok(Err(KeepReason::Unknown(why.to_owned())));
    }
    let sources = merge_targets(look, branch)?;
    let mut kept = KeepReason::Unknown("the branch into which it would go is not here".to_owned());
    for source in &sources {
        let own = repo.commits_beyond(&[source.commit], tip)?;
        let since = repo.commits_beyond(&[tip], source.commit)?;
        let has_base = repo.merge_base(tip, source.commit)?.is_some();
        let forecast = if has_base && !own.is_empty() && !since.is_empty() {
            Some(repo.preview_merge(source.commit, tip)?)
        } else {
            None
        };
        let pair = MergeQuery {
            branch,
            tip,
            base: source.commit,
            own: &own,
            since: &since,
            preview: forecast.as_ref(),
        };
        if let Some(merged) = look.merge_detector.detect_merge(&pair)? {
            return Ok(Ok((source.display_name.clone(), merged)));
        }
        // The least that is missing anywhere says most.
        kept = match kept {
            _ if own.is_empty() => KeepReason::NoCommits,
            KeepReason::NoCommits => KeepReason::NoCommits,
            KeepReason::UnmergedCommits(fewer, base) if fewer <= own.len() => {
                KeepReason::UnmergedCommits(fewer, base)
            }
            _ => KeepReason::UnmergedCommits(own.len(), source.display_name.clone()),
        };
    }
    Ok(Err(kept))
}

/// Deletes a branch if it still is where it was when it was judged, and nobody has gone there since. What has
/// arrived by its content alone has commits that nothing else holds: a ref of ours keeps them for a while.
pub fn delete_branch(repo: &Repo, disk: &Disk<'_>, row: &PruneCandidate, now: i64) -> Result<()> {
    repo.wait_for_switches()?;
    let PruneCandidate { branch, commit, .. } = row;
    if let Some(place) = repo.branches_in_use()?.iter().find(|place| place.branch == *branch) {
        let place = place.root.display();
        return Err(Error::negative(format!("`{branch}` was checked out meanwhile in {place}")));
    }
    if row.verdict.as_ref().is_ok_and(|(_, merged)| *merged != MergeKind::Commits) {
        let name = format!("{PRUNED}{}/{branch}", format_compact_time(now));
        repo.swap_ref(&name, None, Some(*commit), "xtask: branch prune")?;
    }
    repo.delete_ref(&format!("refs/heads/{branch}"), *commit)?;
    delete_expired_refs(repo, now)?;
    // What the next branch of this name follows, and how old it is, is not for this one to say.
    repo.remove_branch_config(branch)?;
    created_at::remove_creation_record(repo, disk, branch)
}

fn delete_expired_refs(repo: &Repo, now: i64) -> Result<()> {
    let oldest = format!("{PRUNED}{}", format_compact_time(now - KEPT_SECONDS));
    for (name, commit) in repo.refs_below(PRUNED)?.into_iter().filter(|(name, _)| *name < oldest) {
        repo.delete_ref(&name, commit)?;
    }
    Ok(())
}
