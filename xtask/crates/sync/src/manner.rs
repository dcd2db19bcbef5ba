//! What may be done to a branch unasked, by a hook or by `switch`: the mode of the configuration
//! on branches that are the user's own, and `hooks.shared` on all others.
//!
//! A branch is the user's own if it follows no other branch, or if its newest commit that is not
//! one of ours has the user's address; and it is not protected.

use super::context::Context;
use super::managed::{Managed, exception};
use super::message::SOURCE_TRAILER;
use super::plan::{Action, Plan};
use xtask_base::error::Result;
use xtask_config::Mode;
use xtask_git::{Head, Repo};

/// Whose a branch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The user's.
    You,
    /// Nobody's: nothing is committed there unasked.
    Protected,
    /// Somebody else's.
    Others,
}

/// What may be done unasked, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// What may be done.
    pub mode: Mode,
    /// Whose the branch is.
    pub owner: Owner,
}

/// How many commits are looked at to find one that is not ours. A branch with more sync commits on
/// top counts as somebody else's.
const FAR: usize = 100;

/// What may be done to the checked-out branch. On a detached HEAD nothing may.
pub fn manner(repo: &Repo, head: &Head, context: &Context) -> Result<Manner> {
    let Some(branch) = &head.branch else {
        return Ok(Manner { mode: Mode::Notify, owner: Owner::Others });
    };
    let owner = owner(repo, head, branch, context)?;
    let rule = exception(&context.config, branch).and_then(|exception| exception.mode);
    let mode = match owner {
        Owner::You => rule.unwrap_or(context.config.mode),
        // A rule for a branch can only ask for more care there.
        _ if rule == Some(Mode::Notify) => Mode::Notify,
        _ => context.config.shared,
    };
    Ok(Manner { mode, owner })
}

/// Whether a branch has nothing to do with all this: no common history, and not even half of the
/// canonical files, of which there are so `many`. Pages of a web site live on such branches.
pub fn is_no_part_of_this(
    repo: &Repo,
    head: &Head,
    context: &Context,
    plan: &Plan,
    many: usize,
) -> Result<bool> {
    let new = plan.items.iter().filter(|item| item.action == Action::Create).count();
    Ok(new * 2 > many && repo.merge_base(head.commit, context.canonical.commit)?.is_none())
}

/// How many managed files the canonical commit has.
pub fn canonical_files(repo: &Repo, context: &Context) -> Result<usize> {
    let managed = Managed::new(&context.config, None);
    Ok(repo.list_tree(context.canonical.tree, &managed)?.len())
}

/// That a branch has nothing to do with all this, in words.
#[must_use]
pub fn no_part(branch: &str, context: &Context) -> String {
    format!(
        "`{branch}` shares no history with `{}` and has hardly any of its files",
        context.config.branch
    )
}

fn owner(repo: &Repo, head: &Head, branch: &str, context: &Context) -> Result<Owner> {
    if context.is_protected(branch) {
        return Ok(Owner::Protected);
    }
    if !repo.follows(branch) {
        return Ok(Owner::You);
    }
    let Some(email) = repo.setting("user.email") else { return Ok(Owner::Others) };
    let mut at = head.commit;
    for _ in 0..FAR {
        let commit = repo.commit(at)?;
        // After a rebase the committer is the user, and the author still is ours.
        let is_ours = commit.author.email == context.config.identity.email
            && commit.trailer(SOURCE_TRAILER).is_some();
        if !is_ours {
            let is_yours = commit.author.email.eq_ignore_ascii_case(email.trim());
            return Ok(if is_yours { Owner::You } else { Owner::Others });
        }
        let Some(parent) = commit.parents.first() else { break };
        at = *parent;
    }
    Ok(Owner::Others)
}
