//! Client side of a stack: connects to its supervisor, or starts one.
//!
//! Read-only commands need none: they combine the stack record with the process table.
//!
//! ```text
//! supervisor running: read_status -> StackStatus {supervisor: Some(…), services: [{api, ready}]}
//! supervisor killed:  read_status -> StackStatus {supervisor: None, services: [{api, lost}]}
//! ```

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::control_socket::{ControlCommand, ControlConnection, ControlReply};
use super::env_files::{EnvFileValues, WaitPolicy};
use super::launch::{self, Env, LaunchContext, find_own_program};
use super::listeners::ListenerFinder;
use super::logs::ServiceLog;
use super::marker::{MARKER_VARIABLE, Marker, SUPERVISOR_VARIABLE};
use super::members::{ProcessSnapshot, ProcessTable};
use super::metrics::UsageMonitor;
use super::observe::{StackObservation, observe_stack};
use super::probe::{self, LogSearch};
use super::reattach::{self, find_process};
use super::stack::{ServiceRecord, Stack, StackRecord};
use super::status::{self, Health, ReportedState, ServiceStatus, StackStatus};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::lock;
use xtask_base::name::NAME;
use xtask_base::process::{KEY_VAR, Program};
use xtask_base::processes::{self, ProcessHandle};
use xtask_base::record::{self, LoadedRecord};

/// Timeout of the start of a supervisor.
const SUPERVISOR_START_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait for a supervisor that is starting or exiting.
const SUPERVISOR_WAIT: Duration = Duration::from_secs(10);

/// Interval of connection attempts.
const POLL: Duration = Duration::from_millis(10);

/// Timeout of a status request.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the supervisor of a stack. Returns `None` if none is running.
pub fn connect_supervisor(stack: &Stack) -> Result<Option<ControlConnection>> {
    match stack.read_supervisor() {
        // Another process may have taken over the path of a stale socket.
        LoadedRecord::Valid(supervisor) if processes::is_alive(&supervisor.identity) => {
            ControlConnection::connect(&supervisor.socket)
        }
        LoadedRecord::Valid(_) | LoadedRecord::Missing => Ok(None),
        LoadedRecord::Newer => Err(record::newer_record_error(
            &format!("the supervisor record of layer `{}`", stack.layer),
            &stack.folder,
        )
        .with_hint(describe_kill(stack))),
        LoadedRecord::Corrupt(why) => Err(Error::unable(format!(
            "cannot read the supervisor record of layer `{}`: {why}",
            stack.layer
        ))
        .with_hint(describe_kill(stack))),
    }
}

/// Returns the hint for a supervisor that cannot be talked to, with its pid.
fn describe_kill(stack: &Stack) -> String {
    let holder = std::fs::read_to_string(stack.supervisor_lock()).unwrap_or_default();
    format!("a plain `kill` of the supervisor stops its services ({})", holder.trim())
}

/// Connects to the supervisor of a stack, and starts one if none is running.
pub fn connect_or_start(stack: &Stack, world: &Environment) -> Result<ControlConnection> {
    let rounds = SUPERVISOR_WAIT.as_millis() / POLL.as_millis();
    for _ in 0..rounds {
        if let Some(link) = connect_supervisor(stack)? {
            return Ok(link);
        }
        match lock::try_acquire(&stack.supervisor_lock(), "start")? {
            Some(free) => {
                drop(free);
                start_supervisor(stack, world)?;
            }
            // Starting or exiting; or on a full disk it could not record its socket.
            None => match ControlConnection::connect(&stack.socket_path(world))? {
                Some(link) => return Ok(link),
                None => std::thread::sleep(POLL),
            },
        }
    }
    let who = match stack.read_supervisor() {
        LoadedRecord::Valid(supervisor) => format!("pid {}", supervisor.identity.pid),
        _ => "pid unknown".to_owned(),
    };
    Err(Error::unable(format!(
        "the supervisor of layer `{}` is running ({who}), but does not accept connections",
        stack.layer
    ))
    .with_hint("a plain `kill` of it stops its services and then itself"))
}

fn start_supervisor(stack: &Stack, world: &Environment) -> Result<()> {
    stack.create_folder()?;
    // Report an unusable socket path here, and not in a log.
    stack.prepare_socket(world)?;
    reattach::read_stack_record(stack)?;
    let path = stack.supervisor_log();
    let errors = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    // On a full disk the supervisor starts without a log.
    let errors = errors.map_or_else(|_| Stdio::null(), Stdio::from);
    let toolkit = find_own_program(world);
    let program = find_supervisor_program(world).unwrap_or_else(|| toolkit.clone());
    let args = [
        OsStr::new(SUPERVISE_COMMAND),
        stack.layer.as_ref(),
        stack.root.as_ref(),
        stack.folder.as_ref(),
        toolkit.as_ref(),
    ];
    let said = Program::run_detached_until_line(
        &program,
        &stack.root,
        &args,
        &[
            (SUPERVISOR_VARIABLE, "1".as_ref()),
            ("XTASK_ROOT", stack.root.as_os_str()),
            ("XTASK_LAYER", stack.layer.as_ref()),
        ],
        errors,
        SUPERVISOR_START_TIMEOUT,
    )?;
    if said.as_deref() == Some(READY) {
        return Ok(());
    }
    let told = std::fs::read_to_string(&path).unwrap_or_default();
    let mut error = Error::unable(match said {
        Some(said) => format!("the supervisor failed to start: unexpected output `{said}`"),
        None => "the supervisor failed to start".to_owned(),
    });
    if told.is_empty() {
        error = error.with_hint("it reported no reason; is the disk full?");
    }
    for line in told.lines().take(20) {
        error = error.with_detail(line);
    }
    Err(error)
}

/// Returns the path of `SUPERVISOR_PROGRAM`, if it was built together with this program. With
/// `cargo run` of this program alone, the other one may be outdated.
pub fn find_supervisor_program(world: &Environment) -> Option<PathBuf> {
    let beside = world.program.with_file_name(SUPERVISOR_PROGRAM);
    // The launcher, which builds both, is run by cargo too, and sets `KEY_VAR`.
    let is_run_by_cargo =
        world.variable("CARGO_PKG_NAME") == Some(NAME) && world.variable(KEY_VAR).is_none();
    (beside.is_file() && !is_run_by_cargo).then_some(beside)
}

/// Name of the supervisor program. It contains only the code that `supervise` needs: a process that
/// stays for days should be small.
pub const SUPERVISOR_PROGRAM: &str = "xtask-supervisor";

/// Attempts of a status request whose supervisor goes away before its reply.
const STATUS_ATTEMPTS: usize = 3;

/// Subcommand that runs a supervisor. The layer, the root of the worktree, the folder of the stack
/// and the program of the toolkit follow.
pub const SUPERVISE_COMMAND: &str = "supervise";

/// Line that a supervisor prints once it accepts connections.
pub const READY: &str = "ready";

/// Waits for the supervisor to exit; returns whether it has.
pub fn wait_until_gone(pid: u32) -> bool {
    processes::identify_process(pid)
        .and_then(|who| ProcessHandle::open(&who))
        .is_none_or(|handle| handle.wait_timeout(SUPERVISOR_WAIT))
}

/// Reads the status of a stack without changing anything. Returns `None` if the stack is unknown.
pub fn read_status(stack: &Stack, world: &Environment) -> Result<Option<StackStatus>> {
    fetch_status(stack, world, false)
}

/// Like `read_status`, but without resource usage, which takes longer than all the rest.
pub fn read_brief_status(stack: &Stack, world: &Environment) -> Result<Option<StackStatus>> {
    fetch_status(stack, world, true)
}

fn fetch_status(stack: &Stack, world: &Environment, brief: bool) -> Result<Option<StackStatus>> {
    if let Some(status) = ask_supervisor(stack, brief)? {
        return Ok(Some(status));
    }
    let Some(saved) = reattach::read_stack_record(stack)? else { return Ok(None) };
    let mut status = derive_status(stack, &saved, world)?;
    if !brief {
        UsageMonitor::new(&saved.token).fill_usage(&mut status);
    }
    Ok(Some(status))
}

/// Returns the status as its supervisor reports it; `None` if none is running.
pub(super) fn ask_supervisor(stack: &Stack, brief: bool) -> Result<Option<StackStatus>> {
    let mut failure = None;
    for _ in 0..STATUS_ATTEMPTS {
        // A supervisor that went away counts as none, and another one may have started.
        let Some(link) = connect_supervisor(stack)? else { return Ok(None) };
        match request_status(link, stack, brief) {
            Ok(status) => return Ok(Some(status)),
            Err(why) => failure = Some(why),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// Returns the status of a stack without a supervisor, by its record and the process table.
pub(super) fn derive_status(
    stack: &Stack,
    saved: &StackRecord,
    world: &Environment,
) -> Result<StackStatus> {
    let table = ProcessTable::default().read_snapshot()?;
    let now = i64::try_from((world.clock)().as_millis()).unwrap_or(i64::MAX);
    let units = saved.units.iter();
    Ok(StackStatus {
        schema: status::SCHEMA.to_owned(),
        layer: stack.layer.clone(),
        worktree: stack.root.display().to_string(),
        supervisor: None,
        services: units
            .map(|unit| unsupervised_status(unit, saved, &stack.logs_folder(), &table, now))
            .collect(),
    })
}

fn request_status(mut link: ControlConnection, stack: &Stack, brief: bool) -> Result<StackStatus> {
    link.send_command(ControlCommand::Show { brief })?;
    match link.receive_reply(STATUS_TIMEOUT)? {
        Some(ControlReply::Now { page }) => Ok(page),
        Some(ControlReply::Refused { why }) => Err(Error::unable(why)),
        _ => Err(Error::unable(format!(
            "the supervisor of layer `{}` does not respond",
            stack.layer
        ))
        .with_hint("it may be suspended (SIGSTOP), or the machine is overloaded")),
    }
}

/// Returns the status of a service without a supervisor.
fn unsupervised_status(
    unit: &ServiceRecord,
    saved: &StackRecord,
    logs: &Path,
    table: &ProcessSnapshot,
    now: i64,
) -> ServiceStatus {
    let process = find_process(unit, &saved.token, logs, table);
    let is_up = process.is_some();
    let was_up = unit.identity.is_some();
    let state = match unit.state {
        _ if is_up => ReportedState::Lost,
        ReportedState::Failed | ReportedState::Done | ReportedState::Blocked => unit.state,
        _ => ReportedState::Stopped,
    };
    let ended = (was_up && !is_up).then(|| "exited while no supervisor was running".to_owned());
    let status = ServiceStatus::from_parts(
        (&unit.spec, &unit.notes),
        (state, Health::Unknown),
        process.map(|(identity, _)| identity.pid),
        now.saturating_sub(unit.started_ms),
    );
    ServiceStatus { error: ended.or(status.error), ..status }
}

/// Probes the services that run, now. Returns each name with the result of its probes.
pub fn verify_services(
    stack: &Stack,
    world: &Environment,
) -> Result<Vec<(String, Result<String, String>)>> {
    let StackObservation { record: Some(saved), status: Some(page) } = observe_stack(stack, world)?
    else {
        return Ok(Vec::new());
    };
    let units = saved.units.iter();
    let context = LaunchContext {
        token: saved.token.clone(),
        layer: stack.layer.clone(),
        root: stack.root.clone(),
        ports: units.filter_map(|u| Some((u.spec.name.clone(), u.spec.port?))).collect(),
        status: page.supervisor.as_ref().and_then(|supervisor| supervisor.status_port),
    };
    let mut answers = Vec::new();
    for unit in &saved.units {
        let Some(row) = page.find_service(&unit.spec.name) else { continue };
        let answer = match row.state {
            ReportedState::Done => Ok("completed".to_owned()),
            ReportedState::Ready | ReportedState::Lost | ReportedState::Starting => {
                probe_service(unit, &context, stack, world)
            }
            other => Err(row.error.clone().unwrap_or_else(|| format!("it is {other}"))),
        };
        answers.push((unit.spec.name.clone(), answer));
    }
    Ok(answers)
}

/// Returns the environment of a running service: that of its process, or, if the process has
/// overwritten it, the one that its env files give now.
fn read_environment(
    unit: &ServiceRecord,
    context: &LaunchContext,
    world: &Environment,
) -> Result<Env, String> {
    let marker = Marker::new(&context.token, &unit.spec.name, unit.run);
    if let Some(env) = unit.identity.as_ref().and_then(|who| marker.read_environment(who)) {
        return Ok(env);
    }
    let specs = std::slice::from_ref(&unit.spec);
    // A read-only command must not consume a pipe.
    let values = EnvFileValues::read_files(specs, &world.variables, WaitPolicy::Brief);
    let mut base = world.variables.clone();
    base.extend(values.for_service(&unit.spec.name).map_err(|failure| failure.to_string())?);
    Ok(launch::build_environment(&unit.spec, &base, context, unit.run, unit.notes.is_degraded))
}

fn probe_service(
    unit: &ServiceRecord,
    context: &LaunchContext,
    stack: &Stack,
    world: &Environment,
) -> Result<String, String> {
    let spec = &unit.spec;
    let probes: Vec<_> = spec.probes().collect();
    if probes.is_empty() {
        return Ok("running; no probe configured".to_owned());
    }
    let mut env = read_environment(unit, context, world)?;
    // Processes that this command starts are not the service's: remove the marker.
    env.remove(OsStr::new(MARKER_VARIABLE));
    let log = ServiceLog::new(&stack.logs_folder(), &spec.name);
    let reach = ListenerFinder {
        process_table: Default::default(),
        token: context.token.clone(),
        service: spec.name.clone(),
        leader: unit.identity.clone(),
        logs: log.file_ids(),
        last: Default::default(),
    };
    for probe in probes {
        let context = probe::ProbeContext {
            folder: &spec.folder,
            env: &env,
            log: &log,
            search: &LogSearch::starting_at(unit.log_at),
            listeners: &reach,
            is_over: &|| false,
        };
        probe::run_probe(probe, &context)?;
    }
    Ok("healthy".to_owned())
}
