//! Notices after a checkout, merge or rebase that changed files on which the environment depends: the checks with
//! `notice-when-changed` of the canonical commit, and the command that helps. Nothing is run.
//!
//! ```text
//! git pull changed package-lock.json  ->  xtask: `package-lock.json` has changed: `npm ci` brings the environment up to date
//! ```

use std::ffi::OsString;

use crate::canonical_checks::read_canonical_checks;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_config::{Check, FixAction};
use xtask_git::{AllPaths, FileGlobs, Id, Repo};
use xtask_hooks::{Hook, skip_rules};
use xtask_sync::context;

/// The maximum number of paths in a line.
const SHOWN_PATHS: usize = 3;

/// The maximum number of lines of one hook.
const SHOWN_LINES: usize = 3;

/// Returns a line for each check whose `notice-when-changed` names a file that the git operation has changed.
pub(super) fn list_notices(
    repo: &Repo,
    hook: Hook,
    args: &[OsString],
    now: i64,
) -> Result<Vec<String>> {
    let Some(before) = find_commit_before(repo, hook, args)? else { return Ok(Vec::new()) };
    let Some(after) = repo.resolve_ref("HEAD")? else { return Ok(Vec::new()) };
    if before == after || !skip_rules::can_write(repo, hook, now)? {
        return Ok(Vec::new());
    }
    let Some(context) = context::find_canonical_context(repo)? else { return Ok(Vec::new()) };
    let Some(checks) = read_canonical_checks(repo, &context)? else { return Ok(Vec::new()) };
    let noticed: Vec<&Check> = checks
        .config
        .checks
        .iter()
        .filter(|check| !check.conditions.in_hooks.notice_when_changed.is_empty())
        .collect();
    if noticed.is_empty() {
        return Ok(Vec::new());
    }
    let (before, after) = (repo.tree_of(before)?, repo.tree_of(after)?);
    let changed = repo.compare_trees(Some(before), Some(after), &AllPaths)?;
    let changed: Vec<RepoPath> = changed.into_keys().collect();
    Ok(noticed.iter().filter_map(|check| describe(check, &changed)).take(SHOWN_LINES).collect())
}

/// Returns the commit that was checked out before the operation, or `None` if it cannot have changed files.
fn find_commit_before(repo: &Repo, hook: Hook, args: &[OsString]) -> Result<Option<Id>> {
    let arg = |at: usize| args.get(at).and_then(|arg| arg.to_str()).unwrap_or_default();
    match hook {
        // The third argument is 0 if only files were checked out; the first is null in a new worktree.
        Hook::PostCheckout if arg(2) == "1" => {
            Ok(Id::from_hex(arg(0).as_bytes()).ok().filter(|id| !id.is_null()))
        }
        Hook::PostMerge => repo.resolve_ref("ORIG_HEAD"),
        Hook::PostRewrite if arg(0) == "rebase" => repo.resolve_ref("ORIG_HEAD"),
        _ => Ok(None),
    }
}

fn describe(check: &Check, changed: &[RepoPath]) -> Option<String> {
    let globs = &check.conditions.in_hooks.notice_when_changed;
    let globs = FileGlobs::new(globs.iter().map(String::as_str));
    let paths: Vec<String> =
        changed.iter().filter(|path| globs.matches_path(path)).map(ToString::to_string).collect();
    if paths.is_empty() {
        return None;
    }
    let has = if paths.len() == 1 { "has" } else { "have" };
    let command = match &check.fix {
        Some(fix) if matches!(fix.action, FixAction::Command(_)) => fix.text().to_owned(),
        _ => format!("cargo xtask validate --only {}", check.name),
    };
    Some(format!(
        "{} {has} changed: `{command}` brings the environment up to date",
        join_names(&paths, SHOWN_PATHS)
    ))
}
