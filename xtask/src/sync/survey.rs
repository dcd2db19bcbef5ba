//! All branches at a glance, by their trees alone: how many managed paths of each are behind and
//! how many customised. No branch is checked out, and no file is read.

use std::collections::{BTreeMap, BTreeSet};

use super::classify::{Class, PathState, classify};
use super::context::Context;
use super::deletions::who_removed;
use super::managed::Managed;
use crate::base::error::Result;
use crate::base::path::RepoPath;
use crate::base::progress::Progress;
use crate::repo::{FileStat, Id, Indexed, Known, OnDisk, OnceCanonical, Repo, Work};

/// A branch, and where its managed paths stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchState {
    /// Its name without `refs/heads/`.
    pub name: String,
    /// Its commit.
    pub commit: Id,
    /// How many paths are of each class; those in sync are not counted.
    pub counts: BTreeMap<Class, usize>,
}

impl BranchState {
    /// How many paths are of a class.
    #[must_use]
    pub fn count(&self, class: Class) -> usize {
        self.counts.get(&class).copied().unwrap_or(0)
    }
}

/// Looks at every local branch but the canonical one, in order of their names.
pub fn survey(repo: &Repo, context: &Context, progress: &dyn Progress) -> Result<Vec<BranchState>> {
    let canonical = &context.canonical;
    let everywhere = Managed::new(&context.config, None);
    let once = repo.once_canonical(canonical.commit, &everywhere, everywhere.rules(), progress)?;
    let branches = repo.refs_below("refs/heads/")?;
    progress.begin("comparing branches", Some(branches.len() as u64));
    let mut states = Vec::new();
    for (reference, commit) in branches {
        progress.step(1);
        let name = reference["refs/heads/".len()..].to_owned();
        if name == context.config.branch || name == context.config.changes {
            continue;
        }
        let mut counts = BTreeMap::new();
        for class in classes(repo, context, &once, &name, commit)?.into_values() {
            *counts.entry(class).or_insert(0) += 1;
        }
        states.push(BranchState { name, commit, counts });
    }
    progress.end();
    Ok(states)
}

/// The classes of the managed paths at which a commit of a branch is not canonical.
pub fn classes(
    repo: &Repo,
    context: &Context,
    once: &OnceCanonical,
    branch: &str,
    commit: Id,
) -> Result<BTreeMap<RepoPath, Class>> {
    let canonical = &context.canonical;
    let managed = Managed::new(&context.config, Some(branch));
    let tree = repo.tree_of(commit)?;
    let differing = repo.compare_trees(Some(tree), Some(canonical.tree), &managed)?;
    let absent: BTreeSet<RepoPath> = differing
        .iter()
        .filter(|(_, pair)| pair.one.is_none())
        .map(|(path, _)| path.clone())
        .collect();
    let identity = &context.config.identity;
    let removed = who_removed(repo, commit, canonical.commit, absent, identity)?;
    let mut classes = BTreeMap::new();
    for (path, pair) in differing {
        let known = match pair.one {
            Some(entry) => once.knows(&path, entry),
            None => removed.get(&path).copied().unwrap_or(Known::Unknown),
        };
        let is_excluded = managed.is_kept_by_branch(&path);
        let state = PathState {
            path: path.clone(),
            head: pair.one,
            canonical: pair.two,
            index: pair
                .one
                .map_or(Indexed::Absent, |entry| Indexed::Entry { entry, is_skipped: false }),
            work: pair.one.map_or(Work::Absent, |entry| {
                Work::Present(OnDisk { entry, raw: entry, look: FileStat::default() })
            }),
            once: known,
            is_overlay: false,
            is_sparse: false,
            is_excluded,
            obstacle: None,
        };
        classes.insert(path, classify(&state).class);
    }
    Ok(classes)
}
