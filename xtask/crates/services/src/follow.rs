//! Sends requests to the supervisor of a stack and follows the replies, for the workflows that start
//! and stop services.
//!
//! ```text
//! StartRequest -> supervisor -> Now {page}, Now {page}, Done {page, survivors} -> RequestOutcome::Done
//! ```

use std::time::Duration;

use super::client;
use super::control_socket::{
    ControlCommand, ControlConnection, ControlReply, ServiceFailure, StartRequest,
};
use super::launch::Env;
use super::stack::Stack;
use super::status::{ServiceStatus, StackStatus};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::lock::Lock;
use xtask_base::signals::Interrupts;

/// How often a start is requested again if supervisors exit concurrently.
const MAX_ATTEMPTS: usize = 10;

/// How often Ctrl-C is checked while waiting for a reply.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long a command waits for another one that starts or stops services of the same layer.
const LOCK_TIMEOUT: Duration = Duration::from_secs(600);

/// What the workflows work with.
#[derive(Clone, Copy)]
pub struct StackContext<'a> {
    pub world: &'a Environment,
    pub disk: &'a Disk<'a>,
    /// Pending signals, e.g. Ctrl-C.
    pub interrupts: &'a Interrupts,
}

/// Receives what a workflow tells while it works.
pub trait StackListener {
    fn on_info(&mut self, text: &str);
    fn on_warning(&mut self, text: &str);
    /// The present states of services; none if nothing has changed since the last call.
    fn on_progress(&mut self, rows: &[&ServiceStatus]);
    /// A request was answered or given up.
    fn on_request_end(&mut self);
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

/// Acquires the lock that serializes commands which start or stop services of a stack.
pub fn lock_stack(stack: &Stack, command: &str, listener: &mut dyn StackListener) -> Result<Lock> {
    let waiting = |holder: &str| {
        listener.on_warning(&format!(
            "waiting for another xtask that starts or stops services ({holder})"
        ));
    };
    let who = format!("{command}, pid {}", std::process::id());
    Lock::acquire(&stack.command_lock(), &who, LOCK_TIMEOUT, waiting)
}

/// Returns the environment for started services: that of this command without `XTASK_*`, which mark
/// the services of a stack. The command may run inside a service of another one.
#[must_use]
pub fn inherited_environment(world: &Environment) -> Env {
    let mut env = world.variables.clone();
    env.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    env
}

/// Requests a start and follows it; never `Unanswered`. If the supervisor is just exiting, another
/// one is started and asked.
pub(super) fn request_start(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    stack: &Stack,
    start: &StartRequest,
) -> Result<RequestOutcome> {
    let names: Vec<String> = start.specs.iter().map(|spec| spec.name.clone()).collect();
    for _ in 0..MAX_ATTEMPTS {
        let mut link = client::connect_or_start(stack, context.world)?;
        if link.send_command(ControlCommand::Start(start.clone())).is_err() {
            continue;
        }
        match follow_request(context, listener, link, &names)? {
            RequestOutcome::Unanswered => {}
            ended => return Ok(ended),
        }
    }
    Err(Error::unable("the supervisor exits on every request")
        .with_hint("`cargo xtask ps` shows its error; then try again"))
}

/// Follows a request about the services `names`, or all, until its last reply or Ctrl-C.
pub(super) fn follow_request(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    mut link: ControlConnection,
    names: &[String],
) -> Result<RequestOutcome> {
    let _held = context.interrupts.defer_signals();
    let ended = follow_replies(context, listener, &mut link, names);
    if let Ok(RequestOutcome::Done { page, .. } | RequestOutcome::Failed { page, .. }) = &ended {
        report_progress(listener, page, names);
    }
    listener.on_request_end();
    ended
}

fn follow_replies(
    context: &StackContext<'_>,
    listener: &mut dyn StackListener,
    link: &mut ControlConnection,
    names: &[String],
) -> Result<RequestOutcome> {
    let mut is_heard = false;
    loop {
        if context.interrupts.was_interrupted() {
            return Ok(RequestOutcome::Interrupted);
        }
        match link.receive_reply(POLL_INTERVAL) {
            Ok(None) => listener.on_progress(&[]),
            Ok(Some(ControlReply::Now { page })) => {
                is_heard = true;
                report_progress(listener, &page, names);
            }
            Ok(Some(ControlReply::Done { page, survivors })) => {
                return Ok(RequestOutcome::Done { page, survivors });
            }
            Ok(Some(ControlReply::Failed { failures, page, survivors })) => {
                return Ok(RequestOutcome::Failed { failures, page, survivors });
            }
            Ok(Some(ControlReply::Refused { why })) => return Err(Error::unable(why)),
            Err(_) if !is_heard => return Ok(RequestOutcome::Unanswered),
            Err(failure) => {
                return Err(failure.with_hint(
                    "`cargo xtask ps` shows what runs; run the same command again to continue",
                ));
            }
        }
    }
}

fn report_progress(listener: &mut dyn StackListener, page: &StackStatus, names: &[String]) {
    let is_meant = |row: &&ServiceStatus| names.is_empty() || names.contains(&row.service);
    listener.on_progress(&page.services.iter().filter(is_meant).collect::<Vec<_>>());
}

/// Waits until the supervisor has exited, if no service runs any more.
pub(super) fn wait_for_supervisor(page: &StackStatus) -> Result<()> {
    match page.supervisor.as_ref().filter(|_| !page.has_running_services()) {
        Some(line) if !client::wait_until_gone(line.pid) => Err(Error::unable(format!(
            "the services have stopped, but their supervisor (pid {}) is still running",
            line.pid
        ))),
        _ => Ok(()),
    }
}

/// Adds a detail for each process that survived a stop.
pub(super) fn with_survivors(error: Error, survivors: &[String]) -> Error {
    survivors.iter().fold(error, |error, who| error.with_detail(format!("{who} did not exit")))
}
