//! What `start` leaves behind: a supervisor, a writer of logs, and services on their way to their own programs. Nobody
//! types these words.
//!
//! They are told all that they need, and neither read the command line as commands do nor open the
//! repository: what is never touched takes no memory in a process that stays for days. `xtask-supervisor`
//! is this file and what it needs.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CommandResult, SUCCESS};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::process::leave_session;
use xtask_base::signals;
use xtask_report as report;
use xtask_services::client::{READY, SUPERVISE_COMMAND};
use xtask_services::launch::{self, ToolkitProgram, find_own_program};
use xtask_services::log_writer;
use xtask_services::stack::Stack;
use xtask_services::supervisor::supervise_stack;

/// What `xtask-supervisor` does.
pub(super) fn run_program(args: &[OsString]) -> ExitCode {
    let done = Environment::from_process().and_then(|world| {
        try_internal_command(&world, args).unwrap_or_else(|| {
            Err(Error::usage(
                "this program watches services, and is started by `cargo xtask start`",
            ))
        })
    });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::print_error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Does what the first word says; nothing where it is none of these.
pub(super) fn try_internal_command(
    world: &Environment,
    args: &[OsString],
) -> Option<CommandResult> {
    let rest = args.get(2..).unwrap_or_default();
    match args.get(1)?.to_str()? {
        launch::BECOME_COMMAND => {
            let (failure, code) = launch::become_service(rest, &world.cwd);
            report::print_error(&failure);
            Some(Ok(code))
        }
        SUPERVISE_COMMAND => Some(become_supervisor(world.clone(), rest).map(|()| SUCCESS)),
        log_writer::WRITE_LOGS_COMMAND => Some(write_logs(rest).map(|()| SUCCESS)),
        _ => None,
    }
}

fn become_supervisor(mut world: Environment, args: &[OsString]) -> Result<()> {
    // A version of earlier does not say what the program of the toolkit is: it is this one.
    let (told, toolkit) = match args {
        [told @ .., toolkit] if args.len() == 4 => (told, PathBuf::from(toolkit)),
        told => (told, find_own_program(&world)),
    };
    let [layer, root, folder] = told else {
        return Err(Error::usage("`supervise` is started by `cargo xtask start`"));
    };
    leave_session();
    let layer = layer.to_string_lossy().into_owned();
    let stack = Stack { layer, root: PathBuf::from(root), folder: PathBuf::from(folder) };
    // Whoever starts it may be a service of another stack.
    world.variables.retain(|name, _| !name.as_encoded_bytes().starts_with(b"XTASK_"));
    let (ends, children) = (signals::listen_for_termination()?, signals::listen_for_child_exit()?);
    supervise_stack(
        &stack,
        &world,
        ToolkitProgram::open_program(toolkit),
        &Disk::real(),
        ends,
        children,
        || {
            // Who does not hear it any more has gone away.
            drop(report::print_output(&format!("{READY}\n")));
        },
    )
}

/// What the supervisor leaves to a process of its own: copying what services print into their logs.
fn write_logs(args: &[OsString]) -> Result<()> {
    let [folder] = args else {
        return Err(Error::usage("`write-logs` is started by the supervisor"));
    };
    leave_session();
    log_writer::write_logs(Path::new(folder))
}
