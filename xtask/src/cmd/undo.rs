//! `undo`: restores the files and the branch as they were before a sync, an undo, or a fix of `validate`.

#[cfg(feature = "checks")]
use super::checks::undo_fixes;
use super::session::Session;
use super::{CommandResult, SUCCESS, backup_list};
use crate::cli::UndoArgs;
use xtask_base::environment::format_ago;
use xtask_base::error::{ErrorKind, Result};
use xtask_git::Repo;
use xtask_hooks::Hook;
use xtask_hooks::health::inspect_hooks;
use xtask_hooks::program::VerifyDepth;
use xtask_report::{self as report, pluralize};
use xtask_sync::run::check_repo_ready;
use xtask_sync::undo::{find_backup, undo_run};
use xtask_sync::worktree_lock::LockWorktree as _;
use xtask_sync::{backup, context};

pub(super) fn run(session: &Session, args: &UndoArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.list {
        return backup_list::print_backups(session, false);
    }
    #[cfg(feature = "checks")]
    if let Some(run) = &args.id
        && backup_list::list_fixes(session, &repo).iter().any(|fix| fix.run == *run)
    {
        return undo_fixes(session, &repo, run, false);
    }
    let tools = session.tools();
    let (_lock, mended) = tools.lock_worktree(&repo)?;
    session.warn_recovered(mended);
    session.print_requests(&repo);
    let backup = find_backup(&repo, args.id.as_deref())?;
    check_repo_ready(&repo, &tools)?;
    let head = repo.head()?;
    let undone = undo_run(&tools.apply_context(&repo), &head, backup)?;
    let purpose = undone.purpose();
    if !undone.restored.is_empty() || undone.moved_branch {
        let branch = match (undone.moved_branch, undone.left_branch) {
            (true, _) => ", and the branch was reset",
            (_, true) => "; the branch stays where it is, so they are staged as changes",
            _ => "",
        };
        session.print_info(&format!(
            "`{purpose}` of {} undone: {} restored{branch}",
            format_ago(session.world.now_seconds(), undone.backup.seconds),
            pluralize(undone.restored.len(), "path")
        ));
    }
    // A hook only repeats a plain sync, not `--force` or `--merge`.
    if undone.moved_branch && purpose == backup::PLAIN_SYNC && hooks_fire(session, &repo)? {
        session.print_info(
            "the hooks sync again at the next checkout; `cargo xtask hooks disable`, or a rule for \
             the branch in `setup/sync.toml`, prevents that",
        );
    }
    if let Some(own) = &undone.own_backup {
        session.print_info(&format!("`cargo xtask undo {own}` undoes this"));
    }
    if !undone.pinned.is_empty() {
        report::print_warning(&format!(
            "{} pinned, and kept; `cargo xtask unpin PATH` ends a pin:",
            pluralize(undone.pinned.len(), "path")
        ));
        for path in &undone.pinned {
            report::print_output(&format!("{path}\n"))?;
        }
    }
    if undone.kept.is_empty() {
        return Ok(match undone.pinned.is_empty() {
            true => SUCCESS,
            false => ErrorKind::Negative.exit_code(),
        });
    }
    report::print_warning(&format!(
        "{} changed since, and kept:",
        pluralize(undone.kept.len(), "path")
    ));
    for path in &undone.kept {
        report::print_output(&format!("{path}\n"))?;
    }
    let name = &undone.backup.id;
    session.print_info(&format!(
        "their earlier content: `git show {}{name}:worktree/PATH`",
        backup::REF_PREFIX
    ));
    Ok(ErrorKind::Negative.exit_code())
}

fn hooks_fire(session: &Session, repo: &Repo) -> Result<bool> {
    let context = context::find_canonical_context(repo)?;
    let health =
        inspect_hooks(repo, &session.world, Ok(context.as_ref()), VerifyDepth::Metadata, &[])?;
    Ok(health.hooks.iter().any(|hook| hook.hook == Hook::PostCheckout && health.will_run(hook)))
}
