//! Cherry-pick of several commits onto a branch: all of them, or up to the first conflict. For
//! example:
//!
//! ```text
//! items [a1, b2, c3] -> statuses [Picked(9c4e…), AlreadyThere, Conflicts([setup/a])]
//! ```

use std::collections::BTreeMap;

use super::cherry_pick::{PathChange, PathConflict, cherry_pick_changes};
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_git::{Id, ReplayedCommit, Repo, Signature};

/// A commit to pick.
#[derive(Clone, Debug)]
pub struct CherryPickItem {
    pub commit: Id,
    /// Changes to apply.
    pub changes: Vec<PathChange>,
    /// Trailers to add to the message.
    pub trailers: Vec<(&'static str, String)>,
    /// Name in conflict markers.
    pub label: String,
}

/// Status of an item.
#[derive(Clone, Debug)]
pub enum PickStatus {
    /// Picked as a new commit.
    Picked {
        commit: Id,
        changed: Vec<PathChange>,
    },
    /// The target already has all of its changes.
    AlreadyThere,
    /// Picked earlier, as this commit, and changed since.
    PickedBefore(Id),
    Conflicts(Vec<PathConflict>),
}

/// Outcome of `cherry_pick_commits`.
#[derive(Clone, Debug)]
pub struct CherryPickOutcome {
    /// Last commit made, or the start.
    pub tip: Id,
    /// One status per item, up to the first conflict.
    pub statuses: Vec<PickStatus>,
}

impl CherryPickOutcome {
    /// Returns the index and the conflicts of the item that conflicts.
    #[must_use]
    pub fn first_conflict(&self) -> Option<(usize, &[PathConflict])> {
        let at = self.statuses.len().checked_sub(1)?;
        match &self.statuses[at] {
            PickStatus::Conflicts(conflicts) => Some((at, conflicts)),
            _ => None,
        }
    }

    /// Describes the item at index `at`. Returns `None` if it was simply picked.
    #[must_use]
    pub fn describe_item(&self, repo: &Repo, at: usize) -> Option<String> {
        Some(match self.statuses.get(at) {
            Some(PickStatus::Picked { .. }) => return None,
            Some(PickStatus::AlreadyThere) => "is already there; skipped".to_owned(),
            Some(PickStatus::PickedBefore(before)) => {
                let before = repo.short_id(*before);
                format!("was already picked as {before}, and has changed since; skipped")
            }
            Some(PickStatus::Conflicts(_)) => "conflicts".to_owned(),
            None => "was not tried".to_owned(),
        })
    }

    /// Returns whether an item changes the target, or would without its conflict.
    #[must_use]
    pub fn has_effect(&self, at: usize) -> bool {
        matches!(self.statuses.get(at), Some(PickStatus::Picked { .. } | PickStatus::Conflicts(_)))
    }

    /// Counts the picked commits.
    #[must_use]
    pub fn picked_count(&self) -> usize {
        self.statuses.iter().filter(|fate| matches!(fate, PickStatus::Picked { .. })).count()
    }
}

/// Picks `items` onto the commit `tip`. Objects are written; no ref is moved. `taken` maps commits
/// picked earlier to the resulting commits; `onto` is the name of the target branch.
pub fn cherry_pick_commits(
    repo: &Repo,
    disk: &Disk<'_>,
    tip: Id,
    items: &[CherryPickItem],
    committer: Option<&Signature>,
    taken: &BTreeMap<Id, Id>,
    onto: &str,
) -> Result<CherryPickOutcome> {
    let mut series = CherryPickOutcome { tip, statuses: Vec::new() };
    for item in items {
        let tree = repo.tree_of(series.tip)?;
        let carried = cherry_pick_changes(repo, disk, tree, &item.changes, (onto, &item.label))?;
        if !carried.conflicts.is_empty() {
            if let Some(before) = taken.get(&item.commit) {
                series.statuses.push(PickStatus::PickedBefore(*before));
                continue;
            }
            series.statuses.push(PickStatus::Conflicts(carried.conflicts));
            break;
        }
        if carried.changed.is_empty() {
            series.statuses.push(PickStatus::AlreadyThere);
            continue;
        }
        series.tip = repo.write_replayed_commit(&ReplayedCommit {
            original: item.commit,
            tree: carried.tree,
            parent: series.tip,
            committer,
            trailers: &item.trailers,
        })?;
        series.statuses.push(PickStatus::Picked { commit: series.tip, changed: carried.changed });
    }
    Ok(series)
}
