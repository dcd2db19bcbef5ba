//! Sync commits, built from the branch's commit, the canonical commit and the plan alone, so that
//! two machines, with or without a checkout, create the same commit id.

use super::commit_message::render_commit_message;
use super::context::SyncContext;
use super::plan::SyncPlan;
use super::transaction::HeadMove;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_git::{Head, NewCommit, Repo, Signature};

/// Writes the objects of the sync commit on top of `head`. No ref is moved. Returns `None` if the
/// branch already has all planned contents.
pub fn write_sync_commit(
    repo: &Repo,
    disk: &Disk<'_>,
    head: &Head,
    context: &SyncContext,
    plan: &SyncPlan,
) -> Result<Option<HeadMove>> {
    let changes = plan.tree_changes();
    if changes.is_empty() {
        return Ok(None);
    }
    let failed = |cause| Error::unable("cannot write the commit").with_cause(cause);
    disk.check_gate("write the tree").map_err(failed)?;
    let tree = repo.write_tree(Some(head.tree), &changes)?;
    let stamp = build_stamp(repo, head, context)?;
    let text = render_commit_message(plan, &context.config.branch, &context.canonical);
    disk.check_gate("write the commit").map_err(failed)?;
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

/// Builds the committer line. Its time is the later of the two commits that the sync commit builds
/// on, which makes it the same on every machine.
fn build_stamp(repo: &Repo, head: &Head, context: &SyncContext) -> Result<Signature> {
    let parent = repo.read_commit(head.commit)?.committer.seconds;
    let canonical = repo.read_commit(context.canonical.commit)?.committer.seconds;
    let identity = &context.config.identity;
    Ok(Signature {
        name: identity.name.clone(),
        email: identity.email.clone(),
        seconds: parent.max(canonical),
    })
}
