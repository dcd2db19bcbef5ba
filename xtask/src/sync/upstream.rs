//! Sync commits, and a branch whose upstream has gone ahead.
//!
//! A sync commit holds nothing but canonical content, so it can be made again at any time. Where a
//! branch is ahead of its upstream by such commits alone and the upstream has moved on, the branch
//! can move to the upstream without anything being lost; that is what keeps two machines from
//! diverging.

use super::context::Context;
use super::message::SOURCE_TRAILER;
use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::config::Identity;
use crate::repo::{CommitInfo, Head, Id, Repo, Scope};

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

/// Where the checked-out branch stands.
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
    for id in own {
        if !is_pure(repo, id, &context.config.identity)? {
            return Ok(Standing::Stays);
        }
    }
    Ok(Standing::OnlySyncCommits(ahead))
}

/// Whether a commit is a sync commit that holds nothing but the canonical content of its source.
fn is_pure(repo: &Repo, id: Id, identity: &Identity) -> Result<bool> {
    let commit = repo.commit(id)?;
    if !is_sync_commit(&commit, identity) {
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

/// A scope without bounds.
pub(super) struct Everything;

impl Scope for Everything {
    fn enters(&self, _folder: &[u8]) -> bool {
        true
    }

    fn holds(&self, _path: &[u8]) -> bool {
        true
    }
}
