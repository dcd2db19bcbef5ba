//! Installation and removal of the hooks as a whole: preconditions, program, shims, in this order, under one lock.
//!
//! ```text
//! install_all: find_refusal -> preview_install -> lock -> install_canonical -> install_shims
//! ```

use std::path::PathBuf;
use std::time::Duration;

use super::hooks_folder::{find_install_target, list_hooks_folders};
use super::program::{ProgramInstaller, compute_source_key};
use super::shim_install::{ShimOutcome, install_shims, preview_install, uninstall_shims};
use super::{Hook, program};
use xtask_base::error::{Error, Result};
use xtask_base::lock::Lock;
use xtask_base::name::NAME;
use xtask_git::Repo;
use xtask_sync::context::SyncContext;

/// How long to wait for another installation: longer than a cold build.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// The origin of the program that the hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramOrigin {
    /// Built from the canonical sources.
    Canonical,
    /// A copy of the running program (`--this-program`).
    RunningProgram,
}

/// The options of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallOptions {
    pub program_origin: ProgramOrigin,
    /// Also install into a folder that is shared with other repositories.
    pub force: bool,
    /// Report the planned changes without making them.
    pub dry_run: bool,
    /// The on-demand hooks that checks name.
    pub wanted: Vec<Hook>,
}

/// The result of an installation.
#[derive(Clone, Debug)]
pub struct Installation {
    /// The folder with the hooks.
    pub folder: PathBuf,
    pub is_new_program: bool,
    /// The outcome for each hook.
    pub hooks: Vec<(Hook, ShimOutcome)>,
}

/// The result of a removal from one folder.
#[derive(Clone, Debug)]
pub struct Removal {
    pub folder: PathBuf,
    /// The outcome for each hook.
    pub hooks: Vec<(Hook, ShimOutcome)>,
}

/// Returns the error that explains why hooks cannot be installed in the folder that git uses, if that is so.
pub fn find_refusal(repo: &Repo) -> Result<Option<Error>> {
    let own = repo.common_folder().join("hooks");
    let place = find_install_target(repo)?;
    let refused = place.refusal.map(|why| {
        let refused =
            Error::negative(format!("the hooks were not installed: {why}")).with_hint(format!(
                "`git config --local core.hooksPath {}` gives this repository a hooks \
             folder of its own; the hooks of the other folder then no longer run here",
                own.display()
            ));
        match place.is_unusable {
            true => refused,
            false => {
                refused.with_hint("`cargo xtask install-hooks --force` installs them there anyway")
            }
        }
    });
    Ok(refused)
}

/// Returns the key of the canonical sources of the program, or an error if the canonical branch has none.
pub fn require_source_key(repo: &Repo, context: &SyncContext) -> Result<String> {
    compute_source_key(repo, context)?.ok_or_else(|| {
        Error::negative(format!(
            "the hooks were not installed: `{}` has no `{NAME}/` to build their program from",
            context.config.branch
        ))
        .with_hint(format!("commit `{NAME}/` there, then `cargo xtask install-hooks`"))
        .with_hint("or, until then: `cargo xtask install-hooks --this-program`")
    })
}

/// Installs the program and the shims, or updates them.
pub fn install_all(
    builder: &ProgramInstaller<'_>,
    context: &SyncContext,
    options: InstallOptions,
) -> Result<Installation> {
    let repo = builder.repo;
    if (!options.force || find_install_target(repo)?.is_unusable)
        && let Some(refused) = find_refusal(repo)?
    {
        return Err(refused);
    }
    let folder = repo.hooks_folder()?.path;
    let planned = preview_install(repo, &folder, &options.wanted)?;
    let sources = match options.program_origin {
        ProgramOrigin::Canonical => Some(require_source_key(repo, context)?),
        ProgramOrigin::RunningProgram => None,
    };
    // Without pending work, and in a dry run, no file is written.
    let is_present = builder.is_up_to_date(sources.as_deref())?;
    let is_done = |(_, done): &(Hook, ShimOutcome)| {
        matches!(done, ShimOutcome::Unchanged | ShimOutcome::Blocked(_))
    };
    if options.dry_run || (is_present && planned.iter().all(is_done)) {
        return Ok(Installation { folder, is_new_program: !is_present, hooks: planned });
    }
    let _lock = lock_installation(repo)?;
    match &sources {
        _ if is_present => {}
        Some(sources) => builder.install_canonical(context, sources)?,
        None => builder.install_running()?,
    }
    let now = builder.world.now_seconds();
    let hooks = install_shims(repo, &folder, builder.disk, now, &options.wanted)?;
    Ok(Installation { folder, is_new_program: !is_present, hooks })
}

/// Removes all shims and programs of this repository.
pub fn uninstall_all(builder: &ProgramInstaller<'_>) -> Result<Vec<Removal>> {
    let repo = builder.repo;
    let _lock = lock_installation(repo)?;
    let mut done = Vec::new();
    for folder in list_hooks_folders(repo)? {
        let now = builder.world.now_seconds();
        let hooks = uninstall_shims(repo, &folder, builder.disk, now)?;
        done.push(Removal { folder, hooks });
    }
    program::remove_programs(repo, builder.disk)?;
    Ok(done)
}

/// Locks the installation, so that no other process installs hooks or builds their program concurrently.
pub fn lock_installation(repo: &Repo) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    let path = repo.shared_state_folder().join("install.lock");
    Lock::acquire(&path, &who, LOCK_WAIT, |_| {})
}
