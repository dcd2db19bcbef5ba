//! `start`: starts the services of a layer, or shows what would be started (`--dry-run`), whether the ports are free
//! (`--check-ports`), or whether running services are healthy (`--verify`).

use std::collections::BTreeMap;

use serde::Serialize;

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::service_start::{self, is_running, keep_ports};
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS, checks};
use crate::cli::StartArgs;
use xtask_base::error::{Error, ErrorKind};
use xtask_config::{DEFAULT_LAYER, Layer};
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_report as report;
use xtask_services::client;
use xtask_services::plan;
use xtask_services::port_plan::{self, PortPlan};
use xtask_services::stack::Stack;

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
    let stack = Stack::new(&repo.folders(), &layer.name);
    if args.verify {
        return verify_services(session, &stack, &layer);
    }
    let moved: BTreeMap<String, u16> = args.port.iter().cloned().collect();
    if args.dry_run || args.check_ports {
        let ports =
            port_plan::assign_ports(&repo.folders(), session.tools().disk, &layer, &moved, false)?;
        return match args.dry_run {
            true => print_dry_run(&layer, &chosen, &ports, args),
            false => check_ports(session, &stack, &layer, &chosen, ports, args),
        };
    }
    service_start::start_services(session, &repo, &layer, &chosen, args)
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

/// Prints the services, ports and configuration values of a start, with the source of each value, e.g.
/// `api.port = 8100  # deployment/local.toml:4`.
fn print_dry_run(
    layer: &Layer,
    chosen: &[usize],
    ports: &PortPlan,
    args: &StartArgs,
) -> CommandResult {
    let names: Vec<&str> = chosen.iter().map(|at| layer.services[*at].name.as_str()).collect();
    if args.json {
        #[derive(Serialize)]
        struct ValueLine<'a> {
            key: &'a str,
            value: &'a str,
            file: &'a str,
            line: usize,
        }
        #[derive(Serialize)]
        struct DryRun<'a> {
            schema: &'static str,
            layer: &'a str,
            files: &'a [String],
            services: &'a [&'a str],
            ports: &'a BTreeMap<String, u16>,
            values: Vec<ValueLine<'a>>,
        }
        let values = layer.values.iter().map(|value| ValueLine {
            key: &value.key,
            value: &value.text,
            file: &value.file,
            line: value.line,
        });
        report::print_json(&DryRun {
            schema: "xtask.start-dry-run/1",
            layer: &layer.name,
            files: &layer.files,
            services: &names,
            ports: &ports.services,
            values: values.collect(),
        })?;
        return Ok(SUCCESS);
    }
    let mut text = format!("layer {} ({})\n", layer.name, layer.files.join(", "));
    text.push_str(&format!("would start: {}\n", names.join(", ")));
    let listed: Vec<String> =
        ports.services.iter().map(|(name, port)| format!("{name} {port}")).collect();
    if !listed.is_empty() {
        let offset = match ports.offset {
            0 => String::new(),
            offset => format!(" (here {offset} higher than configured)"),
        };
        text.push_str(&format!("ports: {}{offset}\n", listed.join(", ")));
    }
    let width = layer.values.iter().map(|value| value.key.chars().count()).max().unwrap_or(0);
    for value in &layer.values {
        let (key, shown, file, line) = (&value.key, &value.text, &value.file, value.line);
        text.push_str(&format!("  {key:<width$}  = {shown}  # {file}:{line}\n"));
    }
    report::print_output(&text)?;
    Ok(SUCCESS)
}

/// Prints for each port whether it is free, in use by this stack, or in use by another process.
fn check_ports(
    session: &Session,
    stack: &Stack,
    layer: &Layer,
    chosen: &[usize],
    mut ports: PortPlan,
    args: &StartArgs,
) -> CommandResult {
    let running = client::find_running(stack, &session.world)?;
    let moved: BTreeMap<String, u16> = args.port.iter().cloned().collect();
    keep_ports(&mut ports, running.as_ref(), &moved);
    let chosen = chosen.iter().map(|at| layer.services[*at].name.clone());
    let (ours, wanted): (Vec<_>, Vec<_>) = chosen
        .filter_map(|name| Some((ports.services.get(&name).copied()?, name)))
        .map(|(port, name)| (name, port))
        .partition(|(name, _)| is_running(running.as_ref(), name));
    let status = ports
        .status
        .filter(|port| *port != 0 && client::connect_supervisor(stack).is_ok_and(|l| l.is_none()));
    let wanted: Vec<(String, u16)> =
        wanted.into_iter().chain(status.map(|port| ("status".to_owned(), port))).collect();
    let token = running.as_ref().map(|known| known.token.as_str());
    let obstacles = port_plan::find_conflicts(&wanted, token)?;
    let words = |name: &str, port: u16| {
        let obstacle = obstacles.iter().find(|o| o.service == name && o.port == port);
        obstacle.map_or_else(|| "free".to_owned(), |obstacle| obstacle.describe(true))
    };
    if args.json {
        #[derive(Serialize)]
        struct PortLine {
            service: String,
            port: u16,
            free: bool,
            ours: bool,
            words: String,
        }
        #[derive(Serialize)]
        struct PortReport<'a> {
            schema: &'static str,
            layer: &'a str,
            ok: bool,
            ports: Vec<PortLine>,
        }
        let ours = ours.into_iter().map(|(service, port)| PortLine {
            service,
            port,
            free: false,
            ours: true,
            words: "in use by this stack".to_owned(),
        });
        let others = wanted.iter().map(|(service, port)| {
            let words = words(service, *port);
            let free = words == "free";
            PortLine { service: service.clone(), port: *port, free, ours: false, words }
        });
        report::print_json(&PortReport {
            schema: "xtask.start-ports/1",
            layer: &layer.name,
            ok: obstacles.is_empty(),
            ports: ours.chain(others).collect(),
        })?;
    } else {
        let mut text = String::new();
        for (name, port) in &ours {
            text.push_str(&format!("{name}  {port}  in use by this stack\n"));
        }
        for (name, port) in &wanted {
            text.push_str(&format!("{name}  {port}  {}\n", words(name, *port)));
        }
        report::print_output(&text)?;
    }
    Ok(if obstacles.is_empty() { SUCCESS } else { ErrorKind::Negative.exit_code() })
}

/// Runs the health checks of the running services, then the environment checks.
fn verify_services(session: &Session, stack: &Stack, layer: &Layer) -> CommandResult {
    session.print_info("services:");
    let answers = client::verify_services(stack, &session.world)?;
    let mut faults = Vec::new();
    let mut text = String::new();
    for service in &layer.services {
        let answer =
            answers.iter().find(|(name, _)| *name == service.name).map(|(_, answer)| answer);
        let words = match answer {
            Some(Ok(words)) => words.clone(),
            Some(Err(why)) => {
                faults.push(format!("{}: {why}", service.name));
                why.clone()
            }
            None => {
                faults.push(format!("{}: not running", service.name));
                "not running".to_owned()
            }
        };
        text.push_str(&format!("{}  {words}\n", service.name));
    }
    report::print_output(&text)?;
    session.print_info("environment:");
    let code = checks::run_gate_checks(session, "start --verify", false)?;
    if faults.is_empty() {
        return Ok(code);
    }
    let count = xtask_base::words::pluralize(faults.len(), "service");
    let is = if faults.len() == 1 { "is" } else { "are" };
    Err(Error::negative(format!("{count} {is} unhealthy or not running"))
        .with_hint("`cargo xtask start` starts those that are not running"))
}
