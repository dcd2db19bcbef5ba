//! The undo of all fixes of a run, newest first, for `validate --undo`.
//!
//! ```text
//! undo_fixes("last")  ->  "`ruff check --fix` for `lint`, 2 minutes ago: 3 files restored"
//! ```

use super::fix_backup::{FixPhase, FixRecord, FixStore};
use super::load_checks::read_worktree_checks;
use super::session::{fixes_folder, lock_validation};
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::words::{join_names, pluralize, quote_for_shell};
use xtask_git::{Repo, Tools};

/// How long to wait for the lock of another run if the configuration cannot be read, in seconds.
const LOCK_WAIT_S: u64 = 30;

/// Reverts the fixes of `run`, or only lists them if `is_dry_run`; `info` gets a line about each. Returns `false` if
/// a file was kept because it was changed since.
pub fn undo_fixes(
    repo: &Repo,
    tools: &Tools<'_>,
    run: &str,
    is_dry_run: bool,
    info: &dyn Fn(&str),
) -> Result<bool> {
    let warn = |text: &str| tools.progress.warn(text);
    let _lock = if is_dry_run {
        None
    } else {
        // Fixes can be reverted even if the configuration is invalid.
        let wait_s = read_worktree_checks(repo.root(), &|| Ok(false))
            .map_or(LOCK_WAIT_S, |checks| checks.config.lock_wait_s);
        let command = format!("undo {}", quote_for_shell(run));
        let (lock, warning) = lock_validation(repo, tools, &command, wait_s, &warn)?;
        warning.iter().for_each(|text| warn(text));
        lock
    };
    let fixes = FixStore { folder: fixes_folder(repo), root: repo.root(), disk: tools.disk };
    let records = fixes.list_run_fixes(run)?;
    if records.is_empty() {
        info("the fixes of this run are already reverted");
        return Ok(true);
    }
    let mut kept = Vec::new();
    let mut has_failed = false;
    for record in records {
        if is_dry_run {
            let paths: Vec<String> =
                record.changed_paths().iter().map(ToString::to_string).collect();
            let (command, check) = (&record.command, &record.check);
            info(&format!("`{command}` for `{check}` changed {}", join_names(&paths, 5)));
            continue;
        }
        has_failed |= undo_record(&fixes, record, tools, info, &mut kept)?;
    }
    for path in &kept {
        warn(&format!("`{path}` was changed since, and is kept"));
    }
    if kept.is_empty() && !has_failed {
        return Ok(true);
    }
    info(&format!("the content before the fix is kept below {}", fixes.folder.display()));
    Ok(false)
}

/// Reverts one fix, and adds the paths that stay to `kept`. Returns whether a path could not be restored.
fn undo_record(
    fixes: &FixStore<'_>,
    record: FixRecord,
    tools: &Tools<'_>,
    info: &dyn Fn(&str),
    kept: &mut Vec<String>,
) -> Result<bool> {
    let what = format!("`{}` for `{}`", record.command, record.check);
    if !record.has_changes_to_undo() {
        info(&format!("{what} changed no file in its `writes`: nothing to revert"));
        return Ok(false);
    }
    let when = format_ago(tools.world.now_seconds(), record.at);
    let was_cut_short = record.phase == FixPhase::Open;
    let done = fixes.undo_fix(record)?;
    info(&format!("{what}, {when}: {} restored", pluralize(done.restored.len(), "file")));
    if let Some(folder) = done.saved {
        let why = if was_cut_short { "the fix was interrupted; " } else { "" };
        info(&format!("{why}the replaced content is kept in {}", folder.display()));
    }
    done.failures.iter().for_each(|failure| tools.progress.warn(failure));
    if done.keeps_new_files {
        info("it created too many files to check: new files are kept");
    }
    kept.extend(done.kept.iter().map(ToString::to_string));
    Ok(!done.failures.is_empty())
}
