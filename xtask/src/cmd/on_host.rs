//! What `ps`, `logs` and `stop` of another machine ask of this one, where a layer is deployed. Nobody types it.

use std::ffi::OsString;

use clap::Parser as _;

use super::far::WORD;
use super::session::Session;
use super::{DONE, Exit, logs, ps, stop};
use crate::cli::{Cli, Command};
use xtask_base::error::{Error, Result};
use xtask_base::world::World;
use xtask_deploy::stacks;
use xtask_deploy::target::Target;

/// Does it, over there.
pub(super) fn run(world: World, args: &[OsString]) -> Exit {
    let [root, layer, words @ ..] = args else {
        return Err(Error::usage(format!("`{WORD}` is what `ps`, `logs` and `stop` ask a host")));
    };
    let layer = layer.to_string_lossy().into_owned();
    let command = std::iter::once("cargo xtask".into()).chain(words.iter().cloned());
    let cli = Cli::try_parse_from(command)
        .map_err(|_| Error::usage("the host does not understand what it is asked"))?;
    let session = Session::new(world, &cli.global)?;
    let target = Target { root: root.into(), layer: layer.clone() };
    let found = serving(&target)?;
    match (cli.command, found) {
        (Command::Ps(args), found) => ps::of_deployed(&session, found.as_ref(), &layer, &args),
        (Command::Logs(args), Some(stack)) => logs::of(&session, &stack, &args),
        (Command::Stop(args), Some(stack)) => stop::of_deployed(&session, stack, &args),
        (Command::Logs(_) | Command::Stop(_), None) => {
            session.story(&format!("nothing of layer `{layer}` serves there"));
            Ok(DONE)
        }
        _ => Err(Error::usage("the host does not understand what it is asked")),
    }
}

fn serving(target: &Target) -> Result<Option<xtask_services::stack::Stack>> {
    target.standing()?;
    stacks::serving(target)
}
