//! `start`, `stop`, `restart`, `ps` and `logs` of a layer with the engine `compose` or `kubernetes`: the command runs
//! `docker compose` or `kubectl`, attached to the terminal.
//!
//! ```text
//! cargo xtask logs --layer staging -f api  ->  docker compose … logs --follow api
//! ```

use std::path::PathBuf;

use super::session::Session;
use super::{CommandResult, SUCCESS, stack};
use crate::cli::StartArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::process::Program;
use xtask_config::{DeployEngine, Layer};
use xtask_deploy::engine_commands::{EngineCommand, build_command_line};
use xtask_deploy::release::Release;
use xtask_deploy::stacks::release_variables;
use xtask_deploy::target::{CurrentLink, DeployTarget};
use xtask_deploy::tool::{EngineSettings, MISLEADING_VARIABLES, read_engine_settings};
use xtask_git::Repo;
use xtask_report as report;

/// A layer whose services an external tool runs.
pub(super) struct ExternalLayer {
    engine: DeployEngine,
    engine_settings: EngineSettings,
    target: DeployTarget,
}

/// The files that the tool works on: those of the serving release, or of the worktree if there is none.
struct EngineTarget {
    engine_settings: EngineSettings,
    root: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl ExternalLayer {
    /// Returns the layer if it is named and has such an engine.
    pub(super) fn find_layer(
        session: &Session,
        repo: &Repo,
        layer: Option<&str>,
    ) -> Result<Option<ExternalLayer>> {
        let Some(layer) = layer else { return Ok(None) };
        let Some(layer) = stack::read_deployed_layer(session, repo, layer)? else {
            return Ok(None);
        };
        Ok(ExternalLayer::from_layer(repo, layer))
    }

    fn from_layer(repo: &Repo, layer: Layer) -> Option<ExternalLayer> {
        let deploy = layer.deploy?;
        let outside = EngineSettings::for_layer(repo, &layer.name, &deploy)?;
        let target = DeployTarget::for_layer(repo, &layer.name, &deploy);
        Some(ExternalLayer { engine: deploy.engine, engine_settings: outside, target })
    }

    /// Returns the files for the tool. A deployed layer is controlled with the files of its release, not with those
    /// of the worktree, which may have changed.
    fn current_target(&self, repo: &Repo) -> Result<EngineTarget> {
        let name = match self.target.read_current()? {
            CurrentLink::Missing => {
                let root = repo.root().to_path_buf();
                return Ok(EngineTarget {
                    engine_settings: self.engine_settings.clone(),
                    root,
                    variables: Vec::new(),
                });
            }
            CurrentLink::Release(name) => name,
            CurrentLink::Foreign(words) => {
                let link = self.target.current_link();
                return Err(Error::negative(format!("`{}` {words}", link.display()))
                    .with_hint("`cargo xtask recover` shows what can be done"));
            }
        };
        let release = Release::in_target(&self.target, &name);
        Ok(EngineTarget {
            engine_settings: read_engine_settings(&release)?,
            root: release.files(),
            variables: release_variables(&self.target, &release).into(),
        })
    }

    /// Fails if an option is given that the tool does not support.
    pub(super) fn reject_options(&self, options: &[(&str, bool)]) -> Result<()> {
        match options.iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((option, _)) => Err(Error::usage(format!(
                "`{option}` is not supported by the engine `{}`",
                self.engine.name()
            ))
            .with_hint("leave it out to pass the command to the engine's tool")),
        }
    }

    /// Runs `start`, which has more unsupported options than the other commands.
    pub(super) fn start_services(
        &self,
        session: &Session,
        repo: &Repo,
        args: &StartArgs,
    ) -> CommandResult {
        self.reject_options(&[
            ("--clean", args.clean),
            ("--check-ports", args.check_ports),
            ("--verify", args.verify),
            ("--port", !args.port.is_empty()),
            ("--take-over", !args.take_over.is_empty()),
            ("--fallback", !args.fallback.is_empty()),
            ("--foreground", args.foreground),
            ("--json", args.json),
        ])?;
        let asked = EngineCommand::Start { within: args.timeout };
        if args.dry_run {
            let EngineTarget { engine_settings: outside, root, .. } = self.current_target(repo)?;
            let (program, words) =
                build_command_line(self.engine, &outside, &root, &asked, &args.services)?;
            report::print_output(&format!("{program} {}\n", words.join(" ")))?;
            return Ok(SUCCESS);
        }
        self.forward_command(session, repo, &asked, &args.services)
    }

    /// Runs the tool with the command `asked`.
    pub(super) fn forward_command(
        &self,
        session: &Session,
        repo: &Repo,
        asked: &EngineCommand,
        services: &[String],
    ) -> CommandResult {
        let EngineTarget { engine_settings: outside, root, variables } =
            self.current_target(repo)?;
        let (program, args) = build_command_line(self.engine, &outside, &root, asked, services)?;
        let found = session.world.find_program(program).unwrap_or_else(|| program.into());
        let mut tool = Program::new(found, &root).args(&args);
        for name in MISLEADING_VARIABLES {
            tool = tool.env_remove(name);
        }
        for (name, value) in &variables {
            tool = tool.env(name, value);
        }
        let status = tool.run_attached()?;
        match status.code() {
            Some(0) => Ok(SUCCESS),
            None | Some(130) => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
            Some(code) => Err(Error::negative(format!(
                "`{program} {}` exited with code {code}",
                args.join(" ")
            ))),
        }
    }
}
