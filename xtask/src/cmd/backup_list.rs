//! The list of everything that can be restored (backups of `backup` and `sync`, fixes of `validate`), and the
//! messages about a new backup, such as `3 files saved, 12 kB`.

use super::session::Session;
use super::{CommandResult, SUCCESS};
#[cfg(feature = "checks")]
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::words::{format_size, pluralize, sanitize_line};
use xtask_config::SyncConfig;
use xtask_git::Repo;
use xtask_recovery::create_backup::{SavedBackup, SecretRules};
use xtask_report as report;
use xtask_sync::backup;
use xtask_sync::backup_list::{BackupLine, BackupList, render_list};
use xtask_sync::context;
#[cfg(feature = "checks")]
use xtask_validate::fix_backup::{FixPhase, FixRecord, FixStore};
#[cfg(feature = "checks")]
use xtask_validate::session::fixes_folder;

/// The longest message about a path, in characters.
const MAX_LINE_CHARS: usize = 300;

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
    let mut lines = Vec::new();
    for found in backup::list_backups(&repo)? {
        lines.push(BackupLine::new(&repo, session.world.now_seconds(), found)?);
    }
    #[cfg(feature = "checks")]
    lines.extend(build_fix_lines(session, &repo));
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

/// Reads the patterns of files that may be secret from `[backup]` of the canonical branch. If they cannot be read,
/// every untracked file counts as secret.
pub(super) fn read_secret_rules(repo: &Repo) -> SecretRules {
    let usual = || SyncConfig::default().backup_patterns;
    let (patterns, is_unknown) = match context::find_canonical_context(repo) {
        Ok(Some(context)) => (context.config.backup_patterns, false),
        Ok(None) => (usual(), false),
        Err(failure) => {
            report::print_warning(&format!(
                "cannot read `[backup]` of `setup/sync.toml`: {failure}"
            ));
            (usual(), true)
        }
    };
    SecretRules { patterns, is_unreadable: is_unknown, extra_paths: Vec::new() }
}

/// Describes what was saved, e.g. `3 files and 1 file that may be secret saved, 12 kB`.
pub(super) fn describe_saved(saved: &SavedBackup) -> String {
    let files = pluralize(saved.files.len(), "file");
    let copies = format!("{} that may be secret", pluralize(saved.copies.len(), "file"));
    let what = match (saved.files.len(), saved.copies.len()) {
        (0, 0) => return "the position of HEAD is saved".to_owned(),
        (_, 0) => files,
        (0, _) => copies,
        _ => format!("{files} and {copies}"),
    };
    format!("{what} saved, {}", format_size(saved.bytes))
}

/// Warns about files that are not in a backup.
pub(super) fn warn_left_out(saved: &SavedBackup) {
    for line in &saved.left_out {
        report::print_warning(&format!("not saved: {}", sanitize_line(line, MAX_LINE_CHARS)));
    }
    warn_unsaved(&saved.not_covered);
}

pub(super) fn warn_unsaved(beyond: &[String]) {
    for line in beyond {
        report::print_warning(&format!(
            "not saved: {line}; use `cargo xtask -C` or git in that folder to save it"
        ));
    }
}
