//! `completions`: for the shells that people use.

use clap::CommandFactory;
use xtask_base::name::NAME;

use super::{CommandResult, SUCCESS};
use crate::cli::{Cli, CompletionsArgs};
use xtask_report as report;

/// Prints the completions of a shell.
pub(super) fn run(args: &CompletionsArgs) -> CommandResult {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut text);
    report::print_output(&String::from_utf8_lossy(&text))?;
    Ok(SUCCESS)
}
