//! Which branches are to follow, and by which way each can be reached.

use std::collections::BTreeMap;
use std::path::PathBuf;

use xtask_base::error::{Error, Result};
use xtask_base::words::some_of;
use xtask_config::Mode;
use xtask_git::{Id, InUse, NamePattern, Repo};
use xtask_sync::context::Context;
use xtask_sync::managed::exception;

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
    /// Its commit; nothing where it has none that can be used.
    pub commit: Option<Id>,
    /// How.
    pub way: Way,
}

/// All branches there are to choose from, and what else decides about them.
pub struct Fleet {
    /// The branches by name, with their commits: those here, or those of the remote.
    pub branches: BTreeMap<String, Id>,
    /// Those that cannot be used, and why.
    pub broken: BTreeMap<String, String>,
    /// What worktrees work on; nothing where the branches are those of a remote.
    pub in_use: Vec<InUse>,
    /// The branches that the remote has, with their commits, where branches here are pushed to it.
    pub there: BTreeMap<String, Id>,
    is_here: bool,
}

impl Fleet {
    /// The branches of this repository.
    pub fn here(repo: &Repo) -> Result<Fleet> {
        Ok(Fleet { in_use: repo.branches_in_use()?, ..Fleet::below(repo, "refs/heads/", true)? })
    }

    /// The branches of a remote, as they were when last fetched.
    pub fn as_fetched(repo: &Repo, remote: &str) -> Result<Fleet> {
        let mut fleet = Fleet::below(repo, &format!("refs/remotes/{remote}/"), false)?;
        fleet.broken.remove("HEAD");
        Ok(fleet)
    }

    fn below(repo: &Repo, prefix: &str, is_here: bool) -> Result<Fleet> {
        let (mut branches, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (name, id) in repo.branches_below(prefix)? {
            match id {
                Ok(id) => drop(branches.insert(name, id)),
                Err(why) => drop(broken.insert(name, why)),
            }
        }
        let (in_use, there) = (Vec::new(), BTreeMap::new());
        Ok(Fleet { branches, broken, in_use, there, is_here })
    }

    /// The branches of a remote, as they are now. What they need is fetched.
    pub fn at_remote(repo: &Repo, remote: &str) -> Result<Fleet> {
        let (mut branches, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (name, id) in repo.fetch_branches(remote)? {
            if name.contains(char::REPLACEMENT_CHARACTER) {
                broken.insert(name, "its name is not UTF-8".to_owned());
            } else {
                branches.insert(name, id);
            }
        }
        let (in_use, there) = (Vec::new(), BTreeMap::new());
        Ok(Fleet { branches, broken, in_use, there, is_here: false })
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
        let mut is_wanted = |branch: &str| {
            if context.is_apart(branch) {
                return false;
            }
            let mut is_wanted = globs.is_empty();
            for (glob, is_used) in globs.iter().zip(&mut is_used) {
                if glob.matches(branch) {
                    (is_wanted, *is_used) = (true, true);
                }
            }
            is_wanted
        };
        let mut targets = Vec::new();
        for (branch, commit) in &self.branches {
            if is_wanted(branch) {
                let way = self.way(context, branch, patterns.contains(branch));
                targets.push(Target { branch: branch.clone(), commit: Some(*commit), way });
            }
        }
        for (branch, why) in &self.broken {
            if is_wanted(branch) {
                // Another name for a branch follows with that.
                let is_in_the_way = !why.starts_with("it is another name");
                let way = Way::Left { why: why.clone(), is_in_the_way };
                targets.push(Target { branch: branch.clone(), commit: None, way });
            }
        }
        let unused = patterns.iter().zip(is_used).filter(|(_, is_used)| !is_used);
        let unused: Vec<String> = unused.map(|(pattern, _)| pattern.clone()).collect();
        if unused.is_empty() {
            return Ok(targets);
        }
        Err(Error::usage(format!(
            "no branch that follows `{}` matches {}; nothing was done",
            context.config.branch,
            some_of(&unused, 5)
        ))
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
            // That is no fault: it follows when that has ended.
            let why = format!("{operation} of it is in progress in `{root}`");
            return Some(Way::Left { why, is_in_the_way: false });
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
