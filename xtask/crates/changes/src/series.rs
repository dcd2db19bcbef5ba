//! Commits after each other onto a branch: all of them, or as far as the first that conflicts.

use std::collections::BTreeMap;

use super::carry::{Conflict, PathChange, carry};
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_git::{Carried, Id, Repo, Stamp};

/// A commit that is to be carried.
#[derive(Clone, Debug)]
pub struct Item {
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
pub enum Fate {
    /// It stands as this commit, which changes these paths.
    Made {
        /// The new commit.
        commit: Id,
        /// What it changes.
        changed: Vec<PathChange>,
    },
    /// All of it is there already.
    There,
    /// It was taken in before, as this commit, and changed since.
    TakenAs(Id),
    /// It conflicts.
    Conflicts(Vec<Conflict>),
}

/// What became of all.
#[derive(Clone, Debug)]
pub struct Series {
    /// Where the items that went through lead.
    pub tip: Id,
    /// One for each item, up to the first that conflicts.
    pub fates: Vec<Fate>,
}

impl Series {
    /// The item that conflicts, by its place, and its conflicts.
    #[must_use]
    pub fn conflict(&self) -> Option<(usize, &[Conflict])> {
        let at = self.fates.len().checked_sub(1)?;
        match &self.fates[at] {
            Fate::Conflicts(conflicts) => Some((at, conflicts)),
            _ => None,
        }
    }

    /// What there is to say about an item, by its place, if it is not simply made.
    #[must_use]
    pub fn note(&self, repo: &Repo, at: usize) -> Option<String> {
        Some(match self.fates.get(at) {
            Some(Fate::Made { .. }) => return None,
            Some(Fate::There) => "is there already, and skipped".to_owned(),
            Some(Fate::TakenAs(before)) => {
                let before = repo.short(*before);
                format!("was taken in before, as {before}, and changed since; skipped")
            }
            Some(Fate::Conflicts(_)) => "conflicts".to_owned(),
            None => "was not looked at any more".to_owned(),
        })
    }

    /// Whether an item changes something, or would.
    #[must_use]
    pub fn is_of_interest(&self, at: usize) -> bool {
        matches!(self.fates.get(at), Some(Fate::Made { .. } | Fate::Conflicts(_)))
    }

    /// How many commits were made.
    #[must_use]
    pub fn made(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Made { .. })).count()
    }
}

/// Carries items onto a commit. Objects are written, and no ref is moved. `taken` has the commits
/// that were taken in before, with what they were made into; `onto` names the branch.
pub fn carry_all(
    repo: &Repo,
    disk: &Disk<'_>,
    tip: Id,
    items: &[Item],
    committer: Option<&Stamp>,
    taken: &BTreeMap<Id, Id>,
    onto: &str,
) -> Result<Series> {
    let mut series = Series { tip, fates: Vec::new() };
    for item in items {
        let tree = repo.tree_of(series.tip)?;
        let carried = carry(repo, disk, tree, &item.changes, (onto, &item.label))?;
        if !carried.conflicts.is_empty() {
            if let Some(before) = taken.get(&item.commit) {
                series.fates.push(Fate::TakenAs(*before));
                continue;
            }
            series.fates.push(Fate::Conflicts(carried.conflicts));
            break;
        }
        if carried.changed.is_empty() {
            series.fates.push(Fate::There);
            continue;
        }
        series.tip = repo.write_carried(&Carried {
            original: item.commit,
            tree: carried.tree,
            parent: series.tip,
            committer,
            trailers: &item.trailers,
        })?;
        series.fates.push(Fate::Made { commit: series.tip, changed: carried.changed });
    }
    Ok(series)
}
