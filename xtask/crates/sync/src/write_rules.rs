//! Rules for a write, and what a plan says to them: protected branches, mass deletions, drift.
//!
//! ```text
//! main (protected), plan: update setup/a  -> error: `main` is protected: …
//! feature, plan: delete 9 of 10 files     -> error: 9 of the 10 managed files would be deleted; …
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::classify::PathClass;
use super::context::{SYNC_BRANCH_PREFIX, SyncContext};
use super::managed::ManagedPaths;
use super::plan::{MergeOutcome, OverwritePolicy, PathAction, PlannedPath, SyncPlan, WriteMode};
use super::run::{HintStyle, PlannedSync, SyncOptions};
use xtask_base::error::{Error, Result};
use xtask_base::in_toolkit;
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_git::{Head, Repo};

/// Checks the rules for a write: protected branches and mass deletions.
pub fn check_write_rules(repo: &Repo, planned: &PlannedSync, options: &SyncOptions) -> Result<()> {
    let PlannedSync { head, context, plan, .. } = planned;
    let commits = options.mode == WriteMode::Commit && !plan.tree_changes().is_empty();
    if commits && is_blocked_by_protection(planned, options) {
        let branch = head.branch.as_deref().unwrap_or_default();
        return Err(Error::negative(format!(
            "`{branch}` is protected: sync does not commit there by default; nothing was synced"
        ))
        .with_hint(protected_branch_hint(repo, context, branch))
        .with_hint(format!(
            "or `cargo xtask sync --no-commit` writes the files alone; {} commits",
            options.hints.quote_option("--allow-protected")
        )));
    }
    if options.allow_mass_deletion {
        return Ok(());
    }
    check_mass_deletion(repo, head, context, plan, options.hints)
}

/// Returns whether the protection of the branch is the only reason that a plan cannot be applied.
#[must_use]
pub fn is_blocked_only_by_protection(repo: &Repo, planned: &PlannedSync) -> bool {
    let options = SyncOptions::plain();
    is_blocked_by_protection(planned, &options)
        && check_write_rules(repo, planned, &SyncOptions { allow_protected: true, ..options })
            .is_ok()
}

/// Returns the hint for a protected branch: sync a branch next to it, then merge.
#[must_use]
pub fn protected_branch_hint(repo: &Repo, context: &SyncContext, branch: &str) -> String {
    let push = if repo.has_remote(&context.config.remote) { " --remote --push" } else { "" };
    format!(
        "`cargo xtask propagate{push}`, then merge `{SYNC_BRANCH_PREFIX}{branch}` into `{branch}` by a pull request"
    )
}

/// Returns an error if more than half of the managed files would be deleted. Moved files do not count, nor do files of
/// a vendored toolkit while the canonical branch has a toolkit: another version may have any other files.
pub fn check_mass_deletion(
    repo: &Repo,
    head: &Head,
    context: &SyncContext,
    plan: &SyncPlan,
    hints: HintStyle,
) -> Result<()> {
    let (mut goes, comes) = plan.deleted_and_created();
    let manifest = RepoPath::new(in_toolkit!("VENDORED.toml"));
    if repo.entry_at(context.canonical.tree, &manifest)?.is_some() {
        let toolkit = RepoPath::new(NAME);
        goes.retain(|item| !item.path().is_below(&toolkit));
    }
    if goes.is_empty() {
        return Ok(());
    }
    let managed = ManagedPaths::new(&context.config, head.branch.as_deref());
    let all = repo.list_tree(head.tree, &managed)?.len();
    if goes.len() * 2 <= all {
        return Ok(());
    }
    let deletions = goes.len() - count_moved_files(repo, &goes, &comes)?;
    if deletions * 2 > all {
        return Err(Error::usage(format!(
            "{deletions} of the {all} managed files would be deleted; nothing was synced"
        ))
        .with_hint(format!(
            "{} lists them; {} deletes them",
            hints.quote_option("--dry-run"),
            hints.quote_option("--yes")
        )));
    }
    Ok(())
}

/// Counts the deleted files that are created elsewhere: same file name and at least half of the
/// lines in common.
fn count_moved_files(repo: &Repo, goes: &[&PlannedPath], comes: &[&PlannedPath]) -> Result<usize> {
    let name = |item: &PlannedPath| item.path().components().last().map(<[u8]>::to_vec);
    let mut made: BTreeMap<Option<Vec<u8>>, Vec<Vec<u8>>> = BTreeMap::new();
    for item in comes {
        if let Some(entry) = item.target {
            made.entry(name(item)).or_default().push(repo.read_blob(entry.id)?);
        }
    }
    let mut count = 0;
    for item in goes {
        let Some(news) = made.get_mut(&name(item)) else { continue };
        let Some(entry) = item.state.head else { continue };
        let old = repo.read_blob(entry.id)?;
        if let Some(at) = news.iter().position(|new| has_half_in_common(&old, new)) {
            news.remove(at);
            count += 1;
        }
    }
    Ok(count)
}

/// Returns whether at least half of the lines of `old` are in `new`. Two different texts without a
/// common line never match, even if `old` is blank.
fn has_half_in_common(old: &[u8], new: &[u8]) -> bool {
    if old == new {
        return true;
    }
    let lines = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
        lines.map(<[u8]>::to_vec).collect()
    };
    let (old, new): (_, BTreeSet<Vec<u8>>) = (lines(old), lines(new).into_iter().collect());
    let kept = old.iter().filter(|line| new.contains(*line)).count();
    kept > 0 && kept * 2 >= old.len()
}

pub(super) fn is_blocked_by_protection(planned: &PlannedSync, options: &SyncOptions) -> bool {
    !options.allow_protected
        && planned.head.branch.as_ref().is_some_and(|branch| planned.context.is_protected(branch))
}

/// Returns whether the plan has drift, as reported by `--check`; `strict` includes kept paths.
#[must_use]
pub fn has_drift(plan: &SyncPlan, strict: bool) -> bool {
    plan.items.iter().any(|item| match item.class {
        PathClass::Behind | PathClass::Sparse => true,
        PathClass::Customised | PathClass::Edited | PathClass::Untracked => strict,
        // A pin is on purpose, and ends by itself.
        PathClass::Pinned => false,
        PathClass::InSync | PathClass::Excluded | PathClass::Unknown => false,
    })
}

/// Returns whether a run leaves a path that it was asked to write: behind or forced but not
/// writable, or named on the command line.
#[must_use]
pub fn has_skipped_paths(plan: &SyncPlan, options: &SyncOptions) -> bool {
    let is_forced = options.overwrite == OverwritePolicy::Force;
    plan.items.iter().any(|item| match (item.action, item.class) {
        (PathAction::Refuse, PathClass::Behind | PathClass::Sparse) => true,
        (PathAction::Refuse, _) if is_forced => true,
        (PathAction::Keep | PathAction::Refuse, _) => {
            options.only.contains(item.path()) && item.merge != Some(MergeOutcome::NothingNew)
        }
        _ => false,
    })
}
