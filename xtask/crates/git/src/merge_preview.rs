//! Merge previews, computed on trees alone: no file, index or ref is changed, and new objects stay
//! in memory.
//!
//! No program runs, whatever the configuration says, since merge drivers and filters are programs
//! of the user. A path with a driver of its own is merged as text instead.
//!
//! ```text
//! preview_merge(ours, theirs) -> MergePreview { conflicts: ["src/a.rs"], tree: 1a2b… }
//! ```

use std::collections::BTreeSet;

use gix::bstr::BStr;
use gix::merge::blob::builtin_driver::text::Labels;
use gix::merge::tree::TreatAsUnresolved;

use super::{Id, Repo};
use xtask_base::error::{Result, ResultExt};
use xtask_base::path::RepoPath;

/// The result that a merge would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergePreview {
    /// The conflicting paths, sorted.
    pub conflicts: Vec<RepoPath>,
    /// The merged tree. It is not written, and meaningless if there are conflicts.
    pub tree: Id,
}

impl Repo {
    /// Previews the merge of `theirs` into `ours`, like `git merge-tree --write-tree`. Both must
    /// have a common ancestor.
    pub fn preview_merge(&self, ours: Id, theirs: Id) -> Result<MergePreview> {
        let failed = || format!("cannot preview the merge of `{theirs}` into `{ours}`");
        let repo = self.without_merge_drivers()?;
        let options = repo.tree_merge_options().with_context(failed)?;
        let mut merged = repo
            .merge_commits(ours, theirs, Labels::default(), options.into())
            .with_context(failed)?;
        to_merge_preview(&mut merged.tree_merge).with_context(failed)
    }

    /// Previews the application of the change from tree `base` to tree `theirs` on tree `ours`.
    pub fn preview_tree_merge(&self, base: Id, ours: Id, theirs: Id) -> Result<MergePreview> {
        let failed = || format!("cannot preview the merge of `{theirs}` into `{ours}`");
        let repo = self.without_merge_drivers()?;
        let options = repo.tree_merge_options().with_context(failed)?;
        let mut merged = repo
            .merge_trees(base, ours, theirs, Labels::default(), options)
            .with_context(failed)?;
        to_merge_preview(&mut merged).with_context(failed)
    }

    /// Returns an in-memory handle whose configuration has no merge drivers, filters or diff
    /// programs.
    fn without_merge_drivers(&self) -> Result<gix::Repository> {
        let failed = || "cannot disable merge drivers";
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
