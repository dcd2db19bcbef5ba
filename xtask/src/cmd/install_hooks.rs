//! `install-hooks`: installs the shims and the program that they run, e.g. `.git/hooks/post-checkout` and
//! `.git/xtask/bin`.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::canonical_checks::find_wanted_hooks;
use crate::cli::InstallHooksArgs;
use xtask_base::error::ErrorKind;
use xtask_hooks::health::describe_pause;
use xtask_hooks::installation::{InstallOptions, ProgramOrigin, install_all};
use xtask_hooks::pause::find_pause;
use xtask_hooks::report::render_installed;
use xtask_hooks::shim_install::ShimOutcome;
use xtask_report as report;
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &InstallHooksArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let from =
        if args.this_program { ProgramOrigin::RunningProgram } else { ProgramOrigin::Canonical };
    let options = InstallOptions {
        program_origin: from,
        force: args.force,
        dry_run: args.dry_run,
        wanted: find_wanted_hooks(&repo, Some(&context))?,
    };
    if !args.dry_run {
        // The hooks use these names, not those in the files of the branch that is checked out.
        context::save_canonical_names(&repo, &context::find_canonical_names(&repo)?)?;
    }
    let done = install_all(&session.hook_builder(&repo), &context, options)?;
    if args.dry_run {
        session.print_info("dry run, nothing is written; this would be done:");
    }
    report::print_output(&render_installed(&done, session.verbosity))?;
    if let Some((place, off)) = find_pause(&repo, session.world.now_seconds())? {
        report::print_warning(&format!("hooks are {}", describe_pause(place, off)));
    }
    let is_whole = !done.hooks.iter().any(|(_, done)| matches!(done, ShimOutcome::Blocked(_)));
    Ok(if is_whole { SUCCESS } else { ErrorKind::Negative.exit_code() })
}
