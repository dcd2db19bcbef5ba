//! `logs`: prints the logs of services, merged by time, e.g. `api | listening on 8100`.

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS};
use crate::cli::LogsArgs;
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_report as report;
use xtask_services::log_view::{LogOptions, show_logs};
use xtask_services::stack::Stack;

pub(super) fn run(session: &Session, args: &LogsArgs) -> CommandResult {
    let repo = session.open_repo()?;
    #[cfg(feature = "deploy")]
    if let Some(code) = run_elsewhere(
        session,
        &repo,
        args.layer.as_deref(),
        &ServicesCommand::Logs {
            follow: args.follow,
            lines: args.lines,
            since: args.since,
            timestamps: args.timestamps,
            all: args.all,
        },
        &args.services,
    )? {
        return Ok(code);
    }
    let stack = shared::choose_stack(session, &repo, args.layer.as_deref())?;
    print_logs(session, &stack, args)
}

/// Prints the logs of a stack.
pub(super) fn print_logs(session: &Session, stack: &Stack, args: &LogsArgs) -> CommandResult {
    let options = LogOptions {
        services: args.services.clone(),
        follow: args.follow,
        all: args.all,
        lines: args.lines,
        since: args.since,
        timestamps: args.timestamps,
    };
    if !show_logs(stack, &options, &session.world, &mut report::print_chunk)? {
        session.print_info(&format!("no service of layer `{}` has run yet", stack.layer));
    }
    Ok(SUCCESS)
}
