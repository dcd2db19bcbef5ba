//! Changes branch: the canonical commit, and on top of it one commit per source branch with changes
//! to be promoted.
//!
//! Extracting a source again replaces its commit in place and carries the others over. The same
//! sources on the same canonical commit produce the same commit ids on every machine. Manual
//! commits are carried along like a source without a name. For example:
//!
//! ```text
//! orchestration-tools-changes
//!   chore(extract): 1 managed file from feature-b
//!   chore(extract): 2 managed files from feature-a
//! orchestration-tools  (canonical)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::build_branch::{BuildError, build_changes_branch};
use super::commit_messages::{BRANCH_TRAILER, COMMIT_TRAILER};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{AllPaths, CommitInfo, EntryPair, Id, Repo};
use xtask_sync::context::SyncContext;

/// A commit on the changes branch.
#[derive(Clone, Debug)]
pub struct PendingChange {
    pub commit: CommitInfo,
    /// Source branch; `None` for a manual commit.
    pub branch: Option<String>,
    changes: BTreeMap<RepoPath, EntryPair>,
}

impl PendingChange {
    /// Returns the name for messages: the source branch, or the quoted subject of a manual commit.
    #[must_use]
    pub fn name(&self) -> String {
        self.branch.clone().unwrap_or_else(|| format!("`{}`", self.commit.subject()))
    }

    /// Returns whether `word` on the command line means this commit: the name of the source, or at
    /// least `SHORTEST_ID` digits of a manual commit's id.
    #[must_use]
    pub fn is_named_by(&self, word: &str) -> bool {
        match &self.branch {
            Some(branch) => branch == word,
            None => {
                let id = self.commit.id.to_string();
                word.len() >= SHORTEST_ID && id.starts_with(&word.to_ascii_lowercase())
            }
        }
    }

    /// Returns whether both have the same source, or are the same manual commit on different
    /// parents.
    fn is_counterpart(&self, other: &PendingChange) -> bool {
        match (&self.branch, &other.branch) {
            (None, None) => {
                (&self.commit.author, &self.commit.message)
                    == (&other.commit.author, &other.commit.message)
                    && self.changes.keys().eq(other.changes.keys())
            }
            (one, other) => one == other,
        }
    }

    /// Returns whether both have the same content. The message of an extraction covers all its
    /// inputs; for manual commits the changes are compared.
    fn has_same_content(&self, other: &PendingChange) -> bool {
        let is_by_hand = self.branch.is_none();
        self.commit.message == other.commit.message
            && (!is_by_hand || self.changes == other.changes)
    }

    /// Returns the commit of the source that this one was extracted from.
    #[must_use]
    pub fn source_commit(&self) -> Option<Id> {
        Id::from_hex(self.commit.trailer(COMMIT_TRAILER)?.as_bytes()).ok()
    }
}

/// Minimum length of an abbreviated id.
const SHORTEST_ID: usize = 7;

/// Ref with the remote changes branch as of the last local update; shows which of the two has
/// changed since.
const SEEN_REF: &str = "refs/xtask/changes-seen";

/// Content and refs of the changes branch.
#[derive(Clone, Debug)]
pub struct ChangesBranch {
    /// Commits, oldest first.
    pub commits: Vec<PendingChange>,
    /// Canonical commit that `commits` are based on.
    pub base: Option<Id>,
    /// Local branch.
    pub local: Option<Id>,
    /// Remote-tracking branch, as last fetched.
    pub remote: Option<Id>,
}

/// Choice between the local and the remote changes branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangesSide {
    /// Both, merged by their changes since the last common state.
    Both,
    /// Only the remote one, so that a push does not publish extractions of this clone alone.
    Remote,
}

/// Reads the changes branch.
pub fn read_changes_branch(
    repo: &Repo,
    context: &SyncContext,
    side: ChangesSide,
) -> Result<ChangesBranch> {
    let config = &context.config;
    let local = repo.resolve_ref(&format!("refs/heads/{}", config.changes_branch))?;
    let remote =
        repo.resolve_ref(&format!("refs/remotes/{}/{}", config.remote, config.changes_branch))?;
    let of =
        |tip: Option<Id>| tip.map_or(Ok(Vec::new()), |tip| list_branch_commits(repo, context, tip));
    let commits = match (local, remote, side) {
        (_, remote, ChangesSide::Remote) => of(remote)?,
        (local, None, _) => of(local)?,
        (None, remote, _) => of(remote)?,
        (Some(here), Some(there), _) => {
            let before = of(find_common_state(repo, context, here, there)?)?;
            merge_sides(repo, context, of(local)?, of(remote)?, &before)?
        }
    };
    let parent = |one: &PendingChange| one.commit.parents.first().copied();
    let base = commits.first().and_then(parent).or(remote).or(local);
    Ok(ChangesBranch { commits, base, local, remote })
}

/// Lists the names of pending changes that are not canonical yet, without writing.
pub fn list_pending(repo: &Repo, context: &SyncContext, disk: &Disk<'_>) -> Result<Vec<String>> {
    let waiting = read_changes_branch(repo, context, ChangesSide::Both)?;
    let memory = repo.in_memory();
    match build_changes_branch(&memory, disk, context, &waiting, None, &BTreeSet::new()) {
        Ok(built) => Ok(built.waiting),
        Err(BuildError::Conflict(_)) => {
            Ok(waiting.commits.iter().map(PendingChange::name).collect())
        }
        Err(BuildError::Failed(failure)) => Err(failure),
    }
}

/// Returns the last common state of both sides: the one of the two that the other once had,
/// according to the reflogs, or else `SEEN_REF`.
fn find_common_state(
    repo: &Repo,
    context: &SyncContext,
    here: Id,
    there: Id,
) -> Result<Option<Id>> {
    let config = &context.config;
    let own = repo.reflog(&format!("refs/heads/{}", config.changes_branch));
    let tracked = repo.reflog(&format!("refs/remotes/{}/{}", config.remote, config.changes_branch));
    let has = |log: &[(Id, i64)], id| log.iter().any(|(was, _)| *was == id);
    let last = |log: &[(Id, i64)]| log.last().map(|(_, seconds)| *seconds);
    // If each once had the state of the other, the last move decides.
    match (has(&own, there), has(&tracked, here)) {
        (true, true) if last(&own) > last(&tracked) => Ok(Some(there)),
        (_, true) => Ok(Some(here)),
        (true, false) => Ok(Some(there)),
        (false, false) => repo.resolve_ref(SEEN_REF),
    }
}

/// Saves the remote's state as of the local update in `SEEN_REF`.
pub fn record_seen_remote(repo: &Repo, remote: Option<Id>) -> Result<()> {
    let old = repo.resolve_ref(SEEN_REF)?;
    if old != remote {
        repo.swap_ref(SEEN_REF, old, remote, "xtask: changes seen")?;
    }
    Ok(())
}

/// Merges the local and the remote changes branch, source by source. A change since `before` on one
/// side alone wins; if both sides changed, the newer state of the source wins, and of manual
/// commits both are kept.
fn merge_sides(
    repo: &Repo,
    context: &SyncContext,
    mut here: Vec<PendingChange>,
    there: Vec<PendingChange>,
    before: &[PendingChange],
) -> Result<Vec<PendingChange>> {
    let is_as_before = |one: &PendingChange| {
        before.iter().any(|was| was.is_counterpart(one) && was.has_same_content(one))
    };
    let mut commits = Vec::new();
    for one in there {
        // Each has at most one counterpart; an identical one is preferred.
        let same =
            here.iter().position(|own| own.is_counterpart(&one) && own.has_same_content(&one));
        let at = same.or_else(|| here.iter().position(|own| own.is_counterpart(&one)));
        let Some(at) = at else {
            // This side has removed it, unless the other has changed it since.
            if !is_as_before(&one) {
                commits.push(one);
            }
            continue;
        };
        let own = here.remove(at);
        match (is_as_before(&own), is_as_before(&one)) {
            _ if same.is_some() => commits.push(one),
            (true, _) => commits.push(one),
            (_, true) => commits.push(own),
            (false, false) if one.branch.is_none() => commits.extend([one, own]),
            (false, false) => {
                let is_newer = is_from_newer_source(repo, context, &own, &one)?;
                commits.push(if is_newer { own } else { one });
            }
        }
    }
    // A removal by the other side is kept.
    commits.extend(here.into_iter().filter(|own| !is_as_before(own)));
    Ok(commits)
}

/// Returns whether `one` was extracted from a newer state of the source than `other`: from a
/// descendant, or from the present tip.
fn is_from_newer_source(
    repo: &Repo,
    context: &SyncContext,
    one: &PendingChange,
    other: &PendingChange,
) -> Result<bool> {
    let (Some(from), Some(other_from)) = (one.source_commit(), other.source_commit()) else {
        return Ok(false);
    };
    let name = one.branch.as_deref().unwrap_or_default();
    let mut now = Vec::new();
    for prefix in ["refs/heads".to_owned(), format!("refs/remotes/{}", context.config.remote)] {
        now.extend(repo.resolve_ref(&format!("{prefix}/{name}"))?);
    }
    if now.contains(&from) != now.contains(&other_from) {
        return Ok(now.contains(&from));
    }
    let are_here = repo.has_object(from) && repo.has_object(other_from);
    Ok(are_here && from != other_from && repo.is_ancestor(other_from, from)?)
}

/// Lists the commits of one side, oldest first. A merge or root commit is an error.
fn list_branch_commits(repo: &Repo, context: &SyncContext, tip: Id) -> Result<Vec<PendingChange>> {
    let mut found = Vec::new();
    let changes = &context.config.changes_branch;
    for id in repo.commits_between(Some(context.canonical.commit), tip, true)? {
        let commit = repo.read_commit(id)?;
        let &[parent] = commit.parents.as_slice() else {
            let what = if commit.parents.is_empty() { "is a root commit" } else { "is a merge" };
            return Err(Error::unable(format!(
                "`{changes}` must have one commit per source: {} {what}",
                repo.short_id(id)
            ))
            .with_hint(format!("make it linear again (`git rebase`), or delete `{changes}`")));
        };
        // People copy messages, so the committer decides, not the trailer alone.
        let is_ours = commit.committer.email == context.config.identity.email;
        let branch = commit.trailer(BRANCH_TRAILER).filter(|_| is_ours).map(str::to_owned);
        let before = Some(repo.tree_of(parent)?);
        let changes = repo.compare_trees(before, Some(commit.tree), &AllPaths)?;
        found.push(PendingChange { commit, branch, changes });
    }
    found.reverse();
    Ok(found)
}
