//! The repair of a worktree by a confirmed plan: a backup of everything, the reset, and readable env files.
//!
//! A step that fails does not prevent the others; its error is returned with those of the others. For example:
//!
//! ```text
//! back_up -> (services stop) -> repair_files: main at origin/main, `.env` from backup 20260131T180000Z-1
//! ```

use super::create_backup::{
    BACKUP_LIMITS, BackupOptions, SavedBackup, inspect_worktree, save_worktree,
};
use super::diagnose::{Diagnosis, RecoverOptions};
use super::env_files::{BrokenEnvFile, EnvReplacement};
use super::secret_files::{self, CopyRestore, SecretCopy};
use super::{reset, target};
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_git::{Repo, Tools};

/// Backs up the worktree. Returns an error if it is no longer as diagnosed: only the confirmed plan may be executed.
/// The caller holds the worktree lock.
pub fn back_up(
    repo: &Repo,
    tools: &Tools<'_>,
    found: &Diagnosis,
    options: &RecoverOptions,
) -> Result<SavedBackup> {
    let seen = inspect_worktree(repo, &found.secrets)?;
    let recovery_target = target::find_target(repo, options.to.as_deref())?;
    if seen != found.seen || recovery_target != found.recovery_target {
        return Err(Error::negative(
            "the worktree has changed since the plan was made; nothing was done",
        )
        .with_hint("run this again"));
    }
    let wish = BackupOptions {
        purpose: "recover",
        label: None,
        leaves: found.is_leaving.then(|| recovery_target.to_moved_branch()),
        limits: BACKUP_LIMITS,
        replaced_paths: &[],
    };
    save_worktree(repo, tools, &seen, &wish)
}

/// Resets the worktree if `is_leaving`, and replaces those env files of the plan that `find_broken` still returns.
/// Passes results to `say`, and returns the failures. The caller holds the worktree lock.
pub fn repair_files(
    repo: &Repo,
    tools: &Tools<'_>,
    found: &Diagnosis,
    (saved, is_leaving): (&SavedBackup, bool),
    find_broken: &dyn Fn() -> Result<Vec<BrokenEnvFile>>,
    say: &dyn Fn(&str),
) -> Vec<Error> {
    let mut failures = Vec::new();
    if is_leaving {
        match reset::reset_worktree(repo, tools, saved, &found.recovery_target) {
            Ok(kept) => reset::report_reset(repo, &found.recovery_target, &kept, say),
            Err(failure) => failures.push(failure),
        }
    }
    if !found.replaces_files() {
        return failures;
    }
    // The reset may have repaired a file.
    match find_broken() {
        Ok(now) => {
            // The replacement must be the confirmed one, so the entries of the plan are used.
            let still = |one: &&BrokenEnvFile| now.iter().any(|other| other.path == one.path);
            let broken = found.broken.iter().filter(still);
            let done = broken.map(|one| replace_env_file(repo, tools, one, saved, say));
            failures.extend(done.filter_map(Result::err));
        }
        Err(failure) => failures.push(failure),
    }
    failures
}

/// Replaces an unreadable env file with the copy or example of the plan.
fn replace_env_file(
    repo: &Repo,
    tools: &Tools<'_>,
    one: &BrokenEnvFile,
    saved: &SavedBackup,
    say: &dyn Fn(&str),
) -> Result<()> {
    let path = &one.path;
    let (content, bits, from) = match &one.replacement {
        None => {
            return Err(
                Error::negative(one.why.clone()).with_hint(format!("fix `{path}` manually"))
            );
        }
        Some(EnvReplacement::Copy { backup, copies_name: name, index: at, .. }) => {
            let list = secret_files::read_list(repo, name)?;
            let copy =
                list.get(*at).ok_or_else(|| Error::unable("the list of copies is damaged"))?;
            let content = secret_files::read_copy(repo, name, *at, copy)?;
            (content, copy.bits, format!("backup {backup}"))
        }
        Some(EnvReplacement::Example(example)) => {
            let content = std::fs::read(example.to_disk_path(repo.root()))
                .with_context(|| format!("cannot read `{example}`"))?;
            (content, 0o600, format!("`{example}`"))
        }
    };
    let digest = digest::hash_parts([&content[..]]);
    let copy = SecretCopy { path: path.clone(), is_link: false, bits, digest, is_gone: false };
    let why = match secret_files::restore_copy(repo, tools.disk, &copy, &content, &saved.copies)? {
        CopyRestore::Restored | CopyRestore::Unchanged => {
            say(&format!("`{path}` restored from {from}"));
            return Ok(());
        }
        CopyRestore::Unsaved => secret_files::UNSAVED.to_owned(),
        CopyRestore::Blocked(why) => why,
    };
    Err(Error::negative(format!("`{path}` was not changed: {why}")))
}
