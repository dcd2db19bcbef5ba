//! `deploy-host`: what a deploy from another machine has this program do here. Nobody types it.
//!
//! One order is read, and lines of JSON are the answer. Who gave it may go away meanwhile: nothing waits for
//! somebody to read, and what was begun goes on to its end. The line `interrupt` is its Ctrl-C.

use std::ffi::OsString;
use std::io::{BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use super::{DONE, Exit};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::process::leave_session;
use xtask_base::signals::Interrupts;
use xtask_base::world::World;
use xtask_deploy::Around;
use xtask_deploy::host::work;
use xtask_deploy::order::{HELLO, HostOrder, INTERRUPT, Line};
use xtask_deploy::ssh::{hello, program_digest};
use xtask_report as report;

/// The word by which it is asked for.
pub(super) use xtask_deploy::order::DEPLOY_HOST as WORD;

/// The longest order: 16 MiB, far above any layer.
const LONGEST: u64 = 16 << 20;

/// How long an order may take to arrive.
const ARRIVING: Duration = Duration::from_secs(60);

/// How often it is said that somebody is at work.
const BEAT: Duration = Duration::from_secs(5);

/// How many lines wait to be written; what is more is dropped, as nobody reads them.
const WAITING: usize = 1000;

/// How long the last line may take to be written.
const LAST_WORDS: Duration = Duration::from_secs(10);

pub(super) fn run(mut world: World, args: &[OsString]) -> Exit {
    if args.len() == 1 && args[0] == HELLO {
        report::answer(&format!("{}\n", hello(&program_digest(&world)?)))?;
        return Ok(DONE);
    }
    if !args.is_empty() {
        return Err(Error::usage("`deploy-host` is started by `cargo xtask deploy`"));
    }
    let interrupts = Interrupts::take_over();
    let _held = interrupts.hold_off();
    let order = order(interrupts.noting())?;
    leave_session();
    let (say, written) = voice();
    let beats = say.clone();
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(BEAT);
            if matches!(beats.try_send(text(&Line::Beat)), Err(TrySendError::Disconnected(_))) {
                return;
            }
        }
    });
    let variables = order.variables.iter();
    world.env.extend(variables.map(|(name, value)| (name.into(), value.into())));
    let ended = {
        let tell = |text_: &str| drop(say.try_send(text(&Line::Tell(text_.to_owned()))));
        let warn = |text_: &str| drop(say.try_send(text(&Line::Warn(text_.to_owned()))));
        let around = Around {
            world: &world,
            disk: &Disk::real(),
            interrupts: &interrupts,
            tell: &tell,
            by: &order.by,
            ready_within: Duration::from_millis(order.ready_within_ms),
        };
        work(&order, around, &warn)
    };
    drop(say.try_send(text(&Line::Ended(Box::new(ended)))));
    drop(say.try_send(String::new()));
    // Whether anybody hears it or not, all is done.
    written.recv_timeout(LAST_WORDS).ok();
    Ok(DONE)
}

fn text(line: &Line) -> String {
    serde_json::to_string(line).unwrap_or_default()
}

/// Reads the order; the lines after it are heard by a thread.
fn order(note: impl Fn() + Send + 'static) -> Result<HostOrder> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut line = String::new();
        let read = input.by_ref().take(LONGEST).read_line(&mut line);
        if tell.send(read.map(|_| line)).is_err() {
            return;
        }
        let mut line = String::new();
        while let Ok(1..) = input.by_ref().take(LONGEST).read_line(&mut line) {
            if line.trim_end() == INTERRUPT {
                note();
            }
            line.clear();
        }
    });
    let line = told.recv_timeout(ARRIVING).map_err(|_| Error::unable("no order has arrived"))?;
    let line = line.map_err(|cause| Error::unable("the order cannot be read").because(cause))?;
    // What is in it is not told: it may hold what is secret.
    serde_json::from_str(&line).map_err(|cause| {
        Error::unable(format!("the order cannot be read: it is wrong at column {}", cause.column()))
    })
}

/// Writes lines, for as long as somebody reads them; the end of the second answer says that an empty one, the
/// last, has had its turn.
fn voice() -> (SyncSender<String>, Receiver<()>) {
    let (say, said) = sync_channel::<String>(WAITING);
    let (tell, written) = channel::<()>();
    std::thread::spawn(move || {
        let mut is_read = true;
        for line in said {
            if line.is_empty() {
                break;
            }
            is_read = is_read && report::answer_on(&format!("{line}\n")).unwrap_or(false);
        }
        drop(tell);
    });
    (say, written)
}
