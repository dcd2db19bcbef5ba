//! `logs`: prints the logs of services, merged by time, e.g. `api | listening on 8100`.

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS, tail};
use crate::cli::LogsArgs;
use xtask_base::error::{Error, ResultExt};
use xtask_config::suggest_nearest;
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_services::logs::ServiceLog;
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
    let stack = match &args.layer {
        Some(layer) => shared::find_stack_anywhere(session, &repo, layer)?,
        None => shared::choose_stack(session, &repo, None)?,
    };
    print_logs(session, &stack, args)
}

/// Prints the logs of a stack.
pub(super) fn print_logs(session: &Session, stack: &Stack, args: &LogsArgs) -> CommandResult {
    let known = ServiceLog::list_names(&stack.logs_folder());
    let unknown: Vec<&String> = args.services.iter().filter(|n| !known.contains(n)).collect();
    if let Some(name) = unknown.first() {
        let near = suggest_nearest(name, known.iter().map(String::as_str));
        let error = Error::usage(format!("no log of `{name}`{near}"));
        return Err(match known.len() {
            0 => error.with_hint(format!("no service of layer `{}` has run yet", stack.layer)),
            _ => error.with_hint(format!("logs: {}", known.join(", "))),
        });
    }
    let names = if args.services.is_empty() { known } else { args.services.clone() };
    if names.is_empty() {
        session.print_info(&format!("no service of layer `{}` has run yet", stack.layer));
        return Ok(SUCCESS);
    }
    let ends: Vec<u64> = names.iter().map(|name| tail::service_log(stack, name).length()).collect();
    let mut lines = Vec::new();
    for (number, (name, end)) in names.iter().zip(&ends).enumerate() {
        let log = tail::service_log(stack, name);
        let runs = log.read_runs();
        let shows_all = args.all || args.since.is_some();
        let from = runs.iter().rfind(|run| !run.is_auto_restart).filter(|_| !shows_all);
        let last = log.read_last_lines(args.lines, from.map_or(0, |run| run.at), *end);
        let last = last.with_context(|| format!("cannot read the log of {name}"))?;
        let last = tail::mark_runs(last, &runs);
        lines.extend(last.into_iter().map(|line| (number, line)));
    }
    if let Some(since) = args.since {
        let now = (session.world.clock)();
        let from = i64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(0);
        lines.retain(|(_, line)| line.at_ms >= from);
    }
    // The sort is stable, so lines of one service stay in their order.
    lines.sort_by_key(|(_, line)| line.at_ms);
    let over = lines.len().saturating_sub(args.lines);
    let is_read = tail::print_lines(&names, args.timestamps, &lines[over..])?;
    if args.follow && is_read {
        tail::follow_logs_from(stack, &names, ends, args.timestamps, &|| false)?;
    }
    Ok(SUCCESS)
}
