//! Moving the canonical branch forward, wherever it is checked out: here, in another worktree, or
//! nowhere. Local changes there are never touched.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::words::COMMIT_TRAILER;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_config::{BRANCHES_FILE, SYNC_FILE, SyncConfig, rule_faults};
use xtask_git::Tools;
use xtask_git::{Id, InUse, Repo};
use xtask_sync::context::Context;
use xtask_sync::enter::Enter as _;
use xtask_sync::forward::forward;
use xtask_sync::run::check_gates;

/// How often two refs are read that somebody may be moving between the readings.
const TRIES: u32 = 10;

/// Where the canonical branch stands, and how it can be moved.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The branch.
    pub branch: String,
    /// The commit on which to build: the newer of the local and the remote one.
    pub tip: Id,
    /// The local branch; nothing where there is only one of the remote.
    local: Option<Id>,
    /// The worktree that has it checked out.
    checked_out: Option<PathBuf>,
}

/// Looks where the canonical branch stands. That it cannot be moved at all is an error.
pub fn ground(repo: &Repo, context: &Context) -> Result<Ground> {
    let branch = context.config.branch.clone();
    let remote = &context.config.remote;
    // Others may be moving it right now: both are read until they fit.
    let mut tries = 0..TRIES;
    let (local, tip) = loop {
        let resolved = repo.canonical(&branch, remote)?;
        if let Some(foreign) = resolved.as_ref().and_then(|found| found.foreign.as_ref()) {
            return Err(Error::unable(format!(
                "the branch `{branch}` here is not the one of `{remote}`: {}",
                foreign.reason()
            ))
            .hint(format!("`git branch -m {branch} NAME` gives it another name; then again")));
        }
        let tip =
            resolved.as_ref().map_or(context.canonical.commit, |found| found.canonical.commit);
        let local = repo.resolve(&format!("refs/heads/{branch}"))?;
        let fits = local.map_or(Ok(true), |local| repo.is_ancestor(local, tip))?;
        if fits {
            break (local, tip);
        }
        let has_diverged = resolved.is_some_and(|found| found.diverged.is_some());
        if has_diverged || tries.next().is_none() {
            return Err(Error::unable(format!("`{branch}` and `{remote}/{branch}` have diverged"))
                .hint(format!("`git switch {branch} && git pull --rebase` brings them together")));
        }
    };
    let checked_out = holder(repo, &branch)?;
    Ok(Ground { branch, tip, local, checked_out })
}

/// The worktree that has a branch checked out. That it cannot be moved there is an error.
fn holder(repo: &Repo, branch: &str) -> Result<Option<PathBuf>> {
    let mut found = None;
    for InUse { root, is_there, operation, .. } in
        repo.branches_in_use()?.into_iter().filter(|one| one.branch == branch)
    {
        let place = root.display();
        if let Some(operation) = operation {
            return Err(Error::unable(format!(
                "{operation} of `{branch}` is in progress in `{place}`"
            ))
            .hint("end it first"));
        }
        if !is_there {
            return Err(Error::unable(format!(
                "`{branch}` is checked out in `{place}`, which is not there"
            ))
            .hint("`git worktree prune` forgets worktrees that are gone"));
        }
        if found.replace(root.clone()).is_some() {
            return Err(Error::unable(format!("`{branch}` is checked out in several worktrees"))
                .hint("`git worktree list` shows them; leave it checked out in one"));
        }
    }
    Ok(found)
}

/// Refuses a commit whose rules could not be read, or would lead elsewhere: every branch goes by them.
fn check_rules(repo: &Repo, context: &Context, commit: Id) -> Result<()> {
    let tree = repo.tree_of(commit)?;
    let mut faults = Vec::new();
    for file in [SYNC_FILE, BRANCHES_FILE] {
        if let Some(entry) = repo.entry_at(tree, &RepoPath::new(file))? {
            faults.extend(rule_faults(file, &repo.blob(entry.id)?));
        }
    }
    if faults.is_empty()
        && let Some(entry) = repo.entry_at(tree, &RepoPath::new(SYNC_FILE))?
    {
        let text = String::from_utf8_lossy(&repo.blob(entry.id)?).into_owned();
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
    let refused = Error::no("the rules that every branch goes by would not work any more");
    Err(faults.into_iter().fold(refused, Error::detail).hint("correct them on the branch first"))
}

/// Moves the canonical branch to a commit that was built on its ground. Says whether it still was
/// there.
pub fn land(
    repo: &Repo,
    context: &Context,
    ground: &Ground,
    new: Id,
    message: &str,
    tools: &Tools<'_>,
) -> Result<bool> {
    check_rules(repo, context, new)?;
    let name = format!("refs/heads/{}", ground.branch);
    tools
        .disk
        .other("move the canonical branch")
        .map_err(|cause| Error::unable("the canonical branch cannot be moved").because(cause))?;
    let Some(root) = &ground.checked_out else {
        if ground.local.is_none() {
            follow(repo, context)?;
        }
        // Whoever has checked it out since would see all of it as staged, the other way round.
        if holder(repo, &ground.branch)?.is_some() {
            return Ok(false);
        }
        if !repo.swap_ref(&name, ground.local, Some(new), message)? {
            return Ok(false);
        }
        repo.wait_for_switches()?;
        let has_old = |one: &InUse| one.branch == ground.branch && one.commit == ground.local;
        if ground.local.is_some() && repo.branches_in_use()?.iter().any(has_old) {
            // Back, and then by way of that worktree.
            return repo.swap_ref(&name, Some(new), ground.local, message).map(|_| false);
        }
        return Ok(true);
    };
    let there = repo.open_worktree(root)?;
    let (_lock, _) = tools.enter(&there)?;
    check_gates(&there, tools)?;
    if there.branch_name().as_ref() != Some(&ground.branch) || repo.resolve(&name)? != ground.local
    {
        return Ok(false);
    }
    if ground.local != Some(ground.tip) {
        // The remote has gone ahead: that is git's to bring here, as with every pull.
        let moved = there.fast_forward(ground.tip)?;
        if !moved.status.success() {
            return Err(Error::unable(format!(
                "`{}` is checked out in `{}` and behind the remote, and cannot be brought up to date",
                ground.branch,
                root.display()
            ))
            .detail(moved.stderr)
            .hint("`git pull` there first"));
        }
    }
    let there = repo.open_worktree(root)?;
    if there.head()?.commit != ground.tip {
        return Ok(false);
    }
    match forward(&there, context, new, message, tools) {
        Ok(()) => Ok(true),
        Err(_) if repo.resolve(&name)? != Some(ground.tip) => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Lets a canonical branch that is new here follow the one of the remote, as `git switch` does.
fn follow(repo: &Repo, context: &Context) -> Result<()> {
    let branch = &context.config.branch;
    repo.set_setting(&format!("branch.{branch}.remote"), &context.config.remote)?;
    repo.set_setting(&format!("branch.{branch}.merge"), &format!("refs/heads/{branch}"))
}

/// The commits that were taken in before, by what the canonical branch says of itself since it and
/// the source had the same history.
pub fn taken(repo: &Repo, tip: Id, source: Id) -> Result<BTreeMap<Id, Id>> {
    let base = repo.merge_base(tip, source)?;
    let mut taken = BTreeMap::new();
    for id in repo.between(base, tip, false)? {
        let commit = repo.commit(id)?;
        let from = commit.trailer(COMMIT_TRAILER).map(str::as_bytes).map(Id::from_hex);
        if let Some(Ok(from)) = from {
            taken.entry(from).or_insert(id);
        }
    }
    Ok(taken)
}
