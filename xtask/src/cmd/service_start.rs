//! Starts the services of a layer, for `start` and `recover`: everything is checked first, and if one service does
//! not become ready, all that were started are stopped again.
//!
//! ```text
//! Layer  ->  ServiceSpec per service  ->  checks and ports  ->  StartRequest to the supervisor  ->  RequestOutcome
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::session::Session;
use super::stack::{self as shared, RequestOutcome};
use super::{CommandResult, SUCCESS, tail};
use crate::cli::StartArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::Layer;
use xtask_git::Repo;
use xtask_report as report;
use xtask_report::Verbosity;
use xtask_services::client::{self, RunningStack};
use xtask_services::control_socket::{self, ControlCommand};
use xtask_services::env_files::{EnvFileValues, WaitPolicy};
use xtask_services::logs::ServiceLog;
use xtask_services::plan;
use xtask_services::port_plan::{self, PortConflict, PortPlan};
use xtask_services::report::render_addresses;
use xtask_services::spec::ServiceSpec;
use xtask_services::stack::Stack;
use xtask_services::status::StackStatus;

/// Starts the `chosen` services of a layer (indices into `layer.services`), each as soon as its dependencies are
/// ready.
pub(super) fn start_services(
    session: &Session,
    repo: &Repo,
    layer: &Layer,
    chosen: &[usize],
    args: &StartArgs,
) -> CommandResult {
    let stack = Stack::new(&repo.folders(), &layer.name);
    let moved: BTreeMap<String, u16> = args.port.iter().cloned().collect();
    check_fallback(layer, &args.fallback)?;
    port_plan::check_port_names(layer, &moved)?;
    stack.create_folder()?;
    let lock = shared::lock_stack(&stack, "start")?;
    take_over_supervision(session, &stack)?;
    let mut running = client::find_running(&stack, &session.world)?;
    check_port_moves(running.as_ref().filter(|_| !args.clean), &moved)?;
    let mut ports =
        port_plan::assign_ports(&repo.folders(), session.tools().disk, layer, &moved, true)?;
    if !args.clean {
        keep_ports(&mut ports, running.as_ref(), &moved);
    }
    let root = repo.root().to_path_buf();
    let state = plan::worktree_state_folder(&root);
    let places = plan::ServiceFolders { root: &root, state: &state };
    let mut specs = plan::build_specs(layer, chosen, &ports.services, &places);
    for spec in &mut specs {
        let now =
            running.as_ref().and_then(|known| known.specs.iter().find(|o| o.name == spec.name));
        spec.is_moved = moved.contains_key(&spec.name) || now.is_some_and(|now| now.is_moved);
    }
    let is_new = |spec: &&ServiceSpec| args.clean || !is_running(running.as_ref(), &spec.name);
    let new: Vec<ServiceSpec> = specs.iter().filter(is_new).cloned().collect();
    let base = shared::inherited_environment(session);
    let values = EnvFileValues::read_files(&new, &base, WaitPolicy::Full);
    plan::check_specs(&new, &base, &values, &root)?;
    clear_ports(
        session,
        &new,
        &ports,
        running.as_ref(),
        args,
        client::connect_supervisor(&stack)?.is_some(),
    )?;
    if args.clean {
        // Stop the running services only after all checks have passed.
        clean_stack(session, &stack)?;
        running = None;
    }
    let up: Vec<ServiceSpec> = specs.iter().filter(|spec| !new.contains(spec)).cloned().collect();
    print_config_changes(session, &up, running.as_ref());
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let ended = shared::request_start(
        session,
        &stack,
        &names,
        control_socket::StartRequest {
            specs,
            layer: layer.services.iter().map(|service| service.name.clone()).collect(),
            again: Vec::new(),
            env: control_socket::encode_env(&base),
            values: values
                .readable_envs()
                .iter()
                .map(|(n, env)| (n.clone(), control_socket::encode_env(env)))
                .collect(),
            seen: values.file_stamps().clone(),
            ready_within_ms: u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX),
            without: args.fallback.clone(),
            status: ports.status,
        },
    )?;
    if let RequestOutcome::Interrupted = ended {
        // Closing the connection tells the supervisor that the start was interrupted; the started services are
        // stopped.
        let new: Vec<String> = new.into_iter().map(|spec| spec.name).collect();
        if new.is_empty() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted; nothing was started"));
        }
        let survivors = stop_services(&stack, new)?;
        let what = "interrupted; the started services were stopped again";
        return Err(with_survivors(Error::new(ErrorKind::Interrupted, what), survivors));
    }
    drop(lock);
    print_outcome(session, &stack, args, ended, &names, up.len())
}

/// Starts a new supervisor if services run without one, whatever the outcome of this start.
fn take_over_supervision(session: &Session, stack: &Stack) -> Result<()> {
    let running = client::find_running(stack, &session.world)?;
    let is_up = running.is_some_and(|known| known.specs.iter().any(|spec| !spec.once));
    if is_up && client::connect_supervisor(stack)?.is_none() {
        client::connect_or_start(stack, &session.world)?;
        session.print_info(
            "the running services were taken over from a supervisor that is gone; services restarted from \
             now on get the present variables",
        );
    }
    Ok(())
}

/// Refuses `--port` for a service that is running.
fn check_port_moves(running: Option<&RunningStack>, moved: &BTreeMap<String, u16>) -> Result<()> {
    for spec in running.iter().flat_map(|known| &known.specs) {
        if let (Some(wanted), Some(now)) = (moved.get(&spec.name), spec.port)
            && *wanted != now
        {
            let name = &spec.name;
            return Err(Error::usage(format!("{name} is already running, on port {now}"))
                .with_hint(format!("run `cargo xtask stop {name}` first")));
        }
    }
    Ok(())
}

/// Ensures that the ports are free. Processes on the ports of `--take-over` are stopped, but only if no other port
/// is in use.
fn clear_ports(
    session: &Session,
    new: &[ServiceSpec],
    ports: &PortPlan,
    running: Option<&RunningStack>,
    args: &StartArgs,
    is_watched: bool,
) -> Result<()> {
    let token = running.map(|known| known.token.as_str());
    let mut obstacles = find_port_obstacles(new, ports, running, is_watched)?;
    // With `--clean`, the services that run here free their ports.
    let own = running.iter().flat_map(|known| &known.specs).filter_map(|spec| spec.port);
    let own: Vec<u16> = own.filter(|_| args.clean).collect();
    obstacles.retain(|obstacle| !own.contains(&obstacle.port));
    for port in &args.take_over {
        let is_wanted =
            new.iter().any(|spec| spec.port == Some(*port)) || ports.status == Some(*port);
        if !is_wanted {
            return Err(Error::usage(format!("`--take-over {port}`: no service uses that port"))
                .with_hint("`cargo xtask start --check-ports` lists the ports of the services"));
        }
    }
    let (named, others): (Vec<PortConflict>, Vec<PortConflict>) = obstacles
        .into_iter()
        .partition(|obstacle| obstacle.is_stranger && args.take_over.contains(&obstacle.port));
    if !others.is_empty() {
        return Err(port_plan::build_conflict_error(&others, true));
    }
    for obstacle in named {
        if let Some(who) = port_plan::take_over_port(obstacle.port, token)? {
            session.print_info(&format!("stopped because of `--take-over`: {who}"));
        }
    }
    Ok(())
}

fn print_outcome(
    session: &Session,
    stack: &Stack,
    args: &StartArgs,
    ended: RequestOutcome,
    names: &[String],
    up: usize,
) -> CommandResult {
    match ended {
        RequestOutcome::Done { page, .. } => {
            if args.json {
                shared::print_start_report("xtask.start/1", &page, &[])?;
                return Ok(SUCCESS);
            }
            let supervisor = page.supervisor.as_ref();
            if let Some(error) = supervisor.and_then(|line| line.error.as_ref()) {
                report::print_warning(&format!("the supervisor: {error}"));
            }
            let status = supervisor.and_then(|line| line.status_port);
            let rows = page.services.iter().filter(|row| names.contains(&row.service));
            let rows: Vec<_> = rows.collect();
            report::print_output(&render_addresses(&rows, status))?;
            if up == page.services.len() && session.verbosity == Verbosity::Verbose {
                session.print_info("all services were already running");
            }
            if args.foreground {
                return follow_in_foreground(session, stack, &page);
            }
            Ok(SUCCESS)
        }
        RequestOutcome::Failed { failures, page, survivors } => {
            let gone = shared::wait_for_supervisor(&page);
            let left = if up == 0 {
                "the started services were stopped again"
            } else {
                "the services started by this command were stopped again"
            };
            if args.json {
                shared::print_start_report("xtask.start/1", &page, &failures)?;
            }
            let left =
                if survivors.is_empty() { left } else { "and some processes are still running" };
            let mut error =
                with_survivors(shared::start_error(&failures, left, &page.layer), survivors);
            if let Err(failure) = gone {
                error = error.with_detail(failure.to_string());
            }
            Err(error)
        }
        RequestOutcome::Unanswered | RequestOutcome::Interrupted => {
            Ok(ErrorKind::Interrupted.exit_code())
        }
    }
}

/// Shows the logs until Ctrl-C or until no service runs, then stops all services.
fn follow_in_foreground(session: &Session, stack: &Stack, page: &StackStatus) -> CommandResult {
    let names: Vec<String> = page.services.iter().map(|row| row.service.clone()).collect();
    let tools = session.tools();
    let _held = tools.interrupts.defer_signals();
    let is_up = || client::connect_supervisor(stack).is_ok_and(|link| link.is_some());
    // The services are stopped even if the logs cannot be shown.
    let shown = tail::follow_logs(stack, &names, true, false, &|| {
        tools.interrupts.was_interrupted() || !is_up()
    });
    if !is_up() {
        return Err(Error::negative("no service is running any more")
            .with_hint("`cargo xtask ps` shows why"));
    }
    session.print_info("stopping the services");
    let survivors = stop_services(stack, Vec::new())?;
    shown?;
    if survivors.is_empty() {
        Ok(SUCCESS)
    } else {
        Err(with_survivors(Error::negative("some processes are still running"), survivors))
    }
}

/// Stops the named services, or all if `names` is empty, ignoring Ctrl-C. Returns the processes that survived.
fn stop_services(stack: &Stack, names: Vec<String>) -> Result<Vec<String>> {
    let Some(mut link) = client::connect_supervisor(stack)? else { return Ok(Vec::new()) };
    link.send_command(ControlCommand::Stop { names, within_ms: None })?;
    loop {
        match link.receive_reply(Duration::from_secs(1))? {
            Some(control_socket::ControlReply::Done { survivors, page }) => {
                if survivors.is_empty() {
                    shared::wait_for_supervisor(&page)?;
                }
                return Ok(survivors);
            }
            Some(control_socket::ControlReply::Refused { why }) => return Err(Error::unable(why)),
            _ => {}
        }
    }
}

fn with_survivors(error: Error, survivors: Vec<String>) -> Error {
    survivors.into_iter().fold(error, |error, who| error.with_detail(format!("{who} did not exit")))
}

pub(super) fn is_running(running: Option<&RunningStack>, name: &str) -> bool {
    running.is_some_and(|known| known.specs.iter().any(|spec| spec.name == name))
}

/// Keeps the ports of running services, unless `--port` moves them.
pub(super) fn keep_ports(
    ports: &mut PortPlan,
    running: Option<&RunningStack>,
    moved: &BTreeMap<String, u16>,
) {
    for spec in running.iter().flat_map(|known| &known.specs) {
        if let Some(port) = spec.port.filter(|_| !moved.contains_key(&spec.name)) {
            ports.services.insert(spec.name.clone(), port);
        }
    }
}

/// Prints a note for each running service whose configuration has changed; it is not restarted.
fn print_config_changes(session: &Session, up: &[ServiceSpec], running: Option<&RunningStack>) {
    for spec in up {
        let now =
            running.and_then(|known| known.specs.iter().find(|other| other.name == spec.name));
        if now.is_some_and(|now| now != spec) {
            let name = &spec.name;
            session.print_info(&format!(
                "{name} runs with its previous configuration; `cargo xtask restart {name}` applies the \
                 present one"
            ));
        }
    }
}

fn find_port_obstacles(
    new: &[ServiceSpec],
    ports: &PortPlan,
    running: Option<&RunningStack>,
    is_watched: bool,
) -> Result<Vec<PortConflict>> {
    let wanted = new.iter().filter_map(|spec| Some((spec.name.clone(), spec.port?)));
    let status = ports.status.filter(|port| *port != 0 && !is_watched);
    let wanted: Vec<(String, u16)> =
        wanted.chain(status.map(|port| ("status".to_owned(), port))).collect();
    port_plan::find_conflicts(&wanted, running.map(|known| known.token.as_str()))
}

/// Checks that a service of the layer has a `fallback` rule for each name of `--fallback`.
fn check_fallback(layer: &Layer, without: &[String]) -> Result<()> {
    for name in without {
        let at = layer.services.iter().position(|service| service.name == *name);
        let has_rule = at.is_some_and(|at| {
            let mut rules = layer.services.iter().filter_map(|service| service.fallback.as_ref());
            rules.any(|rule| rule.when.contains(&at))
        });
        if !has_rule {
            return Err(Error::usage(format!(
                "`--fallback {name}`: no service of layer `{}` has a fallback rule for `{name}`",
                layer.name
            ))
            .with_hint("a fallback rule looks like `fallback = { when = [\"…\"], env = { … } }`"));
        }
    }
    Ok(())
}

/// Stops the running services and removes their logs.
fn clean_stack(session: &Session, stack: &Stack) -> Result<()> {
    if client::read_brief_status(stack, &session.world)?.is_some() {
        shared::stop_all(session, stack)?;
    }
    for name in ServiceLog::list_names(&stack.logs_folder()) {
        let cleared =
            ServiceLog::new(&stack.logs_folder(), &name).remove_files(session.tools().disk);
        cleared.map_err(|cause| {
            Error::unable(format!("cannot remove the log of {name}")).with_cause(cause)
        })?;
    }
    Ok(())
}
