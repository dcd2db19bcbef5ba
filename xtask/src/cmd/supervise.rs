//! The internal commands that `start` leaves running: the supervisor, the writer of the logs, and the step that
//! becomes a service.
//!
//! They get all input as arguments, and neither parse the command line with clap nor open the repository: code that
//! never runs takes no memory in a process that runs for days. `xtask-supervisor` consists of this module and its
//! dependencies. For example, `xtask-supervisor supervise local ROOT FOLDER` watches the layer `local`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{CommandResult, SUCCESS, dashboard};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::files::Disk;
use xtask_base::process::leave_session;
use xtask_base::signals;
use xtask_report as report;
use xtask_services::client::{READY, SUPERVISE_COMMAND};
use xtask_services::follow::inherited_environment;
use xtask_services::launch::{self, ToolkitProgram, find_own_program};
use xtask_services::log_writer;
use xtask_services::stack::Stack;
use xtask_services::supervisor::supervise_stack;

/// Runs `xtask-supervisor`.
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

/// Runs the internal command that the first argument names, or returns `None` if it is another one.
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
        dashboard::WORD => Some(dashboard::run_server(world, rest)),
        log_writer::WRITE_LOGS_COMMAND => Some(write_logs(rest).map(|()| SUCCESS)),
        _ => None,
    }
}

fn become_supervisor(mut world: Environment, args: &[OsString]) -> Result<()> {
    // An earlier version does not pass the program of the toolkit: it is this one.
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
    // The command may have been started by a service of another stack.
    world.variables = inherited_environment(&world);
    let (ends, children) = (signals::listen_for_termination()?, signals::listen_for_child_exit()?);
    supervise_stack(
        &stack,
        &world,
        ToolkitProgram::open_program(toolkit),
        &Disk::real(),
        ends,
        children,
        || {
            // The command that waits for this line may be gone.
            drop(report::print_output(&format!("{READY}\n")));
        },
    )
}

/// Runs the writer of the logs: a separate process copies the output of services into their logs.
fn write_logs(args: &[OsString]) -> Result<()> {
    let [folder] = args else {
        return Err(Error::usage("`write-logs` is started by the supervisor"));
    };
    leave_session();
    log_writer::write_logs(Path::new(folder))
}
