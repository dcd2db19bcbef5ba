//! Starts and restarts the services of a layer: everything is checked first, and if one service does
//! not become ready, all that were started are stopped again.
//!
//! ```text
//! Layer -> ServiceSpec per service -> checks and ports -> StartRequest to the supervisor -> StartOutcome
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::client;
use super::control_socket::{self, ServiceFailure, StartRequest};
use super::env_files::{EnvFileValues, WaitPolicy};
use super::follow::{
    RequestOutcome, StackContext, StackListener, inherited_environment, lock_stack, request_start,
    wait_for_supervisor, with_survivors,
};
use super::log_view::{self, PrintLines};
use super::logs::ServiceLog;
use super::observe::{RunningStack, StackObservation, observe_stack};
use super::plan::{self, ServiceFolders};
use super::port_plan::{self, PortConflict, PortPlan};
use super::spec::ServiceSpec;
use super::stack::Stack;
use super::status::StackStatus;
use super::stop::{stop_all, stop_uninterrupted};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::worktree_paths::WorktreePaths;
use xtask_config::{DEFAULT_LAYER, Layer};

/// How services are started.
pub struct StartOptions {
    /// Ports from `--port NAME=N`.
    pub ports: BTreeMap<String, u16>,
    /// Ports whose owners are stopped.
    pub take_over: Vec<u16>,
    /// Dependencies to run without, for services that have a fallback.
    pub without: Vec<String>,
    /// Whether the running services are stopped and all logs removed first.
    pub is_clean: bool,
    /// Time for each service to become ready.
    pub ready_within: Duration,
}

/// Result of a start that was followed to its end.
pub struct StartOutcome {
    /// Names of the requested services.
    pub names: Vec<String>,
    /// Number of them that were running before.
    pub already_up: usize,
    /// Status of the stack afterwards.
    pub page: StackStatus,
    /// Services without which the start failed.
    pub failures: Vec<ServiceFailure>,
    /// Error of a failed start.
    pub error: Option<Error>,
}

/// Starts the `chosen` services of a layer (indices into `layer.services`), each as soon as its
/// dependencies are ready.
pub fn start_services(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    folders: &WorktreePaths,
    layer: &Layer,
    chosen: &[usize],
    options: &StartOptions,
) -> Result<StartOutcome> {
    let stack = Stack::new(folders, &layer.name);
    check_fallback(layer, &options.without)?;
    port_plan::check_port_names(layer, &options.ports)?;
    stack.create_folder()?;
    let lock = lock_stack(&stack, "start", listener)?;
    let seen = take_over_supervision(context, listener, &stack)?;
    let running = seen.running_services();
    if !options.is_clean {
        check_port_moves(&running, &options.ports)?;
    }
    let keeps = |_: &ServiceSpec| !options.is_clean;
    let plan = plan_start(context, folders, layer, chosen, &options.ports, &running, &keeps)?;
    let is_new = |spec: &ServiceSpec| options.is_clean || running.find_spec(&spec.name).is_none();
    let (new, up): (Vec<_>, Vec<_>) = plan.specs.iter().cloned().partition(is_new);
    let checked = check_new(context, &new, folders)?;
    clear_ports(listener, &new, &plan.ports, &running, seen.is_supervised(), options)?;
    if options.is_clean {
        // Stop the running services only after all checks have passed.
        clean_stack(context, listener, &stack, seen.status.as_ref())?;
    } else {
        report_config_changes(listener, &up, &running);
    }
    let without = options.without.clone();
    let request = plan.into_request(checked, layer, Vec::new(), without, options.ready_within);
    let names: Vec<String> = request.specs.iter().map(|spec| spec.name.clone()).collect();
    let outcome = |page, failures, error| StartOutcome {
        names: names.clone(),
        already_up: up.len(),
        page,
        failures,
        error,
    };
    match request_start(context, listener, &stack, &request)? {
        RequestOutcome::Done { page, .. } => Ok(outcome(page, Vec::new(), None)),
        RequestOutcome::Failed { failures, page, survivors } => {
            drop(lock);
            let gone = wait_for_supervisor(&page);
            let left = match (survivors.is_empty(), up.is_empty()) {
                (false, _) => "and some processes are still running",
                (true, true) => "the started services were stopped again",
                (true, false) => "the services started by this command were stopped again",
            };
            let mut error =
                with_survivors(build_start_error(&failures, left, &layer.name), &survivors);
            if let Err(failure) = gone {
                error = error.with_detail(failure.to_string());
            }
            Ok(outcome(page, failures, Some(error)))
        }
        RequestOutcome::Interrupted | RequestOutcome::Unanswered => {
            Err(stop_interrupted(&stack, new)?)
        }
    }
}

/// Restarts the services `names`, or all that run, with their present configuration; services that
/// depend on them keep running.
pub fn restart_services(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    folders: &WorktreePaths,
    layer: &Layer,
    names: &[String],
    ready_within: Duration,
) -> Result<StartOutcome> {
    let stack = Stack::new(folders, &layer.name);
    let _lock = lock_stack(&stack, "restart", listener)?;
    let running = observe_stack(&stack, context.world)?.running_services();
    if running.specs.is_empty() {
        return Err(Error::negative(format!("no service of layer `{}` is running", stack.layer))
            .with_hint("`cargo xtask start` starts it"));
    }
    let names = match names {
        [] => choose_running(listener, layer, &running),
        named => named.to_vec(),
    };
    // A service without a configuration cannot be started.
    plan::choose_services(layer, &names)?;
    let chosen = layer.services.iter().enumerate().filter(|(_, one)| names.contains(&one.name));
    let chosen: Vec<usize> = chosen.map(|(at, _)| at).collect();
    // Services that keep running keep their ports, and so do those started with `--port`.
    let keeps = |spec: &ServiceSpec| spec.is_moved || !names.contains(&spec.name);
    let none = BTreeMap::new();
    let plan = plan_start(context, folders, layer, &chosen, &none, &running, &keeps)?;
    let checked = check_new(context, &plan.specs, folders)?;
    let mut obstacles =
        port_plan::find_conflicts(&list_ports(&plan.specs), running.token.as_deref())?;
    // The restarted services free their own ports.
    let ended = running.specs.iter().filter(|spec| names.contains(&spec.name));
    let freed: Vec<u16> = ended.filter_map(|spec| spec.port).collect();
    obstacles.retain(|obstacle| !freed.contains(&obstacle.port));
    if !obstacles.is_empty() {
        // A restart moves nothing and takes nothing over.
        return Err(port_plan::build_conflict_error(&obstacles, false));
    }
    let request = plan.into_request(checked, layer, names.clone(), Vec::new(), ready_within);
    let (page, failures, error) = match request_start(context, listener, &stack, &request)? {
        RequestOutcome::Done { page, .. } => (page, Vec::new(), None),
        RequestOutcome::Failed { failures, page, survivors } => {
            let error = build_start_error(&failures, "the others keep running", &layer.name);
            (page, failures, Some(with_survivors(error, &survivors)))
        }
        RequestOutcome::Interrupted | RequestOutcome::Unanswered => {
            return Err(Error::new(
                ErrorKind::Interrupted,
                "interrupted; the services are being started again",
            )
            .with_hint("`cargo xtask ps` shows their state"));
        }
    };
    Ok(StartOutcome { names, already_up: 0, page, failures, error })
}

/// Returns the running services that a restart of all is about. A one-shot service that is done only
/// runs again if it is named.
fn choose_running(
    listener: &mut dyn StackListener,
    layer: &Layer,
    running: &RunningStack,
) -> Vec<String> {
    let names = running.specs.iter().filter(|spec| !spec.once).map(|spec| spec.name.clone());
    let is_configured = |name: &String| layer.services.iter().any(|one| one.name == *name);
    let (names, gone): (Vec<String>, Vec<String>) = names.partition(is_configured);
    for name in gone {
        listener.on_warning(&format!(
            "{name} is running, but is no longer configured; `cargo xtask stop {name}` stops it"
        ));
    }
    names
}

/// Services to start and the ports of the layer.
struct StartPlan {
    specs: Vec<ServiceSpec>,
    ports: PortPlan,
}

/// Environment of services that were checked.
struct CheckedEnvironment {
    base: super::launch::Env,
    values: EnvFileValues,
}

/// Builds the specs of the chosen services. Those running services that `keeps` selects keep their
/// ports, unless `moved` moves them.
fn plan_start(
    context: &StackContext<'_>,
    folders: &WorktreePaths,
    layer: &Layer,
    chosen: &[usize],
    moved: &BTreeMap<String, u16>,
    running: &RunningStack,
    keeps: &dyn Fn(&ServiceSpec) -> bool,
) -> Result<StartPlan> {
    let mut ports = port_plan::assign_ports(folders, context.disk, layer, moved, true)?;
    ports.keep_running(running.specs.iter().filter(|spec| keeps(spec)), moved);
    let root = &folders.root;
    let state = plan::worktree_state_folder(root);
    let places = ServiceFolders { root, state: &state };
    let mut specs = plan::build_specs(layer, chosen, &ports.services, &places);
    for spec in &mut specs {
        spec.is_moved = moved.contains_key(&spec.name)
            || running.find_spec(&spec.name).is_some_and(|now| now.is_moved);
    }
    Ok(StartPlan { specs, ports })
}

/// Reads the env files of services that are about to start, and checks that these can run.
fn check_new(
    context: &StackContext<'_>,
    specs: &[ServiceSpec],
    folders: &WorktreePaths,
) -> Result<CheckedEnvironment> {
    let base = inherited_environment(context.world);
    let values = EnvFileValues::read_files(specs, &base, WaitPolicy::Full);
    plan::check_specs(specs, &base, &values, &folders.root)?;
    Ok(CheckedEnvironment { base, values })
}

impl StartPlan {
    fn into_request(
        self,
        CheckedEnvironment { base, values }: CheckedEnvironment,
        layer: &Layer,
        again: Vec<String>,
        without: Vec<String>,
        ready_within: Duration,
    ) -> StartRequest {
        let read = values.readable_envs();
        let encoded = read.iter().map(|(n, env)| (n.clone(), control_socket::encode_env(env)));
        StartRequest {
            specs: self.specs,
            layer: layer.services.iter().map(|service| service.name.clone()).collect(),
            again,
            env: control_socket::encode_env(&base),
            values: encoded.collect(),
            seen: values.file_stamps().clone(),
            ready_within_ms: u64::try_from(ready_within.as_millis()).unwrap_or(u64::MAX),
            without,
            status: self.ports.status,
        }
    }
}

/// Observes a stack. Starts a new supervisor if services run without one, whatever the outcome of
/// this start.
fn take_over_supervision(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    stack: &Stack,
) -> Result<StackObservation> {
    let seen = observe_stack(stack, context.world)?;
    if seen.is_supervised() || seen.running_services().specs.iter().all(|spec| spec.once) {
        return Ok(seen);
    }
    client::connect_or_start(stack, context.world)?;
    listener.on_info(
        "the running services were taken over from a supervisor that is gone; services restarted from \
         now on get the present variables",
    );
    observe_stack(stack, context.world)
}

/// Refuses `--port` for a service that is running.
fn check_port_moves(running: &RunningStack, moved: &BTreeMap<String, u16>) -> Result<()> {
    for spec in &running.specs {
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

/// Ensures that the ports are free. Processes on the ports of `--take-over` are stopped, but only if
/// no other port is in use.
fn clear_ports(
    listener: &mut dyn StackListener,
    new: &[ServiceSpec],
    ports: &PortPlan,
    running: &RunningStack,
    is_supervised: bool,
    options: &StartOptions,
) -> Result<()> {
    let token = running.token.as_deref();
    let mut wanted = list_ports(new);
    wanted.extend(ports.status_to_open(is_supervised));
    let mut obstacles = port_plan::find_conflicts(&wanted, token)?;
    if options.is_clean {
        // The services that run here free their ports.
        let is_own = |port| running.specs.iter().any(|spec| spec.port == Some(port));
        obstacles.retain(|obstacle| !is_own(obstacle.port));
    }
    for port in &options.take_over {
        let is_wanted =
            new.iter().any(|spec| spec.port == Some(*port)) || ports.status == Some(*port);
        if !is_wanted {
            return Err(Error::usage(format!("`--take-over {port}`: no service uses that port"))
                .with_hint("`cargo xtask start --check-ports` lists the ports of the services"));
        }
    }
    let (named, others): (Vec<PortConflict>, Vec<PortConflict>) = obstacles
        .into_iter()
        .partition(|obstacle| obstacle.is_stranger && options.take_over.contains(&obstacle.port));
    if !others.is_empty() {
        return Err(port_plan::build_conflict_error(&others, true));
    }
    for obstacle in named {
        if let Some(who) = port_plan::take_over_port(obstacle.port, token)? {
            listener.on_info(&format!("stopped because of `--take-over`: {who}"));
        }
    }
    Ok(())
}

fn list_ports(specs: &[ServiceSpec]) -> Vec<(String, u16)> {
    specs.iter().filter_map(|spec| Some((spec.name.clone(), spec.port?))).collect()
}

/// Tells of each running service whose configuration has changed; it is not restarted.
fn report_config_changes(
    listener: &mut dyn StackListener,
    up: &[ServiceSpec],
    running: &RunningStack,
) {
    for spec in up {
        let name = &spec.name;
        if running.find_spec(name).is_some_and(|now| now != spec) {
            listener.on_info(&format!(
                "{name} runs with its previous configuration; `cargo xtask restart {name}` applies the \
                 present one"
            ));
        }
    }
}

/// Checks that a service of the layer has a `fallback` rule for each name of `--fallback`.
fn check_fallback(layer: &Layer, without: &[String]) -> Result<()> {
    for name in without {
        let mut rules = layer.services.iter().filter_map(|one| one.supervision.fallback.as_ref());
        if !rules.any(|rule| rule.when.contains(name)) {
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
fn clean_stack(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    stack: &Stack,
    before: Option<&StackStatus>,
) -> Result<()> {
    if let Some(before) = before {
        stop_all(context, listener, stack, before)?;
    }
    for name in ServiceLog::list_names(&stack.logs_folder()) {
        let log = ServiceLog::new(&stack.logs_folder(), &name);
        log.remove_files(context.disk).map_err(|cause| {
            Error::unable(format!("cannot remove the log of {name}")).with_cause(cause)
        })?;
    }
    Ok(())
}

/// Stops what an interrupted start has started, and returns its error. The closed connection has told
/// the supervisor to stop it, too.
fn stop_interrupted(stack: &Stack, new: Vec<ServiceSpec>) -> Result<Error> {
    let new: Vec<String> = new.into_iter().map(|spec| spec.name).collect();
    if new.is_empty() {
        return Ok(Error::new(ErrorKind::Interrupted, "interrupted; nothing was started"));
    }
    let survivors = stop_uninterrupted(stack, new)?;
    let what = "interrupted; the started services were stopped again";
    Ok(with_survivors(Error::new(ErrorKind::Interrupted, what), &survivors))
}

/// Builds the error of a start, with the last log lines of each failed service.
fn build_start_error(failures: &[ServiceFailure], left: &str, layer: &str) -> Error {
    let error = Error::negative(match failures {
        [one] => format!("{} failed; {left}", one.service),
        more => format!("{} services failed; {left}", more.len()),
    });
    let error = failures.iter().fold(error, |error, failure| error.with_detail(failure.describe()));
    let names: Vec<&str> = failures.iter().map(|failure| failure.service.as_str()).collect();
    let layer = if layer == DEFAULT_LAYER { String::new() } else { format!(" --layer {layer}") };
    error.with_hint(format!("`cargo xtask logs {}{layer}` shows more", names.join(" ")))
}

/// Shows the logs until Ctrl-C or until no service runs, then stops all services.
pub fn run_in_foreground(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    stack: &Stack,
    page: &StackStatus,
    print: PrintLines<'_>,
) -> Result<()> {
    let names: Vec<String> = page.services.iter().map(|row| row.service.clone()).collect();
    let _held = context.interrupts.defer_signals();
    let is_up = || client::connect_supervisor(stack).is_ok_and(|link| link.is_some());
    let is_over = || context.interrupts.was_interrupted() || !is_up();
    // The services are stopped even if the logs cannot be shown.
    let shown = log_view::follow_logs(stack, names, &is_over, print);
    if !is_up() {
        return Err(Error::negative("no service is running any more")
            .with_hint("`cargo xtask ps` shows why"));
    }
    listener.on_info("stopping the services");
    let survivors = stop_uninterrupted(stack, Vec::new())?;
    shown?;
    if survivors.is_empty() {
        return Ok(());
    }
    Err(with_survivors(Error::negative("some processes are still running"), &survivors))
}
