//! What may be done to a branch unasked, by a hook or by `switch`: the mode of the configuration
//! on branches that are the user's own, and `hooks.shared` on all others.
//!
//! A branch is the user's own if it follows no other branch, or if its newest commit that is not
//! one of ours has the user's address; and it is not protected.

use super::commit_message::SOURCE_TRAILER;
use super::context::SyncContext;
use super::managed::{ManagedPaths, find_branch_exception};
use super::plan::{PathAction, SyncPlan};
use xtask_base::error::Result;
use xtask_config::HookMode;
use xtask_git::{Head, Repo};

/// Whose a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchOwner {
    /// The user's.
    You,
    /// Nobody's: nothing is committed there unasked.
    Protected,
    /// Somebody else's.
    Others,
}

/// What may be done unasked, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPolicy {
    /// What may be done.
    pub mode: HookMode,
    /// Whose the branch is.
    pub owner: BranchOwner,
}

/// How many commits are looked at to find one that is not ours. A branch with more sync commits on
/// top counts as somebody else's.
const MAX_SYNC_COMMITS: usize = 100;

/// What may be done to the checked-out branch. On a detached HEAD nothing may.
pub fn find_hook_policy(repo: &Repo, head: &Head, context: &SyncContext) -> Result<HookPolicy> {
    let Some(branch) = &head.branch else {
        return Ok(HookPolicy { mode: HookMode::Notify, owner: BranchOwner::Others });
    };
    let owner = find_branch_owner(repo, head, branch, context)?;
    let rule = find_branch_exception(&context.config, branch).and_then(|exception| exception.mode);
    let mode = match owner {
        BranchOwner::You => rule.unwrap_or(context.config.mode),
        // A rule for a branch can only ask for more care there.
        _ if rule == Some(HookMode::Notify) => HookMode::Notify,
        _ => context.config.shared_mode,
    };
    Ok(HookPolicy { mode, owner })
}

/// Whether a branch has nothing to do with all this: no common history, and not even half of the
/// canonical files, of which there are so `many`. Pages of a web site live on such branches.
pub fn is_unrelated_branch(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    plan: &SyncPlan,
    many: usize,
) -> Result<bool> {
    let new = plan.items.iter().filter(|item| item.action == PathAction::Create).count();
    Ok(new * 2 > many && repo.merge_base(head.commit, context.canonical.commit)?.is_none())
}

/// How many managed files the canonical commit has.
pub fn count_canonical_files(repo: &Repo, context: &SyncContext) -> Result<usize> {
    let managed = ManagedPaths::new(&context.config, None);
    Ok(repo.list_tree(context.canonical.tree, &managed)?.len())
}

/// That a branch has nothing to do with all this, in words.
#[must_use]
pub fn describe_unrelated_branch(branch: &str, context: &SyncContext) -> String {
    format!(
        "`{branch}` shares no history with `{}` and has hardly any of its files",
        context.config.branch
    )
}

fn find_branch_owner(
    repo: &Repo,
    head: &Head,
    branch: &str,
    context: &SyncContext,
) -> Result<BranchOwner> {
    if context.is_protected(branch) {
        return Ok(BranchOwner::Protected);
    }
    if !repo.has_upstream_config(branch) {
        return Ok(BranchOwner::You);
    }
    let Some(email) = repo.config_value("user.email") else { return Ok(BranchOwner::Others) };
    let mut at = head.commit;
    for _ in 0..MAX_SYNC_COMMITS {
        let commit = repo.read_commit(at)?;
        // After a rebase the committer is the user, and the author still is ours.
        let is_ours = commit.author.email == context.config.identity.email
            && commit.trailer(SOURCE_TRAILER).is_some();
        if !is_ours {
            let is_yours = commit.author.email.eq_ignore_ascii_case(email.trim());
            return Ok(if is_yours { BranchOwner::You } else { BranchOwner::Others });
        }
        let Some(parent) = commit.parents.first() else { break };
        at = *parent;
    }
    Ok(BranchOwner::Others)
}
