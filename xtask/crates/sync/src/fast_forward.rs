//! Fast-forward of the checked-out branch to a commit that differs from it in managed paths alone,
//! with branch, index and files in one transaction that a crash leaves either undone or done.

use std::collections::BTreeMap;

use super::apply;
use super::classify::PathClass;
use super::context::SyncContext;
use super::managed::ManagedPaths;
use super::pins::BranchPins;
use super::plan::{OverwritePolicy, WriteMode, build_plan};
use super::run::build_path_updates;
use super::scan::{ScanDepth, ScanRequest, scan_worktree};
use super::transaction::{HeadMove, Transaction};
use super::worktree_lock::LockWorktree as _;
use xtask_base::date::Date;
use xtask_base::error::{Error, Result};
use xtask_git::Tools;
use xtask_git::{CanonicalCommit, Id, Repo};

/// Moves the checked-out branch to `to`. The caller holds the lock of the worktree.
///
/// # Errors
/// If one of the changed paths has uncommitted changes; the branch then stays. Local changes at
/// other paths are kept.
pub fn fast_forward_head(
    repo: &Repo,
    context: &SyncContext,
    to: Id,
    message: &str,
    tools: &Tools<'_>,
) -> Result<()> {
    let head = repo.head()?;
    let reference = context.canonical.reference.clone();
    let canonical = CanonicalCommit { reference, commit: to, tree: repo.tree_of(to)? };
    let context = SyncContext { canonical, ..context.clone() };
    let managed = ManagedPaths::new(&context.config, None);
    // The canonical branch keeps nothing from itself.
    let pins = BranchPins::none(Date::from_seconds(tools.world.now_seconds()));
    let question = ScanRequest {
        repo,
        head: &head,
        context: &context,
        managed: &managed,
        pins: &pins,
        only: &[],
        depth: ScanDepth::Differences,
        now_ns: tools.now_ns(),
        progress: tools.progress,
    };
    let gathered = scan_worktree(&question)?;
    let plan =
        build_plan(gathered.states, WriteMode::Commit, OverwritePolicy::Keep, &BTreeMap::new());
    let stays =
        plan.items.iter().filter(|item| !item.action.is_write() && item.class != PathClass::InSync);
    let in_the_way: Vec<String> =
        stays.map(|item| format!("{}: {}", item.path(), item.reason())).collect();
    if !in_the_way.is_empty() {
        let root = repo.root().display();
        let branch = head.branch.unwrap_or_default();
        let refused = Error::unable(format!(
            "cannot fast-forward `{branch}`: local changes in `{root}` would be overwritten; it was \
             not changed"
        ));
        let shown = in_the_way.iter().take(10).cloned().fold(refused, Error::with_detail);
        return Err(shown.with_hint("commit, stash or move them aside, then try again"));
    }
    let index = gathered.index.map_or_else(|| repo.read_index(), Ok)?;
    let transaction = Transaction {
        purpose: message.to_owned(),
        changes: build_path_updates(&plan, WriteMode::Commit, question.now_ns),
        head: Some(HeadMove {
            branch: head.branch.clone(),
            old: head.commit,
            new: to,
            message: message.to_owned(),
        }),
        overlay: None,
        // The replaced contents are those of the branch's commit.
        backup: None,
    };
    apply::apply_transaction(&tools.apply_context(repo), &transaction, Some(index)).map(drop)
}
