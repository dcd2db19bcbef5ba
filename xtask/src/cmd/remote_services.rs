//! `ps`, `logs` and `stop` of a layer that is deployed to another host: the program on that host runs the command
//! `on-host`, and its output is printed here.
//!
//! ```text
//! cargo xtask ps --layer production  ->  ssh HOST PROGRAM on-host /srv/shop production ps
//! ```

use std::time::Duration;

use super::session::Session;
use super::{CommandResult, SUCCESS, stack};
use crate::cli::{LogsArgs, PsArgs, StopArgs};
use xtask_base::error::{Error, Result};
use xtask_config::{DeployConfig, DeployEngine};
use xtask_deploy::DeployContext;
use xtask_deploy::ssh::{SshHost, program_digest, program_name};
use xtask_deploy::target::{DeployTarget, TargetOwnership};
use xtask_git::Repo;

/// The internal command of the program on the host; its arguments are the target folder, the layer, and a command.
pub(super) const WORD: &str = "on-host";

/// A layer on another host.
pub(super) struct RemoteLayer {
    layer: String,
    deploy: DeployConfig,
    target: DeployTarget,
}

impl RemoteLayer {
    /// Returns the layer if it is named, is deployed with the engine `ssh`, and does not run in this worktree.
    pub(super) fn find_layer(
        session: &Session,
        repo: &Repo,
        layer: Option<&str>,
    ) -> Result<Option<RemoteLayer>> {
        let Some(layer) = layer else { return Ok(None) };
        let Some(layer) = stack::read_deployed_layer(session, repo, layer)? else {
            return Ok(None);
        };
        let deploy = layer.deploy.filter(|deploy| deploy.engine == DeployEngine::Ssh);
        Ok(deploy.map(|deploy| {
            let target = DeployTarget::for_layer(repo, &layer.name, &deploy);
            RemoteLayer { layer: layer.name, deploy, target }
        }))
    }

    pub(super) fn show_status(&self, session: &Session, args: &PsArgs) -> CommandResult {
        let words = args.json.then(|| "--json".to_owned());
        self.forward_command(session, "ps", words.into_iter().collect(), false)
    }

    pub(super) fn show_logs(&self, session: &Session, args: &LogsArgs) -> CommandResult {
        let mut words = vec!["--lines".to_owned(), args.lines.to_string()];
        let flags =
            [("--follow", args.follow), ("--all", args.all), ("--timestamps", args.timestamps)];
        words.extend(flags.iter().filter(|(_, is_on)| *is_on).map(|(word, _)| (*word).to_owned()));
        if let Some(since) = args.since {
            words.extend(["--since".to_owned(), format!("{}ms", since.as_millis())]);
        }
        words.push("--".to_owned());
        words.extend(args.services.iter().cloned());
        self.forward_command(session, "logs", words, false)
    }

    pub(super) fn stop_services(&self, session: &Session, args: &StopArgs) -> CommandResult {
        let mut words = Vec::new();
        if let Some(timeout) = args.timeout {
            words.extend(["--timeout".to_owned(), format!("{}ms", timeout.as_millis())]);
        }
        words.extend(args.json.then(|| "--json".to_owned()));
        words.push("--".to_owned());
        words.extend(args.services.iter().cloned());
        self.forward_command(session, "stop", words, true)
    }

    fn forward_command(
        &self,
        session: &Session,
        command: &str,
        rest: Vec<String>,
        changes: bool,
    ) -> CommandResult {
        let world = &session.world;
        let host = SshHost::for_deploy(&self.deploy, world);
        let greeting = host.read_handshake(&self.target)?;
        if greeting.check_ownership(&self.target)? != TargetOwnership::Ours {
            return Err(Error::negative(format!("layer `{}` was never deployed", self.layer))
                .with_hint(format!("`cargo xtask deploy {}`", self.layer)));
        }
        let program = program_name(&program_digest(world)?);
        if !greeting.programs.contains(&program) {
            if !changes {
                // A command that only reads does not send the program.
                return Err(Error::unable(format!(
                    "this program is not on host `{}` yet: it differs from the one that deployed layer `{}`",
                    host.name, self.layer
                ))
                .with_hint(format!("`cargo xtask rollback {}`, `deploy` and `stop` send it", self.layer))
                .with_hint(format!("`cargo xtask history {}` works without it", self.layer)));
            }
            let tools = session.tools();
            let tell = |text: &str| session.print_info(text);
            let around = DeployContext {
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
            0 => Ok(SUCCESS),
            code => Ok(code),
        }
    }
}
