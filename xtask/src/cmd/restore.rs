//! `restore`: restores a backup, completely or some paths, after backing up the current state.
//!
//! ```text
//! cargo xtask restore 20260131T180000Z-1 .env
//! backup of 2 hours ago: 1 path restored
//! ```

use std::ffi::OsString;

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::RestoreArgs;
use xtask_base::environment::format_ago;
use xtask_base::error::{ErrorKind, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, sanitize_line};
use xtask_git::{OperationKind, Repo, Revision};
use xtask_recovery::chosen_backup::{
    ChosenBackup, RestoreScope, choose_backup, find_return_target,
};
use xtask_recovery::create_backup::{SavedBackup, SecretRules};
use xtask_recovery::report::render_left_out;
use xtask_recovery::restore::{
    self, RestorePlan, is_already_restored, needs_reset, plan_restore, resumes_operation,
};
use xtask_recovery::target::RecoveryTarget;
use xtask_report::{self as report, pluralize};
use xtask_sync::run::check_repo_ready;
use xtask_sync::worktree_lock::LockWorktree as _;

/// The longest path that is printed, in characters: `PATH_MAX` of Linux.
const MAX_PATH_CHARS: usize = 4096;

/// How many names are listed in one line.
const MAX_NAMES: usize = 5;

pub(super) fn run(session: &Session, args: &RestoreArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let root = repo.root().canonicalize().with_context(|| "cannot read the worktree")?;
    let is_root = |typed: &OsString| {
        session.world.cwd.join(typed).canonicalize().is_ok_and(|path| path == root)
    };
    let named: Vec<OsString> = args.paths.iter().filter(|typed| !is_root(typed)).cloned().collect();
    let paths = session.repo_paths(&repo, &named)?;
    let meant = match (args.paths.len(), named.len()) {
        (0, _) => RestoreScope::Whole,
        (all, some) if all > some => RestoreScope::Files,
        _ => RestoreScope::Paths(&paths),
    };
    if args.dry_run {
        let chosen = choose_backup(&repo, &args.id, meant)?;
        let recovery_target = find_return_target(&repo, &chosen)?;
        return print_preview(session, &repo, &chosen, recovery_target.as_ref());
    }
    let tools = session.tools();
    let (_lock, mended) = tools.lock_worktree(&repo)?;
    session.warn_recovered(mended);
    let chosen = choose_backup(&repo, &args.id, meant)?;
    let recovery_target = find_return_target(&repo, &chosen)?;
    let is_going = needs_reset(&repo, &chosen, recovery_target.as_ref())?;
    if !is_going && chosen.is_whole {
        check_repo_ready(&repo, &tools).map_err(|refused| {
            refused
                .with_hint("`cargo xtask recover git` backs up and ends the operation in progress")
                .with_hint(format!("`cargo xtask restore {} .` restores the files only", args.id))
        })?;
    }
    print_branch_moved(session, &repo, &chosen)?;
    if !is_going && is_already_restored(&repo, &chosen)? {
        session.print_info("nothing to restore: all files are the same as in the backup");
        let is_all = warn_not_restored(&repo, &chosen, &RestorePlan::default())?;
        return Ok(if is_all { SUCCESS } else { ErrorKind::Negative.exit_code() });
    }
    let first = save_current_state(session, &repo, &chosen, is_going)?;
    let recovery_target = recovery_target.as_ref().filter(|_| is_going);
    let say = |text: &str| session.print_info(text);
    match restore::apply_backup(&repo, &tools, &chosen, recovery_target, &first, &say) {
        Ok(done) => print_result(session, &repo, &chosen, &done, &first),
        Err(failure) => Err(failure.with_hint(format!(
            "the previous state is backed up: `cargo xtask restore {}` restores it",
            first.id
        ))),
    }
}

/// Prints a note if the branch has new commits since the backup: files are restored as they were then, not merged.
fn print_branch_moved(session: &Session, repo: &Repo, chosen: &ChosenBackup) -> Result<()> {
    let head = repo.head()?;
    let is_same_branch = head.branch.is_some() && head.branch == chosen.record.branch;
    let then = repo.parse_revision(&chosen.record.head_before);
    if let (true, Some(branch), Ok(Revision::Commit(then))) = (is_same_branch, &head.branch, then)
        && then != head.commit
    {
        let number = repo.count_commits_between(then, head.commit)?;
        session.print_info(&format!(
            "`{branch}` has {} since the backup: files are restored as they were then, not merged",
            pluralize(number, "new commit")
        ));
    }
    Ok(())
}

/// Backs up the current state, and prints the result.
fn save_current_state(
    session: &Session,
    repo: &Repo,
    chosen: &ChosenBackup,
    leaves: bool,
) -> Result<SavedBackup> {
    let secrets = SecretRules::read(repo, &report::print_warning);
    let saved = restore::save_current_state(repo, &session.tools(), secrets, chosen, leaves)?;
    session.print_info(&format!("current state backed up as {}", saved.id));
    render_left_out(&saved).iter().for_each(|line| report::print_warning(line));
    Ok(saved)
}

fn print_result(
    session: &Session,
    repo: &Repo,
    chosen: &ChosenBackup,
    done: &RestorePlan,
    saved: &SavedBackup,
) -> CommandResult {
    let what = chosen.snapshot.label.as_ref().map_or_else(String::new, |l| format!(" `{l}`"));
    let when = format_ago(session.world.now_seconds(), chosen.seconds);
    let same = match done.unchanged {
        0 => String::new(),
        number => format!(", {number} unchanged"),
    };
    session.print_info(&format!(
        "backup{what} of {when}: {} restored{same}",
        pluralize(done.restored.len(), "path")
    ));
    if let Some(operation) = repo.current_operation() {
        let ends = match operation.kind == OperationKind::Bisect {
            true => format!("`{}` ends it", operation.continue_command),
            false => format!("`{}` or `{}`", operation.continue_command, operation.abort_command),
        };
        session.print_info(&format!("{} is in progress again: {ends}", operation.name));
    }
    let mut is_all = warn_not_restored(repo, chosen, done)?;
    session.print_info(&format!("`cargo xtask restore {}` undoes this", saved.id));
    warn_kept_paths(done)?;
    is_all &= done.left_out.is_empty();
    Ok(if is_all { SUCCESS } else { ErrorKind::Negative.exit_code() })
}

/// Warns about state other than files that was not restored. Returns whether there is none.
fn warn_not_restored(repo: &Repo, chosen: &ChosenBackup, done: &RestorePlan) -> Result<bool> {
    let mut is_all = true;
    let operation = chosen.snapshot.operation.as_ref().and_then(|one| one.name.as_ref());
    if let Some(name) = operation.filter(|_| chosen.is_whole && repo.current_operation().is_none())
    {
        is_all = false;
        let about = chosen.snapshot.operation.as_ref().and_then(|one| one.branch.as_ref());
        let why = match about {
            Some(branch) => format!("`{branch}` has new commits since"),
            None => format!("{} is checked out now", repo.short_id(repo.head()?.commit)),
        };
        report::print_warning(&format!("{name} was in progress then, and was not resumed: {why}"));
    }
    if !done.lost_conflicts.is_empty() {
        is_all &= !chosen.is_whole;
        let paths: Vec<String> = done.lost_conflicts.iter().map(ToString::to_string).collect();
        report::print_warning(&format!(
            "restored as plain files without their conflict: {}",
            join_names(&paths, MAX_NAMES)
        ));
    }
    if let Some(failure) = &chosen.lost_copies {
        is_all = false;
        let detail = failure.details().first().map_or(String::new(), |at| format!(" ({at})"));
        report::print_warning(&format!("{failure}{detail}"));
    }
    Ok(is_all)
}

fn warn_kept_paths(plan: &RestorePlan) -> Result<()> {
    if plan.left_out.is_empty() {
        return Ok(());
    }
    report::print_warning(&format!("{} not restored:", pluralize(plan.left_out.len(), "path")));
    for (path, why) in &plan.left_out {
        report::print_output(&format!(
            "{}: {why}\n",
            sanitize_line(&path.to_string(), MAX_PATH_CHARS)
        ))?;
    }
    Ok(())
}

/// Returns a path as a line of output, sanitized.
fn render_path(path: &RepoPath) -> String {
    format!("{}\n", sanitize_line(&path.to_string(), MAX_PATH_CHARS))
}

/// Prints what a restore would do.
fn print_preview(
    session: &Session,
    repo: &Repo,
    chosen: &ChosenBackup,
    recovery_target: Option<&RecoveryTarget>,
) -> CommandResult {
    let is_going = needs_reset(repo, chosen, recovery_target)?;
    if let Some(recovery_target) = recovery_target.filter(|_| is_going) {
        session.print_info(&format!("would first check out {}", recovery_target.describe(repo)));
        let files = chosen.files.iter().map(|file| &file.path);
        let copies = chosen.copies.iter().map(|(_, copy)| &copy.path);
        let lines: String = files.chain(copies).map(render_path).collect();
        report::print_output(&lines)?;
        return Ok(SUCCESS);
    }
    let plan = plan_restore(repo, chosen, None)?;
    let lines: String = plan.restored.iter().map(render_path).collect();
    report::print_output(&lines)?;
    warn_kept_paths(&plan)?;
    let operation = chosen.snapshot.operation.as_ref().and_then(|one| one.name.as_ref());
    if let Some(name) = operation
        && resumes_operation(repo, chosen)?
    {
        session.print_info(&format!("{name} would be in progress again"));
    }
    if !plan.left_out.is_empty() {
        return Ok(ErrorKind::Negative.exit_code());
    }
    if plan.restored.is_empty() {
        session.print_info("nothing to restore: all files are the same as in the backup");
    }
    Ok(SUCCESS)
}
