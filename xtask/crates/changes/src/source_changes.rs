//! Changes of a source branch at managed paths, and their summary. For example:
//!
//! ```text
//! feature -> changes [setup/a: 3b18… -> 77aa…], commits [4f1c…]
//! ```

use std::collections::BTreeSet;

use super::cherry_pick::{PathChange, list_changes_between};
use super::commit_messages::{ExtractSummary, SummaryCommit, SummaryFile};
use super::source::{
    SourceBranch, check_path_names, managed_path_filter, read_source_pins, take_pinned,
};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_git::{CommitInfo, Head, Id, Repo, Tools, TreeEntry, count_changed_lines};
use xtask_sync::branch_overview::BranchReader;
use xtask_sync::classify::{PathClass, classify_unpinned};
use xtask_sync::context::SyncContext;
use xtask_sync::managed::ManagedPaths;
use xtask_sync::merge::find_base_entry;
use xtask_sync::upstream::is_sync_commit;

/// Changes of a branch at managed paths.
#[derive(Clone, Debug)]
pub struct SourceChanges {
    pub source: SourceBranch,
    pub changes: Vec<PathChange>,
    /// Changed paths that the branch has pinned, and so keeps to itself.
    pub pinned: Vec<RepoPath>,
    /// Commits that made the changes, newest first.
    pub commits: Vec<CommitInfo>,
}

/// Finds the changes of a branch: contents that never were canonical, against the newest canonical
/// content that they came from; or all differences to the merge base with `base`, if given.
pub fn find_source_changes(
    repo: &Repo,
    context: &SyncContext,
    source: SourceBranch,
    base: Option<Id>,
    tools: &Tools<'_>,
) -> Result<SourceChanges> {
    let managed = ManagedPaths::new(&context.config, Some(&source.name));
    let now = tools.world.now_seconds();
    let tree = repo.tree_of(source.tip)?;
    let base = match base {
        // As with git's `A...B`: changes on the base's side since the merge base are not the
        // branch's.
        Some(base) => Some(repo.merge_base(base, source.tip)?.ok_or_else(|| {
            Error::usage(format!("`{}` and that base have no merge base", source.name))
        })?),
        None => None,
    };
    let mut changes = match base {
        Some(base) => {
            list_changes_between(
                repo,
                Some(repo.tree_of(base)?),
                tree,
                &managed_path_filter(&managed),
            )?
            .0
        }
        None => find_own_changes(repo, context, &source, now, tools.progress)?,
    };
    let pins = read_source_pins(repo, context, &source, now)?;
    let pinned = take_pinned(&mut changes, &pins);
    check_path_names(&changes)?;
    let paths: BTreeSet<&RepoPath> = changes.iter().map(|change| &change.path).collect();
    let canonical = context.canonical.commit;
    let since = match base {
        Some(base) => Some(base),
        None => repo.merge_base(source.tip, canonical)?,
    };
    let mut commits = Vec::new();
    for id in repo.commits_between(since, source.tip, false)? {
        let commit = repo.read_commit(id)?;
        if commit.parents.len() > 1
            || is_sync_commit(&commit, &context.config.identity)
            || repo.is_ancestor(id, canonical)?
        {
            continue;
        }
        let before = match commit.parents.first() {
            Some(parent) if repo.has_object(*parent) => Some(repo.tree_of(*parent)?),
            _ => None,
        };
        let changed = repo.compare_trees(before, Some(commit.tree), &managed)?;
        if changed.keys().any(|path| paths.contains(path)) {
            commits.push(commit);
        }
    }
    Ok(SourceChanges { source, changes, pinned, commits })
}

fn find_own_changes(
    repo: &Repo,
    context: &SyncContext,
    source: &SourceBranch,
    now: i64,
    progress: &dyn Progress,
) -> Result<Vec<PathChange>> {
    let tree = repo.tree_of(source.tip)?;
    let head = Head { branch: Some(source.name.clone()), commit: source.tip, tree };
    let managed = ManagedPaths::new(&context.config, Some(&source.name));
    let tip = context.canonical.commit;
    let once = repo.read_canonical_history(tip, &managed, managed.rules_digest(), progress)?;
    let mut changes = Vec::new();
    for state in BranchReader::new(repo, context, &once, now).read_states(&head)? {
        // What is pinned is left out afterwards, and named.
        let class = classify_unpinned(&state).class;
        match class {
            PathClass::Customised => {
                let old = find_base_entry(repo, &head, context, &once, &state.path)?;
                changes.push(PathChange { path: state.path, old, new: state.head });
            }
            PathClass::Unknown if state.pin.is_none() => {
                return Err(Error::unable(format!(
                    "cannot determine the changes of `{}`: shallow clone",
                    source.name
                ))
                .with_hint("`git fetch --unshallow` fetches the missing history"));
            }
            _ => {}
        }
    }
    Ok(changes)
}

/// Builds the summary of an extraction.
pub(super) fn build_summary(
    repo: &Repo,
    own: &SourceChanges,
    changed: &[PathChange],
) -> Result<ExtractSummary> {
    let mut files = Vec::new();
    let all = changed.iter().flat_map(|change| {
        let entries = [change.old, change.new].into_iter().flatten();
        entries.map(|entry| (entry.id, change.path.to_string()))
    });
    if repo.may_fetch() {
        repo.fetch_objects(all)?;
    }
    for change in changed {
        let text = |entry: Option<TreeEntry>| {
            entry.map_or(Ok(Vec::new()), |entry: TreeEntry| repo.read_blob(entry.id))
        };
        // In a dry run, blobs missing in a partial clone are not fetched, and their lines not
        // counted.
        let mut both = [change.old, change.new].into_iter().flatten();
        let is_here = !repo.is_partial() || both.all(|entry| repo.has_object(entry.id));
        let lines = match is_here {
            true => count_changed_lines(&text(change.old)?, &text(change.new)?),
            false => None,
        };
        files.push(SummaryFile {
            path: change.path.to_string(),
            action: change.action(),
            added: lines.map(|(added, _)| added),
            removed: lines.map(|(_, removed)| removed),
        });
    }
    let commits = own.commits.iter().map(|commit| SummaryCommit {
        id: repo.short_id(commit.id),
        subject: commit.subject().to_owned(),
        author: format!("{} <{}>", commit.author.name, commit.author.email),
    });
    Ok(ExtractSummary {
        branch: own.source.name.clone(),
        tip: own.source.tip.to_string(),
        files,
        commits: commits.collect(),
    })
}
