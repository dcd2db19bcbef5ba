//! `install-hooks`: git hooks that keep branches up to date by themselves.

use super::session::{Session, hook_lines};
use super::{DONE, Exit};
use crate::cli::InstallHooks;
use xtask_base::error::Kind;
use xtask_hooks::health::words;
use xtask_hooks::install::Done;
use xtask_hooks::off::is_off;
use xtask_hooks::set_up::{From, Wish, install_all};
use xtask_report::{self as report, hooks::installed};
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &InstallHooks) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let from = if args.this_program { From::ThisProgram } else { From::Canonical };
    let wish = Wish { from, force: args.force, dry_run: args.dry_run };
    if !args.dry_run {
        // Hooks go by these, and by nothing that a branch says.
        context::remember(&repo, &context::names(&repo)?)?;
    }
    let done = install_all(&session.builder(&repo), &context, wish)?;
    if args.dry_run {
        session.story("nothing is written; this is what would be done:");
    }
    let lines = hook_lines(&done.hooks);
    report::answer(&installed(&done.folder, done.is_new_program, &lines, session.loudness))?;
    if let Some((place, off)) = is_off(&repo, session.world.now_seconds())? {
        report::warn(&format!("hooks are {}", words(place, off)));
    }
    let is_whole = !done.hooks.iter().any(|(_, done)| matches!(done, Done::InTheWay(_)));
    Ok(if is_whole { DONE } else { Kind::No.code() })
}
