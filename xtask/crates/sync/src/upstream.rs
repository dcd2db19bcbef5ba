//! Sync commits, and branches whose upstream is ahead.
//!
//! A sync commit contains only canonical content, so it can be recreated at any time. A branch that
//! is ahead of its upstream by sync commits alone can therefore move to a newer upstream without
//! losing work, which keeps two machines from diverging. For example:
//!
//! ```text
//! feature        A - S1      (S1: sync commit)
//! origin/feature A - B - S2  -> feature moves to S2
//! ```

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;

use super::commit_message::{FORCED_TRAILER, SOURCE_TRAILER};
use super::context::SyncContext;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_config::CommitIdentity;
use xtask_git::{AllPaths, CommitInfo, EntryPair, Head, Id, Index, IndexStatus, Repo};

/// Relation of a branch to its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamStatus {
    /// No upstream, up to date with it, or own work on the branch.
    NoUpdate,
    /// The upstream is ahead and the branch has no commits of its own.
    Behind(UpstreamCommit),
    /// The upstream is ahead and the branch has only sync commits of its own.
    OnlySyncCommits(UpstreamCommit),
}

/// An upstream that is ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamCommit {
    /// Full ref name, e.g. `refs/remotes/origin/feature`.
    pub reference: String,
    pub commit: Id,
}

/// Returns whether a commit has the sync identity and our trailer. Whether it contains only
/// canonical content is checked by `is_pure_sync_commit`.
#[must_use]
pub fn is_sync_commit(commit: &CommitInfo, identity: &CommitIdentity) -> bool {
    commit.author.email == identity.email
        && commit.committer.email == identity.email
        && commit.parents.len() == 1
        && parse_source_trailer(commit).is_some()
}

/// Returns the canonical commit that a sync commit was made from.
#[must_use]
pub fn parse_source_trailer(commit: &CommitInfo) -> Option<Id> {
    Id::from_hex(commit.trailer(SOURCE_TRAILER)?.as_bytes()).ok()
}

/// Compares a branch with its upstream.
pub fn find_upstream_status(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
) -> Result<UpstreamStatus> {
    let Some(branch) = &head.branch else { return Ok(UpstreamStatus::NoUpdate) };
    let Some((reference, commit)) = repo.upstream(branch)? else {
        return Ok(UpstreamStatus::NoUpdate);
    };
    if repo.is_ancestor(commit, head.commit)? {
        return Ok(UpstreamStatus::NoUpdate);
    }
    let ahead = UpstreamCommit { reference, commit };
    let own = repo.commits_between(Some(commit), head.commit, false)?;
    if own.is_empty() {
        return Ok(UpstreamStatus::Behind(ahead));
    }
    let is_ours = are_pure_sync_commits(repo, &own, context)?;
    Ok(if is_ours { UpstreamStatus::OnlySyncCommits(ahead) } else { UpstreamStatus::NoUpdate })
}

/// Returns whether all commits in `from..tip` are pure sync commits, which can be recreated at any
/// time.
pub fn has_only_sync_commits(
    repo: &Repo,
    from: Id,
    tip: Id,
    context: &SyncContext,
) -> Result<bool> {
    are_pure_sync_commits(repo, &repo.commits_between(Some(from), tip, false)?, context)
}

fn are_pure_sync_commits(repo: &Repo, commits: &[Id], context: &SyncContext) -> Result<bool> {
    for id in commits {
        if !is_pure_sync_commit(repo, *id, &context.config.identity)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Returns whether a commit is a sync commit with only the canonical content of its source.
fn is_pure_sync_commit(repo: &Repo, id: Id, identity: &CommitIdentity) -> Result<bool> {
    let commit = repo.read_commit(id)?;
    if !is_sync_commit(&commit, identity) || commit.trailer(FORCED_TRAILER).is_some() {
        return Ok(false);
    }
    let Some(Ok(source)) = parse_source_trailer(&commit).map(|source| repo.read_commit(source))
    else {
        return Ok(false);
    };
    let before = repo.read_commit(commit.parents[0])?;
    let changed = repo.compare_trees(Some(before.tree), Some(commit.tree), &AllPaths)?;
    for (path, pair) in changed {
        if pair.two != repo.entry_at(source.tree, &RepoPath::new(path.as_bytes()))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves the branch to its upstream with `git reset --keep`.
///
/// # Errors
/// If there are staged changes, untracked files in the way, or local changes at the changed paths.
pub fn move_to_upstream(repo: &Repo, ahead: &UpstreamCommit) -> Result<()> {
    let short = ahead.reference.strip_prefix("refs/remotes/").unwrap_or(&ahead.reference);
    if repo.has_staged_changes()? {
        // `git reset --keep` would keep the files but drop their index entries.
        return Err(Error::unable(format!(
            "cannot move to `{short}`, which is ahead: there are staged changes"
        ))
        .with_hint("commit, stash or unstage it, then sync again"));
    }
    let in_the_way = list_blocking_untracked(repo, ahead)?;
    if !in_the_way.is_empty() {
        // `git reset --keep` would silently overwrite ignored files.
        let names: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
        return Err(Error::unable(format!(
            "cannot move to `{short}`, which is ahead: untracked files would be overwritten: {}; \
             nothing was moved",
            join_names(&names, 5)
        ))
        .with_hint("move that aside, then sync again"));
    }
    let moved = repo.reset_keep(&ahead.commit.to_string())?;
    if moved.status.success() {
        return Ok(());
    }
    Err(Error::unable(format!(
        "cannot move to `{short}`, which is ahead: local changes would be overwritten"
    ))
    .with_detail(moved.stderr)
    .with_hint("commit or stash them, then sync again; or sync the files alone with --no-commit"))
}

/// Lists the untracked files at paths that a move to `ahead` would create.
fn list_blocking_untracked(repo: &Repo, ahead: &UpstreamCommit) -> Result<Vec<RepoPath>> {
    let (here, there) = (repo.head()?.tree, repo.tree_of(ahead.commit)?);
    let index = repo.read_index()?;
    let changed = repo.compare_trees(Some(here), Some(there), &AllPaths)?;
    let mut found = BTreeSet::new();
    let is_new = |pair: &EntryPair| pair.one.is_none() && pair.two.is_some();
    for (path, _) in changed.iter().filter(|(_, pair)| is_new(pair)) {
        let mut way = path.ancestors().collect::<Vec<_>>();
        way.sort_by_key(|part| part.as_bytes().len());
        for part in way.into_iter().chain([path.clone()]) {
            let Ok(meta) = part.to_disk_path(repo.root()).symlink_metadata() else { break };
            if part != *path && meta.is_dir() {
                continue;
            }
            // Tracked files, and files behind a symlink, are left to git's own checks.
            collect_untracked(repo, &index, part, &meta, &mut found)?;
            break;
        }
    }
    Ok(found.into_iter().collect())
}

/// Collects the untracked files at `path` and below.
fn collect_untracked(
    repo: &Repo,
    index: &Index,
    path: RepoPath,
    meta: &Metadata,
    found: &mut BTreeSet<RepoPath>,
) -> Result<()> {
    if !meta.is_dir() {
        if repo.staged_status(index, &path)? == IndexStatus::Absent {
            found.insert(path);
        }
        return Ok(());
    }
    let failed = || format!("cannot read `{path}`");
    for entry in std::fs::read_dir(path.to_disk_path(repo.root())).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let inside = [path.as_bytes(), b"/", entry.file_name().as_bytes()].concat();
        let meta = entry.path().symlink_metadata().with_context(failed)?;
        collect_untracked(repo, index, RepoPath::new(inside), &meta, found)?;
    }
    Ok(())
}
