//! `pre-commit`: what is staged must not hold what nobody wants in a history.

use std::collections::BTreeSet;
use std::path::Path;

use super::content::syntax_fault;
use super::off;
use xtask_base::error::Result;
use xtask_base::markers::{conflicts, first_conflict};
use xtask_base::path::RepoPath;
use xtask_base::words::some_of;
use xtask_config::{BRANCHES_FILE, SYNC_FILE, VALIDATE_FILE, rule_faults};
use xtask_git::Tools;
use xtask_git::{Entry, Id, Mode, PathPatterns, Repo, Scope, StagedChange};
use xtask_sync::context;
use xtask_sync::managed::Managed;

/// The largest file that is committed without a word, in bytes: 50 MB, at which GitHub begins to
/// warn (it refuses 100).
const LARGEST: u64 = 50_000_000;

/// What is larger is not read for its syntax: 10 MB, a fraction of a second.
const LARGEST_READ: u64 = 10_000_000;

/// How the file begins that git holds in the place of one in Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";

/// What there is to say about a commit.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Why it is refused, a line each; nothing lets it pass.
    pub faults: Vec<String>,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Judges what is staged in `index`, the index that git made for this commit.
pub fn before_commit(repo: &Repo, index: &Path, tools: &Tools<'_>) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    if off::is_off(repo, tools.world.now_seconds())?.is_some() {
        return Ok(verdict);
    }
    let Some(context) = context::of_canonical(repo)? else { return Ok(verdict) };
    let branch = repo.branch_name();
    if let Some(branch) = branch.as_ref().filter(|branch| context.is_protected(branch)) {
        verdict.faults.push(format!(
            "`{branch}` is protected: commit on a branch of your own (`git switch -c NAME` keeps \
             what is staged)"
        ));
    }
    let tree = repo.head().ok().map(|head| head.tree);
    let changes = repo.staged_changes(index, tree)?;
    let unchecked = PathPatterns::new(context.config.unchecked.iter().map(String::as_str));
    let incoming: Vec<Id> = repo.incoming();
    let incoming: Vec<Id> = incoming.into_iter().filter_map(|id| repo.tree_of(id).ok()).collect();
    // What only gets another name is not new.
    let known: BTreeSet<Id> = changes.iter().filter_map(|change| Some(change.before?.id)).collect();
    for change in &changes {
        // What others have committed is merged as it is.
        let is_theirs =
            |tree: &Id| repo.entry_at(*tree, &change.path).is_ok_and(|entry| entry == change.after);
        if incoming.iter().any(is_theirs) {
            continue;
        }
        if branch.as_deref() == Some(context.config.branch.as_str())
            && let Some(entry) = change.after
            && [SYNC_FILE, BRANCHES_FILE, VALIDATE_FILE]
                .iter()
                .any(|file| change.path == RepoPath::new(*file))
        {
            // What every branch goes by must be understood.
            verdict.faults.extend(rule_faults(&change.path.to_string(), &repo.blob(entry.id)?));
        }
        if unchecked.decide_with_folders(change.path.as_bytes(), false) == Some(true) {
            continue;
        }
        if let Some(fault) = fault(repo, change, &known)? {
            verdict.faults.push(fault);
        }
    }
    // A commit that a rebase or a cherry-pick makes again was noted when it was made.
    let is_new = repo.operation().is_none();
    if is_new && branch.is_some_and(|branch| branch != context.config.branch) {
        let managed = Managed::new(&context.config, repo.branch_name().as_deref());
        let is_shared =
            |path: &RepoPath| managed.holds(path.as_bytes()) && !managed.is_kept_by_branch(path);
        let canonical = context.canonical.tree;
        let mut files = Vec::new();
        for change in changes.iter().filter(|change| is_shared(&change.path)) {
            if repo.entry_at(canonical, &change.path)? != change.after {
                files.push(change.path.to_string());
            }
        }
        if !files.is_empty() {
            verdict.notes.push(format!(
                "{0} {1} managed: what counts is on `{2}`, and this branch gets a version of its own; \
                 to change it for all branches, `git switch {2}`, commit and push it there",
                some_of(&files, 3),
                if files.len() == 1 { "is" } else { "are" },
                context.config.branch
            ));
        }
    }
    Ok(verdict)
}

/// What is wrong with a staged file that was not wrong before.
fn fault(repo: &Repo, change: &StagedChange, known: &BTreeSet<Id>) -> Result<Option<String>> {
    let is_file = |entry: &Entry| matches!(entry.mode, Mode::File | Mode::Executable);
    let Some(after) = change.after.filter(is_file) else { return Ok(None) };
    let before = change.before.filter(is_file);
    if known.contains(&after.id) {
        return Ok(None);
    }
    let path = change.path.to_string();
    let size = repo.object_size(after.id)?;
    if size > LARGEST {
        return Ok(Some(format!(
            "`{path}` has {} MB, more than {}: put it in Git LFS, or leave it out (`git restore \
             --staged -- {path}`)",
            size / 1_000_000,
            LARGEST / 1_000_000
        )));
    }
    let content = repo.blob(after.id)?;
    let old = || before.map_or(Ok(Vec::new()), |before| repo.blob(before.id));
    let found = conflicts(&content);
    if found > 0 && found > conflicts(&old()?) {
        return Ok(Some(format!(
            "`{path}` has conflict markers (line {}): resolve them and stage it again",
            first_conflict(&content)
        )));
    }
    let is_readable = !content.contains(&0) && !content.starts_with(LFS_POINTER);
    if size <= LARGEST_READ
        && is_readable
        && let Some(fault) = syntax_fault(&path, &content)
        && (before.is_none() || syntax_fault(&path, &old()?).is_none())
    {
        return Ok(Some(format!("`{path}` {fault} (`[hooks] unchecked` leaves files out)")));
    }
    Ok(None)
}
