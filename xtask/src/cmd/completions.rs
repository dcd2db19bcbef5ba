//! `completions`: prints a completion script for a shell, e.g. `cargo xtask completions zsh`.

use clap::CommandFactory;
use xtask_base::name::NAME;

use super::{CommandResult, SUCCESS};
use crate::cli::{Cli, CompletionsArgs};
use xtask_report as report;

pub(super) fn run(args: &CompletionsArgs) -> CommandResult {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut text);
    report::print_output(&String::from_utf8_lossy(&text))?;
    Ok(SUCCESS)
}
