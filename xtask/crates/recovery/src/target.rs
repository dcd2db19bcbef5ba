//! The known-good state to which a worktree is reset: a branch as on its remote, or a commit. Read-only.
//!
//! For example, without `--to` the target is the default branch at `origin/main`.

use xtask_base::error::{Error, Result};
use xtask_base::words::pluralize;
use xtask_git::{Head, Id, Repo, Revision, short_ref};
use xtask_sync::backup::MovedBranch;

/// The target of a reset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryTarget {
    /// The branch to check out; `None` for a detached HEAD.
    pub branch: Option<String>,
    pub commit: Id,
    /// The commit as typed by the user, e.g. `origin/main` or `v1.2`.
    pub typed: String,
    /// The present commit of the branch, if it differs from `commit`.
    pub branch_before: Option<Id>,
    /// The remote branch from which the local branch is created, if it does not exist yet.
    pub remote_branch: Option<String>,
    /// The remote and the branch there at which `branch` is reset.
    pub upstream: Option<(String, String)>,
    /// The number of commits that the branch loses; they are kept on a branch of their own.
    pub own_commits: usize,
}

impl RecoveryTarget {
    /// Returns a target at `commit`, with a detached HEAD.
    #[must_use]
    pub fn at(commit: Id, typed: impl Into<String>) -> RecoveryTarget {
        RecoveryTarget {
            branch: None,
            commit,
            typed: typed.into(),
            branch_before: None,
            remote_branch: None,
            upstream: None,
            own_commits: 0,
        }
    }

    /// Returns whether `head` is at the target.
    #[must_use]
    pub fn is_at(&self, head: &Head) -> bool {
        head.branch == self.branch && head.commit == self.commit
    }

    /// Returns the move of the branch, if it moves.
    #[must_use]
    pub fn to_moved_branch(&self) -> Option<MovedBranch> {
        let (branch, from) = (self.branch.clone()?, self.branch_before?);
        Some(MovedBranch { branch, from: from.to_string(), to: self.commit.to_string() })
    }

    /// Describes the target, e.g. "`main` at `origin/main` (1a2b3c4)".
    #[must_use]
    pub fn describe(&self, repo: &Repo) -> String {
        let short = repo.short_id(self.commit);
        match &self.branch {
            None if self.typed == short => format!("{short}, with a detached HEAD"),
            None => format!("{} ({short}), with a detached HEAD", self.typed),
            Some(branch) if *branch == self.typed => format!("`{branch}`"),
            Some(branch) => format!("`{branch}` at `{}` ({short})", self.typed),
        }
    }
}

/// Resolves the target: `named`, or else the upstream of the default branch.
pub fn find_target(repo: &Repo, named: Option<&str>) -> Result<RecoveryTarget> {
    match named {
        Some(named) => self::resolve_named(repo, named),
        None => find_default_target(repo),
    }
}

fn resolve_named(repo: &Repo, named: &str) -> Result<RecoveryTarget> {
    if repo.is_branch_name(named)
        && let Some(commit) = repo.resolve_ref(&format!("refs/heads/{named}"))?
    {
        let branch = Some(named.to_owned()).filter(|name| repo.find_other_worktree(name).is_none());
        return Ok(RecoveryTarget { branch, ..RecoveryTarget::at(commit, named) });
    }
    let found = repo.parse_revision(named).map_err(|failure| {
        Error::usage(format!("`--to {named}` is neither a branch nor a commit here"))
            .with_detail(failure.to_string())
            .with_hint("`git fetch` fetches branches and commits of the remote")
    })?;
    let Revision::Commit(commit) = found else {
        return Err(Error::usage(format!("`--to {named}` names several commits")));
    };
    Ok(RecoveryTarget::at(commit, named))
}

fn find_default_target(repo: &Repo) -> Result<RecoveryTarget> {
    let default = repo.default_branch();
    let local = repo.resolve_ref(&format!("refs/heads/{default}"))?;
    let upstream = match local {
        Some(_) => repo.upstream(&default)?,
        None => {
            let name = format!("refs/remotes/origin/{default}");
            repo.resolve_ref(&name)?.map(|commit| (name, commit))
        }
    };
    let Some((name, commit)) = upstream else {
        return match local {
            Some(_) => resolve_named(repo, &default),
            None => Err(Error::usage("cannot determine the default branch")
                .with_hint("`--to REF` names the target")),
        };
    };
    let typed = short_ref(&name).to_owned();
    if repo.find_other_worktree(&default).is_some() {
        return Ok(RecoveryTarget::at(commit, typed));
    }
    let from = local.filter(|local| *local != commit);
    let own = match from {
        Some(from) => repo.commits_beyond(&[commit], from)?.len(),
        None => 0,
    };
    let made_from = local.is_none().then(|| typed.clone());
    let remote = name.strip_prefix("refs/remotes/").and_then(|_| typed.split_once('/'));
    let upstream = remote.map(|(remote, _)| (remote.to_owned(), default.clone()));
    Ok(RecoveryTarget {
        branch: Some(default),
        commit,
        typed,
        branch_before: from,
        remote_branch: made_from,
        upstream,
        own_commits: own,
    })
}

/// Describes commits that their branch loses.
#[must_use]
pub fn describe_kept_commits(recovery_target: &RecoveryTarget, kept: &str) -> String {
    let branch = recovery_target.branch.as_deref().unwrap_or_default();
    format!(
        "{} of `{branch}` that the remote does not have: kept on `{kept}`",
        pluralize(recovery_target.own_commits, "commit")
    )
}
