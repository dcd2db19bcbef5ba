//! Shared code of `start`, `stop`, `restart`, `ps` and `logs`: finding the stack of a layer, sending requests to its
//! supervisor, and following the replies.
//!
//! ```text
//! StartRequest  ->  supervisor  ->  Now { page }, Now { page }, Done { page, survivors }  ->  RequestOutcome::Done
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::lock::Lock;
#[cfg(feature = "deploy")]
use xtask_config::DeployEngine;
use xtask_config::{self as config, DEFAULT_LAYER, DEPLOYMENT_FOLDER, Layer};
#[cfg(feature = "deploy")]
use xtask_deploy::stacks;
#[cfg(feature = "deploy")]
use xtask_deploy::target::DeployTarget;
use xtask_git::Repo;
use xtask_report as report;
use xtask_services::client;
use xtask_services::control_socket::{
    ControlCommand, ControlConnection, ControlReply, ServiceFailure, StartRequest,
};
use xtask_services::env_files;
use xtask_services::launch::Env;
use xtask_services::plan;
use xtask_services::reattach;
use xtask_services::report::ServiceProgress;
use xtask_services::spec::ServiceSpec;
use xtask_services::stack::Stack;
use xtask_services::status::{ServiceStatus, StackStatus};

/// How often a start is requested again if supervisors exit concurrently.
const MAX_ATTEMPTS: usize = 10;

/// How often Ctrl-C is checked while waiting for a reply.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long a command waits for another one that starts or stops services of the same layer.
const LOCK_TIMEOUT: Duration = Duration::from_secs(600);

/// Acquires the lock that serializes commands which start or stop services of this stack.
pub(super) fn lock_stack(stack: &Stack, command: &str) -> Result<Lock> {
    let waiting = |holder: &str| {
        report::print_warning(&format!(
            "waiting for another xtask that starts or stops services ({holder})"
        ));
    };
    let who = format!("{command}, pid {}", std::process::id());
    Lock::acquire(&stack.command_lock(), &who, LOCK_TIMEOUT, waiting)
}

/// Returns the names of the layers in `deployment/`, sorted.
pub(super) fn list_layers(repo: &Repo) -> Vec<String> {
    let entries = std::fs::read_dir(repo.root().join(DEPLOYMENT_FOLDER));
    let names =
        entries.into_iter().flatten().flatten().filter_map(|entry| {
            Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned())
        });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Reads a layer from the worktree.
pub(super) fn read_layer(repo: &Repo, name: &str) -> Result<Layer> {
    read_layer_with_texts(repo, name).map(|(layer, _)| layer)
}

/// Reads a layer, and returns it with the texts of all files that were read, by layer name.
pub(super) fn read_layer_with_texts(
    repo: &Repo,
    name: &str,
) -> Result<(Layer, BTreeMap<String, String>)> {
    let texts = RefCell::new(BTreeMap::new());
    let read = |layer: &str| {
        let file = config::layer_file_path(layer);
        match std::fs::read(repo.root().join(&file)) {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => {
                    texts.borrow_mut().insert(layer.to_owned(), text.clone());
                    Ok(Some(text))
                }
                Err(_) => Err(Error::usage(format!("{file} is not UTF-8"))),
            },
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Error::unable(format!("cannot read {file}")).with_cause(cause)),
        }
    };
    let layer = Layer::load(name, &read, &list_layers(repo))?;
    Ok((layer, texts.into_inner()))
}

#[cfg(feature = "deploy")]
/// Reads a layer that has `[deploy]`. Returns `None` if it has none, or if its services run in this worktree, which
/// then take precedence. Returns an error if a layer with `[deploy]` cannot be read.
pub(super) fn read_deployed_layer(
    session: &Session,
    repo: &Repo,
    name: &str,
) -> Result<Option<Layer>> {
    let runs_here = || {
        let own = Stack::new(&repo.folders(), name);
        matches!(client::read_brief_status(&own, &session.world), Ok(Some(page)) if page.is_up())
    };
    match read_layer(repo, name) {
        Ok(layer) if layer.deploy.is_none() => Ok(None),
        Ok(layer) => Ok((!runs_here()).then_some(layer)),
        Err(failure) => {
            let file = repo.root().join(config::layer_file_path(name));
            let text = std::fs::read(file).unwrap_or_default();
            let is_deployed = String::from_utf8_lossy(&text).contains("[deploy");
            if is_deployed && !runs_here() { Err(failure) } else { Ok(None) }
        }
    }
}

/// Returns the stacks of this worktree that have a status, and the last error of one whose status cannot be read,
/// which does not hide the others.
pub(super) fn list_known_stacks(
    session: &Session,
    repo: &Repo,
) -> (Vec<(Stack, StackStatus)>, Option<Error>) {
    let mut found = Vec::new();
    let mut unreadable = None;
    for stack in Stack::list_all(&repo.folders()) {
        match client::read_brief_status(&stack, &session.world) {
            Ok(Some(page)) => found.push((stack, page)),
            Ok(None) => {}
            Err(failure) => unreadable = Some(failure),
        }
    }
    (found, unreadable)
}

/// Returns the stack of `layer`, or else the only one that runs, or else that of the default layer.
pub(super) fn choose_stack(session: &Session, repo: &Repo, layer: Option<&str>) -> Result<Stack> {
    if let Some(layer) = layer {
        return find_stack_anywhere(session, repo, layer);
    }
    let (mut known, unreadable) = list_known_stacks(session, repo);
    known.retain(|(_, page)| page.is_up());
    if let Some(failure) = unreadable.filter(|_| known.is_empty()) {
        return Err(failure);
    }
    Ok(match known.len() {
        1 => known.remove(0).0,
        _ => Stack::new(&repo.folders(), DEFAULT_LAYER),
    })
}

/// Returns the stack of a layer that exists or has recorded state in this worktree.
pub(super) fn find_stack(repo: &Repo, layer: &str) -> Result<Stack> {
    let layers = list_layers(repo);
    let known: Vec<String> =
        Stack::list_all(&repo.folders()).into_iter().map(|stack| stack.layer).collect();
    if layers.iter().chain(&known).any(|name| name == layer) {
        return Ok(Stack::new(&repo.folders(), layer));
    }
    let near = config::suggest_nearest(layer, layers.iter().map(String::as_str));
    Err(Error::usage(format!("no such layer: `{layer}`{near}"))
        .with_hint(format!("layers: {}", layers.join(", "))))
}

/// Returns the stack of a layer in this worktree if it runs, or else the deployed one on this machine, or else the
/// former.
pub(super) fn find_stack_anywhere(session: &Session, repo: &Repo, layer: &str) -> Result<Stack> {
    let own = find_stack(repo, layer)?;
    if client::read_brief_status(&own, &session.world)?.is_some_and(|page| page.is_up()) {
        return Ok(own);
    }
    #[cfg(feature = "deploy")]
    if let Some(serving) = find_serving_stack(repo, layer)? {
        return Ok(serving);
    }
    Ok(own)
}

#[cfg(feature = "deploy")]
/// Returns the stack of the release that serves, if the layer is deployed on this machine.
fn find_serving_stack(repo: &Repo, layer: &str) -> Result<Option<Stack>> {
    let Some(deploy) = read_layer(repo, layer).ok().and_then(|layer| layer.deploy) else {
        return Ok(None);
    };
    match deploy.engine {
        // The commands for such a layer ask the host before they get here.
        DeployEngine::Ssh => Err(Error::usage(format!(
            "layer `{layer}` is deployed to `{}`, and is configured by its release",
            deploy.to
        ))
        .with_hint(format!("`cargo xtask rollback {layer}` starts a release again"))
        .with_hint(format!("`cargo xtask history {layer}` lists the releases"))),
        DeployEngine::Directory => {
            stacks::find_serving_stack(&DeployTarget::for_layer(repo, layer, &deploy))
        }
        DeployEngine::Compose | DeployEngine::Kubernetes => Ok(None),
    }
}

/// Returns whether a stack belongs to this worktree, not to a deployed release.
pub(super) fn is_own(repo: &Repo, stack: &Stack) -> bool {
    stack.root == repo.root()
}

/// Returns an error if the stack has no service of one of these names.
pub(super) fn check_names(names: &[String], page: &StackStatus) -> Result<()> {
    let known: Vec<&str> = page.services.iter().map(|row| row.service.as_str()).collect();
    let unknown: Vec<&String> =
        names.iter().filter(|name| !known.contains(&name.as_str())).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let mut error = Error::usage(format!(
        "layer `{}` has no service `{}`; its services: {}",
        page.layer,
        unknown[0],
        known.join(", ")
    ));
    for name in unknown {
        error = error.with_detail(format!(
            "`{name}`{}",
            config::suggest_nearest(name, known.iter().copied())
        ));
    }
    Err(error)
}

/// Returns, by service, the changes since it was started: of its env files or its layer. Unknown changes are left
/// out; this must not take long.
pub(super) fn list_config_changes(repo: &Repo, stack: &Stack) -> BTreeMap<String, String> {
    let Ok(Some(saved)) = reattach::read_stack_record(stack) else { return BTreeMap::new() };
    let known = saved.units.iter().map(|unit| &unit.spec);
    let known = known.filter_map(|spec| Some((spec.name.clone(), spec.port?)));
    let known: BTreeMap<String, u16> = known.collect();
    let units: Vec<_> = saved.units.into_iter().filter(|unit| unit.identity.is_some()).collect();
    let layer = read_layer(repo, &stack.layer).ok();
    let now: BTreeMap<String, ServiceSpec> = layer.map_or(BTreeMap::new(), |layer| {
        let configured = layer.services.iter();
        let configured = configured.filter_map(|one| Some((one.name.clone(), one.port?)));
        let ports = configured.chain(known.clone()).collect();
        let all: Vec<usize> = (0..layer.services.len()).collect();
        let state = plan::worktree_state_folder(repo.root());
        let places = plan::ServiceFolders { root: repo.root(), state: &state };
        let specs = plan::build_specs(&layer, &all, &ports, &places);
        specs.into_iter().map(|spec| (spec.name.clone(), spec)).collect()
    });
    let mut changes = BTreeMap::new();
    for unit in units {
        let name = unit.spec.name.clone();
        let mut what: Vec<String> = env_files::list_changed(&unit.seen)
            .iter()
            .map(|path| format!("`{}`", path.strip_prefix(repo.root()).unwrap_or(path).display()))
            .collect();
        // The port set by `--port` appears in the commands of the service and of its dependents.
        let is_other = now.get(&name).is_some_and(|now| {
            ServiceSpec { is_moved: unit.spec.is_moved, ..now.clone() } != unit.spec
        });
        if is_other {
            what.push("its layer".to_owned());
        }
        if !what.is_empty() {
            let what = what.join(" and ");
            changes.insert(name, format!("{what} changed since its start: `restart` applies it"));
        }
    }
    changes
}

/// How a request ended.
pub(super) enum RequestOutcome {
    /// The request succeeded, except for the processes in `survivors`.
    Done {
        page: StackStatus,
        survivors: Vec<String>,
    },
    Failed {
        failures: Vec<ServiceFailure>,
        page: StackStatus,
        survivors: Vec<String>,
    },
    /// The user pressed Ctrl-C.
    Interrupted,
    /// The supervisor exited before it replied.
    Unanswered,
}

/// Requests a start and follows it. If the supervisor is just exiting, another one is started and asked.
pub(super) fn request_start(
    session: &Session,
    stack: &Stack,
    names: &[String],
    start: StartRequest,
) -> Result<RequestOutcome> {
    for _ in 0..MAX_ATTEMPTS {
        let mut link = client::connect_or_start(stack, &session.world)?;
        if link.send_command(ControlCommand::Start(start.clone())).is_err() {
            continue;
        }
        match follow_request(session, link, names)? {
            RequestOutcome::Unanswered => {}
            ended => return Ok(ended),
        }
    }
    Err(Error::unable("the supervisor exits on every request")
        .with_hint("`cargo xtask ps` shows its error; then try again"))
}

/// Follows a request until its last reply; Ctrl-C is checked between replies.
pub(super) fn follow_request(
    session: &Session,
    mut link: ControlConnection,
    names: &[String],
) -> Result<RequestOutcome> {
    let mut board = ServiceProgress::new(session.verbosity);
    let tools = session.tools();
    let _held = tools.interrupts.defer_signals();
    let mut is_heard = false;
    let meant = |page: &StackStatus, board: &mut ServiceProgress| {
        let rows = page.services.iter();
        let rows: Vec<&ServiceStatus> =
            rows.filter(|row| names.is_empty() || names.contains(&row.service)).collect();
        board.show_states(&rows);
    };
    let ended = loop {
        if tools.interrupts.was_interrupted() {
            break RequestOutcome::Interrupted;
        }
        match link.receive_reply(POLL_INTERVAL) {
            Ok(None) => board.show_states(&[]),
            Ok(Some(ControlReply::Now { page })) => {
                is_heard = true;
                meant(&page, &mut board);
            }
            Ok(Some(ControlReply::Done { page, survivors })) => {
                break RequestOutcome::Done { page, survivors };
            }
            Ok(Some(ControlReply::Failed { failures, page, survivors })) => {
                break RequestOutcome::Failed { failures, page, survivors };
            }
            Ok(Some(ControlReply::Refused { why })) => {
                board.clear();
                return Err(Error::unable(why));
            }
            Err(_) if !is_heard => break RequestOutcome::Unanswered,
            Err(failure) => {
                board.clear();
                return Err(failure.with_hint(
                    "`cargo xtask ps` shows what runs; run the same command again to continue",
                ));
            }
        }
    };
    if let RequestOutcome::Done { page, .. } | RequestOutcome::Failed { page, .. } = &ended {
        meant(page, &mut board);
    }
    board.clear();
    Ok(ended)
}

/// Builds the error of a start, with the last log lines of each failed service.
pub(super) fn start_error(failures: &[ServiceFailure], left: &str, layer: &str) -> Error {
    let mut error = Error::negative(match failures {
        [one] => format!("{} did not become ready; {left}", one.service),
        more => format!("{} services did not become ready; {left}", more.len()),
    });
    for failure in failures {
        let mut detail = format!("{}: {}", failure.service, failure.why);
        for line in &failure.lines {
            detail.push_str(&format!("\n  | {line}"));
        }
        error = error.with_detail(detail);
    }
    let names: Vec<&str> = failures.iter().map(|failure| failure.service.as_str()).collect();
    let layer = if layer == DEFAULT_LAYER { String::new() } else { format!(" --layer {layer}") };
    error.with_hint(format!("`cargo xtask logs {}{layer}` shows more", names.join(" ")))
}

/// Returns the environment for started services: that of this command without `XTASK_*`.
pub(super) fn inherited_environment(session: &Session) -> Env {
    let mut env = session.world.variables.clone();
    // These variables mark the services of a stack; the command may run inside another stack's service.
    env.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    env
}

/// The JSON output of `start` and `restart`.
#[derive(Serialize)]
struct StartReport<'a> {
    schema: &'static str,
    ok: bool,
    failures: &'a [ServiceFailure],
    #[serde(flatten)]
    page: StackReport<'a>,
}

/// A `StackStatus` without its schema.
#[derive(Serialize)]
struct StackReport<'a> {
    layer: &'a str,
    worktree: &'a str,
    supervisor: &'a Option<xtask_services::status::SupervisorStatus>,
    services: &'a [xtask_services::status::ServiceStatus],
}

/// Prints the JSON output of `start` or `restart`.
pub(super) fn print_start_report(
    schema: &'static str,
    page: &StackStatus,
    failures: &[ServiceFailure],
) -> Result<()> {
    let shown = StackReport {
        layer: &page.layer,
        worktree: &page.worktree,
        supervisor: &page.supervisor,
        services: &page.services,
    };
    let ok = failures.is_empty();
    report::print_json(&StartReport { schema, ok, failures, page: shown })
}

/// The result of stopping the services of one layer.
#[derive(Serialize)]
pub(super) struct StoppedLayerLine {
    pub(super) layer: String,
    /// The stopped services.
    pub(super) stopped: Vec<String>,
    /// The processes that did not exit.
    pub(super) survivors: Vec<String>,
    /// Descriptions of the services that had to be killed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) killed: Vec<String>,
}

/// Stops all services of a stack. Returns an error if a process survives.
pub(super) fn stop_all(session: &Session, stack: &Stack) -> Result<()> {
    let done = stop_services(session, stack, &[], None)?;
    if done.survivors.is_empty() {
        return Ok(());
    }
    let error = Error::negative("some processes are still running");
    Err(done.survivors.into_iter().fold(error, Error::with_detail))
}

/// Waits until the supervisor has exited, if no service runs any more.
pub(super) fn wait_for_supervisor(page: &StackStatus) -> Result<()> {
    let supervisor = page.supervisor.as_ref().filter(|_| !page.has_running_services());
    match supervisor {
        Some(line) if !client::wait_until_gone(line.pid) => Err(Error::unable(format!(
            "the services have stopped, but their supervisor (pid {}) is still running",
            line.pid
        ))),
        _ => Ok(()),
    }
}

/// Stops the named services, or all if `names` is empty, and waits until they have exited, and with the last of them
/// their supervisor. `within` overrides the timeout before a process is killed.
pub(super) fn stop_services(
    session: &Session,
    stack: &Stack,
    names: &[String],
    within: Option<Duration>,
) -> Result<StoppedLayerLine> {
    let before = client::read_brief_status(stack, &session.world)?;
    let was_up: Vec<String> = before
        .iter()
        .flat_map(|page| &page.services)
        .filter(|row| row.is_running())
        .map(|row| row.service.clone())
        .collect();
    let mut link = client::connect_or_start(stack, &session.world)?;
    let within_ms = within.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    link.send_command(ControlCommand::Stop { names: names.to_vec(), within_ms })?;
    match follow_request(session, link, &was_up)? {
        RequestOutcome::Done { page, survivors } => {
            let is_up = |name: &&String| {
                page.services.iter().any(|row| row.service == **name && row.is_running())
            };
            if survivors.is_empty() {
                wait_for_supervisor(&page)?;
            }
            let stopped: Vec<String> = was_up.iter().filter(|name| !is_up(name)).cloned().collect();
            let is_meant = |name: &&String| names.is_empty() || names.contains(name);
            if survivors.is_empty()
                && let Some(name) = was_up.iter().filter(is_meant).find(is_up)
            {
                return Err(Error::negative(format!(
                    "{name} was started again concurrently, and is running"
                )));
            }
            let rows = page.services.iter().filter(|row| stopped.contains(&row.service));
            let killed =
                rows.filter_map(|row| Some(format!("{}: {}", row.service, row.killed.as_ref()?)));
            let killed = killed.collect();
            Ok(StoppedLayerLine { layer: stack.layer.clone(), stopped, survivors, killed })
        }
        RequestOutcome::Unanswered => {
            // The supervisor exited concurrently, after stopping all its services.
            let left = client::read_brief_status(stack, &session.world)?;
            match left.filter(|page| page.has_running_services()) {
                Some(_) => {
                    Err(Error::unable("the supervisor exited, but services are still running")
                        .with_hint("run the same command again to stop them"))
                }
                None => Ok(StoppedLayerLine {
                    layer: stack.layer.clone(),
                    stopped: was_up,
                    survivors: Vec::new(),
                    killed: Vec::new(),
                }),
            }
        }
        RequestOutcome::Failed { .. } => {
            Err(Error::unable("unexpected response from the supervisor to a stop request"))
        }
        RequestOutcome::Interrupted => Err(Error::new(
            ErrorKind::Interrupted,
            "interrupted; the supervisor continues to stop the services",
        )),
    }
}
