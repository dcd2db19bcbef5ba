//! Building a release, and running the `before`, `build`, `release` and `after` commands of a deploy.
//!
//! A release can be built in one place for another (engine `ssh`): its variables and specs refer to the
//! target, while its files are in the staging folder. For example, `run = "make"` with `at = "build"` runs in
//! `releases/NAME/files` with `XTASK_COMMIT=4cfd10e...` and `XTASK_SHARED=/srv/app/shared`.

use std::path::Path;
use std::time::Duration;

use super::DeployContext;
use super::command_exit::{check_exit, with_last_lines};
use super::engine_settings::EngineSettings;
use super::release::{Release, ReleaseSnapshot, SnapshotValue};
use super::stacks;
use super::target::DeployTarget;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::process::Program;
use xtask_config::{DeployConfig, DeployStep, Layer, StatusPort, StepMoment};
use xtask_git::{Id, Repo};

/// Inputs of a build and of the commands of a deploy.
pub struct DeployStepContext<'a> {
    pub layer: &'a Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: &'a DeployConfig,
    /// Commit of the release, in full.
    pub commit: &'a str,
    /// The target in which the release will serve.
    pub target: &'a DeployTarget,
    /// The release at its present location.
    pub release: &'a Release,
    /// Worktree for the `before` commands; `None` on the host, as they have run on the other machine.
    pub worktree: Option<&'a Path>,
    pub ctx: DeployContext<'a>,
}

/// Exports `commit`, runs the `build` commands, and seals the release.
pub fn build_release(
    place: &DeployStepContext<'_>,
    repo: &Repo,
    commit: Id,
    watch: Duration,
) -> Result<()> {
    let (layer, deploy_ctx) = (place.layer, &place.ctx);
    (deploy_ctx.tell)(&format!("building {}", place.release.name));
    place.release.export_commit(repo, commit, deploy_ctx)?;
    run_commands(place, StepMoment::Build)?;
    let ports = stacks::collect_ports(layer);
    let values = layer.values.iter().map(|value| SnapshotValue {
        key: value.key.clone(),
        value: value.text.clone(),
        from: format!("{}:{}", value.file, value.line),
    });
    let serving = Release::in_target(place.target, &place.release.name);
    let all: Vec<usize> = (0..layer.services.len()).collect();
    let snapshot = ReleaseSnapshot {
        specs: stacks::build_specs(
            layer,
            &all,
            &ports,
            place.target,
            &serving,
            &place.release.files(),
        ),
        status: match layer.status {
            StatusPort::Off => None,
            StatusPort::AnyFree => Some(0),
            StatusPort::Fixed(port) => Some(port),
        },
        watch_ms: super::to_millis(watch),
        values: values.collect(),
        outside: EngineSettings::for_layer(repo, &layer.name, place.deploy),
    };
    place.release.seal(&layer.name, place.commit, &snapshot, deploy_ctx)
}

/// Runs the commands with `at = moment`, in order, until one fails.
pub fn run_commands(place: &DeployStepContext<'_>, moment: StepMoment) -> Result<()> {
    for step in place.deploy.steps.iter().filter(|step| step.at == moment) {
        let files = place.release.files();
        let folder = match (moment, place.worktree) {
            (StepMoment::Before, Some(worktree)) => worktree,
            (StepMoment::Before, None) => continue,
            _ => &files,
        };
        (place.ctx.tell)(&format!("{}: {}", moment.name(), step.run.text));
        run_command(place, step, folder)?;
    }
    Ok(())
}

fn run_command(place: &DeployStepContext<'_>, step: &DeployStep, folder: &Path) -> Result<()> {
    let deploy_ctx = &place.ctx;
    let what = format!("the {} step `{}`", step.at.name(), step.run.text);
    deploy_ctx.disk.check_gate("run a command").with_context(|| what.clone())?;
    let [program, args @ ..] = &step.run.argv[..] else { return Ok(()) };
    let env = stacks::inherited_environment(deploy_ctx);
    let mut run = Program::new(program, folder).args(args).with_env_only(&env);
    run = run.env("XTASK_ROOT", folder).env("XTASK_LAYER", &place.layer.name);
    run = run.env("XTASK_COMMIT", place.commit);
    for (name, value) in stacks::release_variables(place.target, place.release) {
        run = run.env(name, value);
    }
    let interrupts = deploy_ctx.interrupts;
    let done = run.run_in_group(step.timeout, &|| interrupts.was_interrupted())?;
    match check_exit(&what, done.exit_reason, step.timeout) {
        Ok(()) => Ok(()),
        Err(failure) => Err(with_last_lines(failure, &done.output)),
    }
}
