//! The checks of the canonical commit, which hooks run whatever the branch has, and the hooks that they name.
//!
//! ```text
//! [[check]] hook = "commit-msg"  ->  find_wanted_hooks: [Hook::CommitMsg]
//! ```

use xtask_base::error::Result;
#[cfg(feature = "checks")]
use xtask_base::path::RepoPath;
#[cfg(feature = "checks")]
use xtask_config::VALIDATE_FILE;
use xtask_git::Repo;
use xtask_hooks::Hook;
use xtask_sync::context::SyncContext;
#[cfg(feature = "checks")]
use xtask_validate::load_checks::LoadedChecks;

#[cfg(feature = "checks")]
/// Reads the checks of the canonical commit, if it has any.
pub(crate) fn read_canonical_checks(
    repo: &Repo,
    context: &SyncContext,
) -> Result<Option<LoadedChecks>> {
    let path = RepoPath::new(VALIDATE_FILE);
    let Some(entry) = repo.entry_at(context.canonical.tree, &path)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&repo.read_blob(entry.id)?).into_owned();
    LoadedChecks::parse(&text).map(Some)
}

#[cfg(feature = "checks")]
/// Returns the on-demand hooks that canonical checks name. A file that cannot be read names none; what is wrong with it
/// is said where checks run.
pub(crate) fn find_wanted_hooks(repo: &Repo, context: Option<&SyncContext>) -> Result<Vec<Hook>> {
    let Some(context) = context else { return Ok(Vec::new()) };
    let Ok(Some(checks)) = read_canonical_checks(repo, context) else {
        return Ok(Vec::new());
    };
    let names = |hook: Hook| {
        let mut all =
            checks.config.checks.iter().flat_map(|check| &check.conditions.in_hooks.kinds);
        all.any(|kind| kind.name() == hook.name())
    };
    Ok(Hook::ALL.into_iter().filter(|hook| hook.is_on_demand() && names(*hook)).collect())
}

/// Without checks no hook is wanted besides those that are always installed.
#[cfg(not(feature = "checks"))]
pub(crate) fn find_wanted_hooks(_repo: &Repo, _context: Option<&SyncContext>) -> Result<Vec<Hook>> {
    Ok(Vec::new())
}
