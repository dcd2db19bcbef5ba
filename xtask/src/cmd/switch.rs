//! `switch`: removes the overlay of `sync --no-commit`, runs `git switch`, and syncs the new branch the same way.

use super::session::{Session, build_sync_report};
use super::{CommandResult, SUCCESS};
use crate::cli::SwitchArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::HookMode;
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_report::sync::{RunMode, SyncReport};
use xtask_report::{self as report, pluralize};
use xtask_sync::hook_policy::find_hook_policy;
use xtask_sync::overlay;
use xtask_sync::overlay_removal::remove_overlay;
use xtask_sync::plan::WriteMode;
use xtask_sync::run::{
    SyncInspection, SyncOptions, apply_plan, check_repo_ready, inspect_checkout, load_context,
};
use xtask_sync::scan::ScanDepth;
use xtask_sync::undo::{find_backup, undo_run};
use xtask_sync::worktree_lock::LockWorktree as _;

pub(super) fn run(session: &Session, args: &SwitchArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let tools = session.tools();
    if args.branch.starts_with('-') && args.branch != "-" {
        return Err(Error::usage(format!("`{}` is not a branch", args.branch)));
    }
    let (lock, mended) = tools.lock_worktree(&repo)?;
    session.warn_recovered(mended);
    session.print_requests(&repo);
    check_repo_ready(&repo, &tools)?;
    check_branch(&repo, &args.branch)?;
    let had_overlay = !overlay::read_overlay(&repo)?.paths.is_empty();
    let dropped = remove_overlay(&repo, &tools)?;
    for path in &dropped.kept {
        report::print_warning(&format!("`{path}` was changed since sync wrote it, and is kept"));
    }
    let switched = repo.switch_attached(&args.branch)?;
    if !switched.success() {
        // Git has printed the reason. Write the overlay again.
        if let Some(id) = &dropped.backup {
            let backup = find_backup(&repo, Some(id))?;
            undo_run(&tools.apply_context(&repo), &repo.head()?, backup)?;
            session.print_info("the switch failed; the overlay was restored");
        }
        return Ok(ErrorKind::Unable.exit_code());
    }
    if dropped.count > 0 {
        session.print_info(&format!("removed the overlay of {}", pluralize(dropped.count, "file")));
    }
    drop(lock);
    // Open the repository again, because its HEAD has changed.
    let repo = session.open_repo()?;
    let (_lock, _) = tools.lock_worktree(&repo)?;
    sync_switched_branch(session, &repo, &tools, had_overlay)
}

/// Returns an error if the branch exists neither locally nor on a remote.
fn check_branch(repo: &Repo, branch: &str) -> Result<()> {
    let is_there = branch == "-"
        || repo.resolve_ref(&format!("refs/heads/{branch}"))?.is_some()
        || repo
            .refs_below("refs/remotes/")?
            .iter()
            .any(|(name, _)| name.splitn(4, '/').nth(3) == Some(branch));
    if is_there {
        return Ok(());
    }
    Err(Error::usage(format!("no such branch: `{branch}`"))
        .with_hint(format!("`git branch -a` lists all; `git switch -c {branch}` creates it")))
}

/// Syncs the new branch in the mode of the previous one: as an overlay if it had one, else by the rules of the hooks.
fn sync_switched_branch(
    session: &Session,
    repo: &Repo,
    tools: &Tools<'_>,
    had_overlay: bool,
) -> CommandResult {
    let context = load_context(repo, false)?;
    for warning in &context.warnings {
        report::print_warning(warning);
    }
    let mode = match (had_overlay, find_hook_policy(repo, &repo.head()?, &context)?.mode) {
        (true, _) | (_, HookMode::Worktree) => Some(WriteMode::Worktree),
        (_, HookMode::Commit) => Some(WriteMode::Commit),
        (_, HookMode::Notify) => None,
    };
    let wishes = SyncOptions {
        mode: mode.unwrap_or(WriteMode::Commit),
        allow_protected: true,
        ..SyncOptions::plain()
    };
    let SyncInspection::Planned(decided) =
        inspect_checkout(repo, context, &wishes, ScanDepth::Differences, tools)?
    else {
        return Ok(SUCCESS);
    };
    let described =
        build_sync_report(repo, &decided.head, &decided.context, &decided.plan, &[], Vec::new());
    let mut shown = SyncReport { mode: wishes.mode.name(), ..described };
    if mode.is_none() {
        report::print_output(&shown.render_text(RunMode::Check, session.verbosity))?;
        return Ok(SUCCESS);
    }
    let done: Result<_> = apply_plan(repo, *decided, &wishes, tools);
    let done = done?;
    shown.commit = done.commit.map(|id| id.to_string());
    shown.undo = done.backup;
    report::print_output(&shown.render_text(RunMode::Real, session.verbosity))?;
    for step in shown.next_steps(RunMode::Real, "") {
        session.print_info(&step);
    }
    Ok(SUCCESS)
}
