//! How many branches were behind on each of the last days, from the commits that git has.
//!
//! A branch is behind from the commit of the canonical branch that replaced a content until its own commit that takes
//! a later one, or until now. Times are those of committers, and branches are followed along their first parents, as
//! they are now: what a rebase has replaced, or a deleted branch had, is not in it.
//!
//! ```text
//! canonical  1 Jan: setup/a v1 -> v2      feature  3 Jan: sync commit setup/a v1 -> v2
//! behind     1 Jan: 1, 2 Jan: 1, 3 Jan: 0
//! ```

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::context::SyncContext;
use super::managed::ManagedPaths;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{CanonicalHistory, EverCanonical, Id, Repo, TreeEntry};

/// The number of days that are counted.
pub const DAYS: usize = 30;

/// Seconds in a day.
const DAY: i64 = 86_400;

/// The maximum number of commits that are compared; beyond it nothing is counted, so that a page does not wait.
const MAX_COMMITS: usize = 20_000;

/// A content at a path; `None` is an absent file.
type PathContent = (RepoPath, Option<TreeEntry>);

/// The contents that a commit replaced, or that a branch has.
type Contents = Rc<Vec<PathContent>>;

/// A branch, as the question sees it.
pub struct BranchState {
    pub commit: Id,
    /// The contents by which it is behind now.
    pub behind: Vec<PathContent>,
}

/// Counts the branches that were behind at the end of each of the last [`DAYS`] days, the last of which ends `now`, in
/// seconds since the epoch. Returns `None` if there are too many commits to compare.
pub fn count_behind_by_day(
    repo: &Repo,
    context: &SyncContext,
    once: &CanonicalHistory,
    branches: &[BranchState],
    now: i64,
) -> Result<Option<Vec<usize>>> {
    let mut reader = HistoryReader {
        repo,
        managed: ManagedPaths::new(&context.config, None),
        start: now - i64::try_from(DAYS).unwrap_or(0) * DAY,
        steps: HashMap::new(),
    };
    let Some(canonical) = reader.read_steps(context.canonical.commit)? else { return Ok(None) };
    let replaced = list_replacements(&canonical);
    let present = repo.list_tree(context.canonical.tree, &reader.managed)?;
    let mut days = vec![0; DAYS];
    for branch in branches {
        let Some(steps) = reader.read_steps(branch.commit)? else { return Ok(None) };
        let mut spans: Vec<(i64, i64)> = Vec::new();
        for step in &steps {
            let taken = step.replaced.iter().filter(|content| {
                let (path, entry) = content;
                match (replaced.get(content), entry) {
                    (Some(at), _) => *at < step.at,
                    // It was replaced before the first day, unless it is canonical still.
                    (None, Some(entry)) => {
                        present.get(path) != Some(entry)
                            && once.was_canonical(path, *entry) == EverCanonical::Once
                    }
                    (None, None) => false,
                }
            });
            spans.extend(
                taken.map(|content| (find_start(&replaced, content, reader.start), step.at)),
            );
        }
        spans.extend(
            branch
                .behind
                .iter()
                .map(|content| (find_start(&replaced, content, reader.start), i64::MAX)),
        );
        count_days(&mut days, &spans, now);
    }
    Ok(Some(days))
}

/// Adds one to each day at whose end one of `spans` holds, each from its first to before its last second.
fn count_days(days: &mut [usize], spans: &[(i64, i64)], now: i64) {
    let count = i64::try_from(days.len()).unwrap_or(0);
    for (number, behind) in (1..=count).zip(days) {
        let end = now - (count - number) * DAY;
        *behind += usize::from(spans.iter().any(|(from, to)| *from <= end && end < *to));
    }
}

/// Returns when the canonical branch replaced a content: before `start` if no step says so.
fn find_start(replaced: &BTreeMap<PathContent, i64>, content: &PathContent, start: i64) -> i64 {
    replaced.get(content).copied().unwrap_or(start)
}

/// Returns when each content was replaced on the canonical branch, for the last time.
fn list_replacements(steps: &[HistoryStep]) -> BTreeMap<PathContent, i64> {
    let mut replaced = BTreeMap::new();
    for step in steps.iter().rev() {
        replaced.extend(step.replaced.iter().map(|content| (content.clone(), step.at)));
    }
    replaced
}

/// A commit with the contents at managed paths that it replaced.
#[derive(Clone)]
struct HistoryStep {
    /// The time of its committer.
    at: i64,
    replaced: Contents,
}

/// Reads the steps of branches. Those of commits that several branches have are read once.
struct HistoryReader<'r> {
    repo: &'r Repo,
    managed: ManagedPaths,
    /// The start of the first day.
    start: i64,
    /// The step of each commit, and its first parent; `None` before `start`.
    steps: HashMap<Id, Option<(HistoryStep, Option<Id>)>>,
}

impl HistoryReader<'_> {
    /// Returns the steps of a branch since `start`, newest first; `None` if there are too many.
    fn read_steps(&mut self, tip: Id) -> Result<Option<Vec<HistoryStep>>> {
        let mut found = Vec::new();
        let mut next = Some(tip);
        while let Some(id) = next.take() {
            if !self.steps.contains_key(&id) {
                if self.steps.len() >= MAX_COMMITS {
                    return Ok(None);
                }
                let step = self.read_step(id)?;
                self.steps.insert(id, step);
            }
            if let Some(Some((step, parent))) = self.steps.get(&id) {
                if found.len() >= MAX_COMMITS {
                    return Ok(None);
                }
                if !step.replaced.is_empty() {
                    found.push(step.clone());
                }
                next = *parent;
            }
        }
        Ok(Some(found))
    }

    fn read_step(&self, id: Id) -> Result<Option<(HistoryStep, Option<Id>)>> {
        let commit = self.repo.read_commit(id)?;
        if commit.committer.seconds < self.start {
            return Ok(None);
        }
        // The parent of the oldest commit of a shallow clone is not there.
        let parent = commit.parents.first().and_then(|id| self.repo.read_commit(*id).ok());
        let replaced = match &parent {
            None => Vec::new(),
            Some(parent) => {
                let changed =
                    self.repo.compare_trees(Some(parent.tree), Some(commit.tree), &self.managed)?;
                changed.into_iter().map(|(path, pair)| (path, pair.one)).collect()
            }
        };
        let step = HistoryStep { at: commit.committer.seconds, replaced: Rc::new(replaced) };
        Ok(Some((step, parent.map(|parent| parent.id))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_counts_if_the_branch_was_behind_at_its_end() {
        let now = 100 * DAY;
        let day = |number: i64| now - (DAYS as i64 - number) * DAY;
        let count = |spans: &[(i64, i64)]| {
            let mut days = vec![0; DAYS];
            count_days(&mut days, spans, now);
            days.iter().sum::<usize>()
        };
        assert_eq!(count(&[]), 0);
        assert_eq!(count(&[(day(1), i64::MAX)]), DAYS);
        assert_eq!(count(&[(day(5) + 1, day(6))]), 0, "mended on the same day");
        assert_eq!(count(&[(day(5), day(7))]), 2);
        assert_eq!(count(&[(day(5), day(7)), (day(6), day(8))]), 3, "each day once");
        assert_eq!(count(&[(day(30), i64::MAX)]), 1);
    }
}
