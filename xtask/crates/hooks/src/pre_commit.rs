//! `pre-commit`: refuses commits on protected branches, and staged files that do not belong in a history: conflict
//! markers, syntax errors and huge files.
//!
//! ```text
//! `src/a.rs` has conflict markers (line 12): resolve them and stage it again
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use super::pause;
use xtask_base::conflict_markers::{count_conflict_markers, first_marker_line};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_config::{BRANCHES_FILE, SYNC_FILE, VALIDATE_FILE, find_rule_faults, is_pin_file};
use xtask_file_checks::syntax::find_syntax_fault;
use xtask_git::Tools;
use xtask_git::{FileMode, Id, PathPatterns, PathScope, Repo, StagedChange, TreeEntry};
use xtask_sync::context::{self, SyncContext};
use xtask_sync::managed::ManagedPaths;
use xtask_sync::overlay::read_overlay;
use xtask_sync::pin_reader::PinReader;

/// The largest file that is accepted, in bytes: 50 MB, the size at which GitHub begins to warn (100 MB is refused).
const LARGEST_FILE: u64 = 50_000_000;

/// The largest file whose syntax is checked, in bytes: 10 MB take a fraction of a second.
const LARGEST_CHECKED: u64 = 10_000_000;

/// The beginning of a Git LFS pointer file.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// The verdict on a commit.
#[derive(Debug, Default)]
pub struct CommitVerdict {
    /// The reasons to refuse the commit, one per line; if empty, the commit is accepted.
    pub faults: Vec<String>,
    /// Additional messages for the user.
    pub notes: Vec<String>,
    /// What is staged, if it was looked at.
    pub changes: Option<Vec<StagedChange>>,
}

/// Checks the staged changes in `index`, the index that git created for this commit.
pub fn check_staged(repo: &Repo, index: &Path, tools: &Tools<'_>) -> Result<CommitVerdict> {
    let mut verdict = CommitVerdict::default();
    if pause::find_pause(repo, tools.world.now_seconds())?.is_some() {
        return Ok(verdict);
    }
    let Some(context) = context::find_canonical_context(repo)? else { return Ok(verdict) };
    let branch = repo.current_branch();
    if let Some(branch) = branch.as_ref().filter(|branch| context.is_protected(branch)) {
        verdict.faults.push(format!(
            "`{branch}` is protected: commit on a branch of your own (`git switch -c NAME` keeps \
             staged changes)"
        ));
    }
    let tree = repo.head().ok().map(|head| head.tree);
    let changes = repo.staged_changes(index, tree)?;
    verdict.faults.extend(find_staged_faults(repo, &context, branch.as_deref(), &changes)?);
    verdict.faults.extend(find_pinned_overlay(repo, &context, &changes, tools)?);
    // Commits that a rebase or a cherry-pick recreates were reported when they were first made.
    if repo.current_operation().is_none()
        && let Some(branch) = branch.filter(|branch| *branch != context.config.branch)
    {
        verdict.notes.extend(describe_own_versions(repo, &context, &branch, &changes, tools)?);
    }
    verdict.changes = Some(changes);
    Ok(verdict)
}

/// Returns the faults of the staged files, one per line.
fn find_staged_faults(
    repo: &Repo,
    context: &SyncContext,
    branch: Option<&str>,
    changes: &[StagedChange],
) -> Result<Vec<String>> {
    let unchecked = PathPatterns::new(context.config.unchecked_patterns.iter().map(String::as_str));
    let incoming = list_incoming_trees(repo);
    // Content that was only renamed is not new.
    let known: BTreeSet<Id> = changes.iter().filter_map(|change| Some(change.before?.id)).collect();
    // These files configure every branch, so they must be valid.
    let rule_files = [SYNC_FILE, BRANCHES_FILE, VALIDATE_FILE].map(RepoPath::new);
    let is_canonical = branch == Some(context.config.branch.as_str());
    let mut faults = Vec::new();
    for change in changes {
        // In a merge, content committed by others is accepted unchanged.
        if is_incoming(repo, &incoming, change) {
            continue;
        }
        let is_rule = is_canonical && rule_files.contains(&change.path);
        if let Some(entry) = change.after.filter(is_regular_file)
            && (is_rule || is_pin_file(change.path.as_bytes()))
        {
            faults.extend(find_rule_faults(&change.path.to_string(), &repo.read_blob(entry.id)?));
        }
        if unchecked.match_with_folders(change.path.as_bytes(), false) != Some(true) {
            faults.extend(find_staged_fault(repo, change, &known)?);
        }
    }
    Ok(faults)
}

/// Lists the trees of the commits that are being merged or picked.
fn list_incoming_trees(repo: &Repo) -> Vec<Id> {
    let incoming = repo.incoming_commits().into_iter();
    incoming.filter_map(|id| repo.tree_of(id).ok()).collect()
}

/// Returns whether what is staged is the content of a commit that is being merged or picked.
fn is_incoming(repo: &Repo, incoming: &[Id], change: &StagedChange) -> bool {
    let is_theirs =
        |tree: &Id| repo.entry_at(*tree, &change.path).is_ok_and(|entry| entry == change.after);
    incoming.iter().any(is_theirs)
}

/// Finds pinned paths of which the commit takes what `sync --no-commit` wrote for the content of the branch.
fn find_pinned_overlay(
    repo: &Repo,
    context: &SyncContext,
    changes: &[StagedChange],
    tools: &Tools<'_>,
) -> Result<Option<String>> {
    // A damaged record is reported by whatever writes it.
    let Ok(overlay) = read_overlay(repo) else { return Ok(None) };
    let is_laid = |change: &&StagedChange| {
        let laid = overlay.paths.get(&change.path);
        laid.is_some_and(|laid| !laid.is_over_pin && laid.written == change.after)
    };
    let laid: Vec<&StagedChange> = changes.iter().filter(is_laid).collect();
    let Ok(head) = repo.head() else { return Ok(None) };
    if laid.is_empty() {
        return Ok(None);
    }
    let reader = PinReader::new(repo, tools.world.now_seconds());
    let Ok(pins) = reader.read_branch(context, &head) else { return Ok(None) };
    // In a merge it may be the content of the other side.
    let incoming = list_incoming_trees(repo);
    let mut laid = laid.into_iter().filter(|change| !is_incoming(repo, &incoming, change));
    let pinned = laid.find(|change| pins.find(&change.path).is_some());
    Ok(pinned.map(|StagedChange { path, before, .. }| {
        let typed = path.quote_as_pathspec();
        let command = match before {
            Some(_) => format!("git restore --staged -- {typed}"),
            None => format!("git rm --cached -- {typed}"),
        };
        format!(
            "`{path}` is pinned, and what is staged is not the content of the branch but what \
             `sync --no-commit` wrote: `{command}` leaves it out of the commit, `cargo xtask why {}` tells of the pin",
            path.quote_for_shell()
        )
    }))
}

/// Describes the managed files of which `branch` gets a version of its own.
fn describe_own_versions(
    repo: &Repo,
    context: &SyncContext,
    branch: &str,
    changes: &[StagedChange],
    tools: &Tools<'_>,
) -> Result<Option<String>> {
    let managed = ManagedPaths::new(&context.config, Some(branch));
    let mut files = Vec::new();
    for StagedChange { path, after, .. } in changes {
        if managed.contains_path(path.as_bytes())
            && !managed.is_kept_by_branch(path)
            && repo.entry_at(context.canonical.tree, path)? != *after
        {
            files.push(path);
        }
    }
    // What is pinned differs on purpose.
    if !files.is_empty()
        && let Ok(head) = repo.head()
        && let Ok(pins) =
            PinReader::new(repo, tools.world.now_seconds()).read_branch(context, &head)
    {
        files.retain(|path| pins.find(path).is_none());
    }
    let files: Vec<String> = files.into_iter().map(ToString::to_string).collect();
    Ok((!files.is_empty()).then(|| {
        format!(
            "{0} {1} managed: the shared version is on `{2}`, and this branch gets one of its own; \
             to change it for all branches, `git switch {2}`, commit and push it there",
            join_names(&files, 3),
            if files.len() == 1 { "is" } else { "are" },
            context.config.branch
        )
    }))
}

fn is_regular_file(entry: &TreeEntry) -> bool {
    matches!(entry.mode, FileMode::File | FileMode::Executable)
}

/// Returns the fault of a staged file. Faults that its committed version already has are ignored.
fn find_staged_fault(
    repo: &Repo,
    change: &StagedChange,
    known: &BTreeSet<Id>,
) -> Result<Option<String>> {
    let Some(after) = change.after.filter(is_regular_file) else { return Ok(None) };
    let before = change.before.filter(is_regular_file);
    if known.contains(&after.id) {
        return Ok(None);
    }
    let path = change.path.to_string();
    let size = repo.object_size(after.id)?;
    if size > LARGEST_FILE {
        return Ok(Some(format!(
            "`{path}` is {} MB, larger than {} MB: put it in Git LFS, or leave it out (`git restore \
             --staged -- {path}`)",
            size / 1_000_000,
            LARGEST_FILE / 1_000_000
        )));
    }
    let content = repo.read_blob(after.id)?;
    let old = || before.map_or(Ok(Vec::new()), |before| repo.read_blob(before.id));
    let found = count_conflict_markers(&content);
    if found > 0 && found > count_conflict_markers(&old()?) {
        return Ok(Some(format!(
            "`{path}` has conflict markers (line {}): resolve them and stage it again",
            first_marker_line(&content)
        )));
    }
    let is_readable = !content.contains(&0) && !content.starts_with(LFS_POINTER);
    if size <= LARGEST_CHECKED
        && is_readable
        && let Some(fault) = find_syntax_fault(&path, &content)
        && (before.is_none() || find_syntax_fault(&path, &old()?).is_none())
    {
        return Ok(Some(format!("`{path}` {fault} (`[hooks] unchecked` excludes files)")));
    }
    Ok(None)
}
