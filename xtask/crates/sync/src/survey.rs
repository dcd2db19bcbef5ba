//! All branches at a glance, by their trees alone: how many managed paths of each are behind and
//! how many customised. No branch is checked out, and no file is read.

use std::collections::BTreeMap;

use super::classify::{Class, PathState, classify};
use super::context::Context;
use super::deletions::known;
use super::managed::Managed;
use super::obstacles::{Where, obstacles};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_git::{
    FileStat, Head, Id, Indexed, Known, Lineage, OnDisk, OnceCanonical, Pair, Repo, Work,
};

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
    let mut lineage = repo.lineage();
    for (reference, commit) in branches {
        progress.step(1);
        let name = reference["refs/heads/".len()..].to_owned();
        if context.is_apart(&name) {
            continue;
        }
        let mut counts = BTreeMap::new();
        let head = Head { tree: repo.tree_of(commit)?, commit, branch: Some(name.clone()) };
        for class in classes(repo, context, &once, &head, &mut lineage)?.into_values() {
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
    head: &Head,
    lineage: &mut Lineage<'_>,
) -> Result<BTreeMap<RepoPath, Class>> {
    let states = states(repo, context, once, head, lineage)?.into_iter();
    Ok(states.map(|state| (state.path.clone(), classify(&state).class)).collect())
}

/// The managed paths at which a commit of a branch is not canonical, as they would be found in a
/// clean worktree that has them all.
pub fn states(
    repo: &Repo,
    context: &Context,
    once: &OnceCanonical,
    head: &Head,
    lineage: &mut Lineage<'_>,
) -> Result<Vec<PathState>> {
    let managed = Managed::new(&context.config, head.branch.as_deref());
    let differing = repo.compare_trees(Some(head.tree), Some(context.canonical.tree), &managed)?;
    let known = known(repo, head, context, Some(once), &differing, lineage)?;
    let mut obstacles = obstacles(repo, head, context, &managed, &differing, Where::InTree)?;
    let state = |(path, pair): (RepoPath, Pair)| PathState {
        head: pair.one,
        canonical: pair.two,
        index: pair
            .one
            .map_or(Indexed::Absent, |entry| Indexed::Entry { entry, is_skipped: false }),
        work: pair.one.map_or(Work::Absent, |entry| {
            Work::Present(OnDisk { entry, raw: entry, look: FileStat::default() })
        }),
        once: known.get(&path).copied().unwrap_or(Known::Unknown),
        is_overlay: false,
        is_sparse: false,
        is_excluded: managed.is_kept_by_branch(&path),
        obstacle: obstacles.remove(&path),
        path,
    };
    Ok(differing.into_iter().map(state).collect())
}
