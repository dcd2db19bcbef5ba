//! Selection of the branches to update, and of the method for each. For example:
//!
//! ```text
//! feature -> Ref
//! fix     -> Worktree("/home/ada/fix")
//! main    -> SideBranch
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use xtask_base::error::{Error, Result};
use xtask_base::words::join_names;
use xtask_config::HookMode;
use xtask_git::{BranchInUse, BranchPattern, Id, Repo, UnusableRef};
use xtask_sync::context::SyncContext;
use xtask_sync::managed::find_branch_exception;

/// The way in which a branch is updated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateMethod {
    /// Its ref is moved.
    Ref,
    /// The worktree that has it checked out is synced.
    Worktree(PathBuf),
    /// Its side branch gets the commit, because the branch is protected.
    SideBranch,
    /// No update, for a reason such as a rule.
    Skipped {
        reason: String,
        /// Whether somebody should fix the cause; `false` if the rules want it so.
        needs_attention: bool,
    },
}

/// A branch, its commit, and its update method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetBranch {
    /// The name without `refs/heads/`.
    pub branch: String,
    /// The commit, or `None` if the branch is unusable.
    pub commit: Option<Id>,
    pub method: UpdateMethod,
}

/// All branches to choose from, and the facts that decide about their [`UpdateMethod`].
pub struct BranchSet {
    /// The commits of the branches by name: local branches, or those of the remote.
    pub branches: BTreeMap<String, Id>,
    /// The unusable branches, and the reasons.
    pub unusable: BTreeMap<String, UnusableRef>,
    /// The branches used by worktrees; empty for branches of a remote.
    pub in_use: Vec<BranchInUse>,
    /// The commits of the remote's branches, if local branches will be pushed to them.
    pub remote_branches: BTreeMap<String, Id>,
    is_local: bool,
}

impl BranchSet {
    /// Reads the local branches.
    pub fn read_local(repo: &Repo) -> Result<BranchSet> {
        Ok(BranchSet {
            in_use: repo.branches_in_use()?,
            ..BranchSet::read_below(repo, "refs/heads/", true)?
        })
    }

    /// Reads the remote-tracking branches of `remote`, as last fetched.
    pub fn read_fetched(repo: &Repo, remote: &str) -> Result<BranchSet> {
        let mut fleet = BranchSet::read_below(repo, &format!("refs/remotes/{remote}/"), false)?;
        fleet.unusable.remove("HEAD");
        Ok(fleet)
    }

    fn read_below(repo: &Repo, prefix: &str, is_local: bool) -> Result<BranchSet> {
        Ok(BranchSet::new(repo.branches_below(prefix)?, is_local))
    }

    /// Fetches the current branches of `remote`, with the objects that they need.
    pub fn fetch_remote(repo: &Repo, remote: &str) -> Result<BranchSet> {
        let fetched = repo.fetch_all_branches(remote)?.into_iter().map(|(name, id)| {
            let is_usable = !name.contains(char::REPLACEMENT_CHARACTER);
            (name, if is_usable { Ok(id) } else { Err(UnusableRef::NotUtf8) })
        });
        Ok(BranchSet::new(fetched, false))
    }

    fn new(
        found: impl IntoIterator<Item = (String, Result<Id, UnusableRef>)>,
        is_local: bool,
    ) -> BranchSet {
        let (mut branches, mut unusable) = (BTreeMap::new(), BTreeMap::new());
        for (name, id) in found {
            match id {
                Ok(id) => drop(branches.insert(name, id)),
                Err(why) => drop(unusable.insert(name, why)),
            }
        }
        let (in_use, remote_branches) = (Vec::new(), BTreeMap::new());
        BranchSet { branches, unusable, in_use, remote_branches, is_local }
    }

    /// Returns whether these are local branches, not those of a remote.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.is_local
    }

    /// Returns the branches that match `patterns`, in the order of their names. Returns a usage
    /// error if a pattern matches none.
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
                // An alias of a branch moves with that branch.
                let is_in_the_way = !matches!(why, UnusableRef::Symbolic(_));
                let way = UpdateMethod::Skipped {
                    reason: why.to_string(),
                    needs_attention: is_in_the_way,
                };
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
                return left("its mode is `notify`; pass its full name to sync it".to_owned());
            }
            Some(HookMode::Worktree) if !is_named => {
                let why = "its mode is `worktree` (no commits); pass its full name to sync it";
                return left(why.to_owned());
            }
            _ => {}
        }
        self.worktree_method(branch).unwrap_or(UpdateMethod::Ref)
    }

    /// Returns the update method of a branch that worktrees use, or `None` if none does.
    #[must_use]
    pub fn worktree_method(&self, branch: &str) -> Option<UpdateMethod> {
        let mut holders = self.in_use.iter().filter(|use_| use_.branch == branch);
        let first = holders.next()?;
        let root = first.root.display();
        let in_the_way =
            |why: String| Some(UpdateMethod::Skipped { reason: why, needs_attention: true });
        if let Some(operation) = first.operation.or(holders.clone().find_map(|use_| use_.operation))
        {
            // No fault: the branch follows when the operation has ended.
            let why = format!("{operation} of it is in progress in `{root}`");
            return Some(UpdateMethod::Skipped { reason: why, needs_attention: false });
        }
        if !first.is_there {
            return in_the_way(format!(
                "checked out in a missing worktree: `{root}` (`git worktree prune`)"
            ));
        }
        if holders.next().is_some() {
            return in_the_way("checked out in several worktrees".to_owned());
        }
        Some(UpdateMethod::Worktree(first.root.clone()))
    }
}
