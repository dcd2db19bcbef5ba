//! `install-hooks`: git hooks that keep branches up to date by themselves.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::InstallHooks;
use crate::hooks::set_up::{From, install_all};
use crate::report::{self, hooks::installed};
use crate::sync::context;

pub(super) fn run(session: &Session, args: &InstallHooks) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let from = if args.this_program { From::ThisProgram } else { From::Canonical };
    let installation = install_all(&session.builder(&repo), &context, from, args.force)?;
    report::answer(&installed(
        &installation.folder,
        installation.is_new_program,
        &super::session::hook_lines(&installation.hooks),
        session.loudness,
    ))?;
    Ok(DONE)
}
