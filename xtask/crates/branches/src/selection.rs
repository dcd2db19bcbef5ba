//! The branches that `branch check` is asked about, each with its commit or the reason why it is
//! unknown. For example, `feature/a` is `("feature/a", Ok(1a2b…))`.

use super::check::find_branch_commit;
use super::rules::UnknownReason;
use xtask_base::error::{Error, Result};
use xtask_base::words::quote_for_shell;
use xtask_config::suggest_nearest;
use xtask_git::{Id, Repo, Revision, UnusableRef};
use xtask_sync::context::SyncContext;

/// The branches that are asked for.
#[derive(Clone, Copy, Debug)]
pub struct BranchSelection<'a> {
    /// Whether all local branches are.
    pub all: bool,
    /// The revision to check the one named branch at, instead of its own commit.
    pub at: Option<&'a str>,
    /// The names; the checked-out branch if there are none.
    pub branches: &'a [String],
}

/// The name of a branch, and its commit or the reason why it is unknown.
pub type SelectedBranch = (String, Result<Id, UnknownReason>);

/// Returns the branches to check, each with its commit.
pub fn select_branches(
    repo: &Repo,
    context: &SyncContext,
    selection: &BranchSelection<'_>,
) -> Result<Vec<SelectedBranch>> {
    if selection.all {
        let broken = |why: UnusableRef| UnknownReason {
            reason: why.to_string(),
            next_step: "`git fsck` checks it".to_owned(),
        };
        let all = repo.branches_below("refs/heads/")?.into_iter();
        return Ok(all.map(|(name, commit)| (name, commit.map_err(broken))).collect());
    }
    if let Some(word) = selection.at {
        let [branch] = selection.branches else {
            return Err(Error::usage("`--at` takes one branch, but several are named"));
        };
        let Revision::Commit(commit) = repo.parse_revision(word)? else {
            return Err(Error::usage(format!("`{word}` names several commits")));
        };
        return Ok(vec![(branch.clone(), Ok(commit))]);
    }
    if selection.branches.is_empty() {
        let Some(branch) = repo.current_branch() else {
            return Ok(vec![("HEAD".to_owned(), Err(detached_head()))]);
        };
        let commit = repo.resolve_ref("HEAD")?.ok_or_else(|| UnknownReason {
            reason: "it has no commit yet".to_owned(),
            next_step: "`git commit` makes the first one".to_owned(),
        });
        return Ok(vec![(branch, commit)]);
    }
    let one = |branch: &String| resolve_named_branch(repo, context, selection, branch);
    selection.branches.iter().map(one).collect()
}

/// Returns the commit of a named branch. In a detached checkout, as CI makes it for a pull request, an unknown
/// branch means HEAD.
fn resolve_named_branch(
    repo: &Repo,
    context: &SyncContext,
    selection: &BranchSelection<'_>,
    branch: &str,
) -> Result<SelectedBranch> {
    let selected = |commit| Ok((branch.to_owned(), commit));
    if let Some(commit) = find_branch_commit(repo, context, branch)? {
        return selected(Ok(commit));
    }
    let is_detached = repo.current_branch().is_none() && selection.branches.len() == 1;
    if let Some(head) = repo.resolve_ref("HEAD")?.filter(|_| is_detached) {
        return selected(Ok(head));
    }
    let known: Vec<String> =
        repo.branches_below("refs/heads/")?.into_iter().map(|(name, _)| name).collect();
    let near = suggest_nearest(branch, known.iter().map(String::as_str));
    if near.is_empty() {
        return selected(Err(missing_branch(context, branch)));
    }
    Err(Error::usage(format!("no such branch: `{branch}`{near}")))
}

/// Returns the reason for a check without a branch.
fn detached_head() -> UnknownReason {
    UnknownReason {
        reason: "HEAD is detached: no branch to check".to_owned(),
        next_step: "name the branch to check it as: `cargo xtask branch check NAME --at HEAD`"
            .to_owned(),
    }
}

/// Returns the reason for a check of a missing branch.
fn missing_branch(context: &SyncContext, branch: &str) -> UnknownReason {
    let remote = &context.config.remote;
    UnknownReason {
        reason: format!("it exists neither locally nor as a remote-tracking branch of `{remote}`"),
        next_step: format!(
            "`git fetch {} {}` fetches it",
            quote_for_shell(remote),
            quote_for_shell(branch)
        ),
    }
}
