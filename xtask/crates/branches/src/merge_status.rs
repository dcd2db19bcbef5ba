//! Whether the work of a branch has arrived in another one, whichever way it went there.
//!
//! By commits that is a question of ancestors. By content it is one of trees: if merging the branch would
//! change nothing, the base has all of it; and if at some commit of the base since they parted it would have
//! changed nothing, the base had all of it then, as after a squash, whatever was done to it later. Patches are
//! not compared: lines that moved make another patch, and the same tree.

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::rules::MergeKind;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{AllPaths, Id, MergePreview, Repo};

/// How many commits of a base are looked at for a squash: with more since they parted, only the newest state
/// of the base is asked.
const MAX_COMMITS_SEARCHED: usize = 500;

/// Answers whether branches have arrived, and reads no commit of a base twice for it.
pub struct MergeDetector<'r> {
    repo: &'r Repo,
    changed_paths: RefCell<HashMap<Id, Rc<BTreeSet<RepoPath>>>>,
}

/// A branch and the one in which it may have arrived.
#[derive(Clone, Copy, Debug)]
pub struct MergeQuery<'a> {
    /// The name of the branch.
    pub branch: &'a str,
    /// Its commit.
    pub tip: Id,
    /// The commit of the other one.
    pub base: Id,
    /// The commits that only the branch has.
    pub own: &'a [Id],
    /// The commits that only the other one has.
    pub since: &'a [Id],
    /// What a merge of the branch would come to; nothing where neither has what the other lacks.
    pub preview: Option<&'a MergePreview>,
}

impl<'r> MergeDetector<'r> {
    /// For many questions about one repository.
    #[must_use]
    pub fn new(repo: &'r Repo) -> MergeDetector<'r> {
        MergeDetector { repo, changed_paths: RefCell::default() }
    }

    /// How a branch has arrived; nothing where it has not, or has never had anything of its own.
    pub fn detect_merge(&self, pair: &MergeQuery<'_>) -> Result<Option<MergeKind>> {
        let MergeQuery { branch, tip, base, own, since, preview: forecast } = *pair;
        if own.is_empty() {
            // On the line of the base itself a branch may as well have just begun.
            let is_beside = self.first_parent_line(base, since)?.1 != Some(tip);
            let is_ended = is_beside || self.repo.has_local_commits(branch);
            return Ok(is_ended.then_some(MergeKind::Commits));
        }
        let (Some(forecast), Some(parted)) = (forecast, self.repo.merge_base(tip, base)?) else {
            return Ok(None);
        };
        let tree = |commit: Id| self.repo.tree_of(commit);
        let (parted, ours) = (tree(parted)?, tree(tip)?);
        let changes = self.compare_paths(parted, ours)?;
        if changes.is_empty() {
            // Commits that come to nothing are in no other tree, either.
            return Ok(None);
        }
        if forecast.conflicts.is_empty() && forecast.tree == tree(base)? {
            return Ok(Some(MergeKind::Content { at: None }));
        }
        if since.len() > MAX_COMMITS_SEARCHED {
            return Ok(None);
        }
        for commit in self.first_parent_line(base, since)?.0 {
            if *self.paths_changed_by(commit)? != changes {
                continue;
            }
            let theirs = tree(commit)?;
            let then = self.repo.preview_tree_merge(parted, theirs, ours)?;
            if then.conflicts.is_empty() && then.tree == theirs {
                return Ok(Some(MergeKind::Content { at: Some(self.repo.short_id(commit)) }));
            }
        }
        Ok(None)
    }

    /// The commits of a base on its own line, as far as they are among these, and the first behind them.
    fn first_parent_line(&self, base: Id, among: &[Id]) -> Result<(Vec<Id>, Option<Id>)> {
        let among: HashSet<Id> = among.iter().copied().collect();
        let mut line = Vec::new();
        let mut at = Some(base);
        while let Some(commit) = at.filter(|commit| among.contains(commit)) {
            line.push(commit);
            at = self.repo.read_commit(commit)?.parents.first().copied();
        }
        Ok((line, at))
    }

    fn paths_changed_by(&self, commit: Id) -> Result<Rc<BTreeSet<RepoPath>>> {
        if let Some(known) = self.changed_paths.borrow().get(&commit) {
            return Ok(Rc::clone(known));
        }
        let info = self.repo.read_commit(commit)?;
        let before = match info.parents.first() {
            Some(parent) => self.repo.tree_of(*parent)?,
            None => self.repo.empty_tree(),
        };
        let paths = Rc::new(self.compare_paths(before, info.tree)?);
        self.changed_paths.borrow_mut().insert(commit, Rc::clone(&paths));
        Ok(paths)
    }

    fn compare_paths(&self, one: Id, two: Id) -> Result<BTreeSet<RepoPath>> {
        let changed = self.repo.compare_trees(Some(one), Some(two), &AllPaths)?;
        Ok(changed.into_keys().collect())
    }
}
