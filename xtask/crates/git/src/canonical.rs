//! Choice of the canonical commit: the newer of the local and the remote-tracking branch, or the
//! remote one if both have diverged.
//!
//! The local branch counts only if it belongs to the configured remote. Anybody can give a branch
//! the canonical name, and checking it out (`git checkout -b NAME fork/NAME`, `gh pr checkout`)
//! must not make its files and commands apply to every branch of this clone. The local branch
//! therefore counts if its upstream is the branch of that name at that remote, or if all of its
//! commits that the remote lacks were made in this clone, by the reflogs.
//!
//! ```text
//! main 3c4d…, origin/main 1a2b… (an ancestor)
//! -> CanonicalCommit { reference: "refs/heads/main", commit: 3c4d… }
//! ```

use std::collections::BTreeSet;

use super::refs::{ReflogEntry, read_reflog};
use super::{Id, Repo, branch_of_ref, reflog_messages};
use xtask_base::error::{Error, Result};

/// The canonical commit, and the ref that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalCommit {
    /// The full name of the ref.
    pub reference: String,
    pub commit: Id,
    pub tree: Id,
}

/// The canonical commit, with findings about the choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalChoice {
    pub canonical: CanonicalCommit,
    /// If local and remote branch have diverged, the number of commits that only the local one has.
    pub diverged: Option<usize>,
    /// The reason for ignoring the local branch.
    pub foreign: Option<ForeignReason>,
}

/// A reason why a local branch of the canonical name is not the canonical branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignReason {
    /// Its upstream is another branch, `REMOTE/BRANCH`.
    Follows(String),
    /// By its reflog, it was created from a branch of another remote.
    CreatedFrom(String),
    /// This many of its commits are neither at the remote nor made in this clone.
    UnknownCommits(usize),
}

impl ForeignReason {
    /// Returns the reason as a clause: `its upstream is …`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            ForeignReason::Follows(other) => format!("its upstream is `{other}`"),
            ForeignReason::CreatedFrom(other) => format!("it was created from `{other}`"),
            ForeignReason::UnknownCommits(1) => "it has a commit that was not made here".to_owned(),
            ForeignReason::UnknownCommits(count) => {
                format!("it has {count} commits that were not made here")
            }
        }
    }

    /// Returns the remote that the branch comes from, if known.
    fn remote(&self) -> Option<&str> {
        match self {
            ForeignReason::Follows(other) | ForeignReason::CreatedFrom(other) => {
                other.split_once('/').map(|(remote, _)| remote)
            }
            ForeignReason::UnknownCommits(_) => None,
        }
    }
}

impl Repo {
    /// Resolves the canonical branch; `None` if neither the local nor the remote one exists.
    /// Returns an error if only a foreign local one exists.
    pub fn resolve_canonical(&self, branch: &str, remote: &str) -> Result<Option<CanonicalChoice>> {
        let local_name = format!("refs/heads/{branch}");
        let remote_name = format!("refs/remotes/{remote}/{branch}");
        let local = self.resolve_ref(&local_name)?;
        let tracked = self.resolve_ref(&remote_name)?;
        let foreign = match local {
            Some(local) if tracked != Some(local) => {
                self.find_foreign_reason(branch, remote, local, tracked)?
            }
            _ => None,
        };
        if let (Some(foreign), None) = (&foreign, tracked) {
            let other = foreign.remote().unwrap_or("REMOTE");
            return Err(Error::unable(format!(
                "the local branch `{branch}` is not the canonical branch of `{remote}`: {}",
                foreign.describe()
            ))
            .with_hint(format!(
                "`git fetch {remote} {branch}` fetches the canonical one, if it exists"
            ))
            .with_hint(format!("`git branch -m {branch} NAME` renames the local one"))
            .with_hint(format!(
                "or, to make `{other}` the canonical remote: `git config xtask.canonicalRemote {other}`"
            )));
        }
        let counts = local.filter(|_| foreign.is_none());
        let (reference, commit, diverged) = match (counts, tracked) {
            (None, None) => return Ok(None),
            (Some(local), None) => (local_name, local, None),
            (None, Some(tracked)) => (remote_name, tracked, None),
            (Some(local), Some(tracked)) if local == tracked => (local_name, local, None),
            (Some(local), Some(tracked)) => {
                if self.is_ancestor(tracked, local)? {
                    (local_name, local, None)
                } else if self.is_ancestor(local, tracked)? {
                    (remote_name, tracked, None)
                } else {
                    let only_local = self.count_commits_between(tracked, local)?;
                    (remote_name, tracked, Some(only_local))
                }
            }
        };
        let tree = self.tree_of(commit)?;
        let canonical = CanonicalCommit { reference, commit, tree };
        Ok(Some(CanonicalChoice { canonical, diverged, foreign }))
    }

    /// Returns the reason why a local branch is foreign; `None` if it belongs to the canonical
    /// remote.
    fn find_foreign_reason(
        &self,
        branch: &str,
        remote: &str,
        local: Id,
        tracked: Option<Id>,
    ) -> Result<Option<ForeignReason>> {
        let setting = |key: &str| self.config_value(&format!("branch.{branch}.{key}"));
        let followed = setting("remote").filter(|name| name != ".");
        let merge = setting("merge").unwrap_or_default();
        let merge = branch_of_ref(&merge).unwrap_or(&merge);
        let is_of_remote = followed.as_deref() == Some(remote);
        if is_of_remote && merge == branch {
            return Ok(None);
        }
        let Some(tracked) = tracked else {
            return Ok(self.find_foreign_origin(branch, remote, followed.as_deref(), merge));
        };
        if self.is_ancestor(local, tracked)? {
            return Ok(None);
        }
        let made_here = self.commits_made_here()?;
        let all = self.commits_beyond(&[tracked], local)?;
        let count = all.iter().filter(|commit| !made_here.contains(*commit)).count();
        Ok((count > 0).then(|| match followed {
            Some(other) => ForeignReason::Follows(format!("{other}/{merge}")),
            None => ForeignReason::UnknownCommits(count),
        }))
    }

    /// Returns the reason if `remote`, as last fetched, has no such branch: without its commits to
    /// compare with, only upstream and reflog tell the origin of the local one.
    fn find_foreign_origin(
        &self,
        branch: &str,
        remote: &str,
        followed: Option<&str>,
        merge: &str,
    ) -> Option<ForeignReason> {
        let remotes = self.remote_names();
        let is_only = |name: &str| remotes.len() == 1 && remotes[0] == name;
        if let Some(other) = followed.filter(|name| *name != remote && !is_only(name)) {
            return Some(ForeignReason::Follows(format!("{other}/{merge}")));
        }
        let moves = self.reflog_entries(&format!("refs/heads/{branch}"));
        let from = moves.first()?.message.strip_prefix("branch: Created from ")?;
        let created = from.strip_prefix("refs/remotes/").unwrap_or(from).to_owned();
        let other = remotes.iter().find(|name| created.starts_with(&format!("{name}/")))?;
        let is_another = other != remote && !is_only(other);
        is_another.then_some(ForeignReason::CreatedFrom(created))
    }

    /// Collects the commits made in this clone, by the reflogs of HEAD in every worktree and of
    /// every branch. Fetched, pulled and checked-out commits are not included.
    fn commits_made_here(&self) -> Result<BTreeSet<Id>> {
        let common = self.common_folder();
        let mut logs = vec![common.join("logs/HEAD")];
        let worktrees = std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
        logs.extend(worktrees.map(|worktree| worktree.path().join("logs/HEAD")));
        let branches = self.branches_below("refs/heads/")?;
        let heads = common.join("logs/refs/heads");
        logs.extend(branches.into_iter().map(|(name, _)| heads.join(name)));
        let moves: Vec<ReflogEntry> = if self.has_reftable() {
            let all = self.reflog_by_git("--all").into_iter().chain(self.reflog_by_git("HEAD"));
            let is_own = |name: &str| name.starts_with("refs/heads/") || name.ends_with("HEAD");
            all.filter(|(name, _)| is_own(name)).map(|(_, found)| found).collect()
        } else {
            logs.iter().flat_map(|log| read_reflog(log)).collect()
        };
        let mut made = BTreeSet::new();
        for found in moves {
            if OWN_MESSAGES.iter().any(|words| found.message.starts_with(words)) {
                // Several commits in one move; the reflog names the last one.
                let old = Some(found.old).filter(|old| !old.is_null());
                let range = self.commits_beyond(&Vec::from_iter(old), found.new);
                // Commits that were deleted since are irrelevant.
                made.extend(range.unwrap_or_default());
            } else if is_commit_message(&found.message) {
                made.insert(found.new);
            }
        }
        Ok(made)
    }
}

/// Prefixes of our own reflog messages for moves of the canonical branch.
const OWN_MESSAGES: [&str; 3] =
    [reflog_messages::PROMOTE, reflog_messages::REVERSE_SYNC, reflog_messages::UPGRADE];

/// Returns whether a reflog message records a commit made by git or by us.
fn is_commit_message(message: &str) -> bool {
    const MAKES: [&str; 8] = [
        "commit",
        "cherry-pick",
        "revert",
        "am: ",
        "rebase (pick)",
        "rebase (continue)",
        // Our commits on other branches, which may be merged into this one.
        "xtask: chore(sync)",
        reflog_messages::PROPAGATE,
    ];
    MAKES.iter().any(|word| message.starts_with(word)) || message.contains("Merge made by")
}
