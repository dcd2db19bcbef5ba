//! The list of everything that can be restored: backups of `backup` and `sync`, fixes of `validate`, e.g. for
//! `backup --list`.

use super::session::Session;
use super::{CommandResult, SUCCESS};
#[cfg(feature = "checks")]
use xtask_base::environment::{format_ago, format_rfc3339};
#[cfg(feature = "checks")]
use xtask_git::Repo;
use xtask_recovery::backup_list::list_backups;
#[cfg(feature = "checks")]
use xtask_recovery::report::BackupLine;
use xtask_recovery::report::{BackupList, render_list};
use xtask_report as report;
#[cfg(feature = "checks")]
use xtask_validate::fix_backup::{FixPhase, FixRecord, FixStore};
#[cfg(feature = "checks")]
use xtask_validate::session::fixes_folder;

#[cfg(feature = "checks")]
/// Returns the fixes that `validate` has applied in this worktree.
pub(super) fn list_fixes(session: &Session, repo: &Repo) -> Vec<FixRecord> {
    let disk = session.tools().disk;
    FixStore { folder: fixes_folder(repo), root: repo.root(), disk }.list_fixes()
}

#[cfg(feature = "checks")]
/// Returns a line for each fix that can still be reverted.
fn build_fix_lines(session: &Session, repo: &Repo) -> Vec<BackupLine> {
    let now = session.world.now_seconds();
    let open = |fix: &FixRecord| fix.phase != FixPhase::Undone && fix.has_changes_to_undo();
    let line = |fix: FixRecord| BackupLine {
        paths: fix.changed_paths().len(),
        bytes: None,
        when: format_ago(now, fix.at),
        time: format_rfc3339(fix.at),
        purpose: format!("fix of `{}`", fix.check),
        label: None,
        branch: fix.branch.unwrap_or_else(|| "detached HEAD".to_owned()),
        worktree: fix.worktree,
        back: format!("cargo xtask validate --undo {}", fix.run),
        id: fix.run,
    };
    list_fixes(session, repo).into_iter().filter(open).map(line).collect()
}

/// Prints all backups and fixes, as text or as JSON (`xtask.backup-list/1`).
pub(super) fn print_backups(session: &Session, is_json: bool) -> CommandResult {
    let repo = session.open_repo()?;
    let lines = list_backups(&repo, session.world.now_seconds())?;
    #[cfg(feature = "checks")]
    let lines: Vec<BackupLine> = lines.into_iter().chain(build_fix_lines(session, &repo)).collect();
    if is_json {
        report::print_json(&BackupList { schema: "xtask.backup-list/1", backups: lines })?;
        return Ok(SUCCESS);
    }
    if lines.is_empty() {
        session.print_info("no backups");
    }
    report::print_output(&render_list(&lines))?;
    Ok(SUCCESS)
}
