//! When a hook of ours keeps its hands off altogether, whatever it is for.

use std::ffi::OsStr;

use super::shim::SHIM_PID_VARIABLE;
use super::{Hook, pause};
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_base::process::ACTIVE_VAR;
use xtask_base::processes;
use xtask_git::{OperationKind, Repo, is_git};

/// The variables with which a user switches all checks off for one command.
pub const DISABLE_VARIABLES: [&str; 2] = ["DISABLE_ORCHESTRATION_CHECKS", "ORCHESTRATION_DISABLED"];

/// Why the environment keeps hooks from acting, if it does: something of ours is at work above us,
/// a person has switched them off, or nobody is there to be helped.
#[must_use]
pub fn find_disabling_variable(world: &Environment) -> Option<&'static str> {
    [ACTIVE_VAR, DISABLE_VARIABLES[0], DISABLE_VARIABLES[1], "CI"]
        .into_iter()
        .find(|name| world.is_truthy(name))
}

/// Whether a hook runs from what its own shim runs first, as where two managers have put each other's hooks
/// aside: then the shim above does the work. A git command in between has hooks of its own.
#[must_use]
pub fn is_nested_run(world: &Environment) -> bool {
    let shim = world
        .variables
        .get(OsStr::new(SHIM_PID_VARIABLE))
        .and_then(|text| text.to_str()?.parse::<u32>().ok());
    let Some(shim) = shim else { return false };
    let Some(mut at) = processes::find_process(std::process::id()) else { return false };
    // From the shim that has started us upwards.
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

/// The operation of git's that is at its very end when this hook runs, and is not in the way.
///
/// A merge has made its commit when it runs `post-merge`, and a rebase has put the branch back when
/// it runs `post-rewrite`; both remove their notes only afterwards. While they hold local changes
/// back (`--autostash`), they are not at their end.
#[must_use]
pub fn find_ending_operation(repo: &Repo, hook: Hook) -> Option<OperationKind> {
    let kind = match hook {
        Hook::PostMerge => OperationKind::Merge,
        Hook::PostRewrite => OperationKind::Rebase,
        _ => return None,
    };
    (!repo.has_autostash()).then_some(kind)
}

/// Whether this repository lets a hook write here now: nothing is in progress, a branch with a
/// commit is checked out, hooks are not switched off.
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
