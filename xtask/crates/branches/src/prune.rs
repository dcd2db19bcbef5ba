//! Pruning of branches: deleting those that are merged into their base and in use by no worktree.
//!
//! A branch with commits that exist nowhere else is never deleted, and an unknown fact is a reason
//! to keep it.
//!
//! ```text
//! feature/a -> Merged("origin/main", MergeKind::Commits)
//! feature/b -> Kept(KeepReason::UnmergedCommits(2, "origin/main"))
//! ```

use super::check::{find_branch_commit, is_shared};
use super::created_at;
use super::facts::{BranchComparison, BranchInspector, SharedBranch};
use super::names::find_rule;
use super::rules::{MergeKind, UnknownReason};
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_git::{BranchInUse, Id, Repo};

/// Prefix of the refs that keep the commits of pruned branches that were merged by content,
/// followed by the time of the deletion.
const PRUNED: &str = "refs/xtask/pruned/";

/// Time for which they are kept: 90 days, in seconds, as git keeps commits in a reflog.
const KEPT_SECONDS: i64 = 90 * 86_400;

/// A local branch, and whether it can be deleted.
#[derive(Clone, Debug)]
pub struct PruneCandidate {
    pub branch: String,
    pub commit: Id,
    pub verdict: PruneVerdict,
}

/// Whether a branch can be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PruneVerdict {
    /// It was merged into this branch, in this way.
    Merged(String, MergeKind),
    Kept(KeepReason),
}

impl PruneVerdict {
    /// Describes the verdict as the predicate of a sentence, e.g. "merged into `main`".
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            PruneVerdict::Merged(base, MergeKind::Commits) => format!("merged into `{base}`"),
            PruneVerdict::Merged(base, MergeKind::Content { at: None }) => {
                format!("`{base}` has all of its changes")
            }
            PruneVerdict::Merged(base, MergeKind::Content { at: Some(commit) }) => {
                format!("squashed into `{base}` as {commit}")
            }
            PruneVerdict::Kept(reason) => reason.describe(),
        }
    }
}

impl PruneCandidate {
    /// Returns the command that restores the branch.
    #[must_use]
    pub fn restore_command(&self) -> String {
        // `git branch` would parse the name as an option.
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

/// A reason to keep a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeepReason {
    /// Other branches are forked from it.
    Shared,
    /// A worktree has it checked out, or an operation uses it.
    InUse(String),
    /// This many commits are missing from this branch.
    UnmergedCommits(usize, String),
    /// No commits of its own yet.
    NoCommits,
    /// A fact is unknown.
    Unknown(String),
}

impl KeepReason {
    /// Returns the reason as the predicate of a sentence, e.g. `is in use: …`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            KeepReason::Shared => "is protected, or the base of other branches".to_owned(),
            KeepReason::InUse(place) => format!("is in use: {place}"),
            KeepReason::UnmergedCommits(commits, base) => {
                format!("has {} that `{base}` does not have", pluralize(*commits, "commit"))
            }
            KeepReason::NoCommits => "has no commits of its own yet".to_owned(),
            KeepReason::Unknown(why) => format!("cannot be checked: {why}"),
        }
    }
}

/// Assesses the named branches, or all local ones. A named branch can be deleted even if it never
/// had commits of its own.
pub fn list_candidates(
    inspector: &BranchInspector<'_>,
    named: &[String],
) -> Result<Vec<PruneCandidate>> {
    let repo = inspector.repo;
    let in_use = repo.branches_in_use()?;
    if named.is_empty() {
        let all = repo.branches_below("refs/heads/")?.into_iter();
        let all = all.filter_map(|(branch, commit)| Some((branch, commit.ok()?)));
        return Ok(all
            .map(|(branch, commit)| assess_branch(inspector, &in_use, branch, commit))
            .collect());
    }
    let mut rows = Vec::new();
    for branch in named {
        let Some(commit) = repo.resolve_ref(&format!("refs/heads/{branch}"))? else {
            let elsewhere = find_branch_commit(repo, inspector.context, branch)?.is_some();
            let missing = Error::usage(format!("no such branch: `{branch}`"));
            let remote = quote_for_shell(&inspector.context.config.remote);
            return Err(if elsewhere {
                let branch = quote_for_shell(branch);
                missing.with_hint(format!(
                    "`git push {remote} --delete {branch}` deletes the remote one"
                ))
            } else {
                missing.with_hint("`git branch` lists the local branches")
            });
        };
        let mut row = assess_branch(inspector, &in_use, branch.clone(), commit);
        if row.verdict == PruneVerdict::Kept(KeepReason::NoCommits) {
            row.verdict = PruneVerdict::Merged(base_name(inspector, branch), MergeKind::Commits);
        }
        rows.push(row);
    }
    Ok(rows)
}

fn base_name(inspector: &BranchInspector<'_>, branch: &str) -> String {
    merge_targets(inspector, branch).map_or_else(
        |_| String::new(),
        |found| found.first().map_or(String::new(), |source| source.display_name.clone()),
    )
}

fn assess_branch(
    inspector: &BranchInspector<'_>,
    in_use: &[BranchInUse],
    branch: String,
    commit: Id,
) -> PruneCandidate {
    let verdict = find_verdict(inspector, in_use, &branch, commit);
    let unknown = |failure: Error| PruneVerdict::Kept(KeepReason::Unknown(failure.to_string()));
    PruneCandidate { verdict: verdict.unwrap_or_else(unknown), branch, commit }
}

/// Returns the branches to search for the branch's work: its base, or without a rule, all shared
/// branches.
fn merge_targets(inspector: &BranchInspector<'_>, branch: &str) -> Result<Vec<SharedBranch>> {
    let rules = &inspector.context.branches.rules;
    Ok(match find_rule(rules, branch).and_then(|rule| rule.base.as_deref()) {
        Some(base) => {
            let remote = &inspector.context.config.remote;
            SharedBranch::find(inspector.repo, remote, base)?.into_iter().collect()
        }
        None => inspector.shared_branches().to_vec(),
    })
}

fn find_verdict(
    inspector: &BranchInspector<'_>,
    in_use: &[BranchInUse],
    branch: &str,
    tip: Id,
) -> Result<PruneVerdict> {
    if is_shared(inspector.context, branch)
        || inspector.shared_branches().iter().any(|one| one.branch == branch)
    {
        return Ok(PruneVerdict::Kept(KeepReason::Shared));
    }
    if let Some(place) = in_use.iter().find(|place| place.branch == branch) {
        let how = place.operation.unwrap_or("checked out");
        let place = format!("{how} in {}", place.root.display());
        return Ok(PruneVerdict::Kept(KeepReason::InUse(place)));
    }
    if let Err(UnknownReason { reason, next_step }) = inspector.check_full_history() {
        return Ok(PruneVerdict::Kept(KeepReason::Unknown(format!("{reason}; {next_step}"))));
    }
    let sources = merge_targets(inspector, branch)?;
    let mut kept = KeepReason::Unknown("its base is not in this clone".to_owned());
    for source in &sources {
        let BranchComparison { own, merged, .. } =
            inspector.compare_with(branch, tip, source.commit)?;
        if let Some(how) = merged {
            return Ok(PruneVerdict::Merged(source.display_name.clone(), how));
        }
        // The branch with the fewest missing commits is the most informative.
        kept = match kept {
            _ if own == 0 => KeepReason::NoCommits,
            KeepReason::NoCommits => KeepReason::NoCommits,
            KeepReason::UnmergedCommits(fewer, base) if fewer <= own => {
                KeepReason::UnmergedCommits(fewer, base)
            }
            _ => KeepReason::UnmergedCommits(own, source.display_name.clone()),
        };
    }
    Ok(PruneVerdict::Kept(kept))
}

/// Deletes a branch unless it has moved since it was assessed, or was checked out since. If it was
/// merged by content, no other ref holds its commits: a ref below `PRUNED` keeps them for
/// `KEPT_SECONDS`.
pub fn delete_branch(repo: &Repo, disk: &Disk<'_>, row: &PruneCandidate, now: i64) -> Result<()> {
    repo.wait_for_switches()?;
    let PruneCandidate { branch, commit, .. } = row;
    if let Some(place) = repo.branches_in_use()?.iter().find(|place| place.branch == *branch) {
        let place = place.root.display();
        return Err(Error::negative(format!("`{branch}` was checked out concurrently in {place}")));
    }
    if matches!(row.verdict, PruneVerdict::Merged(_, MergeKind::Content { .. })) {
        let name = format!("{PRUNED}{}/{branch}", format_compact_time(now));
        repo.swap_ref(&name, None, Some(*commit), "xtask: branch prune")?;
    }
    repo.delete_ref(&format!("refs/heads/{branch}"), *commit)?;
    delete_expired_refs(repo, now)?;
    // A later branch of the same name must inherit neither upstream nor age.
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
