//! `ps`, `logs` and `stop` of a layer that is deployed to another host: the program over there does them for what
//! serves there, and what it says is what is said here.

use std::ffi::OsString;

use clap::Parser as _;

use super::session::Session;
use super::{DONE, Exit, logs, ps, stack, stop};
use crate::base::error::{Error, Result};
use crate::base::world::World;
use crate::cli::{Cli, Command, Logs, Ps, Stop};
use crate::config::{Deploy, DeployEngine};
use crate::deploy::ssh::{Host, program_digest, program_name};
use crate::deploy::stacks;
use crate::deploy::target::{Standing, Target};
use crate::repo::Repo;

/// The word by which the program over there is asked: the folder of the target, the layer and a command follow.
pub(super) const WORD: &str = "on-host";

/// A layer on another host.
pub(super) struct Far {
    layer: String,
    deploy: Deploy,
    target: Target,
}

impl Far {
    /// It, if the layer that was named is one.
    pub(super) fn named(repo: &Repo, layer: Option<&str>) -> Option<Far> {
        let layer = stack::load(repo, layer?).ok()?;
        let deploy = layer.deploy.filter(|deploy| deploy.engine == DeployEngine::Ssh)?;
        let target = Target::of(repo, &layer.name, &deploy);
        Some(Far { layer: layer.name, deploy, target })
    }

    pub(super) fn ps(&self, session: &Session, args: &Ps) -> Exit {
        let words = args.json.then(|| "--json".to_owned());
        self.pass_on(session, "ps", words.into_iter().collect())
    }

    pub(super) fn logs(&self, session: &Session, args: &Logs) -> Exit {
        let mut words = vec!["--lines".to_owned(), args.lines.to_string()];
        let flags =
            [("--follow", args.follow), ("--all", args.all), ("--timestamps", args.timestamps)];
        words.extend(flags.iter().filter(|(_, is_on)| *is_on).map(|(word, _)| (*word).to_owned()));
        if let Some(since) = args.since {
            words.extend(["--since".to_owned(), format!("{}ms", since.as_millis())]);
        }
        words.push("--".to_owned());
        words.extend(args.services.iter().cloned());
        self.pass_on(session, "logs", words)
    }

    pub(super) fn stop(&self, session: &Session, args: &Stop) -> Exit {
        let mut words = Vec::new();
        if let Some(timeout) = args.timeout {
            words.extend(["--timeout".to_owned(), format!("{}ms", timeout.as_millis())]);
        }
        words.extend(args.json.then(|| "--json".to_owned()));
        words.push("--".to_owned());
        words.extend(args.services.iter().cloned());
        self.pass_on(session, "stop", words)
    }

    fn pass_on(&self, session: &Session, command: &str, rest: Vec<String>) -> Exit {
        let world = &session.world;
        let host = Host::of(&self.deploy, world);
        let greeting = host.greet(&self.target)?;
        if greeting.standing(&self.target)? != Standing::Ours {
            return Err(Error::no(format!("layer `{}` was never deployed", self.layer))
                .hint(format!("`cargo xtask deploy {}`", self.layer)));
        }
        let ours = program_name(&program_digest(world)?);
        // Looking sends nothing. Another program of the toolkit that is there knows what serves as well.
        let is_ours = |name: &&String| **name == ours;
        let program = greeting.programs.iter().find(is_ours).or(greeting.programs.last());
        let Some(program) = program else {
            return Err(Error::no(format!("no program of ours is on host `{}`", host.name))
                .hint(format!("`cargo xtask deploy {}` sends it", self.layer)));
        };
        let root = self.target.root.display().to_string();
        let mut words = vec![WORD.to_owned(), root, self.layer.clone(), command.to_owned()];
        words.extend(rest);
        match host.run_program(&self.target, program, &words)? {
            0 => Ok(DONE),
            code => Ok(code),
        }
    }
}

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

fn serving(target: &Target) -> Result<Option<crate::services::stack::Stack>> {
    target.standing()?;
    stacks::serving(target)
}
