//! `backup`: saves the uncommitted state of a worktree as a backup that `restore` can bring back, and prints its ID,
//! e.g. `20260131T180000Z-1`.

use serde::Serialize;

use super::session::Session;
use super::{CommandResult, SUCCESS, backup_list};
use crate::cli::BackupArgs;
use xtask_base::error::ErrorKind;
use xtask_recovery::create_backup::{
    BACKUP_LIMITS, BackupOptions, SavedBackup, SecretRules, inspect_worktree, save_worktree,
};
use xtask_recovery::report::{describe_saved, render_left_out, render_not_covered};
use xtask_report as report;
use xtask_sync::worktree_lock::LockWorktree as _;

/// The JSON output of `backup`.
#[derive(Serialize)]
struct BackupReport<'a> {
    schema: &'static str,
    id: Option<&'a str>,
    files: usize,
    copies: usize,
    bytes: u64,
    left_out: &'a [String],
    beyond: &'a [String],
}

pub(super) fn run(session: &Session, args: &BackupArgs) -> CommandResult {
    if args.list {
        return backup_list::print_backups(session, args.json);
    }
    let repo = session.open_repo()?;
    let tools = session.tools();
    let (_lock, mended) = tools.lock_worktree(&repo)?;
    session.warn_recovered(mended);
    let seen = inspect_worktree(&repo, &SecretRules::read(&repo, &report::print_warning))?;
    if seen.is_empty() {
        let beyond = seen.list_not_covered();
        if args.json {
            return print_report(None, &beyond);
        }
        session.print_info("nothing to save: the worktree has no uncommitted changes");
        render_not_covered(&beyond).iter().for_each(|line| report::print_warning(line));
        return Ok(SUCCESS);
    }
    let label = args.label.as_deref();
    let options = BackupOptions {
        purpose: "backup",
        label,
        leaves: None,
        limits: BACKUP_LIMITS,
        replaced_paths: &[],
    };
    let made = save_worktree(&repo, &tools, &seen, &options)?;
    if args.json {
        print_report(Some(&made), &made.not_covered)?;
    } else {
        report::print_output(&format!("{}\n", made.id))?;
        let (words, id) = (describe_saved(&made), &made.id);
        session.print_info(&format!("{words}: `cargo xtask restore {id}` brings it back"));
        render_left_out(&made).iter().for_each(|line| report::print_warning(line));
    }
    Ok(if made.left_out.is_empty() { SUCCESS } else { ErrorKind::Negative.exit_code() })
}

fn print_report(saved: Option<&SavedBackup>, beyond: &[String]) -> CommandResult {
    report::print_json(&BackupReport {
        schema: "xtask.backup/1",
        id: saved.map(|saved| saved.id.as_str()),
        files: saved.map_or(0, |saved| saved.files.len()),
        copies: saved.map_or(0, |saved| saved.copies.len()),
        bytes: saved.map_or(0, |saved| saved.bytes),
        left_out: saved.map_or(&[], |saved| saved.left_out.as_slice()),
        beyond,
    })?;
    Ok(SUCCESS)
}
