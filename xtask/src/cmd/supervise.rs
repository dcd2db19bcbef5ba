//! What `start` leaves behind: a supervisor, a writer of logs, and services on their way to their own programs. Nobody
//! types these words.
//!
//! They are told all that they need, and neither read the command line as commands do nor open the
//! repository: what is never touched takes no memory in a process that stays for days. `xtask-supervisor`
//! is this file and what it needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{DONE, Exit};
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::process::leave_session;
use xtask_base::signals;
use xtask_base::world::World;
use xtask_report as report;
use xtask_services::client::{READY, SUPERVISE};
use xtask_services::launch::{self, Toolkit, own_program};
use xtask_services::log_writer;
use xtask_services::stack::Stack;
use xtask_services::supervisor::supervise;

/// What `xtask-supervisor` does.
pub(super) fn program(args: &[OsString]) -> ExitCode {
    let done = World::real().and_then(|world| {
        answer(&world, args).unwrap_or_else(|| {
            Err(Error::usage(
                "this program watches services, and is started by `cargo xtask start`",
            ))
        })
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::failure(&error);
            ExitCode::from(error.kind().code())
        }
    }
}

/// Does what the first word says; nothing where it is none of these.
pub(super) fn answer(world: &World, args: &[OsString]) -> Option<Exit> {
    let rest = args.get(2..).unwrap_or_default();
    match args.get(1)?.to_str()? {
        launch::WORD => {
            let (failure, code) = launch::become_service(rest, &world.cwd);
            report::failure(&failure);
            Some(Ok(code))
        }
        SUPERVISE => Some(watch(world.clone(), rest).map(|()| DONE)),
        log_writer::WORD => Some(write_logs(rest).map(|()| DONE)),
        _ => None,
    }
}

fn watch(mut world: World, args: &[OsString]) -> Result<()> {
    // A version of earlier does not say what the program of the toolkit is: it is this one.
    let (told, toolkit) = match args {
        [told @ .., toolkit] if args.len() == 4 => (told, PathBuf::from(toolkit)),
        told => (told, own_program(&world)),
    };
    let [layer, root, folder] = told else {
        return Err(Error::usage("`supervise` is started by `cargo xtask start`"));
    };
    leave_session();
    let layer = layer.to_string_lossy().into_owned();
    let stack = Stack { layer, root: PathBuf::from(root), folder: PathBuf::from(folder) };
    // Whoever starts it may be a service of another stack.
    world.env.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    let (ends, children) = (signals::to_end()?, signals::children()?);
    supervise(&stack, &world, Toolkit::at(toolkit), &Disk::real(), ends, children, || {
        // Who does not hear it any more has gone away.
        drop(report::answer(&format!("{READY}\n")));
    })
}

/// What the supervisor leaves to a process of its own: copying what services print into their logs.
fn write_logs(args: &[OsString]) -> Result<()> {
    let [folder] = args else {
        return Err(Error::usage("`write-logs` is started by the supervisor"));
    };
    leave_session();
    log_writer::write_logs(Path::new(folder))
}
