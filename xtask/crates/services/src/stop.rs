//! Stops services and verifies that no process of theirs is left, e.g.
//! `StoppedLayer {layer: "local", stopped: ["api"], survivors: []}`.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::client;
use super::control_socket::{ControlCommand, ControlReply};
use super::follow::{
    RequestOutcome, StackContext, StackListener, follow_request, wait_for_supervisor,
    with_survivors,
};
use super::layers::{list_layers, read_layer};
use super::stack::Stack;
use super::status::{ServiceStatus, StackStatus};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::words::join_names;
use xtask_config::suggest_nearest;

/// Result of stopping the services of one layer.
#[derive(Debug, Serialize)]
pub struct StoppedLayer {
    pub layer: String,
    /// Names of the stopped services.
    pub stopped: Vec<String>,
    /// Descriptions of the processes that did not exit.
    pub survivors: Vec<String>,
    /// Descriptions of the services that had to be killed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub killed: Vec<String>,
}

/// Result of a stop.
#[derive(Debug, Serialize)]
pub struct StopReport {
    pub schema: &'static str,
    pub ok: bool,
    pub layers: Vec<StoppedLayer>,
}

impl StopReport {
    /// Returns the report on the layers that were stopped.
    #[must_use]
    pub fn new(layers: Vec<StoppedLayer>) -> StopReport {
        let ok = layers.iter().all(|layer| layer.survivors.is_empty());
        StopReport { schema: "xtask.stop/1", ok, layers }
    }

    /// Returns the error about processes that did not exit, if any.
    pub fn check_survivors(&self) -> Result<()> {
        if self.ok {
            return Ok(());
        }
        let error = Error::negative("some processes are still running");
        let layers = self.layers.iter();
        Err(layers.fold(error, |error, layer| with_survivors(error, &layer.survivors)).with_hint(
            "a process that cannot be killed waits in the kernel, or belongs to another user",
        ))
    }
}

/// Returns the stacks that a stop of the services `names` is about: all if there are no names, or
/// else the first that has all of them.
pub fn choose_stacks(
    mut known: Vec<(Stack, StackStatus)>,
    names: &[String],
    root: &Path,
) -> Result<Vec<(Stack, StackStatus)>> {
    if names.is_empty() {
        return Ok(known);
    }
    known.retain(|(_, page)| page.is_up());
    if known.is_empty() {
        check_configured(root, names)?;
    }
    let has_all = |page: &StackStatus| names.iter().all(|name| page.find_service(name).is_some());
    // If none has them all, the first one is used for the error.
    if known.iter().any(|(_, page)| has_all(page)) {
        known.retain(|(_, page)| has_all(page));
    }
    known.truncate(1);
    Ok(known)
}

/// Returns an error if no layer has a service of one of these names.
fn check_configured(root: &Path, names: &[String]) -> Result<()> {
    let layers = list_layers(root).into_iter().filter_map(|name| read_layer(root, &name).ok());
    let known: Vec<String> =
        layers.flat_map(|layer| layer.services).map(|service| service.name).collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => {
            let near = suggest_nearest(name, known.iter().map(String::as_str));
            Err(Error::usage(format!("no such service in any layer: `{name}`{near}")))
        }
        None => Ok(()),
    }
}

/// Returns an error if the stack has no service of one of these names.
fn check_names(names: &[String], page: &StackStatus) -> Result<()> {
    let unknown: Vec<&String> =
        names.iter().filter(|name| page.find_service(name).is_none()).collect();
    let Some(first) = unknown.first() else { return Ok(()) };
    let known: Vec<&str> = page.services.iter().map(|row| row.service.as_str()).collect();
    let error = Error::usage(format!(
        "layer `{}` has no service `{first}`; it has {}",
        page.layer,
        join_names(&known.iter().map(ToString::to_string).collect::<Vec<_>>(), 20)
    ));
    Err(unknown.iter().fold(error, |error, name| {
        let near = suggest_nearest(name, known.iter().copied());
        let is_said = names.len() == 1 && near.is_empty();
        if is_said { error } else { error.with_detail(format!("`{name}`{near}")) }
    }))
}

/// Stops all services of a stack. Returns an error if a process survives.
pub fn stop_all(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    stack: &Stack,
    before: &StackStatus,
) -> Result<()> {
    let done = stop_services(context, listener, stack, before, &[], None)?;
    if done.survivors.is_empty() {
        return Ok(());
    }
    let error = Error::negative("some processes are still running");
    Err(done.survivors.into_iter().fold(error, Error::with_detail))
}

/// Stops the named services, or all if `names` is empty, and waits until they have exited, and with
/// the last of them their supervisor. `within` overrides the timeout before a process is killed.
pub fn stop_services(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    stack: &Stack,
    before: &StackStatus,
    names: &[String],
    within: Option<Duration>,
) -> Result<StoppedLayer> {
    check_names(names, before)?;
    let rows = before.services.iter().filter(|row| row.is_running());
    let was_up: Vec<String> = rows.map(|row| row.service.clone()).collect();
    let mut link = client::connect_or_start(stack, context.world)?;
    let within_ms = within.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    link.send_command(ControlCommand::Stop { names: names.to_vec(), within_ms })?;
    match follow_request(context, listener, link, &was_up)? {
        RequestOutcome::Done { page, survivors } => {
            describe_stop(stack, &page, names, &was_up, survivors)
        }
        // The supervisor exited concurrently, after stopping all its services.
        RequestOutcome::Unanswered => {
            let left = client::read_brief_status(stack, context.world)?;
            if left.is_some_and(|page| page.has_running_services()) {
                return Err(Error::unable("the supervisor exited, but services are still running")
                    .with_hint("run the same command again to stop them"));
            }
            let (survivors, killed) = (Vec::new(), Vec::new());
            Ok(StoppedLayer { layer: stack.layer.clone(), stopped: was_up, survivors, killed })
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

fn describe_stop(
    stack: &Stack,
    page: &StackStatus,
    names: &[String],
    was_up: &[String],
    survivors: Vec<String>,
) -> Result<StoppedLayer> {
    let is_up = |name: &&String| page.find_service(name).is_some_and(ServiceStatus::is_running);
    if survivors.is_empty() {
        wait_for_supervisor(page)?;
        let is_meant = |name: &&String| names.is_empty() || names.contains(name);
        if let Some(name) = was_up.iter().filter(is_meant).find(is_up) {
            return Err(Error::negative(format!(
                "{name} was started again concurrently, and is running"
            )));
        }
    }
    let stopped: Vec<String> = was_up.iter().filter(|name| !is_up(name)).cloned().collect();
    let rows = stopped.iter().filter_map(|name| page.find_service(name));
    let killed = rows.filter_map(|row| Some(format!("{}: {}", row.service, row.killed.as_ref()?)));
    let killed = killed.collect();
    Ok(StoppedLayer { layer: stack.layer.clone(), stopped, survivors, killed })
}

/// Stops the named services, or all if `names` is empty, ignoring Ctrl-C. Returns the processes that
/// survived.
pub(super) fn stop_uninterrupted(stack: &Stack, names: Vec<String>) -> Result<Vec<String>> {
    let Some(mut link) = client::connect_supervisor(stack)? else { return Ok(Vec::new()) };
    link.send_command(ControlCommand::Stop { names, within_ms: None })?;
    loop {
        match link.receive_reply(Duration::from_secs(1))? {
            Some(ControlReply::Done { survivors, page }) => {
                if survivors.is_empty() {
                    wait_for_supervisor(&page)?;
                }
                return Ok(survivors);
            }
            Some(ControlReply::Refused { why }) => return Err(Error::unable(why)),
            _ => {}
        }
    }
}
