//! `ps`, `logs` and `stop` of a layer that is deployed to another host: the program over there does them for what
//! serves there, and what it says is what is said here.

use std::time::Duration;

use super::session::Session;
use super::{DONE, Exit, stack};
use crate::cli::{Logs, Ps, Stop};
use xtask_base::error::{Error, Result};
use xtask_config::{Deploy, DeployEngine};
use xtask_deploy::Around;
use xtask_deploy::ssh::{Host, program_digest, program_name};
use xtask_deploy::target::{Standing, Target};
use xtask_git::Repo;

/// The word by which the program over there is asked: the folder of the target, the layer and a command follow.
pub(super) const WORD: &str = "on-host";

/// A layer on another host.
pub(super) struct Far {
    layer: String,
    deploy: Deploy,
    target: Target,
}

impl Far {
    /// It, if the layer that was named is one, and nothing of it runs in this worktree.
    pub(super) fn named(
        session: &Session,
        repo: &Repo,
        layer: Option<&str>,
    ) -> Result<Option<Far>> {
        let Some(layer) = layer else { return Ok(None) };
        let Some(layer) = stack::load_deployed(session, repo, layer)? else { return Ok(None) };
        let deploy = layer.deploy.filter(|deploy| deploy.engine == DeployEngine::Ssh);
        Ok(deploy.map(|deploy| {
            let target = Target::of(repo, &layer.name, &deploy);
            Far { layer: layer.name, deploy, target }
        }))
    }

    pub(super) fn ps(&self, session: &Session, args: &Ps) -> Exit {
        let words = args.json.then(|| "--json".to_owned());
        self.pass_on(session, "ps", words.into_iter().collect(), false)
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
        self.pass_on(session, "logs", words, false)
    }

    pub(super) fn stop(&self, session: &Session, args: &Stop) -> Exit {
        let mut words = Vec::new();
        if let Some(timeout) = args.timeout {
            words.extend(["--timeout".to_owned(), format!("{}ms", timeout.as_millis())]);
        }
        words.extend(args.json.then(|| "--json".to_owned()));
        words.push("--".to_owned());
        words.extend(args.services.iter().cloned());
        self.pass_on(session, "stop", words, true)
    }

    fn pass_on(&self, session: &Session, command: &str, rest: Vec<String>, changes: bool) -> Exit {
        let world = &session.world;
        let host = Host::of(&self.deploy, world);
        let greeting = host.greet(&self.target)?;
        if greeting.standing(&self.target)? != Standing::Ours {
            return Err(Error::no(format!("layer `{}` was never deployed", self.layer))
                .hint(format!("`cargo xtask deploy {}`", self.layer)));
        }
        let program = program_name(&program_digest(world)?);
        if !greeting.programs.contains(&program) {
            if !changes {
                // Looking sends nothing.
                return Err(Error::unable(format!(
                    "this program is not on host `{}` yet: it differs from that by which layer `{}` was deployed",
                    host.name, self.layer
                ))
                .hint(format!("`cargo xtask rollback {}`, `deploy` and `stop` send it", self.layer))
                .hint(format!("`cargo xtask history {}` needs no program there", self.layer)));
            }
            let tools = session.tools();
            let tell = |text: &str| session.story(text);
            let around = Around {
                world,
                disk: tools.disk,
                interrupts: tools.interrupts,
                tell: &tell,
                by: "",
                ready_within: Duration::ZERO,
            };
            host.send_program(&self.target, false, &around)?;
        }
        let root = self.target.root.display().to_string();
        let mut words = vec![WORD.to_owned(), root, self.layer.clone(), command.to_owned()];
        words.extend(rest);
        match host.run_program(&self.target, &program, &words)? {
            0 => Ok(DONE),
            code => Ok(code),
        }
    }
}
