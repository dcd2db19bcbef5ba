//! Which commit is canonical: the newer of the local and the remote-tracking branch, and where the
//! two have diverged the remote one.
//!
//! The local branch counts only as far as it belongs to the remote of the configuration. Anybody can give a
//! branch the canonical name, and a checkout of it (`git checkout -b NAME fork/NAME`, `gh pr checkout`) must not
//! make its files and commands count on every branch here. So it counts if it follows the branch of that name
//! at that remote, or if every commit that the remote does not have was made in this clone, by its reflogs.

use std::collections::BTreeSet;

use super::refs::{ReflogEntry, read_reflog};
use super::{Id, Repo};
use xtask_base::error::{Error, Result};

/// The canonical commit, and the ref that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalCommit {
    /// The full name of the ref.
    pub reference: String,
    /// The commit.
    pub commit: Id,
    /// Its tree.
    pub tree: Id,
}

/// The canonical commit with what should be known about how it was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanonicalChoice {
    /// The choice.
    pub canonical: CanonicalCommit,
    /// Local and remote branch have diverged: how many commits only the local one has.
    pub diverged: Option<usize>,
    /// Why the local branch does not count, where it does not.
    pub foreign: Option<ForeignReason>,
}

/// What keeps a local branch of the canonical name from being the canonical branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForeignReason {
    /// It follows another branch, as `REMOTE/BRANCH`.
    Follows(String),
    /// It was created from a branch of another remote, as git's reflog has it.
    CreatedFrom(String),
    /// So many of its commits are neither at the remote nor made in this clone.
    UnknownCommits(usize),
}

impl ForeignReason {
    /// What is wrong, as a clause: `it follows …`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            ForeignReason::Follows(other) => format!("it follows `{other}`"),
            ForeignReason::CreatedFrom(other) => format!("it was created from `{other}`"),
            ForeignReason::UnknownCommits(1) => "it has a commit that was not made here".to_owned(),
            ForeignReason::UnknownCommits(count) => {
                format!("it has {count} commits that were not made here")
            }
        }
    }

    /// The remote that it comes from, where that is known.
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
    /// Resolves the canonical branch; nothing where neither the local nor the remote one exists. That
    /// there is only a local one that belongs to somebody else is an error.
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
                "the branch `{branch}` here is not the canonical one of `{remote}`: {}",
                foreign.describe()
            ))
            .with_hint(format!(
                "`git fetch {remote} {branch}` gets the canonical one, if there is one"
            ))
            .with_hint(format!("`git branch -m {branch} NAME` gives the one here another name"))
            .with_hint(format!(
                "or, if what `{other}` has counts here: `git config xtask.canonicalRemote {other}`"
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

    /// Why a local branch does not belong to the canonical remote; nothing where it does.
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
        let merge = merge.strip_prefix("refs/heads/").unwrap_or(&merge);
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

    /// The same where the canonical remote has no such branch, as far as it was fetched: nothing then
    /// says which commits are its own, but where the branch came from.
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

    /// The commits that were made in this clone, by what its reflogs say of HEAD in every worktree and of
    /// every branch. What was only fetched, pulled or checked out is not among them.
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
                // Several commits at once, of which the reflog names the last.
                let old = Some(found.old).filter(|old| !old.is_null());
                let range = self.commits_beyond(&Vec::from_iter(old), found.new);
                // What is gone cannot be in question.
                made.extend(range.unwrap_or_default());
            } else if is_commit_message(&found.message) {
                made.insert(found.new);
            }
        }
        Ok(made)
    }
}

/// How our own moves of the canonical branch begin in its reflog.
const OWN_MESSAGES: [&str; 3] = ["xtask: promote", "xtask: reverse-sync", "xtask: upgrade"];

/// Whether git, or we, have made a commit when this was written into a reflog.
fn is_commit_message(message: &str) -> bool {
    const MAKES: [&str; 8] = [
        "commit",
        "cherry-pick",
        "revert",
        "am: ",
        "rebase (pick)",
        "rebase (continue)",
        // What we commit on other branches, which may be merged into this one.
        "xtask: chore(sync)",
        "xtask: propagate",
    ];
    MAKES.iter().any(|word| message.starts_with(word)) || message.contains("Merge made by")
}
