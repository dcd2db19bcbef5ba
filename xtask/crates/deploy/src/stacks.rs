//! Starting and stopping the services of a release, by the same supervisor that `start` uses.
//!
//! Each release is a stack with its own folder in the target, so two releases never share a record, a socket or
//! a log. For example:
//!
//! ```text
//! TO/stacks/20250310T101500Z-4cfd10e1a2b3       while it serves
//! TO/stacks/20250310T101500Z-4cfd10e1a2b3.try   while it is a candidate
//! ```

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use super::DeployContext;
use super::history;
use super::release::Release;
use super::target::{DeployTarget, TargetOwnership};
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_config::Layer;
use xtask_services::client;
use xtask_services::control_socket::{
    self, ControlCommand, ControlReply, ServiceFailure, StartRequest,
};
use xtask_services::env_files::{EnvFileValues, WaitPolicy};
use xtask_services::launch::Env;
use xtask_services::plan::{self, ServiceFolders};
use xtask_services::spec::ServiceSpec;
use xtask_services::stack::Stack;
use xtask_services::status::StackStatus;

/// Interval between two checks for Ctrl-C.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Number of attempts to send a start request, if supervisors exit concurrently.
const START_ATTEMPTS: usize = 10;

/// End of the folder name of a candidate's stack.
const CANDIDATE_SUFFIX: &str = ".try";

/// Role of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackRole {
    /// It serves on the ports of the layer.
    Serving,
    /// It is tested on spare ports.
    Candidate,
}

/// A stack with a folder in a target.
pub struct ReleaseStack {
    pub release: Release,
    pub role: StackRole,
    pub stack: Stack,
}

/// Returns the stack of a release.
#[must_use]
pub fn stack_for_release(target: &DeployTarget, release: &Release, role: StackRole) -> Stack {
    let name = match role {
        StackRole::Serving => release.name.clone(),
        StackRole::Candidate => format!("{}{CANDIDATE_SUFFIX}", release.name),
    };
    let folder = target.stacks_folder().join(name);
    Stack { layer: target.layer.clone(), root: release.files(), folder }
}

/// Returns the stack of the current release; `None` if there is none, or `target` is not ours.
pub fn find_serving_stack(target: &DeployTarget) -> Result<Option<Stack>> {
    if !matches!(target.check_ownership(), Ok(TargetOwnership::Ours)) {
        return Ok(None);
    }
    let entries = history::read_history(&target.history_file())?;
    let current = history::current_and_serving(&entries).current;
    Ok(current.map(|name| {
        stack_for_release(target, &Release::in_target(target, name), StackRole::Serving)
    }))
}

/// Returns all stacks with a folder in `target`.
pub fn list_stacks(target: &DeployTarget) -> Result<Vec<ReleaseStack>> {
    let folder = target.stacks_folder();
    let entries = match std::fs::read_dir(&folder) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("cannot list `{}`", folder.display()))?,
    };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    let stack = |name: &String| {
        let (name, role) = match name.strip_suffix(CANDIDATE_SUFFIX) {
            Some(name) => (name, StackRole::Candidate),
            None => (&name[..], StackRole::Serving),
        };
        let release = Release::in_target(target, name);
        let stack = stack_for_release(target, &release, role);
        ReleaseStack { release, role, stack }
    };
    Ok(names.iter().map(stack).collect())
}

/// Returns the ports of a layer by service name.
#[must_use]
pub fn collect_ports(layer: &Layer) -> BTreeMap<String, u16> {
    let services = layer.services.iter();
    services.filter_map(|service| Some((service.name.clone(), service.port?))).collect()
}

/// Returns a free port on 127.0.0.1 for each service that has a port.
pub fn find_spare_ports(layer: &Layer) -> Result<BTreeMap<String, u16>> {
    let mut held = Vec::new();
    let mut ports = BTreeMap::new();
    for name in list_port_names(layer) {
        let failed = || "no free port for the candidate";
        // The listeners stay open until the end, so that no two ports are the same.
        let listener = TcpListener::bind(("127.0.0.1", 0)).with_context(failed)?;
        ports.insert(name, listener.local_addr().with_context(failed)?.port());
        held.push(listener);
    }
    Ok(ports)
}

fn list_port_names(layer: &Layer) -> Vec<String> {
    collect_ports(layer).into_keys().collect()
}

/// Builds the specs of the services `chosen` (indexes into `layer.services`) for the supervisor.
///
/// `files` is the present location of the release's files. An env file that the release does not contain is
/// taken from the `shared` folder.
#[must_use]
pub fn build_specs(
    layer: &Layer,
    chosen: &[usize],
    ports: &BTreeMap<String, u16>,
    target: &DeployTarget,
    release: &Release,
    files: &Path,
) -> Vec<ServiceSpec> {
    let (root, state) = (release.files(), target.state_folder());
    let mut specs =
        plan::build_specs(layer, chosen, ports, &ServiceFolders { root: &root, state: &state });
    let shared = target.shared_folder();
    for spec in &mut specs {
        for file in &mut spec.env_files {
            let below = file.path.strip_prefix(&root).map(ToOwned::to_owned).ok();
            if let Some(below) = below.filter(|below| !files.join(below).exists()) {
                file.path = shared.join(below);
            }
        }
        for (name, value) in release_variables(target, release) {
            spec.env.insert(name.to_owned(), value);
        }
    }
    specs
}

/// Returns the variables for every service and every step: `XTASK_RELEASE` and `XTASK_SHARED`.
#[must_use]
pub fn release_variables(target: &DeployTarget, release: &Release) -> [(&'static str, String); 2] {
    [
        ("XTASK_RELEASE", release.name.clone()),
        ("XTASK_SHARED", target.shared_folder().display().to_string()),
    ]
}

/// Returns the environment of this command without variables that begin with `XTASK_`, as these mark other services.
#[must_use]
pub fn inherited_environment(deploy_ctx: &DeployContext<'_>) -> Env {
    let mut env = deploy_ctx.world.variables.clone();
    env.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    env
}

/// Returns the base environment and the values of all env files.
///
/// Returns an error of kind `Negative` if an env file is missing or malformed, or a program is not found.
pub fn check_environment(
    stack: &Stack,
    specs: &[ServiceSpec],
    waits: WaitPolicy,
    deploy_ctx: &DeployContext<'_>,
) -> Result<(Env, EnvFileValues)> {
    let base = inherited_environment(deploy_ctx);
    let values = EnvFileValues::read_files(specs, &base, waits);
    plan::check_specs(specs, &base, &values, &stack.root).map_err(|failure| {
        let error = Error::negative(failure.message().to_owned());
        failure.details().iter().fold(error, |error, detail| error.with_detail(detail.clone()))
    })?;
    Ok((base, values))
}

/// Starts a stack and waits until all its services are ready. `status` is the port of the status page.
///
/// Returns an error of kind `Negative` if a service does not become ready; the supervisor stops it again.
pub fn start_stack(
    stack: &Stack,
    specs: Vec<ServiceSpec>,
    status: Option<u16>,
    deploy_ctx: &DeployContext<'_>,
) -> Result<()> {
    deploy_ctx.disk.check_gate("start services").with_context(|| "cannot start services")?;
    std::fs::create_dir_all(&stack.folder)
        .with_context(|| format!("cannot create the folder `{}`", stack.folder.display()))?;
    let (base, values) = check_environment(stack, &specs, WaitPolicy::Full, deploy_ctx)?;
    let start = StartRequest {
        layer: specs.iter().map(|spec| spec.name.clone()).collect(),
        specs,
        again: Vec::new(),
        env: control_socket::encode_env(&base),
        values: values
            .readable_envs()
            .iter()
            .map(|(n, env)| (n.clone(), control_socket::encode_env(env)))
            .collect(),
        seen: values.file_stamps().clone(),
        ready_within_ms: super::to_millis(deploy_ctx.ready_within),
        without: Vec::new(),
        status,
    };
    for _ in 0..START_ATTEMPTS {
        let mut link = client::connect_or_start(stack, deploy_ctx.world)?;
        if link.send_command(ControlCommand::Start(start.clone())).is_err() {
            continue;
        }
        let mut is_heard = false;
        let mut told = BTreeMap::new();
        loop {
            if deploy_ctx.interrupts.was_interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            match link.receive_reply(POLL_INTERVAL) {
                Ok(None) => {}
                Ok(Some(ControlReply::Now { page })) => {
                    is_heard = true;
                    report_waiting(&page, &mut told, deploy_ctx);
                }
                Ok(Some(ControlReply::Done { .. })) => return Ok(()),
                Ok(Some(ControlReply::Failed { failures, .. })) => {
                    return Err(not_ready_error(&failures));
                }
                Ok(Some(ControlReply::Refused { why })) => return Err(Error::unable(why)),
                // The supervisor was about to exit.
                Err(_) if !is_heard => break,
                Err(failure) => return Err(failure),
            }
        }
    }
    Err(Error::unable("the supervisor of the release exits before it answers"))
}

/// Reports each service that has been starting for more than a second; each reason once.
fn report_waiting(
    page: &StackStatus,
    told: &mut BTreeMap<String, String>,
    deploy_ctx: &DeployContext<'_>,
) {
    for row in page.services.iter().filter(|row| row.is_slow_start()) {
        let Some(why) = &row.error else { continue };
        if told.insert(row.service.clone(), why.clone()).as_ref() != Some(why) {
            (deploy_ctx.tell)(&format!("waiting for {}: {why}", row.service));
        }
    }
}

fn not_ready_error(failures: &[ServiceFailure]) -> Error {
    let names: Vec<&str> = failures.iter().map(|failure| failure.service.as_str()).collect();
    let error = Error::negative(format!("{} did not become ready", names.join(", ")));
    failures.iter().fold(error, |error, failure| {
        let error = error.with_detail(format!("{}: {}", failure.service, failure.why));
        let lines = failure.lines.iter();
        lines.fold(error, |error, line| error.with_output_line(format!("  | {line}")))
    })
}

/// Stops all services of a stack and its supervisor.
///
/// Returns an error that lists the processes that are still running, if any.
pub fn stop_stack(stack: &Stack, deploy_ctx: &DeployContext<'_>) -> Result<()> {
    let Some(page) = client::read_brief_status(stack, deploy_ctx.world)? else { return Ok(()) };
    if page.supervisor.is_none() && page.services.iter().all(|row| row.pid.is_none()) {
        return Ok(());
    }
    deploy_ctx.disk.check_gate("end services").with_context(|| "cannot stop services")?;
    let mut link = client::connect_or_start(stack, deploy_ctx.world)?;
    link.send_command(ControlCommand::Stop { names: Vec::new(), within_ms: None })?;
    loop {
        match link.receive_reply(POLL_INTERVAL) {
            Ok(Some(ControlReply::Done { page, survivors })) => {
                if !survivors.is_empty() {
                    let error = Error::unable("some processes are still running");
                    return Err(survivors.into_iter().fold(error, Error::with_detail));
                }
                if let Some(line) = page.supervisor
                    && !client::wait_until_gone(line.pid)
                {
                    return Err(Error::unable(format!(
                        "the services have stopped, but their supervisor (pid {}) is still running",
                        line.pid
                    )));
                }
                return Ok(());
            }
            Ok(Some(ControlReply::Refused { why })) => return Err(Error::unable(why)),
            Ok(_) => {}
            // A supervisor that exited together with all its services has fulfilled the request.
            Err(failure) => {
                let left = client::read_brief_status(stack, deploy_ctx.world)?;
                let runs = left.is_some_and(|page| page.services.iter().any(|r| r.pid.is_some()));
                return if runs { Err(failure) } else { Ok(()) };
            }
        }
    }
}

/// Stops a stack and removes its folder.
pub fn remove_stack(stack: &Stack, deploy_ctx: &DeployContext<'_>) -> Result<()> {
    stop_stack(stack, deploy_ctx)?;
    if std::fs::symlink_metadata(&stack.folder).is_err() {
        return Ok(());
    }
    let failed = || format!("cannot remove `{}`", stack.folder.display());
    deploy_ctx.disk.remove_folder(&stack.folder).with_context(failed)
}
