//! Conditions under which all hooks skip their work: environment variables, nested runs, git operations in progress,
//! and pauses.
//!
//! For example, `CI=1 git commit` runs no hook of xtask.

use std::ffi::OsStr;

use super::shim::SHIM_PID_VARIABLE;
use super::{Hook, pause};
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_base::process::ACTIVE_VAR;
use xtask_base::processes;
use xtask_git::{OperationKind, Repo, is_git};

/// The variables with which a user disables all checks for one command.
pub const DISABLE_VARIABLES: [&str; 2] = ["DISABLE_ORCHESTRATION_CHECKS", "ORCHESTRATION_DISABLED"];

/// Returns the variable that disables hooks, if one is set: a command of xtask is running above this process, a user has
/// disabled them, or the environment is `CI`.
#[must_use]
pub fn find_disabling_variable(world: &Environment) -> Option<&'static str> {
    [ACTIVE_VAR, DISABLE_VARIABLES[0], DISABLE_VARIABLES[1], "CI"]
        .into_iter()
        .find(|name| world.is_truthy(name))
}

/// Returns whether this hook was started, directly or indirectly, by the existing hook that our shim runs first, as when
/// two managers have moved each other's hooks aside: the outer shim then does the work. A git command in between has
/// hooks of its own.
#[must_use]
pub fn is_nested_run(world: &Environment) -> bool {
    let shim = world
        .variables
        .get(OsStr::new(SHIM_PID_VARIABLE))
        .and_then(|text| text.to_str()?.parse::<u32>().ok());
    let Some(shim) = shim else { return false };
    let Some(mut at) = processes::find_process(std::process::id()) else { return false };
    // Walk up from the shim that started this process.
    while at.parent_pid > 1 {
        let Some(parent) = processes::find_process(at.parent_pid) else { return false };
        if parent.pid == shim {
            return true;
        }
        if is_git(&parent.name) {
            return false;
        }
        at = parent;
    }
    false
}

/// Returns the git operation that is about to end when `hook` runs and therefore is no obstacle.
///
/// A merge has already created its commit when it runs `post-merge`, and a rebase has already moved the branch when it
/// runs `post-rewrite`; both remove their state files only afterwards. With a pending `--autostash` they are not about
/// to end.
#[must_use]
pub fn find_ending_operation(repo: &Repo, hook: Hook) -> Option<OperationKind> {
    let kind = match hook {
        Hook::PostMerge => OperationKind::Merge,
        Hook::PostRewrite => OperationKind::Rebase,
        _ => return None,
    };
    (!repo.has_autostash()).then_some(kind)
}

/// Returns whether a hook may write in this worktree: a branch with a commit is checked out, no other git operation is
/// in progress, and hooks are not disabled.
pub fn can_write(repo: &Repo, hook: Hook, now: i64) -> Result<bool> {
    let has_branch = repo.current_branch().is_some() && repo.resolve_ref("HEAD")?.is_some();
    if !has_branch || pause::find_pause(repo, now)?.is_some() {
        return Ok(false);
    }
    if repo.has_autostash() || repo.needs_checkout() {
        return Ok(false);
    }
    let in_progress = repo.current_operation().map(|operation| operation.kind);
    Ok(in_progress.is_none() || in_progress == find_ending_operation(repo, hook))
}
