//! Where the services of a layer run: in the worktree, in the engine's tool (`docker compose`, `kubectl`), or on
//! another host, whose program runs the command `on-host`.
//!
//! ```text
//! cargo xtask logs --layer staging -f api  ->  docker compose … logs --follow api
//! cargo xtask ps --layer production        ->  ssh HOST PROGRAM on-host /srv/shop production ps
//! ```

use std::path::PathBuf;

use super::DeployContext;
use super::engine_commands::{ServicesCommand, build_command_line};
use super::release::Release;
use super::ssh::{SshHost, program_digest, program_name};
use super::stacks::release_variables;
use super::target::{CurrentLink, DeployTarget, TargetOwnership};
use super::tool::{EngineSettings, MISLEADING_VARIABLES, read_engine_settings};
use super::workflow::never_deployed_error;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::process::Program;
use xtask_config::{DeployConfig, DeployEngine, Layer};
use xtask_git::Repo;

/// The internal command of the program on the host; its arguments are the target folder, the layer, and a command.
pub const ON_HOST: &str = "on-host";

/// Where the services of a layer run.
pub enum LayerLocation {
    /// In the worktree, or deployed to a folder of this machine.
    Here,
    /// In the tool of the engine `compose` or `kubernetes`.
    EngineTool(ToolLayer),
    /// On another host.
    Host(HostLayer),
}

/// The answer to a services command.
pub enum LocationAnswer {
    /// The command is about services of this machine, and was not run.
    RunHere,
    /// It was run, attached to the terminal, and has exited with this code.
    Exited(u8),
    /// It would run this command line.
    CommandLine(String),
}

/// A layer whose services an external tool runs.
pub struct ToolLayer {
    engine: DeployEngine,
    engine_settings: EngineSettings,
    target: DeployTarget,
}

/// A layer on another host.
pub struct HostLayer {
    deploy: DeployConfig,
    target: DeployTarget,
}

/// The files that the tool works on: those of the serving release, or of the worktree if there is none.
struct ToolFiles {
    engine_settings: EngineSettings,
    root: PathBuf,
    variables: Vec<(&'static str, String)>,
}

impl LayerLocation {
    /// Returns where the services of a layer run by its `[deploy]`.
    #[must_use]
    pub fn for_layer(repo: &Repo, layer: Layer) -> LayerLocation {
        let Some(deploy) = layer.deploy else { return LayerLocation::Here };
        let target = DeployTarget::for_layer(repo, &layer.name, &deploy);
        match EngineSettings::for_layer(repo, &layer.name, &deploy) {
            Some(engine_settings) => {
                let engine = deploy.engine;
                LayerLocation::EngineTool(ToolLayer { engine, engine_settings, target })
            }
            None if deploy.engine == DeployEngine::Ssh => {
                LayerLocation::Host(HostLayer { deploy, target })
            }
            None => LayerLocation::Here,
        }
    }

    /// Runs a services command unless the layer runs here. `services` are their names, none for all.
    pub fn run_command(
        &self,
        repo: &Repo,
        asked: &ServicesCommand,
        services: &[String],
        ctx: &DeployContext<'_>,
    ) -> Result<LocationAnswer> {
        match self {
            LayerLocation::Here => Ok(LocationAnswer::RunHere),
            LayerLocation::EngineTool(layer) => layer.run_command(repo, asked, services, ctx),
            LayerLocation::Host(layer) => match render_host_args(asked, services)? {
                None => Ok(LocationAnswer::RunHere),
                Some(args) => layer.run_on_host(&args, asked, ctx).map(LocationAnswer::Exited),
            },
        }
    }
}

impl ToolLayer {
    fn run_command(
        &self,
        repo: &Repo,
        asked: &ServicesCommand,
        services: &[String],
        ctx: &DeployContext<'_>,
    ) -> Result<LocationAnswer> {
        if let Some(option) = asked.unsupported_option() {
            return Err(Error::usage(format!(
                "`{option}` is not supported by the engine `{}`",
                self.engine.name()
            ))
            .with_hint("leave it out to pass the command to the engine's tool"));
        }
        let ToolFiles { engine_settings, root, variables } = self.find_files(repo)?;
        let (program, args) =
            build_command_line(self.engine, &engine_settings, &root, asked, services)?;
        let line = format!("{program} {}", args.join(" "));
        if let ServicesCommand::Start { dry_run: true, .. } = asked {
            return Ok(LocationAnswer::CommandLine(line));
        }
        let found = ctx.world.find_program(program).unwrap_or_else(|| program.into());
        let mut tool = Program::new(found, &root).args(&args);
        for name in MISLEADING_VARIABLES {
            tool = tool.env_remove(name);
        }
        for (name, value) in &variables {
            tool = tool.env(name, value);
        }
        match tool.run_attached()?.code() {
            Some(0) => Ok(LocationAnswer::Exited(0)),
            None | Some(130) => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
            Some(code) => Err(Error::negative(format!("`{line}` exited with code {code}"))),
        }
    }

    /// Returns the files for the tool. A deployed layer is controlled with the files of its release, not with those
    /// of the worktree, which may have changed.
    fn find_files(&self, repo: &Repo) -> Result<ToolFiles> {
        let name = match self.target.read_current()? {
            CurrentLink::Missing => {
                return Ok(ToolFiles {
                    engine_settings: self.engine_settings.clone(),
                    root: repo.root().to_path_buf(),
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
        Ok(ToolFiles {
            engine_settings: read_engine_settings(&release)?,
            root: release.files(),
            variables: release_variables(&self.target, &release).into(),
        })
    }
}

impl HostLayer {
    /// Runs `on-host` with the arguments `args`, and returns its exit code.
    fn run_on_host(
        &self,
        args: &[String],
        asked: &ServicesCommand,
        ctx: &DeployContext<'_>,
    ) -> Result<u8> {
        let (target, layer) = (&self.target, &self.target.layer);
        let host = SshHost::for_deploy(&self.deploy, ctx.world);
        let handshake = host.read_handshake(target)?;
        if handshake.check_ownership(target)? != TargetOwnership::Ours {
            return Err(never_deployed_error(layer));
        }
        let program = program_name(&program_digest(ctx.world)?);
        let has_program = handshake.programs.contains(&program);
        // A command that only reads does not send the program.
        if !has_program && !matches!(asked, ServicesCommand::Stop { .. }) {
            return Err(Error::unable(format!(
                "this program is not on host `{}` yet: it differs from the one that deployed layer `{layer}`",
                host.name
            ))
            .with_hint(format!("`cargo xtask rollback {layer}`, `deploy` and `stop` send it"))
            .with_hint(format!("`cargo xtask history {layer}` works without it")));
        }
        host.send_program(target, has_program, ctx)?;
        let mut words = vec![ON_HOST.to_owned(), target.root.display().to_string(), layer.clone()];
        words.extend_from_slice(args);
        host.run_program(target, &program, &words)
    }
}

/// Returns the arguments of a command for the program on the host, `None` for one that it does not run there.
fn render_host_args(asked: &ServicesCommand, services: &[String]) -> Result<Option<Vec<String>>> {
    let millis = |option: &str, time: std::time::Duration| {
        [option.to_owned(), format!("{}ms", time.as_millis())]
    };
    let mut args: Vec<String> = Vec::new();
    match asked {
        ServicesCommand::Start { .. } | ServicesCommand::Restart { .. } => return Ok(None),
        ServicesCommand::Ps { watch: true, .. } => {
            return Err(Error::usage("`--watch` is not supported for a layer on another host"));
        }
        ServicesCommand::Ps { json, .. } => {
            args.push("ps".to_owned());
            args.extend(json.then(|| "--json".to_owned()));
            return Ok(Some(args));
        }
        ServicesCommand::Logs { follow, lines, since, timestamps, all } => {
            args.extend(["logs".to_owned(), "--lines".to_owned(), lines.to_string()]);
            let flags = [("--follow", follow), ("--all", all), ("--timestamps", timestamps)];
            args.extend(
                flags.iter().filter(|(_, is_on)| **is_on).map(|(word, _)| (*word).to_owned()),
            );
            args.extend(since.iter().flat_map(|since| millis("--since", *since)));
        }
        ServicesCommand::Stop { within, json } => {
            args.push("stop".to_owned());
            args.extend(within.iter().flat_map(|within| millis("--timeout", *within)));
            args.extend(json.then(|| "--json".to_owned()));
        }
    }
    args.push("--".to_owned());
    args.extend_from_slice(services);
    Ok(Some(args))
}
