//! Commits after each other onto a branch: all of them, or as far as the first that conflicts.

use std::collections::BTreeMap;

use super::cherry_pick::{PathChange, PathConflict, cherry_pick_changes};
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_git::{Id, ReplayedCommit, Repo, Signature};

/// A commit that is to be carried.
#[derive(Clone, Debug)]
pub struct CherryPickItem {
    /// The commit.
    pub commit: Id,
    /// What of it is carried.
    pub changes: Vec<PathChange>,
    /// What its new message says besides.
    pub trailers: Vec<(&'static str, String)>,
    /// Its name at the markers of a conflict.
    pub label: String,
}

/// What became of an item.
#[derive(Clone, Debug)]
pub enum PickStatus {
    /// It stands as this commit, which changes these paths.
    Picked {
        /// The new commit.
        commit: Id,
        /// What it changes.
        changed: Vec<PathChange>,
    },
    /// All of it is there already.
    AlreadyThere,
    /// It was taken in before, as this commit, and changed since.
    PickedBefore(Id),
    /// It conflicts.
    Conflicts(Vec<PathConflict>),
}

/// What became of all.
#[derive(Clone, Debug)]
pub struct CherryPickOutcome {
    /// Where the items that went through lead.
    pub tip: Id,
    /// One for each item, up to the first that conflicts.
    pub statuses: Vec<PickStatus>,
}

impl CherryPickOutcome {
    /// The item that conflicts, by its place, and its conflicts.
    #[must_use]
    pub fn first_conflict(&self) -> Option<(usize, &[PathConflict])> {
        let at = self.statuses.len().checked_sub(1)?;
        match &self.statuses[at] {
            PickStatus::Conflicts(conflicts) => Some((at, conflicts)),
            _ => None,
        }
    }

    /// What there is to say about an item, by its place, if it is not simply made.
    #[must_use]
    pub fn describe_item(&self, repo: &Repo, at: usize) -> Option<String> {
        Some(match self.statuses.get(at) {
            Some(PickStatus::Picked { .. }) => return None,
            Some(PickStatus::AlreadyThere) => "is there already, and skipped".to_owned(),
            Some(PickStatus::PickedBefore(before)) => {
                let before = repo.short_id(*before);
                format!("was taken in before, as {before}, and changed since; skipped")
            }
            Some(PickStatus::Conflicts(_)) => "conflicts".to_owned(),
            None => "was not looked at any more".to_owned(),
        })
    }

    /// Whether an item changes something, or would.
    #[must_use]
    pub fn has_effect(&self, at: usize) -> bool {
        matches!(self.statuses.get(at), Some(PickStatus::Picked { .. } | PickStatus::Conflicts(_)))
    }

    /// How many commits were made.
    #[must_use]
    pub fn picked_count(&self) -> usize {
        self.statuses.iter().filter(|fate| matches!(fate, PickStatus::Picked { .. })).count()
    }
}

/// Carries items onto a commit. Objects are written, and no ref is moved. `taken` has the commits
/// that were taken in before, with what they were made into; `onto` names the branch.
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
