//! `deploy-host`: what a deploy from another machine has this program do here. Nobody types it.
//!
//! One order is read, and lines of JSON are the answer. Who gave it may go away meanwhile: nothing waits for
//! somebody to read, and what was begun goes on to its end. The line `interrupt` is its Ctrl-C.

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

/// The word by which it is asked for.
pub(super) use xtask_deploy::wire_protocol::DEPLOY_HOST as WORD;

/// The longest order: 16 MiB, far above any layer.
const MAX_ORDER_BYTES: u64 = 16 << 20;

/// How long an order may take to arrive.
const ORDER_TIMEOUT: Duration = Duration::from_secs(60);

/// How often it is said that somebody is at work.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);

/// How many lines wait to be written; what is more is dropped, as nobody reads them.
const MAX_QUEUED_LINES: usize = 1000;

/// How long the last line may take to be written.
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
    let order = read_order(interrupts.interrupt_notifier())?;
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
    let variables = order.variables.iter();
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
            by: &order.by,
            ready_within: Duration::from_millis(order.ready_within_ms),
        };
        execute_request(&order, around, &warn)
    };
    drop(say.try_send(to_json_line(&HostMessage::Ended(Box::new(ended)))));
    drop(say.try_send(String::new()));
    // Whether anybody hears it or not, all is done.
    written.recv_timeout(FLUSH_TIMEOUT).ok();
    Ok(SUCCESS)
}

fn to_json_line(line: &HostMessage) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

/// Reads the order; the lines after it are heard by a thread.
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
    let line =
        told.recv_timeout(ORDER_TIMEOUT).map_err(|_| Error::unable("no order has arrived"))?;
    let line = line.map_err(|cause| Error::unable("the order cannot be read").with_cause(cause))?;
    // What is in it is not told: it may hold what is secret.
    serde_json::from_str(&line).map_err(|cause| {
        Error::unable(format!("the order cannot be read: it is wrong at column {}", cause.column()))
    })
}

/// Writes lines, for as long as somebody reads them; the end of the second answer says that an empty one, the
/// last, has had its turn.
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
