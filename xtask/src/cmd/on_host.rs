//! What `ps`, `logs` and `stop` of another machine ask of this one, where a layer is deployed. Nobody types it.

use std::ffi::OsString;

use clap::Parser as _;

use super::remote_services::WORD;
use super::session::Session;
use super::{CommandResult, SUCCESS, logs, ps, stop};
use crate::cli::{Cli, Command};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_deploy::stacks;
use xtask_deploy::target::DeployTarget;

/// Does it, over there.
pub(super) fn run(world: Environment, args: &[OsString]) -> CommandResult {
    let [root, layer, words @ ..] = args else {
        return Err(Error::usage(format!("`{WORD}` is what `ps`, `logs` and `stop` ask a host")));
    };
    let layer = layer.to_string_lossy().into_owned();
    let command = std::iter::once("cargo xtask".into()).chain(words.iter().cloned());
    let cli = Cli::try_parse_from(command)
        .map_err(|_| Error::usage("the host does not understand what it is asked"))?;
    let session = Session::new(world, &cli.global)?;
    let target = DeployTarget { root: root.into(), layer: layer.clone() };
    let found = find_serving_stack(&target)?;
    match (cli.command, found) {
        (Command::Ps(args), found) => ps::print_deployed(&session, found.as_ref(), &layer, &args),
        (Command::Logs(args), Some(stack)) => logs::print_logs(&session, &stack, &args),
        (Command::Stop(args), Some(stack)) => stop::stop_deployed(&session, stack, &args),
        (Command::Logs(_) | Command::Stop(_), None) => {
            session.print_info(&format!("nothing of layer `{layer}` serves there"));
            Ok(SUCCESS)
        }
        _ => Err(Error::usage("the host does not understand what it is asked")),
    }
}

fn find_serving_stack(target: &DeployTarget) -> Result<Option<xtask_services::stack::Stack>> {
    target.check_ownership()?;
    stacks::find_serving_stack(target)
}
