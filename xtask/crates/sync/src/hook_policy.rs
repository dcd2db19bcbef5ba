//! Policy for hooks and `switch`: `hooks.mode` of `setup/sync.toml` on the user's own branches,
//! `hooks.shared` on all others.
//!
//! A branch is the user's own if it is not protected, and has no upstream or its newest commit
//! other than sync commits has the user's address. For example, `feature` without an upstream is
//! `You`, and `origin/team` with a colleague's last commit is `Others`.

use super::commit_message::SOURCE_TRAILER;
use super::context::SyncContext;
use super::managed::{ManagedPaths, find_branch_exception};
use super::plan::{PathAction, SyncPlan};
use xtask_base::error::Result;
use xtask_config::HookMode;
use xtask_git::{Head, Repo};

/// Owner of a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchOwner {
    You,
    /// No one: automatic commits are not allowed.
    Protected,
    Others,
}

/// Allowed automatic action, and the owner it follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookPolicy {
    pub mode: HookMode,
    pub owner: BranchOwner,
}

/// Maximum number of sync commits to skip when looking for the branch's last own commit. A branch
/// with more of them counts as somebody else's.
const MAX_SYNC_COMMITS: usize = 100;

/// Returns the policy for the checked-out branch. On a detached HEAD only `Notify` is allowed.
pub fn find_hook_policy(repo: &Repo, head: &Head, context: &SyncContext) -> Result<HookPolicy> {
    let Some(branch) = &head.branch else {
        return Ok(HookPolicy { mode: HookMode::Notify, owner: BranchOwner::Others });
    };
    let owner = find_branch_owner(repo, head, branch, context)?;
    let rule = find_branch_exception(&context.config, branch).and_then(|exception| exception.mode);
    let mode = match owner {
        BranchOwner::You => rule.unwrap_or(context.config.mode),
        // A branch exception can only restrict a shared branch further.
        _ if rule == Some(HookMode::Notify) => HookMode::Notify,
        _ => context.config.shared_mode,
    };
    Ok(HookPolicy { mode, owner })
}

/// Returns whether a branch is unrelated to the canonical one: no common history and fewer than
/// half of the `many` canonical files. For example, `gh-pages`.
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

/// Counts the managed files of the canonical commit.
pub fn count_canonical_files(repo: &Repo, context: &SyncContext) -> Result<usize> {
    let managed = ManagedPaths::new(&context.config, None);
    Ok(repo.list_tree(context.canonical.tree, &managed)?.len())
}

/// Describes an unrelated branch, for a message.
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
        // After a rebase the user is the committer, but the author still is the sync identity.
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
