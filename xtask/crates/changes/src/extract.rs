//! Extraction of a branch's managed changes: finds them, commits them on the changes branch, and
//! moves that branch locally or at the remote. If it moves concurrently, the extraction starts
//! over. For example:
//!
//! ```text
//! extract feature --push -> origin/orchestration-tools-changes: one commit for `feature`
//! ```

use std::collections::BTreeSet;
use std::fmt;

use super::build_branch::{BuildError, BuiltBranch, MergeConflict, build_changes_branch};
use super::changes_branch::{
    ChangesBranch, ChangesSide, PendingChange, read_changes_branch, record_seen_remote,
};
use super::commit_messages::ExtractSummary;
use super::retry::MAX_ATTEMPTS;
use super::source::{SourceBranch, find_source_branch};
use super::source_changes::{SourceChanges, build_summary, find_source_changes};
use xtask_base::error::{Error, Result};
use xtask_base::words::{join_names, quote_for_shell};
use xtask_git::Tools;
use xtask_git::{Id, PushStatus, RefPush, Repo};
use xtask_sync::context::{self, SyncContext};

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
    pub kept_reason: Option<KeptReason>,
    /// Summary for the commit message; `None` if there are no changes to extract.
    pub summary: Option<ExtractSummary>,
}

/// The reason why the local changes branch was not updated.
#[derive(Debug)]
pub enum KeptReason {
    /// The commits of this source conflict on it.
    Conflict(String),
    /// The commits of this source conflict with promoted changes at these paths.
    PromotedConflict(String, Vec<String>),
    CheckedOut,
    /// Another process has moved it.
    Moved,
    Failed(Error),
}

impl fmt::Display for KeptReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeptReason::Conflict(source) => write!(f, "{source} conflicts there"),
            KeptReason::PromotedConflict(source, paths) => {
                let paths = join_names(paths, 5);
                write!(f, "{source} conflicts with the promoted changes, in {paths}")
            }
            KeptReason::CheckedOut => f.write_str("a worktree has it checked out"),
            KeptReason::Moved => f.write_str("it was moved concurrently"),
            KeptReason::Failed(failure) => write!(f, "{failure}"),
        }
    }
}

/// The reason why nothing was extracted.
pub enum ExtractError {
    /// A conflict, in the context in which it was found. No ref has changed.
    Conflict(Box<SyncContext>, MergeConflict),
    Failed(Error),
}

impl From<Error> for ExtractError {
    fn from(failure: Error) -> ExtractError {
        ExtractError::Failed(failure)
    }
}

/// Extracts the changes of a branch.
pub fn extract_changes(
    repo: &Repo,
    options: &ExtractOptions,
    tools: &Tools<'_>,
) -> Result<ExtractOutcome, ExtractError> {
    let memory = if options.dry_run { Some(repo.in_memory()) } else { None };
    let place = memory.as_ref().unwrap_or(repo);
    for _ in 0..MAX_ATTEMPTS {
        let ExtractInputs { context, source, changes_branch } = read_inputs(repo, options)?;
        let own = find_source_changes(place, &context, source, options.base, tools)?;
        let none = BTreeSet::new();
        let built = match build_changes_branch(
            place,
            tools.disk,
            &context,
            &changes_branch,
            Some(&own),
            &none,
        ) {
            Ok(built) => built,
            Err(BuildError::Conflict(conflict)) => {
                return Err(ExtractError::Conflict(Box::new(context), conflict));
            }
            Err(BuildError::Failed(failure)) => return Err(failure.into()),
        };
        let summary = match built.own_commit {
            Some(_) => Some(build_summary(place, &own, &built.changed)?),
            None => None,
        };
        if options.dry_run
            || move_changes_branch(repo, &context, &changes_branch, &built, options, tools)?
        {
            let kept = if options.push && !options.dry_run && changes_branch.local.is_some() {
                update_local_branch(repo, &context, &own, options, tools)?
            } else {
                None
            };
            return Ok(ExtractOutcome {
                context,
                changes_branch,
                source_changes: own,
                built,
                summary,
                kept_reason: kept,
            });
        }
    }
    let changes = context::read_context(repo)?.config.changes_branch;
    Err(Error::unable(format!(
        "`{changes}` kept moving: gave up after {MAX_ATTEMPTS} attempts without changing it"
    ))
    .with_hint("try again")
    .into())
}

/// What an attempt starts from.
struct ExtractInputs {
    context: SyncContext,
    source: SourceBranch,
    changes_branch: ChangesBranch,
}

/// Reads the inputs of an attempt, after a fetch if it will be pushed.
fn read_inputs(repo: &Repo, options: &ExtractOptions) -> Result<ExtractInputs> {
    let mut context = context::read_context(repo)?;
    let (mut is_gone, mut is_fresh) = (false, false);
    if options.push && !options.dry_run {
        let config = &context.config;
        let wanted = [&config.branch[..], &config.changes_branch, &options.branch];
        let there = repo.fetch(&config.remote, &wanted)?;
        is_gone = !there.contains(&config.changes_branch);
        is_fresh = there.contains(&options.branch);
        context = context::read_remote_context(repo)?;
    }
    let source = find_source_branch(repo, &context, &options.branch)?;
    // Extractions of this clone alone are not published by a push.
    let side = if options.push { ChangesSide::Remote } else { ChangesSide::Both };
    let mut changes_branch = read_changes_branch(repo, &context, side)?;
    if is_gone {
        // Somebody has deleted the branch at the remote, including its commits.
        changes_branch.remote = None;
        changes_branch.commits.clear();
    }
    if !is_fresh {
        check_source_is_fresh(repo, &source, &changes_branch)?;
    }
    Ok(ExtractInputs { context, source, changes_branch })
}

/// Returns an error if the source is known from an old fetch only and the changes branch already
/// has a newer extraction of it.
fn check_source_is_fresh(
    repo: &Repo,
    from: &SourceBranch,
    changes_branch: &ChangesBranch,
) -> Result<()> {
    let name = &from.name;
    let collected = changes_branch.commits.iter().find(|one| one.branch.as_ref() == Some(name));
    let Some(seen) = collected.and_then(PendingChange::source_commit) else { return Ok(()) };
    let is_here = repo.resolve_ref(&format!("refs/heads/{name}"))?.is_some();
    if is_here || seen == from.tip {
        return Ok(());
    }
    if repo.has_object(seen) && !repo.is_ancestor(from.tip, seen)? {
        return Ok(());
    }
    Err(Error::unable(format!(
        "local `{name}` is behind the state that was last extracted; nothing was changed"
    ))
    .with_hint(format!(
        "`git fetch` updates it; if `{name}` was rebased, `git switch {}` selects this state",
        quote_for_shell(name)
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
) -> Result<Option<KeptReason>> {
    let changes_branch = read_changes_branch(repo, context, ChangesSide::Both)?;
    let none = BTreeSet::new();
    let built =
        match build_changes_branch(repo, tools.disk, context, &changes_branch, Some(own), &none) {
            Ok(built) => built,
            Err(BuildError::Conflict(conflict)) => {
                return Ok(Some(KeptReason::Conflict(conflict.branch)));
            }
            Err(BuildError::Failed(failure)) => return Err(failure),
        };
    let aim = ExtractOptions { push: false, ..aim.clone() };
    match move_changes_branch(repo, context, &changes_branch, &built, &aim, tools) {
        Ok(true) => Ok(None),
        Ok(false) => Ok(Some(KeptReason::Moved)),
        Err(failure) => Ok(Some(KeptReason::Failed(failure))),
    }
}

/// Moves the changes branch to its new commit: at the remote with `aim.push`, else locally. Returns
/// `false` if the branch was moved concurrently.
fn move_changes_branch(
    repo: &Repo,
    context: &SyncContext,
    changes_branch: &ChangesBranch,
    built: &BuiltBranch,
    aim: &ExtractOptions,
    tools: &Tools<'_>,
) -> Result<bool> {
    let (changes, remote) = (&context.config.changes_branch, &context.config.remote);
    let old = if aim.push { changes_branch.remote } else { changes_branch.local };
    let is_needless = built.waiting.is_empty() && old.is_none();
    if is_needless || old == Some(built.tip) {
        if !aim.push && old.is_some() {
            record_seen_remote(repo, changes_branch.remote)?;
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
        record_seen_remote(repo, changes_branch.remote)?;
    }
    Ok(is_put)
}
