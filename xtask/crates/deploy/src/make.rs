//! Making a release, and the commands of a deploy, which run before, while and after it is made.
//!
//! A release can be made in one place for another: what it is told of where it will serve is about that
//! other place, and its files lie here.

use std::path::Path;
use std::time::Duration;

use super::Around;
use super::ends::{end, last_lines};
use super::outside::Outside;
use super::release::{Release, Snapshot, ValueLine};
use super::stacks;
use super::target::Target;
use xtask_base::error::{Context as _, Result};
use xtask_base::process::Program;
use xtask_config::{Deploy, DeployStep, Layer, Status, StepMoment};
use xtask_git::{Id, Repo};

/// Where commands run, and what they are told.
pub struct Workplace<'a> {
    /// The layer.
    pub layer: &'a Layer,
    /// How it is deployed.
    pub deploy: &'a Deploy,
    /// The commit, in full.
    pub commit: &'a str,
    /// Where the release will serve.
    pub target: &'a Target,
    /// The release, where it lies now.
    pub release: &'a Release,
    /// The worktree, for what runs before; nothing where that has happened elsewhere.
    pub worktree: Option<&'a Path>,
    /// The outside.
    pub around: Around<'a>,
}

/// Lays a commit out, runs the build commands, and seals the release.
pub fn build(place: &Workplace<'_>, repo: &Repo, commit: Id, watch: Duration) -> Result<()> {
    let (layer, around) = (place.layer, &place.around);
    (around.tell)(&format!("building {}", place.release.name));
    place.release.lay_out(repo, commit, around)?;
    commands(place, StepMoment::Build)?;
    let ports = stacks::ports(layer);
    let values = layer.values.iter().map(|value| ValueLine {
        key: value.key.clone(),
        value: value.text.clone(),
        from: format!("{}:{}", value.file, value.line),
    });
    let serving = Release::of(place.target, &place.release.name);
    let all: Vec<usize> = (0..layer.services.len()).collect();
    let snapshot = Snapshot {
        specs: stacks::specs(layer, &all, &ports, place.target, &serving, &place.release.files()),
        status: match layer.status {
            Status::Off => None,
            Status::AnyPort => Some(0),
            Status::Port(port) => Some(port),
        },
        watch_ms: u64::try_from(watch.as_millis()).unwrap_or(u64::MAX),
        values: values.collect(),
        outside: Outside::of(repo, &layer.name, place.deploy),
    };
    place.release.seal(&layer.name, place.commit, &snapshot, around)
}

/// Runs the commands of one moment, in order.
pub fn commands(place: &Workplace<'_>, moment: StepMoment) -> Result<()> {
    for step in place.deploy.steps.iter().filter(|step| step.at == moment) {
        let files = place.release.files();
        let folder = match (moment, place.worktree) {
            (StepMoment::Before, Some(worktree)) => worktree,
            (StepMoment::Before, None) => continue,
            _ => &files,
        };
        (place.around.tell)(&format!("{}: {}", moment.name(), step.run.text));
        command(place, step, folder)?;
    }
    Ok(())
}

fn command(place: &Workplace<'_>, step: &DeployStep, folder: &Path) -> Result<()> {
    let around = &place.around;
    let what = format!("the {} step `{}`", step.at.name(), step.run.text);
    around.disk.other("run a command").unable(|| what.clone())?;
    let [program, args @ ..] = &step.run.argv[..] else { return Ok(()) };
    let env = stacks::environment(around);
    let mut run = Program::new(program, folder).args(args).with_only(&env);
    run = run.variable("XTASK_ROOT", folder).variable("XTASK_LAYER", &place.layer.name);
    run = run.variable("XTASK_COMMIT", place.commit);
    for (name, value) in stacks::variables(place.target, place.release) {
        run = run.variable(name, value);
    }
    let interrupts = around.interrupts;
    let done = run.run_in_group(step.timeout, &|| interrupts.arrived())?;
    match end(&what, done.end, step.timeout) {
        Ok(()) => Ok(()),
        Err(failure) => Err(last_lines(failure, &done.output)),
    }
}
