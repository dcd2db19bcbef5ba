//! `on-host`: the internal command that `ps`, `logs` and `stop` of another machine run here over ssh, for a layer
//! that is deployed to this host. For example, `on-host /srv/shop production logs --lines 200`.

use std::ffi::OsString;

use clap::Parser as _;

use super::session::Session;
use super::{CommandResult, SUCCESS, logs, ps, stop};
use crate::cli::{Cli, Command};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
pub(super) use xtask_deploy::layer_location::ON_HOST as WORD;
use xtask_deploy::stacks;
use xtask_deploy::target::DeployTarget;

/// Runs `ps`, `logs` or `stop` for the release that serves. `args` are the target folder, the layer, and the command.
pub(super) fn run(world: Environment, args: &[OsString]) -> CommandResult {
    let [root, layer, words @ ..] = args else {
        return Err(Error::usage(format!(
            "`{WORD}` is internal: only `ps`, `logs` and `stop` call it"
        )));
    };
    let layer = layer.to_string_lossy().into_owned();
    let command = std::iter::once("cargo xtask".into()).chain(words.iter().cloned());
    let cli = Cli::try_parse_from(command)
        .map_err(|_| Error::usage("invalid request from the client"))?;
    let session = Session::new(world, &cli.global)?;
    let target = DeployTarget { root: root.into(), layer: layer.clone() };
    let found = find_serving_stack(&target)?;
    match (cli.command, found) {
        (Command::Ps(args), found) => ps::print_deployed(&session, found.as_ref(), &layer, &args),
        (Command::Logs(args), Some(stack)) => logs::print_logs(&session, &stack, &args),
        (Command::Stop(args), Some(stack)) => stop::stop_deployed(&session, stack, &args),
        (Command::Logs(_) | Command::Stop(_), None) => {
            session.print_info(&format!("no release of layer `{layer}` is running there"));
            Ok(SUCCESS)
        }
        _ => Err(Error::usage("invalid request from the client")),
    }
}

fn find_serving_stack(target: &DeployTarget) -> Result<Option<xtask_services::stack::Stack>> {
    target.check_ownership()?;
    stacks::find_serving_stack(target)
}
