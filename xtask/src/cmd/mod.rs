//! The commands: each loads, plans, acts and reports, in a file of its own. They do not call each
//! other.

mod completions;
mod diff;
mod run;
mod session;
mod setup;
mod status;
mod switch;
mod sync;
mod undo;
mod why;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use self::session::Session;
use crate::base::error::{Kind, Result};
use crate::base::process;
use crate::base::world::World;
use crate::cli::{Cli, Command};
use crate::report;

/// How a command ended that did not fail.
type Exit = Result<u8>;

/// Everything that is not an error.
const DONE: u8 = 0;

/// Runs the command line and answers with the exit code.
pub fn main(args: Vec<OsString>) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            report::failure(&error);
            ExitCode::from(error.kind().code())
        }
    }
}

fn run(args: Vec<OsString>) -> Exit {
    let world = World::real()?;
    process::without_git_variables(&args, |name| world.env.contains_key(&OsString::from(name)))?;
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(refused) => {
            // Help and version are answers, not failures.
            let code = if refused.use_stderr() { Kind::Usage.code() } else { DONE };
            let printed = refused.print();
            drop(printed);
            return Ok(code);
        }
    };
    let session = Session::new(world, &cli.global)?;
    match cli.command {
        Command::Setup => setup::run(&session),
        Command::Sync(args) => sync::run(&session, &args),
        Command::Status(args) => status::run(&session, &args),
        Command::Diff(args) => diff::run(&session, &args),
        Command::Why(args) => why::run(&session, &args),
        Command::Undo(args) => undo::run(&session, &args),
        Command::Switch(args) => switch::run(&session, &args),
        Command::Run(args) => run::run(&session, &args),
        Command::Completions(args) => completions::run(&args),
    }
}
