//! History of absent paths: never there, or removed by the branch itself.
//!
//! A path that the branch never had is behind and gets created. A path that the branch removed
//! stays removed until requested. To distinguish the two, `trace_canonical_history` follows the
//! first parents of the branch back to its merge base with the canonical branch; the newest commit
//! that removed the path decides. For example:
//!
//! ```text
//! sync commit "delete setup/a"   removed on the canonical branch  -> Once  (behind)
//! user's commit "delete setup/a" removed by the branch            -> Never (customised)
//! ```
//!
//! A path of the merge base that no commit on that line removed was removed in a merge, which
//! counts as the branch's own removal.

use std::collections::{BTreeMap, BTreeSet};

use super::context::SyncContext;
use super::upstream::is_sync_commit;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{
    CanonicalHistory, EntryPair, EverCanonical, Head, MergeBaseFinder, PathScope, Repo,
};

/// Returns, for each path at which a branch differs from the canonical commit, whether the branch's
/// entry there (or its absence) once was canonical.
pub fn trace_canonical_history(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    once: Option<&CanonicalHistory>,
    differing: &BTreeMap<RepoPath, EntryPair>,
    lineage: &mut MergeBaseFinder<'_>,
) -> Result<BTreeMap<RepoPath, EverCanonical>> {
    let lacking = differing.iter().filter(|(_, pair)| pair.one.is_none());
    let absent: BTreeSet<RepoPath> = lacking.map(|(path, _)| path.clone()).collect();
    let mut known = trace_removals(repo, head, context, absent, lineage)?;
    for (path, pair) in differing {
        if let (Some(entry), Some(once)) = (pair.one, once) {
            known.insert(path.clone(), once.was_canonical(path, entry));
        }
    }
    Ok(known)
}

/// Returns, for each path missing in `head`, `Once` unless the branch itself removed it.
fn trace_removals(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    absent: BTreeSet<RepoPath>,
    lineage: &mut MergeBaseFinder<'_>,
) -> Result<BTreeMap<RepoPath, EverCanonical>> {
    let mut answers = BTreeMap::new();
    if absent.is_empty() {
        return Ok(answers);
    }
    let identity = &context.config.identity;
    let base = lineage.merge_base(head.commit, context.canonical.commit)?;
    if base.is_none() && repo.is_shallow() {
        return Ok(absent.into_iter().map(|path| (path, EverCanonical::Unknown)).collect());
    }
    let Some(base) = base else {
        // Unrelated histories: the branch cannot have removed a file that it never had.
        return Ok(absent.into_iter().map(|path| (path, EverCanonical::Once)).collect());
    };
    let mut open = PathSet::new(absent);
    for id in repo.commits_between(Some(base), head.commit, true)? {
        if open.paths.is_empty() {
            break;
        }
        let child = repo.read_commit(id)?;
        let Some(parent) = child.parents.first() else { continue };
        let before = repo.read_commit(*parent)?;
        let changed = repo.compare_trees(Some(before.tree), Some(child.tree), &open)?;
        for (path, pair) in changed {
            if pair.one.is_some() && pair.two.is_none() {
                let known = if is_sync_commit(&child, identity) {
                    EverCanonical::Once
                } else {
                    EverCanonical::Never
                };
                open.paths.remove(&path);
                answers.insert(path, known);
            }
        }
    }
    let there = repo.list_tree(repo.read_commit(base)?.tree, &open)?;
    for path in open.paths {
        let known =
            if there.contains_key(&path) { EverCanonical::Never } else { EverCanonical::Once };
        answers.insert(path, known);
    }
    Ok(answers)
}

/// Scope of exactly these paths.
struct PathSet {
    paths: BTreeSet<RepoPath>,
    folders: BTreeSet<RepoPath>,
}

impl PathSet {
    fn new(paths: BTreeSet<RepoPath>) -> Self {
        let folders = paths.iter().flat_map(RepoPath::ancestors).collect();
        PathSet { paths, folders }
    }
}

impl PathScope for PathSet {
    fn may_contain(&self, folder: &[u8]) -> bool {
        self.folders.contains(&RepoPath::new(folder))
    }

    fn contains_path(&self, path: &[u8]) -> bool {
        self.paths.contains(&RepoPath::new(path))
    }
}
