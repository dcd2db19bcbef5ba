//! Which branches are to follow, and by which way each can be reached.

use std::collections::BTreeMap;
use std::path::PathBuf;

use xtask_base::error::{Error, Result};
use xtask_base::words::join_names;
use xtask_config::HookMode;
use xtask_git::{BranchInUse, BranchPattern, Id, Repo};
use xtask_sync::context::SyncContext;
use xtask_sync::managed::find_branch_exception;

/// How a branch is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateMethod {
    /// Its ref moves.
    Ref,
    /// The worktree that has it checked out is synced.
    Worktree(PathBuf),
    /// It is protected: a branch beside it gets the commit.
    SideBranch,
    /// By none, and why. It is done with, if the rules want it so.
    Skipped {
        /// Why.
        reason: String,
        /// Whether something is in the way that somebody should see to.
        needs_attention: bool,
    },
}

/// A branch, where it is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetBranch {
    /// Its name without `refs/heads/`.
    pub branch: String,
    /// Its commit; nothing where it has none that can be used.
    pub commit: Option<Id>,
    /// How.
    pub method: UpdateMethod,
}

/// All branches there are to choose from, and what else decides about them.
pub struct BranchSet {
    /// The branches by name, with their commits: those here, or those of the remote.
    pub branches: BTreeMap<String, Id>,
    /// Those that cannot be used, and why.
    pub unusable: BTreeMap<String, String>,
    /// What worktrees work on; nothing where the branches are those of a remote.
    pub in_use: Vec<BranchInUse>,
    /// The branches that the remote has, with their commits, where branches here are pushed to it.
    pub remote_branches: BTreeMap<String, Id>,
    is_local: bool,
}

impl BranchSet {
    /// The branches of this repository.
    pub fn read_local(repo: &Repo) -> Result<BranchSet> {
        Ok(BranchSet {
            in_use: repo.branches_in_use()?,
            ..BranchSet::read_below(repo, "refs/heads/", true)?
        })
    }

    /// The branches of a remote, as they were when last fetched.
    pub fn read_fetched(repo: &Repo, remote: &str) -> Result<BranchSet> {
        let mut fleet = BranchSet::read_below(repo, &format!("refs/remotes/{remote}/"), false)?;
        fleet.unusable.remove("HEAD");
        Ok(fleet)
    }

    fn read_below(repo: &Repo, prefix: &str, is_here: bool) -> Result<BranchSet> {
        let (mut branches, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (name, id) in repo.branches_below(prefix)? {
            match id {
                Ok(id) => drop(branches.insert(name, id)),
                Err(why) => drop(broken.insert(name, why)),
            }
        }
        let (in_use, there) = (Vec::new(), BTreeMap::new());
        Ok(BranchSet {
            branches,
            unusable: broken,
            in_use,
            remote_branches: there,
            is_local: is_here,
        })
    }

    /// The branches of a remote, as they are now. What they need is fetched.
    pub fn fetch_remote(repo: &Repo, remote: &str) -> Result<BranchSet> {
        let (mut branches, mut broken) = (BTreeMap::new(), BTreeMap::new());
        for (name, id) in repo.fetch_all_branches(remote)? {
            if name.contains(char::REPLACEMENT_CHARACTER) {
                broken.insert(name, "its name is not UTF-8".to_owned());
            } else {
                branches.insert(name, id);
            }
        }
        let (in_use, there) = (Vec::new(), BTreeMap::new());
        Ok(BranchSet {
            branches,
            unusable: broken,
            in_use,
            remote_branches: there,
            is_local: false,
        })
    }

    /// Whether these are the branches of this repository, not those of a remote.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// The branches that match, in order of their names. A pattern that takes none is an error.
    pub fn select_targets(
        &self,
        context: &SyncContext,
        patterns: &[String],
    ) -> Result<Vec<TargetBranch>> {
        let globs: Vec<BranchPattern> =
            patterns.iter().map(|text| BranchPattern::new(text)).collect();
        let mut is_used = vec![false; globs.len()];
        let mut is_wanted = |branch: &str| {
            if context.is_reserved_branch(branch) {
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
                let way = self.choose_method(context, branch, patterns.contains(branch));
                targets.push(TargetBranch {
                    branch: branch.clone(),
                    commit: Some(*commit),
                    method: way,
                });
            }
        }
        for (branch, why) in &self.unusable {
            if is_wanted(branch) {
                // Another name for a branch follows with that.
                let is_in_the_way = !why.starts_with("it is another name");
                let way =
                    UpdateMethod::Skipped { reason: why.clone(), needs_attention: is_in_the_way };
                targets.push(TargetBranch { branch: branch.clone(), commit: None, method: way });
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
            join_names(&unused, 5)
        ))
        .with_hint("`cargo xtask status --all` lists the branches; quote a glob for the shell"))
    }

    fn choose_method(&self, context: &SyncContext, branch: &str, is_named: bool) -> UpdateMethod {
        let left = |why: String| UpdateMethod::Skipped { reason: why, needs_attention: false };
        let rule =
            find_branch_exception(&context.config, branch).and_then(|exception| exception.mode);
        match rule {
            _ if context.is_protected(branch) => return UpdateMethod::SideBranch,
            Some(HookMode::Notify) if !is_named => {
                return left(
                    "the rules say `notify` for it; name it in full to sync it".to_owned(),
                );
            }
            Some(HookMode::Worktree) if !is_named => {
                let why = "the rules want no commit on it; name it in full to sync it";
                return left(why.to_owned());
            }
            _ => {}
        }
        self.worktree_method(branch).unwrap_or(UpdateMethod::Ref)
    }

    /// How a branch that worktrees work on is reached.
    #[must_use]
    pub fn worktree_method(&self, branch: &str) -> Option<UpdateMethod> {
        let mut holders = self.in_use.iter().filter(|use_| use_.branch == branch);
        let first = holders.next()?;
        let root = first.root.display();
        let in_the_way =
            |why: String| Some(UpdateMethod::Skipped { reason: why, needs_attention: true });
        if let Some(operation) = first.operation.or(holders.clone().find_map(|use_| use_.operation))
        {
            // That is no fault: it follows when that has ended.
            let why = format!("{operation} of it is in progress in `{root}`");
            return Some(UpdateMethod::Skipped { reason: why, needs_attention: false });
        }
        if !first.is_there {
            return in_the_way(format!(
                "a worktree has it that is not there: `{root}` (`git worktree prune`)"
            ));
        }
        if holders.next().is_some() {
            return in_the_way("several worktrees have it checked out".to_owned());
        }
        Some(UpdateMethod::Worktree(first.root.clone()))
    }
}
