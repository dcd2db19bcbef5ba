//! The merge of the paths of an upgrade: local changes with the new version, and the resolution of conflicts.
//!
//! ```text
//! MergeTriple { path: "xtask/src/cli.rs", base, ours, theirs }  ->  merged, or a conflict for `--ours` and `--theirs`
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::conflict_files::{MergeTriple, UpgradeConflict};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_changes::cherry_pick::{
    CherryPickedTree, ConflictKind, PathChange, PathConflict, cherry_pick_changes,
};
use xtask_git::{FileMode, Id, Repo, Tools, TreeEntry};

/// How to resolve the conflicts at some paths without editing.
#[derive(Clone, Debug, Default)]
pub struct ConflictResolution {
    /// The paths at which the version of the canonical branch is kept.
    pub ours: BTreeSet<RepoPath>,
    /// The paths at which the new version is taken.
    pub theirs: BTreeSet<RepoPath>,
}

/// A merge of paths with the tree of a branch.
pub(super) struct PathMerge<'a> {
    pub(super) repo: &'a Repo,
    pub(super) tools: &'a Tools<'a>,
    pub(super) tree: Id,
    pub(super) triples: &'a [MergeTriple],
    /// The branch and the new version, for conflict markers.
    pub(super) labels: (&'a str, &'a str),
}

/// The result of a merge.
pub(super) struct MergedPaths {
    /// The new tree; the old one if there are conflicts.
    pub(super) tree: Id,
    pub(super) changed: Vec<PathChange>,
    /// The changed paths with local changes.
    pub(super) merged: Vec<RepoPath>,
    pub(super) conflicts: Vec<UpgradeConflict>,
    pub(super) resolved: Vec<MergeTriple>,
}

impl PathMerge<'_> {
    /// Merges all paths, with `sides` and edited files for those in conflict.
    pub(super) fn merge_paths(&self, sides: &ConflictResolution) -> Result<MergedPaths> {
        let triples = self.triples.iter();
        let mut changes: BTreeMap<RepoPath, PathChange> =
            triples.map(|three| (three.path.clone(), self.incoming_change(three))).collect();
        let (mut resolved, mut open) = (Vec::new(), BTreeMap::new());
        for conflict in self.apply(&changes)?.conflicts {
            let Some(versions) = self.find_triple(&conflict.path) else { continue };
            match self.resolve(&conflict, versions, sides)? {
                Some(new) => {
                    let path = conflict.path;
                    changes.insert(path.clone(), PathChange { path, old: versions.ours, new });
                    resolved.push(versions.clone());
                }
                None => {
                    let versions = versions.clone();
                    open.insert(conflict.path.clone(), UpgradeConflict { conflict, versions });
                }
            }
        }
        let is_resolved = |path: &RepoPath| resolved.iter().any(|three| three.path == *path);
        if let Some(named) = sides.ours.iter().chain(&sides.theirs).find(|path| !is_resolved(path))
        {
            return Err(Error::usage(format!("`{named}` is not in conflict"))
                .with_hint("run without `--ours` and `--theirs` to list the conflicts"));
        }
        let CherryPickedTree { tree, changed, conflicts } = self.apply(&changes)?;
        for conflict in conflicts {
            // A resolution may block another path, e.g. a file where a folder must be.
            if let Some(versions) = self.find_triple(&conflict.path).cloned() {
                open.insert(conflict.path.clone(), UpgradeConflict { conflict, versions });
            }
        }
        let is_merged = |change: &&PathChange| {
            let three = self.find_triple(&change.path);
            three.is_some_and(|three| three.theirs.is_some() && change.new != three.theirs)
                && !is_resolved(&change.path)
        };
        let merged = changed.iter().filter(is_merged).map(|change| change.path.clone()).collect();
        let conflicts = open.into_values().collect();
        Ok(MergedPaths { tree, changed, merged, conflicts, resolved })
    }

    fn apply(&self, changes: &BTreeMap<RepoPath, PathChange>) -> Result<CherryPickedTree> {
        let all: Vec<PathChange> = changes.values().cloned().collect();
        cherry_pick_changes(self.repo, self.tools.disk, self.tree, &all, self.labels)
    }

    fn find_triple(&self, path: &RepoPath) -> Option<&MergeTriple> {
        self.triples.iter().find(|three| three.path == *path)
    }

    fn incoming_change(&self, three: &MergeTriple) -> PathChange {
        // For a text, an unknown base is the same as no base.
        let is_known = |base: &TreeEntry| {
            base.id != self.repo.null_id() || three.ours.is_none() || three.theirs.is_none()
        };
        PathChange { path: three.path.clone(), old: three.base.filter(is_known), new: three.theirs }
    }

    /// Returns the version for a path in conflict, `None` if it is still open.
    fn resolve(
        &self,
        conflict: &PathConflict,
        three: &MergeTriple,
        sides: &ConflictResolution,
    ) -> Result<Option<Option<TreeEntry>>> {
        let (path, kind) = (&conflict.path, &conflict.kind);
        Ok(match three.read_resolution(self.repo, self.labels.0)? {
            _ if matches!(kind, ConflictKind::InTheWay(_)) => None,
            _ if sides.theirs.contains(path) => Some(three.theirs),
            _ if sides.ours.contains(path) => Some(three.ours),
            Some(text) if matches!(kind, ConflictKind::Lines { .. }) => {
                let mode = three.theirs.or(three.ours).map_or(FileMode::File, |entry| entry.mode);
                Some(Some(TreeEntry { mode, id: self.repo.write_blob(&text)? }))
            }
            _ => None,
        })
    }
}
