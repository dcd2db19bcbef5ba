//! `branch prune`: lists merged branches and deletes the named or confirmed ones. Each deletion prints the command
//! that restores the branch.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::BranchPruneArgs;
use xtask_base::error::{ErrorKind, Result};
use xtask_base::words::pluralize;
use xtask_branches::facts::BranchInspector;
use xtask_branches::prune::{KeepReason, PruneCandidate, delete_branch, list_candidates};
use xtask_branches::rules::MergeKind;
use xtask_report::{self as report, Verbosity};
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &BranchPruneArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let look = BranchInspector::new(&repo, &context, session.world.now_seconds())?;
    let rows = list_candidates(&look, &args.branches)?;
    let is_named = !args.branches.is_empty();
    let mut is_refused = false;
    for row in &rows {
        let Err(kept) = &row.verdict else { continue };
        let line = format!("`{}` is kept: it {}", row.branch, kept.describe());
        if is_named {
            is_refused = true;
            report::print_warning(&line);
        } else if session.verbosity == Verbosity::Verbose || matches!(kept, KeepReason::Unknown(_))
        {
            session.print_info(&line);
        }
    }
    let code = if is_refused { ErrorKind::Negative.exit_code() } else { SUCCESS };
    let going: Vec<&PruneCandidate> = rows.iter().filter(|row| row.verdict.is_ok()).collect();
    if going.is_empty() {
        session.print_info("no merged branches to delete");
        return Ok(code);
    }
    if args.dry_run || !is_named {
        let lines = going.iter().map(|row| format!("{}  {}\n", row.branch, describe_merge(row)));
        report::print_output(&lines.collect::<String>())?;
    }
    if args.dry_run {
        session.print_info(&format!("{} would be deleted", pluralize_branches(going.len())));
        return Ok(code);
    }
    if !is_named && !args.yes {
        let question = format!("delete {}?", pluralize_branches(going.len()));
        match report::prompt_yes(&question) {
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
    let mut failed = None;
    for row in going {
        // One failure does not keep the others from being deleted.
        let done: Result<()> =
            delete_branch(&repo, session.tools().disk, row, session.world.now_seconds());
        if repo.resolve_ref(&format!("refs/heads/{}", row.branch))?.is_none() {
            let way_back = row.restore_command();
            report::print_output(&format!("deleted `{}`; `{way_back}` restores it\n", row.branch))?;
        }
        if let Err(failure) = done {
            report::print_warning(&format!("`{}`: {failure}", row.branch));
            failed.get_or_insert(failure.kind().exit_code());
        }
    }
    Ok(failed.unwrap_or(code))
}

fn pluralize_branches(number: usize) -> String {
    if number == 1 { pluralize(1, "branch") } else { format!("{number} branches") }
}

/// Describes how a branch is merged, e.g. "merged into `main`".
fn describe_merge(row: &PruneCandidate) -> String {
    match &row.verdict {
        Ok((base, MergeKind::Commits)) => format!("merged into `{base}`"),
        Ok((base, MergeKind::Content { at: None })) => format!("`{base}` has all of its changes"),
        Ok((base, MergeKind::Content { at: Some(commit) })) => {
            format!("squashed into `{base}` as {commit}")
        }
        Err(kept) => kept.describe(),
    }
}
