//! `hooks enable`, `hooks disable` and `hooks status`. For example, `hooks disable --for 2h` pauses the hooks in this
//! worktree for two hours.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::canonical_checks::find_wanted_hooks;
use crate::cli::HooksCommand;
use xtask_base::environment::parse_seconds;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_git::Repo;
use xtask_hooks::health::{describe_pause, inspect_hooks};
use xtask_hooks::pause::{HooksPause, PauseScope, find_pause, pause_hooks, resume_hooks};
use xtask_hooks::program::VerifyDepth;
use xtask_hooks::report::HooksReport;
use xtask_report as report;
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &HooksCommand) -> CommandResult {
    let repo = session.open_repo()?;
    let place = |all: &bool| if *all { PauseScope::Everywhere } else { PauseScope::Here };
    match args {
        HooksCommand::Enable { all } => switch_on(session, &repo, place(all))?,
        HooksCommand::Disable { all, span } => {
            switch_off(session, &repo, place(all), span.as_deref())?
        }
        HooksCommand::Status { json } => return print_hook_status(session, &repo, *json),
    }
    Ok(SUCCESS)
}

fn switch_on(session: &Session, repo: &Repo, place: PauseScope) -> Result<()> {
    let were_off = resume_hooks(repo, session.tools().disk, place)?;
    let health = inspect_hooks(repo, &session.world, Ok(None), VerifyDepth::Metadata, &[])?;
    if health.is_absent() {
        session.print_info(&format!("hooks are {}", health.summary()));
        return Ok(());
    }
    let still = find_pause(repo, session.world.now_seconds())?;
    session.print_info(match (were_off, still) {
        (_, Some(_)) => {
            "hooks are still disabled in all worktrees; `cargo xtask hooks enable --all` \
             enables them"
        }
        (true, None) => "hooks are enabled again; `cargo xtask sync` updates what was skipped",
        (false, None) => "hooks are already enabled",
    });
    Ok(())
}

fn switch_off(session: &Session, repo: &Repo, place: PauseScope, span: Option<&str>) -> Result<()> {
    let until = match span {
        None => None,
        Some(text) => {
            let seconds = parse_seconds(text).ok_or_else(|| {
                Error::usage(format!("invalid duration `{text}`"))
                    .with_hint("use e.g. `90m`, `2h` or `1d 12h`")
            })?;
            Some(session.world.now_seconds().saturating_add(seconds))
        }
    };
    let off = HooksPause { until };
    pause_hooks(repo, session.tools().disk, place, off)?;
    session.print_info(&format!("hooks are {}", describe_pause(place, off)));
    Ok(())
}

fn print_hook_status(session: &Session, repo: &Repo, json: bool) -> CommandResult {
    let context = context::find_context(repo, &context::find_canonical_names(repo)?);
    let context = context.as_ref().map(Option::as_ref);
    let wanted = find_wanted_hooks(repo, context.ok().flatten())?;
    let health = inspect_hooks(repo, &session.world, context, VerifyDepth::Content, &wanted)?;
    let shown = HooksReport::new(repo, &health);
    if json {
        report::print_json(&shown)?;
    } else {
        report::print_output(&shown.render_text())?;
    }
    // If hooks are paused on purpose, it is no failure that they do not run.
    let is_wanted = health.obstacles.is_empty();
    let is_silent = health.hooks.iter().any(|hook| !health.will_run(hook));
    Ok(if is_wanted && is_silent { ErrorKind::Negative.exit_code() } else { SUCCESS })
}
