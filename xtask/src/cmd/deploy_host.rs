//! `deploy-host`: the internal command that a deploy from another machine runs on this host, over ssh.
//!
//! It reads one request from stdin and answers with lines of JSON. The client may disconnect: output is never waited
//! for, and a started run goes on to its end. The input line `interrupt` is the client's Ctrl-C.
//!
//! ```text
//! <- {"tell":"building the release"}
//! <- "beat"
//! <- {"ended":{…}}
//! ```

use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use super::{CommandResult, SUCCESS};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::process::leave_session;
use xtask_base::signals::Interrupts;
use xtask_deploy::DeployContext;
use xtask_deploy::host_agent::execute_request;
use xtask_deploy::ssh::{program_digest, render_hello};
use xtask_deploy::wire_protocol::{HELLO, HostMessage, HostRequest, INTERRUPT};
use xtask_report as report;

/// The name of the command.
pub(super) use xtask_deploy::wire_protocol::DEPLOY_HOST as WORD;

/// The size limit of a request: 16 MiB, far above that of any layer.
const MAX_ORDER_BYTES: u64 = 16 << 20;

/// How long to wait for the request.
const ORDER_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a `Beat` line tells the client that the run is alive.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How many lines are queued for writing; more are dropped, as the client does not read.
const MAX_QUEUED_LINES: usize = 1000;

/// How long to wait until the last line is written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) fn run(mut world: Environment, args: &[OsString]) -> CommandResult {
    if args.len() == 1 && args[0] == HELLO {
        report::print_output(&format!("{}\n", render_hello(&program_digest(&world)?)))?;
        return Ok(SUCCESS);
    }
    if !args.is_empty() {
        return Err(Error::usage("`deploy-host` is started by `cargo xtask deploy`"));
    }
    let interrupts = Interrupts::install_handlers();
    let _held = interrupts.defer_signals();
    let request = read_order(interrupts.interrupt_notifier())?;
    leave_session();
    let (say, written) = spawn_line_writer();
    let beats = say.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(HEARTBEAT_INTERVAL);
            if matches!(
                beats.try_send(to_json_line(&HostMessage::Beat)),
                Err(TrySendError::Disconnected(_))
            ) {
                return;
            }
        }
    });
    let variables = request.variables.iter();
    world.variables.extend(variables.map(|(name, value)| (name.into(), value.into())));
    let ended = {
        let tell =
            |text_: &str| drop(say.try_send(to_json_line(&HostMessage::Tell(text_.to_owned()))));
        let warn =
            |text_: &str| drop(say.try_send(to_json_line(&HostMessage::Warn(text_.to_owned()))));
        let around = DeployContext {
            world: &world,
            disk: &Disk::real(),
            interrupts: &interrupts,
            tell: &tell,
            by: &request.by,
            ready_within: Duration::from_millis(request.ready_within_ms),
        };
        execute_request(&request, around, &warn)
    };
    drop(say.try_send(to_json_line(&HostMessage::Ended(Box::new(ended)))));
    drop(say.try_send(String::new()));
    // The run is over whether or not the client reads its last line.
    written.recv_timeout(FLUSH_TIMEOUT).ok();
    Ok(SUCCESS)
}

fn to_json_line(line: &HostMessage) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

/// Reads the request from stdin; a thread reads the following lines and calls `note` for each `interrupt`.
fn read_order(note: impl Fn() + Send + 'static) -> Result<HostRequest> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = String::new();
        let read = input.by_ref().take(MAX_ORDER_BYTES).read_line(&mut line);
        if tell.send(read.map(|_| line)).is_err() {
            return;
        }
        let mut line = String::new();
        while let Ok(1..) = input.by_ref().take(MAX_ORDER_BYTES).read_line(&mut line) {
            if line.trim_end() == INTERRUPT {
                note();
            }
            line.clear();
        }
    });
    let line = told
        .recv_timeout(ORDER_TIMEOUT)
        .map_err(|_| Error::unable("timed out waiting for the request"))?;
    let line = line.map_err(|cause| Error::unable("cannot read the request").with_cause(cause))?;
    // The request may hold secrets, so the message has no text of it.
    serde_json::from_str(&line).map_err(|cause| {
        Error::unable(format!("invalid request: error at column {}", cause.column()))
    })
}

/// Starts a thread that writes queued lines to stdout as long as the client reads. An empty line is the last one;
/// once it is reached, the returned receiver disconnects.
fn spawn_line_writer() -> (SyncSender<String>, Receiver<()>) {
    let (say, said) = sync_channel::<String>(MAX_QUEUED_LINES);
    let (tell, written) = channel::<()>();
    std::thread::spawn(move || {
        let mut is_read = true;
        for line in said {
            if line.is_empty() {
                break;
            }
            is_read = is_read && report::print_chunk(&format!("{line}\n")).unwrap_or(false);
        }
        drop(tell);
    });
    (say, written)
}
