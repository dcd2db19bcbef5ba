//! All of an installation in its order: what speaks against it, the program, the shims.

use std::path::PathBuf;
use std::time::Duration;

use super::install::{self, Done, folders, place};
use super::program::{Builder, sources};
use super::{Hook, program};
use xtask_base::error::{Error, Result};
use xtask_base::lock::Lock;
use xtask_base::name::NAME;
use xtask_git::Repo;
use xtask_sync::context::Context;

/// How long another installation is waited for: longer than a cold build.
const LOCK_WAIT: Duration = Duration::from_secs(600);

/// Where the program comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// It is built from the canonical sources.
    Canonical,
    /// It is the one that runs now.
    ThisProgram,
}

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Where the program comes from.
    pub from: From,
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
    pub hooks: Vec<(Hook, Done)>,
}

/// What was taken out of one folder.
#[derive(Clone, Debug)]
pub struct Removal {
    /// The folder.
    pub folder: PathBuf,
    /// What was done with each hook.
    pub hooks: Vec<(Hook, Done)>,
}

/// Why hooks cannot go where git looks for them, if they cannot.
pub fn refusal(repo: &Repo) -> Result<Option<Error>> {
    let own = repo.common_folder().join("hooks");
    let place = place(repo)?;
    let refused = place.refusal.map(|why| {
        let refused = Error::no(format!("the hooks were not installed: {why}")).hint(format!(
            "`git config --local core.hooksPath {}` gives this repository its own, and the \
             hooks of the other folder no longer run here",
            own.display()
        ));
        match place.is_hopeless {
            true => refused,
            false => {
                refused.hint("`cargo xtask install-hooks --force` installs them there all the same")
            }
        }
    });
    Ok(refused)
}

/// The canonical sources of the program, or the error that there are none.
pub fn canonical_sources(repo: &Repo, context: &Context) -> Result<String> {
    sources(repo, context)?.ok_or_else(|| {
        Error::no(format!(
            "the hooks were not installed: `{}` holds no `{NAME}/` from which to build their program",
            context.config.branch
        ))
        .hint(format!("commit `{NAME}/` there, then `cargo xtask install-hooks`"))
        .hint("or, until then: `cargo xtask install-hooks --this-program`")
    })
}

/// Installs, or renews what is there.
pub fn install_all(builder: &Builder<'_>, context: &Context, wish: Wish) -> Result<Installation> {
    let repo = builder.repo;
    if (!wish.force || place(repo)?.is_hopeless)
        && let Some(refused) = refusal(repo)?
    {
        return Err(refused);
    }
    let folder = repo.hooks_folder()?.path;
    let planned = install::survey(repo, &folder)?;
    let sources = match wish.from {
        From::Canonical => Some(canonical_sources(repo, context)?),
        From::ThisProgram => None,
    };
    // Where there is nothing to do, and for a dry run, nothing at all is written.
    let is_present = builder.is_present(sources.as_deref())?;
    let is_done = |(_, done): &(Hook, Done)| matches!(done, Done::Same | Done::InTheWay(_));
    if wish.dry_run || (is_present && planned.iter().all(is_done)) {
        return Ok(Installation { folder, is_new_program: !is_present, hooks: planned });
    }
    let _lock = lock(repo)?;
    match &sources {
        _ if is_present => {}
        Some(sources) => builder.from_canonical(context, sources)?,
        None => builder.from_this_program()?,
    }
    let now = builder.world.now_seconds();
    let hooks = install::install(repo, &folder, builder.disk, now)?;
    Ok(Installation { folder, is_new_program: !is_present, hooks })
}

/// Takes all away again.
pub fn uninstall_all(builder: &Builder<'_>) -> Result<Vec<Removal>> {
    let repo = builder.repo;
    let _lock = lock(repo)?;
    let mut done = Vec::new();
    for folder in folders(repo)? {
        let now = builder.world.now_seconds();
        let hooks = install::uninstall(repo, &folder, builder.disk, now)?;
        done.push(Removal { folder, hooks });
    }
    program::remove(repo, builder.disk)?;
    Ok(done)
}

/// Nobody else installs or builds the program of the hooks meanwhile.
pub fn lock(repo: &Repo) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    let path = repo.shared_state_folder().join("install.lock");
    Lock::acquire(&path, &who, LOCK_WAIT, |_| {})
}
