//! Sync commits, and a branch whose upstream has gone ahead.
//!
//! A sync commit holds nothing but canonical content, so it can be made again at any time. Where a
//! branch is ahead of its upstream by such commits alone and the upstream has moved on, the branch
//! can move to the upstream without anything being lost; that is what keeps two machines from
//! diverging.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;

use super::context::Context;
use super::message::{FORCED_TRAILER, SOURCE_TRAILER};
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::some_of;
use xtask_config::Identity;
use xtask_git::{CommitInfo, Everything, Head, Id, Index, Indexed, Pair, Repo};

/// Where a branch stands to its upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has none, or is up to date with it, or has work of its own.
    Stays,
    /// The upstream has gone ahead and the branch has nothing of its own.
    Behind(Ahead),
    /// The upstream has gone ahead and the branch has only sync commits.
    OnlySyncCommits(Ahead),
}

/// An upstream that has gone ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Its ref.
    pub reference: String,
    /// Its commit.
    pub commit: Id,
}

/// Whether a commit looks like one of ours: made by the sync identity, with our trailer. Whether
/// it also holds nothing but canonical content is what `is_pure` finds out.
#[must_use]
pub fn is_sync_commit(commit: &CommitInfo, identity: &Identity) -> bool {
    commit.author.email == identity.email
        && commit.committer.email == identity.email
        && commit.parents.len() == 1
        && source_of(commit).is_some()
}

/// The canonical commit from which a sync commit was made.
#[must_use]
pub fn source_of(commit: &CommitInfo) -> Option<Id> {
    Id::from_hex(commit.trailer(SOURCE_TRAILER)?.as_bytes()).ok()
}

/// Where a branch stands to the one that it follows.
pub fn standing(repo: &Repo, head: &Head, context: &Context) -> Result<Standing> {
    let Some(branch) = &head.branch else { return Ok(Standing::Stays) };
    let Some((reference, commit)) = repo.upstream(branch)? else { return Ok(Standing::Stays) };
    if repo.is_ancestor(commit, head.commit)? {
        return Ok(Standing::Stays);
    }
    let ahead = Ahead { reference, commit };
    let own = repo.between(Some(commit), head.commit, false)?;
    if own.is_empty() {
        return Ok(Standing::Behind(ahead));
    }
    let is_ours = are_pure(repo, &own, context)?;
    Ok(if is_ours { Standing::OnlySyncCommits(ahead) } else { Standing::Stays })
}

/// Whether `tip` has nothing on top of `from` but sync commits: they can be made again at any time.
pub fn only_sync_commits(repo: &Repo, from: Id, tip: Id, context: &Context) -> Result<bool> {
    are_pure(repo, &repo.between(Some(from), tip, false)?, context)
}

fn are_pure(repo: &Repo, commits: &[Id], context: &Context) -> Result<bool> {
    for id in commits {
        if !is_pure(repo, *id, &context.config.identity)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a commit is a sync commit that holds nothing but the canonical content of its source.
fn is_pure(repo: &Repo, id: Id, identity: &Identity) -> Result<bool> {
    let commit = repo.commit(id)?;
    if !is_sync_commit(&commit, identity) || commit.trailer(FORCED_TRAILER).is_some() {
        return Ok(false);
    }
    let Some(Ok(source)) = source_of(&commit).map(|source| repo.commit(source)) else {
        return Ok(false);
    };
    let before = repo.commit(commit.parents[0])?;
    let changed = repo.compare_trees(Some(before.tree), Some(commit.tree), &Everything)?;
    for (path, pair) in changed {
        if pair.two != repo.entry_at(source.tree, &RepoPath::new(path.as_bytes()))? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Moves the branch to its upstream, as `git reset --keep` does.
pub fn move_to(repo: &Repo, ahead: &Ahead) -> Result<()> {
    let short = ahead.reference.strip_prefix("refs/remotes/").unwrap_or(&ahead.reference);
    if repo.has_staged_changes()? {
        // Git's `reset --keep` would keep the files, but forget what is staged of them.
        return Err(Error::unable(format!(
            "`{short}` has gone ahead, and what is staged keeps the branch from following it"
        ))
        .hint("commit, stash or unstage it, then sync again"));
    }
    let in_the_way = in_the_way(repo, ahead)?;
    if !in_the_way.is_empty() {
        // Git's `reset --keep` would replace what git ignores without a word.
        let names: Vec<String> = in_the_way.iter().map(ToString::to_string).collect();
        return Err(Error::unable(format!(
            "`{short}` has gone ahead, and brings {}, where there is something that git does not \
             track; nothing was moved",
            some_of(&names, 5)
        ))
        .hint("move that aside, then sync again"));
    }
    let moved = repo.reset_keep(&ahead.commit.to_string())?;
    if moved.status.success() {
        return Ok(());
    }
    Err(Error::unable(format!(
        "`{short}` has gone ahead, and local changes keep the branch from following it"
    ))
    .detail(moved.stderr)
    .hint("commit or stash them, then sync again; or sync the files alone with --no-commit"))
}

/// What lies where a move to another commit would bring a new file, and is not tracked.
fn in_the_way(repo: &Repo, ahead: &Ahead) -> Result<Vec<RepoPath>> {
    let (here, there) = (repo.head()?.tree, repo.tree_of(ahead.commit)?);
    let index = repo.index()?;
    let changed = repo.compare_trees(Some(here), Some(there), &Everything)?;
    let mut found = BTreeSet::new();
    let is_new = |pair: &Pair| pair.one.is_none() && pair.two.is_some();
    for (path, _) in changed.iter().filter(|(_, pair)| is_new(pair)) {
        let mut way = path.ancestors().collect::<Vec<_>>();
        way.sort_by_key(|part| part.as_bytes().len());
        for part in way.into_iter().chain([path.clone()]) {
            let Ok(meta) = part.on_disk(repo.root()).symlink_metadata() else { break };
            if part != *path && meta.is_dir() {
                continue;
            }
            // What is tracked gives way as git sees fit, and so does what is behind a link.
            untracked_in(repo, &index, part, &meta, &mut found)?;
            break;
        }
    }
    Ok(found.into_iter().collect())
}

/// What is not tracked at a path, or anywhere below it.
fn untracked_in(
    repo: &Repo,
    index: &Index,
    path: RepoPath,
    meta: &Metadata,
    found: &mut BTreeSet<RepoPath>,
) -> Result<()> {
    if !meta.is_dir() {
        if repo.staged(index, &path)? == Indexed::Absent {
            found.insert(path);
        }
        return Ok(());
    }
    let failed = || format!("`{path}` cannot be read");
    for entry in std::fs::read_dir(path.on_disk(repo.root())).unable(failed)? {
        let entry = entry.unable(failed)?;
        let inside = [path.as_bytes(), b"/", entry.file_name().as_bytes()].concat();
        let meta = entry.path().symlink_metadata().unable(failed)?;
        untracked_in(repo, index, RepoPath::new(inside), &meta, found)?;
    }
    Ok(())
}
