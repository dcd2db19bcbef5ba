//! Which branches are to follow, and by which way each can be reached.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::base::error::{Error, Result};
use crate::base::words::some_of;
use crate::config::Mode;
use crate::repo::{Id, InUse, NamePattern, Repo};
use crate::sync::context::Context;
use crate::sync::managed::exception;

/// How a branch is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its ref moves.
    Ref,
    /// The worktree that has it checked out is synced.
    Worktree(PathBuf),
    /// It is protected: a branch beside it gets the commit.
    Beside,
    /// By none, and why. It is done with, if the rules want it so.
    Left {
        /// Why.
        why: String,
        /// Whether something is in the way that somebody should see to.
        is_in_the_way: bool,
    },
}

/// A branch, where it is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name without `refs/heads/`.
    pub branch: String,
    /// Its commit.
    pub commit: Id,
    /// How.
    pub way: Way,
}

/// All branches there are to choose from, and what else decides about them.
pub struct Fleet {
    /// The branches by name, with their commits: those here, or those of the remote.
    pub branches: BTreeMap<String, Id>,
    /// What worktrees work on; nothing where the branches are those of a remote.
    pub in_use: Vec<InUse>,
    /// The branches that the remote has, with their commits, where branches here are pushed to it.
    pub there: BTreeMap<String, Id>,
    is_here: bool,
}

impl Fleet {
    /// The branches of this repository.
    pub fn here(repo: &Repo) -> Result<Fleet> {
        let branches = repo.refs_below("refs/heads/")?.into_iter();
        let branches = branches.map(|(name, id)| (name["refs/heads/".len()..].to_owned(), id));
        Ok(Fleet {
            branches: branches.collect(),
            in_use: repo.branches_in_use()?,
            there: BTreeMap::new(),
            is_here: true,
        })
    }

    /// The branches of a remote, as they were when last fetched.
    pub fn as_fetched(repo: &Repo, remote: &str) -> Result<Fleet> {
        let prefix = format!("refs/remotes/{remote}/");
        let branches = repo.refs_below(&prefix)?.into_iter();
        let branches = branches.map(|(name, id)| (name[prefix.len()..].to_owned(), id));
        let branches = branches.filter(|(name, _)| name != "HEAD").collect();
        Ok(Fleet { branches, in_use: Vec::new(), there: BTreeMap::new(), is_here: false })
    }

    /// The branches of a remote, as they are now. What they need is fetched.
    pub fn at_remote(repo: &Repo, remote: &str) -> Result<Fleet> {
        let branches = repo.fetch_branches(remote)?.into_iter().collect();
        Ok(Fleet { branches, in_use: Vec::new(), there: BTreeMap::new(), is_here: false })
    }

    /// Whether these are the branches of this repository, not those of a remote.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.is_here
    }

    /// The branches that match, in order of their names. A pattern that takes none is an error.
    pub fn targets(&self, context: &Context, patterns: &[String]) -> Result<Vec<Target>> {
        let globs: Vec<NamePattern> = patterns.iter().map(|text| NamePattern::new(text)).collect();
        let mut is_used = vec![false; globs.len()];
        let mut targets = Vec::new();
        for (branch, commit) in &self.branches {
            let mut is_wanted = globs.is_empty();
            for (glob, is_used) in globs.iter().zip(&mut is_used) {
                if glob.matches(branch) {
                    (is_wanted, *is_used) = (true, true);
                }
            }
            if is_wanted && !context.is_apart(branch) {
                let is_named = patterns.contains(branch);
                let way = self.way(context, branch, is_named);
                targets.push(Target { branch: branch.clone(), commit: *commit, way });
            }
        }
        let unused = patterns.iter().zip(is_used).filter(|(_, is_used)| !is_used);
        let unused: Vec<String> = unused.map(|(pattern, _)| pattern.clone()).collect();
        if unused.is_empty() {
            return Ok(targets);
        }
        Err(Error::usage(format!("no branch matches {}; nothing was done", some_of(&unused, 5)))
            .hint("`cargo xtask status --all` lists the branches; quote a glob for the shell"))
    }

    fn way(&self, context: &Context, branch: &str, is_named: bool) -> Way {
        let left = |why: String| Way::Left { why, is_in_the_way: false };
        let rule = exception(&context.config, branch).and_then(|exception| exception.mode);
        match rule {
            _ if context.is_protected(branch) => return Way::Beside,
            Some(Mode::Notify) if !is_named => {
                return left(
                    "the rules say `notify` for it; name it in full to sync it".to_owned(),
                );
            }
            Some(Mode::Worktree) if !is_named => {
                let why = "the rules want no commit on it; name it in full to sync it";
                return left(why.to_owned());
            }
            _ => {}
        }
        self.holder(branch).unwrap_or(Way::Ref)
    }

    /// How a branch that worktrees work on is reached.
    #[must_use]
    pub fn holder(&self, branch: &str) -> Option<Way> {
        let mut holders = self.in_use.iter().filter(|use_| use_.branch == branch);
        let first = holders.next()?;
        let root = first.root.display();
        let in_the_way = |why: String| Some(Way::Left { why, is_in_the_way: true });
        if let Some(operation) = first.operation.or(holders.clone().find_map(|use_| use_.operation))
        {
            return in_the_way(format!("{operation} of it is in progress in `{root}`"));
        }
        if !first.is_there {
            return in_the_way(format!(
                "a worktree has it that is not there: `{root}` (`git worktree prune`)"
            ));
        }
        if holders.next().is_some() {
            return in_the_way("several worktrees have it checked out".to_owned());
        }
        Some(Way::Worktree(first.root.clone()))
    }
}
