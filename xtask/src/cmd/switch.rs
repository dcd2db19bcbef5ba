//! `switch`: removes the overlay of `sync --no-commit`, runs `git switch`, and syncs the new branch the same way.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::SwitchArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_git::Repo;
use xtask_report as report;
use xtask_sync::overlay;
use xtask_sync::overlay_removal::remove_overlay;
use xtask_sync::report::RunMode;
use xtask_sync::run::{check_repo_ready, load_context};
use xtask_sync::sync_worktree::sync_switched_branch;
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
    let context = load_context(&repo, false)?;
    session.warn_about_context(&context);
    if let Some((synced, mode)) = sync_switched_branch(&repo, context, had_overlay, &tools)? {
        report::print_output(&synced.render_text(mode, session.verbosity))?;
        if mode == RunMode::Real {
            synced.next_steps(mode, "").iter().for_each(|step| session.print_info(step));
        }
    }
    Ok(SUCCESS)
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
    Err(Error::usage(format!("no such branch: `{branch}`")).with_hint(format!(
        "`git branch -a` lists all; `git switch -c {}` creates it",
        quote_for_shell(branch)
    )))
}
