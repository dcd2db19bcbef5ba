//! `branch prune`: lists merged branches and deletes the named or confirmed ones. Each deletion prints the command
//! that restores the branch.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::BranchPruneArgs;
use xtask_base::error::ErrorKind;
use xtask_base::words::pluralize;
use xtask_branches::facts::BranchInspector;
use xtask_branches::prune::{
    KeepReason, PruneCandidate, PruneVerdict, delete_branch, list_candidates,
};
use xtask_git::Repo;
use xtask_report::{self as report, Verbosity};
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &BranchPruneArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let inspector = BranchInspector::new(&repo, &context, session.world.now_seconds())?;
    let is_named = !args.branches.is_empty();
    let is_merged = |row: &PruneCandidate| matches!(row.verdict, PruneVerdict::Merged(..));
    let (merged, kept): (Vec<_>, Vec<_>) =
        list_candidates(&inspector, &args.branches)?.into_iter().partition(is_merged);
    print_kept(session, &kept, is_named);
    let is_refused = is_named && !kept.is_empty();
    let code = if is_refused { ErrorKind::Negative.exit_code() } else { SUCCESS };
    if merged.is_empty() {
        session.print_info("no merged branches to delete");
        return Ok(code);
    }
    if args.dry_run || !is_named {
        let line = |row: &PruneCandidate| format!("{}  {}\n", row.branch, row.verdict.describe());
        report::print_output(&merged.iter().map(line).collect::<String>())?;
    }
    let count = pluralize(merged.len(), "branch");
    if args.dry_run {
        session.print_info(&format!("{count} would be deleted"));
        return Ok(code);
    }
    if !is_named && !args.yes {
        match report::prompt_yes(&format!("delete {count}?")) {
            Some(true) => {}
            Some(false) => {
                session.print_info("nothing was deleted");
                return Ok(ErrorKind::Negative.exit_code());
            }
            None => {
                session
                    .print_info("nothing was deleted: name the branches to delete, or use `--yes`");
                return Ok(code);
            }
        }
    }
    let failed = delete_branches(session, &repo, &merged)?;
    Ok(if failed == SUCCESS { code } else { failed })
}

/// Prints why branches are kept: those that were named, and those that could not be checked.
fn print_kept(session: &Session, kept: &[PruneCandidate], is_named: bool) {
    for PruneCandidate { branch, verdict, .. } in kept {
        let line = format!("`{branch}` is kept: it {}", verdict.describe());
        let is_unknown = matches!(verdict, PruneVerdict::Kept(KeepReason::Unknown(_)));
        if is_named {
            report::print_warning(&line);
        } else if session.verbosity == Verbosity::Verbose || is_unknown {
            session.print_info(&line);
        }
    }
}

/// Deletes all branches; one failure does not keep the others from being deleted. Returns the exit code of the first.
fn delete_branches(session: &Session, repo: &Repo, merged: &[PruneCandidate]) -> CommandResult {
    let now = session.world.now_seconds();
    let mut failed = None;
    for row in merged {
        let done = delete_branch(repo, session.tools().disk, row, now);
        if repo.resolve_ref(&format!("refs/heads/{}", row.branch))?.is_none() {
            let way_back = row.restore_command();
            report::print_output(&format!("deleted `{}`; `{way_back}` restores it\n", row.branch))?;
        }
        if let Err(failure) = done {
            report::print_warning(&format!("`{}`: {failure}", row.branch));
            failed.get_or_insert(failure.kind().exit_code());
        }
    }
    Ok(failed.unwrap_or(SUCCESS))
}
