//! Merge detection: whether the work of a branch has reached another one, by merge, rebase or
//! squash.
//!
//! By commits, the branch must be an ancestor of the base. By content, trees are compared: if
//! merging the branch would change no file, the base has all of its work; and if that was true at
//! an earlier commit of the base since the merge base, e.g. at a squash, the base had it then,
//! whatever has changed since. Patch ids are not compared: a shifted line changes the patch, not
//! the tree.
//!
//! ```text
//! branch adds src/a.rs; base has "Add a (#12)" with the same change
//! -> MergeKind::Content { at: Some("1a2b3c4d5e") }
//! ```

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::rc::Rc;

use super::rules::MergeKind;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{AllPaths, Id, MergePreview, Repo};

/// The most commits of a base to search for a squash; with more, only its newest commit is
/// compared.
const MAX_COMMITS_SEARCHED: usize = 500;

/// Detects merges into a base, reading each of its commits once.
pub struct MergeDetector<'r> {
    repo: &'r Repo,
    changed_paths: RefCell<HashMap<Id, Rc<BTreeSet<RepoPath>>>>,
}

/// A branch, and the base that it may be merged into.
#[derive(Clone, Copy, Debug)]
pub struct MergeQuery<'a> {
    pub branch: &'a str,
    /// The commit of the branch.
    pub tip: Id,
    /// The commit of the base.
    pub base: Id,
    /// The commits that only the branch has.
    pub own: &'a [Id],
    /// The commits that only the base has.
    pub since: &'a [Id],
    /// The preview of a merge; `None` if `own` or `since` is empty.
    pub preview: Option<&'a MergePreview>,
}

impl<'r> MergeDetector<'r> {
    #[must_use]
    pub fn new(repo: &'r Repo) -> MergeDetector<'r> {
        MergeDetector { repo, changed_paths: RefCell::default() }
    }

    /// Returns how a branch was merged; `None` if it was not, or never had commits of its own.
    pub fn detect_merge(&self, pair: &MergeQuery<'_>) -> Result<Option<MergeKind>> {
        let MergeQuery { branch, tip, base, own, since, preview: forecast } = *pair;
        if own.is_empty() {
            // A branch at a commit of the base's own line may as well be new.
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
            // Commits without changes leave no trace in another tree.
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

    /// Lists the first-parent line of `base` as far as `among` has it, and the first commit beyond.
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
