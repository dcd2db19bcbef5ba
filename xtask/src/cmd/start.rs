//! `start`: starts the services of a layer, or shows what would be started (`--dry-run`), whether the ports are free
//! (`--check-ports`), or whether running services are healthy (`--verify`).

use std::collections::BTreeMap;

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS, checks};
use crate::cli::StartArgs;
use xtask_base::error::{Error, ErrorKind};
use xtask_config::{DEFAULT_LAYER, Layer};
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_report::{self as report, Verbosity};
use xtask_services::client;
use xtask_services::plan;
use xtask_services::port_check::check_ports;
use xtask_services::port_plan;
use xtask_services::report::{ServiceProgress, StartPreview, render_ports};
use xtask_services::stack::Stack;
use xtask_services::start::{self, StartOptions};

pub(super) fn run(session: &Session, args: &StartArgs) -> CommandResult {
    let repo = session.open_repo()?;
    #[cfg(feature = "deploy")]
    if let Some(code) = run_elsewhere(
        session,
        &repo,
        args.layer.as_deref(),
        &build_services_command(args),
        &args.services,
    )? {
        return Ok(code);
    }
    let layer = shared::read_layer(&repo, args.layer.as_deref().unwrap_or(DEFAULT_LAYER))?;
    let mut chosen = plan::choose_services(&layer, &args.services)?;
    // A service named by `--fallback` is not started, unless it is also named to start.
    chosen.retain(|at| {
        let name = &layer.services[*at].name;
        !args.fallback.contains(name) || args.services.contains(name)
    });
    let (folders, context) = (repo.folders(), shared::stack_context(session));
    let stack = Stack::new(&folders, &layer.name);
    if args.verify {
        return verify_services(session, &stack, &layer);
    }
    let moved: BTreeMap<String, u16> = args.port.iter().cloned().collect();
    if args.dry_run {
        let ports = port_plan::assign_ports(&folders, context.disk, &layer, &moved, false)?;
        let preview = StartPreview::new(&layer, &chosen, &ports);
        report::print_result(args.json, &preview, StartPreview::render_text)?;
        return Ok(SUCCESS);
    }
    if args.check_ports {
        let ports = port_plan::assign_ports(&folders, context.disk, &layer, &moved, false)?;
        let checked = check_ports(&context, &stack, &layer, &chosen, ports, &moved)?;
        report::print_result(args.json, &checked, |checked| render_ports(&checked.ports))?;
        return Ok(if checked.ok { SUCCESS } else { ErrorKind::Negative.exit_code() });
    }
    let options = StartOptions {
        ports: moved,
        take_over: args.take_over.clone(),
        without: args.fallback.clone(),
        is_clean: args.clean,
        ready_within: args.timeout,
    };
    let mut listener = ServiceProgress::new(session.verbosity);
    let outcome =
        start::start_services(&context, &mut listener, &folders, &layer, &chosen, &options)?;
    let (already_up, page) = (outcome.already_up, outcome.page.clone());
    shared::print_start("xtask.start/1", outcome, args.json, true)?;
    if !args.json && already_up == page.services.len() && session.verbosity == Verbosity::Verbose {
        session.print_info("all services were already running");
    }
    if args.foreground {
        let print = &mut report::print_chunk;
        start::run_in_foreground(&context, &mut listener, &stack, &page, print)?;
    }
    Ok(SUCCESS)
}

/// Runs the health checks of the running services, then the environment checks.
fn verify_services(session: &Session, stack: &Stack, layer: &Layer) -> CommandResult {
    session.print_info("services:");
    let answers = client::verify_services(stack, &session.world)?;
    let (mut text, mut faults) = (String::new(), 0);
    for service in &layer.services {
        let answer = answers.iter().find(|(name, _)| *name == service.name);
        let words = match answer.map(|(_, answer)| answer) {
            Some(Ok(words)) => words,
            failed => {
                faults += 1;
                failed.and_then(|failed| failed.as_ref().err()).map_or("not running", |why| why)
            }
        };
        text.push_str(&format!("{}  {words}\n", service.name));
    }
    report::print_output(&text)?;
    session.print_info("environment:");
    let code = checks::run_start_checks(session)?;
    if faults == 0 {
        return Ok(code);
    }
    let count = xtask_base::words::pluralize(faults, "service");
    let is = if faults == 1 { "is" } else { "are" };
    Err(Error::negative(format!("{count} {is} unhealthy or not running"))
        .with_hint("`cargo xtask start` starts those that are not running"))
}

#[cfg(feature = "deploy")]
/// Returns the command for a layer that does not run in the worktree.
fn build_services_command(args: &StartArgs) -> ServicesCommand {
    let options = [
        ("--clean", args.clean),
        ("--check-ports", args.check_ports),
        ("--verify", args.verify),
        ("--port", !args.port.is_empty()),
        ("--take-over", !args.take_over.is_empty()),
        ("--fallback", !args.fallback.is_empty()),
        ("--foreground", args.foreground),
        ("--json", args.json),
    ];
    let given = options.into_iter().filter(|(_, is_given)| *is_given);
    ServicesCommand::Start {
        within: args.timeout,
        dry_run: args.dry_run,
        local_options: given.map(|(option, _)| option).collect(),
    }
}
