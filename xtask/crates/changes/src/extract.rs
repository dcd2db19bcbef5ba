//! Extraction of a branch's managed changes: finds them, commits them on the changes branch, and
//! moves that branch locally or at the remote. If it moves concurrently, the extraction starts
//! over. For example:
//!
//! ```text
//! extract feature --push -> origin/orchestration-tools-changes: one commit for `feature`
//! ```

use std::collections::BTreeSet;

use super::changes_branch::{
    BuiltBranch, ChangesBranch, ChangesSide, MergeConflict, PendingChange, SourceChanges,
    build_changes_branch, build_summary, find_source_changes, read_changes_branch,
    record_seen_remote,
};
use super::commit_messages::ExtractSummary;
use super::source::{SourceBranch, find_source_branch};
use xtask_base::error::{Error, Result};
use xtask_git::Tools;
use xtask_git::{Id, PushStatus, RefPush, Repo};
use xtask_sync::context::{self, SyncContext};

/// Maximum number of attempts; every push of any branch may move the changes branch.
const MAX_ATTEMPTS: usize = 8;

/// Options of an extraction.
#[derive(Clone, Debug)]
pub struct ExtractOptions {
    /// Name of the source branch.
    pub branch: String,
    /// Commit to compare with, instead of the canonical content that the changes came from.
    pub base: Option<Id>,
    /// Whether to push the changes branch.
    pub push: bool,
    pub dry_run: bool,
}

/// Outcome of an extraction.
pub struct ExtractOutcome {
    pub context: SyncContext,
    /// Changes branch before the extraction.
    pub changes_branch: ChangesBranch,
    pub source_changes: SourceChanges,
    /// New changes branch.
    pub built: BuiltBranch,
    /// Reason why the local changes branch still has an older commit of this source, if so.
    pub kept_reason: Option<String>,
    /// Summary for the commit message; `None` if there are no changes to extract.
    pub summary: Option<ExtractSummary>,
}

/// Extracts the changes of a branch. A conflict is returned as the inner `Err` and changes no ref.
pub fn extract_changes(
    repo: &Repo,
    aim: &ExtractOptions,
    tools: &Tools<'_>,
) -> Result<std::result::Result<ExtractOutcome, (SyncContext, MergeConflict)>> {
    let memory = if aim.dry_run { Some(repo.in_memory()) } else { None };
    let place = memory.as_ref().unwrap_or(repo);
    for _ in 0..MAX_ATTEMPTS {
        let mut context = context::read_context(repo)?;
        let (mut is_gone, mut is_fresh) = (false, false);
        if aim.push && !aim.dry_run {
            let config = &context.config;
            let wanted = [&config.branch[..], &config.changes_branch, &aim.branch];
            let there = repo.fetch(&config.remote, &wanted)?;
            is_gone = !there.contains(&config.changes_branch);
            is_fresh = there.contains(&aim.branch);
            context = context::read_remote_context(repo)?;
        }
        let from = find_source_branch(repo, &context, &aim.branch)?;
        // Extractions of this clone alone are not published by a push.
        let side = if aim.push { ChangesSide::Remote } else { ChangesSide::Both };
        let mut waiting = read_changes_branch(repo, &context, side)?;
        if is_gone {
            // Somebody has deleted the branch at the remote, including its commits.
            waiting.remote = None;
            waiting.commits.clear();
        }
        if !is_fresh {
            check_source_is_fresh(repo, &from, &waiting)?;
        }
        let own = find_source_changes(place, &context, from, aim.base, tools.progress)?;
        let none = BTreeSet::new();
        let built =
            match build_changes_branch(place, tools.disk, &context, &waiting, Some(&own), &none)? {
                Ok(built) => built,
                Err(clashing) => return Ok(Err((context, clashing))),
            };
        let summary = match built.own_commit {
            Some(_) => Some(build_summary(place, &own, &built.changed)?),
            None => None,
        };
        if aim.dry_run || move_changes_branch(repo, &context, &waiting, &built, aim, tools)? {
            let kept = if aim.push && !aim.dry_run && waiting.local.is_some() {
                update_local_branch(repo, &context, &own, aim, tools)?
            } else {
                None
            };
            return Ok(Ok(ExtractOutcome {
                context,
                changes_branch: waiting,
                source_changes: own,
                built,
                summary,
                kept_reason: kept,
            }));
        }
    }
    let changes = context::read_context(repo)?.config.changes_branch;
    Err(Error::unable(format!(
        "`{changes}` kept moving: gave up after {MAX_ATTEMPTS} attempts without changing it"
    ))
    .with_hint("try again"))
}

/// Returns an error if the source is known from an old fetch only and the changes branch already
/// has a newer extraction of it.
fn check_source_is_fresh(repo: &Repo, from: &SourceBranch, waiting: &ChangesBranch) -> Result<()> {
    let name = &from.name;
    let collected = waiting.commits.iter().find(|one| one.branch.as_ref() == Some(name));
    let Some(seen) = collected.and_then(PendingChange::source_commit) else { return Ok(()) };
    let is_here = repo.resolve_ref(&format!("refs/heads/{name}"))?.is_some();
    if is_here || seen == from.tip {
        return Ok(());
    }
    if repo.has_object(seen) && !repo.is_ancestor(from.tip, seen)? {
        return Ok(());
    }
    Err(Error::unable(format!(
        "`{name}` as known here is older than the state extracted last; nothing was changed"
    ))
    .with_hint(format!(
        "`git fetch` updates it; if `{name}` was rebased, `git switch {name}` selects this state"
    )))
}

/// Updates the local changes branch after a push, for this source alone. Returns the reason if that
/// is not possible.
fn update_local_branch(
    repo: &Repo,
    context: &SyncContext,
    own: &SourceChanges,
    aim: &ExtractOptions,
    tools: &Tools<'_>,
) -> Result<Option<String>> {
    let waiting = read_changes_branch(repo, context, ChangesSide::Both)?;
    let none = BTreeSet::new();
    let built = match build_changes_branch(repo, tools.disk, context, &waiting, Some(own), &none)? {
        Ok(built) => built,
        Err(clashing) => return Ok(Some(format!("{} conflicts there", clashing.branch))),
    };
    let aim = ExtractOptions { push: false, ..aim.clone() };
    match move_changes_branch(repo, context, &waiting, &built, &aim, tools) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some("it was moved concurrently".to_owned())),
        Err(failure) => Ok(Some(failure.to_string())),
    }
}

/// Moves the changes branch to its new commit: at the remote with `aim.push`, else locally. Returns
/// `false` if the branch was moved concurrently.
fn move_changes_branch(
    repo: &Repo,
    context: &SyncContext,
    waiting: &ChangesBranch,
    built: &BuiltBranch,
    aim: &ExtractOptions,
    tools: &Tools<'_>,
) -> Result<bool> {
    let (changes, remote) = (&context.config.changes_branch, &context.config.remote);
    let old = if aim.push { waiting.remote } else { waiting.local };
    let is_needless = built.waiting.is_empty() && old.is_none();
    if is_needless || old == Some(built.tip) {
        if !aim.push && old.is_some() {
            record_seen_remote(repo, waiting.remote)?;
        }
        return Ok(true);
    }
    let name = format!("refs/heads/{changes}");
    let failed = |cause| Error::unable(format!("cannot move `{changes}`")).with_cause(cause);
    tools.disk.check_gate("move the branch of changes").map_err(failed)?;
    if aim.push {
        let one = RefPush { name, old, new: Some(built.tip) };
        return match repo.push_refs(remote, &[one])?.pop() {
            Some(PushStatus::Done) => Ok(true),
            Some(PushStatus::Stale) | None => Ok(false),
            Some(PushStatus::Rejected(why)) => {
                Err(Error::unable(format!("`{remote}` rejected `{changes}`: {why}"))
                    .with_hint("nothing was changed; `git push` may show more"))
            }
        };
    }
    if let Some(held) = repo.branches_in_use()?.into_iter().find(|one| one.branch == *changes) {
        return Err(Error::unable(format!(
            "cannot rebuild `{changes}`: it is checked out in `{}`; nothing was changed",
            held.root.display()
        ))
        .with_hint("switch that worktree to another branch first"));
    }
    let is_put = repo.swap_ref(&name, old, Some(built.tip), "xtask: extract")?;
    if is_put {
        record_seen_remote(repo, waiting.remote)?;
    }
    Ok(is_put)
}
