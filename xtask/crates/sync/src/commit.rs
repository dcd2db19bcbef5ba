//! The commit of a plan: made from the branch's commit, the canonical commit and the plan alone, so
//! that two machines, with or without a checkout, make the very same one.

use super::batch::HeadMove;
use super::context::Context;
use super::message::message;
use super::plan::Plan;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_git::{Head, NewCommit, Repo, Stamp};

/// Writes the objects of the sync commit on top of `head`; nothing where the branch already has all
/// that is planned. No ref is moved.
pub fn write(
    repo: &Repo,
    disk: &Disk<'_>,
    head: &Head,
    context: &Context,
    plan: &Plan,
) -> Result<Option<HeadMove>> {
    let changes = plan.tree_changes();
    if changes.is_empty() {
        return Ok(None);
    }
    let failed = |cause| Error::unable("the commit cannot be written").because(cause);
    disk.other("write the tree").map_err(failed)?;
    let tree = repo.write_tree(Some(head.tree), &changes)?;
    let stamp = stamp(repo, head, context)?;
    let text = message(plan, &context.config.branch, &context.canonical);
    disk.other("write the commit").map_err(failed)?;
    let parents = &[head.commit];
    let new = repo.write_commit(&NewCommit {
        tree,
        parents,
        author: None,
        committer: &stamp,
        message: &text,
    })?;
    let subject = text.lines().next().unwrap_or_default();
    Ok(Some(HeadMove {
        branch: head.branch.clone(),
        old: head.commit,
        new,
        message: format!("xtask: {subject}"),
    }))
}

/// Who and when, the same on every machine: the later of the two commits that it builds on.
fn stamp(repo: &Repo, head: &Head, context: &Context) -> Result<Stamp> {
    let parent = repo.commit(head.commit)?.committer.seconds;
    let canonical = repo.commit(context.canonical.commit)?.committer.seconds;
    let identity = &context.config.identity;
    Ok(Stamp {
        name: identity.name.clone(),
        email: identity.email.clone(),
        seconds: parent.max(canonical),
    })
}
