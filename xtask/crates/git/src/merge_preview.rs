//! What a merge would come to, computed on trees alone: no file, index or ref is touched, and what has to be
//! written on the way stays in memory.
//!
//! No program runs, whatever the configuration says: a merge driver or a filter is somebody's program, and
//! this only looks. Where a path has a driver of its own, the merge of texts stands in for it.

use std::collections::BTreeSet;

use gix::bstr::BStr;
use gix::merge::blob::builtin_driver::text::Labels;
use gix::merge::tree::TreatAsUnresolved;

use super::{Id, Repo};
use xtask_base::error::{Result, ResultExt};
use xtask_base::path::RepoPath;

/// What a merge would come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePreview {
    /// The paths in conflict, in order.
    pub conflicts: Vec<RepoPath>,
    /// The tree that it would make; it is nowhere written, and means nothing where there are conflicts.
    pub tree: Id,
}

impl Repo {
    /// What merging `theirs` into `ours` would come to, as `git merge-tree --write-tree` has it. The two
    /// must have history in common.
    pub fn preview_merge(&self, ours: Id, theirs: Id) -> Result<MergePreview> {
        let failed = || format!("the merge of `{theirs}` into `{ours}` cannot be computed");
        let repo = self.without_merge_drivers()?;
        let options = repo.tree_merge_options().with_context(failed)?;
        let mut merged = repo
            .merge_commits(ours, theirs, Labels::default(), options.into())
            .with_context(failed)?;
        to_merge_preview(&mut merged.tree_merge).with_context(failed)
    }

    /// What merging the change from the tree `base` to `theirs` into `ours` would come to.
    pub fn preview_tree_merge(&self, base: Id, ours: Id, theirs: Id) -> Result<MergePreview> {
        let failed = || format!("the merge of `{theirs}` into `{ours}` cannot be computed");
        let repo = self.without_merge_drivers()?;
        let options = repo.tree_merge_options().with_context(failed)?;
        let mut merged = repo
            .merge_trees(base, ours, theirs, Labels::default(), options)
            .with_context(failed)?;
        to_merge_preview(&mut merged).with_context(failed)
    }

    /// This repository without a way to write objects or to run a program for a merge.
    fn without_merge_drivers(&self) -> Result<gix::Repository> {
        let failed = || "the configuration of merges cannot be set aside";
        let mut repo = self.git.clone().with_object_memory();
        let mut config = repo.config_snapshot_mut();
        for section in ["merge", "filter", "diff"] {
            let found = config.sections_and_ids_by_name(section);
            let drivers = found.into_iter().flatten();
            let drivers: Vec<_> = drivers
                .filter(|(section, _)| section.header().subsection_name().is_some())
                .map(|(_, id)| id)
                .collect();
            for id in drivers {
                config.remove_section_by_id(id);
            }
        }
        config.commit().with_context(failed)?;
        Ok(repo)
    }
}

fn to_merge_preview(
    merged: &mut gix::merge::tree::Outcome<'_>,
) -> std::result::Result<MergePreview, gix::Error> {
    let by_git = TreatAsUnresolved::git();
    let path = |path: &BStr| RepoPath::new(path.to_vec());
    let conflicts: BTreeSet<RepoPath> = merged
        .conflicts
        .iter()
        .filter(|conflict| conflict.is_unresolved(by_git))
        .map(|conflict| path(conflict.ours.location()))
        .collect();
    let tree = merged.tree.write()?.detach();
    Ok(MergePreview { conflicts: conflicts.into_iter().collect(), tree })
}
