//! All of an installation in its order: what speaks against it, the program, the shims.

use std::path::PathBuf;
use std::time::Duration;

use super::hooks_folder::{self, ShimOutcome, find_install_target, list_hooks_folders};
use super::program::{ProgramInstaller, compute_source_key};
use super::{Hook, program};
use xtask_base::error::{Error, Result};
use xtask_base::lock::Lock;
use xtask_base::name::NAME;
use xtask_git::Repo;
use xtask_sync::context::SyncContext;

/// How long another installation is waited for: longer than a cold build.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// Where the program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramOrigin {
    /// It is built from the canonical sources.
    Canonical,
    /// It is the one that runs now.
    RunningProgram,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstallOptions {
    /// Where the program comes from.
    pub program_origin: ProgramOrigin,
    /// Also into a folder that others share.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Installation {
    /// Where the hooks are.
    pub folder: PathBuf,
    /// Whether the program is a new one.
    pub is_new_program: bool,
    /// What was done with each hook.
    pub hooks: Vec<(Hook, ShimOutcome)>,
}

/// What was taken out of one folder.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The folder.
    pub folder: PathBuf,
    /// What was done with each hook.
    pub hooks: Vec<(Hook, ShimOutcome)>,
}

/// Why hooks cannot go where git looks for them, if they cannot.
pub fn find_refusal(repo: &Repo) -> Result<Option<Error>> {
    let own = repo.common_folder().join("hooks");
    let place = find_install_target(repo)?;
    let refused = place.refusal.map(|why| {
        let refused =
            Error::negative(format!("the hooks were not installed: {why}")).with_hint(format!(
                "`git config --local core.hooksPath {}` gives this repository its own, and the \
             hooks of the other folder no longer run here",
                own.display()
            ));
        match place.is_unusable {
            true => refused,
            false => refused
                .with_hint("`cargo xtask install-hooks --force` installs them there all the same"),
        }
    });
    Ok(refused)
}

/// The canonical sources of the program, or the error that there are none.
pub fn require_source_key(repo: &Repo, context: &SyncContext) -> Result<String> {
    compute_source_key(repo, context)?.ok_or_else(|| {
        Error::negative(format!(
            "the hooks were not installed: `{}` holds no `{NAME}/` from which to build their program",
            context.config.branch
        ))
        .with_hint(format!("commit `{NAME}/` there, then `cargo xtask install-hooks`"))
        .with_hint("or, until then: `cargo xtask install-hooks --this-program`")
    })
}

/// Installs, or renews what is there.
pub fn install_all(
    builder: &ProgramInstaller<'_>,
    context: &SyncContext,
    wish: InstallOptions,
) -> Result<Installation> {
    let repo = builder.repo;
    if (!wish.force || find_install_target(repo)?.is_unusable)
        && let Some(refused) = find_refusal(repo)?
    {
        return Err(refused);
    }
    let folder = repo.hooks_folder()?.path;
    let planned = hooks_folder::preview_install(repo, &folder)?;
    let sources = match wish.program_origin {
        ProgramOrigin::Canonical => Some(require_source_key(repo, context)?),
        ProgramOrigin::RunningProgram => None,
    };
    // Where there is nothing to do, and for a dry run, nothing at all is written.
    let is_present = builder.is_up_to_date(sources.as_deref())?;
    let is_done = |(_, done): &(Hook, ShimOutcome)| {
        matches!(done, ShimOutcome::Unchanged | ShimOutcome::Blocked(_))
    };
    if wish.dry_run || (is_present && planned.iter().all(is_done)) {
        return Ok(Installation { folder, is_new_program: !is_present, hooks: planned });
    }
    let _lock = lock_installation(repo)?;
    match &sources {
        _ if is_present => {}
        Some(sources) => builder.install_canonical(context, sources)?,
        None => builder.install_running()?,
    }
    let now = builder.world.now_seconds();
    let hooks = hooks_folder::install_shims(repo, &folder, builder.disk, now)?;
    Ok(Installation { folder, is_new_program: !is_present, hooks })
}

/// Takes all away again.
pub fn uninstall_all(builder: &ProgramInstaller<'_>) -> Result<Vec<Removal>> {
    let repo = builder.repo;
    let _lock = lock_installation(repo)?;
    let mut done = Vec::new();
    for folder in list_hooks_folders(repo)? {
        let now = builder.world.now_seconds();
        let hooks = hooks_folder::uninstall_shims(repo, &folder, builder.disk, now)?;
        done.push(Removal { folder, hooks });
    }
    program::remove_programs(repo, builder.disk)?;
    Ok(done)
}

/// Nobody else installs or builds the program of the hooks meanwhile.
pub fn lock_installation(repo: &Repo) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    let path = repo.shared_state_folder().join("install.lock");
    Lock::acquire(&path, &who, LOCK_WAIT, |_| {})
}
