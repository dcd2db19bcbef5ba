//! `completions`: for the shells that people use.

use clap::CommandFactory;
use xtask_base::name::NAME;

use super::{DONE, Exit};
use crate::cli::{Cli, Completions};
use xtask_report as report;

/// Prints the completions of a shell.
pub(super) fn run(args: &Completions) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), NAME, &mut text);
    report::answer(&String::from_utf8_lossy(&text))?;
    Ok(DONE)
}
