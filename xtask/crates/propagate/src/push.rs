//! Pushes of decided rows: the branches of a remote by one push, and local branches to their
//! upstreams, unless commits that somebody has not pushed yet would be pushed as well. For example:
//!
//! ```text
//! feature: Pushed    wip: Withheld(OwnCommits(2))    local: Withheld(NoUpstream)
//! ```

use std::fmt;

use super::decide::{BranchRow, PropagateStatus};
use super::targets::BranchSet;
use xtask_base::error::Result;
use xtask_base::words::pluralize;
use xtask_git::{PushStatus, RefPush, Repo};
use xtask_sync::context::SyncContext;
use xtask_sync::upstream::{has_only_sync_commits, parse_source_trailer};

/// What became of the push of a branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    Pushed,
    /// A real run would push it.
    WouldBePushed,
    /// It must not be pushed.
    Withheld(PushObstacle),
    /// The push failed, for this reason.
    Failed(String),
}

/// The reason why a branch is not pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushObstacle {
    /// No upstream at the remote.
    NoUpstream,
    /// The upstream is this other branch.
    OtherUpstream(String),
    /// The branch no longer exists on this remote.
    Deleted(String),
    /// The branch has diverged from its upstream.
    Diverged,
    /// This many commits of a person would be pushed as well.
    OwnCommits(usize),
    /// This canonical branch has commits that are not pushed yet.
    UnpushedCanonical(String),
}

impl fmt::Display for PushOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushOutcome::Pushed => f.write_str("pushed"),
            PushOutcome::WouldBePushed => f.write_str("would be pushed"),
            PushOutcome::Withheld(obstacle) => write!(f, "not pushed: {obstacle}"),
            PushOutcome::Failed(why) => write!(f, "not pushed: {why}"),
        }
    }
}

impl fmt::Display for PushObstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushObstacle::NoUpstream => f.write_str("no upstream branch on the remote"),
            PushObstacle::OtherUpstream(name) => write!(f, "its upstream is `{name}`"),
            PushObstacle::Deleted(remote) => write!(f, "no longer exists on `{remote}`"),
            PushObstacle::Diverged => f.write_str("has diverged from its upstream"),
            PushObstacle::OwnCommits(own) => {
                write!(f, "{} would be pushed as well", pluralize(*own, "unpushed commit"))
            }
            PushObstacle::UnpushedCanonical(branch) => {
                write!(f, "`{branch}` on the remote is behind; push it first")
            }
        }
    }
}

/// Pushes the rows with status `WillUpdate` to the branches of `remote`. Returns the branches that
/// had moved, like `move_refs`.
pub fn push_remote_rows(repo: &Repo, remote: &str, rows: &mut [BranchRow]) -> Result<Vec<String>> {
    let wanted: Vec<usize> =
        (0..rows.len()).filter(|at| rows[*at].status == PropagateStatus::WillUpdate).collect();
    let refs: Vec<RefPush> = wanted
        .iter()
        .map(|at| {
            let row = &rows[*at];
            RefPush { name: format!("refs/heads/{}", row.target), old: row.old, new: row.new }
        })
        .collect();
    let mut moved = Vec::new();
    for (at, pushed) in wanted.iter().zip(repo.push_refs(remote, &refs)?) {
        let row = &mut rows[*at];
        match pushed {
            PushStatus::Done => row.status = PropagateStatus::Updated,
            PushStatus::Stale => moved.push(row.branch.clone()),
            PushStatus::Rejected(why) => {
                *row = row
                    .clone()
                    .with_status(PropagateStatus::Failed, format!("rejected by the remote: {why}"));
            }
        }
    }
    Ok(moved)
}

/// Pushes the branches of the rows to their upstreams at `remote`. Returns the branches that had
/// moved, like `move_refs`. Local side branches of protected branches are not pushed: at the remote
/// they are made from the remote's branches.
pub fn push_local_branches(
    repo: &Repo,
    remote: &str,
    rows: &mut [BranchRow],
    branch_set: &BranchSet,
    context: &SyncContext,
) -> Result<Vec<String>> {
    let (mut wanted, mut refs) = (Vec::new(), Vec::<RefPush>::new());
    for (at, row) in rows.iter_mut().enumerate().filter(|(_, row)| may_be_pushed(row)) {
        match plan_push(repo, remote, row, branch_set, context)? {
            PushPlan::Push(one) if refs.iter().any(|other| other.name == one.name) => {
                let why = "another local branch has the same upstream";
                row.push = Some(PushOutcome::Failed(why.to_owned()));
            }
            PushPlan::Push(one) => {
                wanted.push(at);
                refs.push(one);
            }
            PushPlan::NotNeeded => {}
            PushPlan::Withheld(obstacle) => row.push = Some(PushOutcome::Withheld(obstacle)),
        }
    }
    let pushed = match repo.push_refs(remote, &refs) {
        Ok(pushed) => pushed,
        Err(failure) => {
            // The local branches are updated, which must be reported as well.
            let why = failure.details().first().map_or(String::new(), |why| format!(": {why}"));
            let why = format!("{}{why}", failure.message());
            wanted.iter().for_each(|at| rows[*at].push = Some(PushOutcome::Failed(why.clone())));
            return Ok(Vec::new());
        }
    };
    let mut moved = Vec::new();
    for (at, pushed) in wanted.iter().zip(pushed) {
        let row = &mut rows[*at];
        match pushed {
            PushStatus::Done => {
                if row.status == PropagateStatus::UpToDate {
                    row.status = PropagateStatus::Pushed;
                }
                row.push = Some(PushOutcome::Pushed);
            }
            PushStatus::Stale => moved.push(row.branch.clone()),
            PushStatus::Rejected(why) => {
                row.push = Some(PushOutcome::Failed(format!("rejected by the remote: {why}")));
            }
        }
    }
    Ok(moved)
}

/// Notes the pushes that a real run would make, for a dry run.
pub fn note_pending_pushes(
    repo: &Repo,
    remote: &str,
    rows: &mut [BranchRow],
    branch_set: &BranchSet,
    context: &SyncContext,
) -> Result<()> {
    for row in rows.iter_mut().filter(|row| may_be_pushed(row)) {
        let has_update = row.status != PropagateStatus::UpToDate;
        row.push = match plan_push(repo, remote, row, branch_set, context)? {
            PushPlan::Withheld(obstacle) => Some(PushOutcome::Withheld(obstacle)),
            PushPlan::NotNeeded if !has_update => None,
            // The commit of the update does not exist yet, so it is pushed as well.
            PushPlan::Push(_) | PushPlan::NotNeeded => Some(PushOutcome::WouldBePushed),
        };
        if row.push == Some(PushOutcome::WouldBePushed) && !has_update {
            row.status = PropagateStatus::Pushed;
        }
    }
    Ok(())
}

/// Returns whether a local branch has everything that the rules allow, and so may be pushed.
fn may_be_pushed(row: &BranchRow) -> bool {
    let has_all = matches!(
        row.status,
        PropagateStatus::Updated
            | PropagateStatus::WillUpdate
            | PropagateStatus::UpToDate
            | PropagateStatus::InWorktree
    );
    has_all && !row.has_side_branch()
}

/// The push of a branch to its upstream.
enum PushPlan {
    Push(RefPush),
    /// The upstream has all commits of the branch.
    NotNeeded,
    Withheld(PushObstacle),
}

fn plan_push(
    repo: &Repo,
    remote: &str,
    row: &BranchRow,
    branch_set: &BranchSet,
    context: &SyncContext,
) -> Result<PushPlan> {
    let withheld = |obstacle| Ok(PushPlan::Withheld(obstacle));
    let setting = |key: &str| repo.config_value(&format!("branch.{}.{key}", row.branch));
    let name = setting("merge").filter(|_| setting("remote").as_deref() == Some(remote));
    let tip = repo.resolve_ref(&format!("refs/heads/{}", row.branch))?;
    let (Some(name), Some(new)) = (name, tip) else { return withheld(PushObstacle::NoUpstream) };
    let Some(there) = name.strip_prefix("refs/heads/").map(str::to_owned) else {
        return Ok(PushPlan::NotNeeded);
    };
    if there != row.branch || context.is_protected(&there) || context.is_reserved_branch(&there) {
        return withheld(PushObstacle::OtherUpstream(there));
    }
    let Some(old) = branch_set.remote_branches.get(&there).copied() else {
        return withheld(PushObstacle::Deleted(remote.to_owned()));
    };
    if old == new || repo.is_ancestor(new, old)? {
        return Ok(PushPlan::NotNeeded);
    }
    if !repo.is_ancestor(old, new)? {
        return withheld(PushObstacle::Diverged);
    }
    if !has_only_sync_commits(repo, old, new, context)? {
        return withheld(PushObstacle::OwnCommits(repo.count_commits_between(old, new)?));
    }
    for id in repo.commits_between(Some(old), new, false)? {
        // An earlier sync may contain canonical commits that are not pushed yet.
        let from = parse_source_trailer(&repo.read_commit(id)?);
        let is_known = from.map(|from| repo.is_ancestor(from, context.canonical.commit));
        if !is_known.transpose()?.unwrap_or(false) {
            return withheld(PushObstacle::UnpushedCanonical(context.config.branch.clone()));
        }
    }
    Ok(PushPlan::Push(RefPush { name, old: Some(old), new: Some(new) }))
}
