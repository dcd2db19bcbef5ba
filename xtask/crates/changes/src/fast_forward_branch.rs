//! Fast-forward of the canonical branch, whether checked out here, in another worktree, or not at
//! all. Local changes in that worktree are never touched.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::commit_messages::COMMIT_TRAILER;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_config::{BRANCHES_FILE, SYNC_FILE, SyncConfig, find_rule_faults};
use xtask_git::Tools;
use xtask_git::{BranchInUse, Id, Repo};
use xtask_sync::context::SyncContext;
use xtask_sync::fast_forward::fast_forward_head;
use xtask_sync::run::check_repo_ready;
use xtask_sync::worktree_lock::LockWorktree as _;

/// Maximum number of reads of two refs that another process may be moving.
const MAX_READS: u32 = 10;

/// Location of the canonical branch, as needed to move it.
#[derive(Clone, Debug)]
pub struct CanonicalBranch {
    pub branch: String,
    /// Commit to build on: the newer one of the local and the remote branch.
    pub tip: Id,
    /// Local branch; `None` if only the remote has it.
    local: Option<Id>,
    /// Worktree in which the branch is checked out.
    checked_out: Option<PathBuf>,
}

/// Locates the canonical branch.
///
/// # Errors
/// If it cannot be moved: diverged from the remote, or checked out in a missing or busy worktree.
pub fn locate_canonical_branch(repo: &Repo, context: &SyncContext) -> Result<CanonicalBranch> {
    let branch = context.config.branch.clone();
    let remote = &context.config.remote;
    // Another process may be moving it: both refs are read until they fit.
    let mut tries = 0..MAX_READS;
    let (local, tip) = loop {
        let resolved = repo.resolve_canonical(&branch, remote)?;
        if let Some(foreign) = resolved.as_ref().and_then(|found| found.foreign.as_ref()) {
            return Err(Error::unable(format!(
                "local branch `{branch}` is not the one of `{remote}`: {}",
                foreign.describe()
            ))
            .with_hint(format!("rename it with `git branch -m {branch} NAME`, then try again")));
        }
        let tip =
            resolved.as_ref().map_or(context.canonical.commit, |found| found.canonical.commit);
        let local = repo.resolve_ref(&format!("refs/heads/{branch}"))?;
        let fits = local.map_or(Ok(true), |local| repo.is_ancestor(local, tip))?;
        if fits {
            break (local, tip);
        }
        let has_diverged = resolved.is_some_and(|found| found.diverged.is_some());
        if has_diverged || tries.next().is_none() {
            return Err(Error::unable(format!("`{branch}` and `{remote}/{branch}` have diverged"))
                .with_hint(format!("`git switch {branch} && git pull --rebase` reconciles them")));
        }
    };
    let checked_out = find_checkout(repo, &branch)?;
    Ok(CanonicalBranch { branch, tip, local, checked_out })
}

/// Returns the worktree in which `branch` is checked out. If it cannot be moved there, that is an
/// error.
fn find_checkout(repo: &Repo, branch: &str) -> Result<Option<PathBuf>> {
    let mut found = None;
    for BranchInUse { root, is_there, operation, .. } in
        repo.branches_in_use()?.into_iter().filter(|one| one.branch == branch)
    {
        let place = root.display();
        if let Some(operation) = operation {
            return Err(Error::unable(format!(
                "{operation} of `{branch}` is in progress in `{place}`"
            ))
            .with_hint("end it first"));
        }
        if !is_there {
            return Err(Error::unable(format!(
                "`{branch}` is checked out in `{place}`, which does not exist"
            ))
            .with_hint("`git worktree prune` removes stale worktrees"));
        }
        if found.replace(root.clone()).is_some() {
            return Err(Error::unable(format!("`{branch}` is checked out in several worktrees"))
                .with_hint("`git worktree list` shows them; leave it checked out in one"));
        }
    }
    Ok(found)
}

/// Refuses a commit with a broken `setup/sync.toml` or `setup/branches.toml`, or one that redirects
/// to another canonical branch: every branch depends on these files.
fn check_rule_files(repo: &Repo, context: &SyncContext, commit: Id) -> Result<()> {
    let tree = repo.tree_of(commit)?;
    let mut faults = Vec::new();
    for file in [SYNC_FILE, BRANCHES_FILE] {
        if let Some(entry) = repo.entry_at(tree, &RepoPath::new(file))? {
            faults.extend(find_rule_faults(file, &repo.read_blob(entry.id)?));
        }
    }
    if faults.is_empty()
        && let Some(entry) = repo.entry_at(tree, &RepoPath::new(SYNC_FILE))?
    {
        let text = String::from_utf8_lossy(&repo.read_blob(entry.id)?).into_owned();
        let (new, now) = (SyncConfig::parse(SYNC_FILE, &text)?, &context.config);
        if (&new.branch, &new.remote) != (&now.branch, &now.remote) {
            faults.push(format!(
                "{SYNC_FILE}: the canonical branch would be `{}` of `{}`, not `{}` of `{}`",
                new.branch, new.remote, now.branch, now.remote
            ));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    let refused = Error::negative("this would break the sync configuration of every branch");
    Err(faults
        .into_iter()
        .fold(refused, Error::with_detail)
        .with_hint("fix it on the branch first"))
}

/// Moves the canonical branch from `ground` to the commit `new`. Returns `false` if the branch was
/// moved concurrently.
pub fn fast_forward_canonical(
    repo: &Repo,
    context: &SyncContext,
    ground: &CanonicalBranch,
    new: Id,
    message: &str,
    tools: &Tools<'_>,
) -> Result<bool> {
    check_rule_files(repo, context, new)?;
    let name = format!("refs/heads/{}", ground.branch);
    tools
        .disk
        .check_gate("move the canonical branch")
        .map_err(|cause| Error::unable("cannot move the canonical branch").with_cause(cause))?;
    let Some(root) = &ground.checked_out else {
        if ground.local.is_none() {
            set_upstream(repo, context)?;
        }
        // A worktree that has checked the branch out since would show the new commit as staged
        // reversals.
        if find_checkout(repo, &ground.branch)?.is_some() {
            return Ok(false);
        }
        if !repo.swap_ref(&name, ground.local, Some(new), message)? {
            return Ok(false);
        }
        repo.wait_for_switches()?;
        let has_old = |one: &BranchInUse| one.branch == ground.branch && one.commit == ground.local;
        if ground.local.is_some() && repo.branches_in_use()?.iter().any(has_old) {
            // Move back; the next attempt goes through that worktree.
            return repo.swap_ref(&name, Some(new), ground.local, message).map(|_| false);
        }
        return Ok(true);
    };
    let there = repo.open_worktree(root)?;
    let (_lock, _) = tools.lock_worktree(&there)?;
    check_repo_ready(&there, tools)?;
    if there.current_branch().as_ref() != Some(&ground.branch)
        || repo.resolve_ref(&name)? != ground.local
    {
        return Ok(false);
    }
    if ground.local != Some(ground.tip) {
        // The remote is ahead: git itself brings these commits here, as with every pull.
        let moved = there.fast_forward(ground.tip)?;
        if !moved.status.success() {
            return Err(Error::unable(format!(
                "cannot fast-forward `{}`, which is checked out in `{}`, to its remote",
                ground.branch,
                root.display()
            ))
            .with_detail(moved.stderr)
            .with_hint("`git pull` there first"));
        }
    }
    let there = repo.open_worktree(root)?;
    if there.head()?.commit != ground.tip {
        return Ok(false);
    }
    match fast_forward_head(&there, context, new, message, tools) {
        Ok(()) => Ok(true),
        Err(_) if repo.resolve_ref(&name)? != Some(ground.tip) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Sets the upstream of a new local canonical branch, as `git switch` does.
fn set_upstream(repo: &Repo, context: &SyncContext) -> Result<()> {
    let branch = &context.config.branch;
    repo.set_config(&format!("branch.{branch}.remote"), &context.config.remote)?;
    repo.set_config(&format!("branch.{branch}.merge"), &format!("refs/heads/{branch}"))
}

/// Returns the commits picked earlier, with the resulting commits, from the trailers on the
/// canonical branch since its merge base with `source`.
pub fn list_earlier_picks(repo: &Repo, tip: Id, source: Id) -> Result<BTreeMap<Id, Id>> {
    let base = repo.merge_base(tip, source)?;
    let mut taken = BTreeMap::new();
    for id in repo.commits_between(base, tip, false)? {
        let commit = repo.read_commit(id)?;
        let from = commit.trailer(COMMIT_TRAILER).map(str::as_bytes).map(Id::from_hex);
        if let Some(Ok(from)) = from {
            taken.entry(from).or_insert(id);
        }
    }
    Ok(taken)
}
