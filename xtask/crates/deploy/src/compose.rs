//! The engine `compose`: containers, by Docker Compose, which does the work.
//!
//! All releases of a layer are one project, so a release takes the place of the one before service by service, and
//! what it does not have any more is removed. Volumes are never removed. Images are built from the files of the
//! release each time it is to serve, because a name of an image says nothing of the release; what was built
//! before comes out of the cache.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::DeployContext;
use super::engine::Engine;
use super::release::Release;
use super::target::DeployTarget;
use super::tool::{
    EngineSettings, EngineTool, QUERY_TIMEOUT, ensure_no_faults, parse_json_objects,
    read_engine_settings, to_args,
};
use xtask_base::deadline::Deadline;
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};

/// How long images may take to be built and fetched: an hour.
const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long the end of all containers may take: five minutes, as each may take its time.
const DOWN_TIMEOUT: Duration = Duration::from_secs(300);

/// How many questions in a row may fail while it is watched.
const MAX_FAILED_QUERIES: usize = 2;

/// How often it is looked: each time starts two processes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The engine.
pub struct ComposeEngine<'a> {
    /// Where it keeps releases.
    pub target: &'a DeployTarget,
    /// How the layer is configured now, for where no release serves.
    pub settings: &'a EngineSettings,
    /// The outside.
    pub ctx: DeployContext<'a>,
}

/// A container, as `ps --format json` tells of it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(rename = "ID")]
    id: String,
    service: String,
    state: String,
    #[serde(default)]
    health: String,
    #[serde(default)]
    exit_code: i64,
}

/// How often a container was started, and when last.
type ContainerStarts = BTreeMap<String, String>;

/// What `docker compose` is told first, whatever it is to do.
#[must_use]
pub fn build_compose_args(outside: &EngineSettings, files: &std::path::Path) -> Vec<String> {
    let mut args = build_context_args(outside);
    args.extend(to_args(&["compose", "--project-name", &outside.project, "--project-directory"]));
    // Relative paths in the file begin where it lies, as for `docker compose -f`.
    let file = files.join(&outside.to);
    let folder = file.parent().unwrap_or(files);
    args.extend([folder.display().to_string(), "--file".to_owned()]);
    args.push(file.display().to_string());
    args
}

/// The context, as `docker` takes it.
pub(super) fn build_context_args(outside: &EngineSettings) -> Vec<String> {
    let context = outside.context.iter();
    context.flat_map(|name| ["--context".to_owned(), name.clone()]).collect()
}

impl ComposeEngine<'_> {
    fn docker_for_release<'a>(&'a self, release: &Release) -> EngineTool<'a> {
        EngineTool::for_release("docker", self.target, release, &self.ctx)
    }

    /// The arguments of `docker` for a release.
    fn args_for_release(&self, release: &Release, what: &[&str]) -> Result<Vec<String>> {
        let outside = read_engine_settings(release)?;
        let mut args = build_compose_args(&outside, &release.files());
        args.extend(to_args(what));
        Ok(args)
    }

    fn run_compose(&self, release: &Release, what: &[&str], longest: Duration) -> Result<()> {
        self.docker_for_release(release).run(&self.args_for_release(release, what)?, longest)
    }

    fn query_compose(&self, release: &Release, what: &[&str]) -> Result<String> {
        self.docker_for_release(release)
            .query(&self.args_for_release(release, what)?, QUERY_TIMEOUT)
    }

    fn list_containers(&self, release: &Release) -> Result<Vec<Container>> {
        let found = parse_json_objects(
            &self.query_compose(release, &["ps", "--all", "--format", "json"])?,
        )?;
        let read = found.into_iter().map(serde_json::from_value);
        read.collect::<Result<_, _>>()
            .with_context(|| "what `docker compose ps` says cannot be read")
    }

    fn list_services(&self, release: &Release) -> Result<Vec<String>> {
        let said = self.query_compose(release, &["config", "--services"])?;
        Ok(said.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect())
    }

    fn read_container_starts(
        &self,
        release: &Release,
        containers: &[Container],
    ) -> Result<ContainerStarts> {
        let ids: Vec<&str> = containers.iter().map(|one| one.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(ContainerStarts::new());
        }
        let mut args = build_context_args(&read_engine_settings(release)?);
        let format = "{{.Id}} {{.RestartCount}} {{.State.StartedAt}}";
        args.extend(to_args(&["inspect", "--format", format]));
        args.extend(ids.iter().map(|id| (*id).to_owned()));
        let said = self.docker_for_release(release).query(&args, QUERY_TIMEOUT)?;
        let lines = said.lines().filter_map(|line| line.trim().split_once(' '));
        Ok(lines.map(|(id, starts)| (id.to_owned(), starts.to_owned())).collect())
    }

    fn find_faults(
        &self,
        release: &Release,
        services: &[String],
    ) -> Result<(Vec<String>, ContainerStarts)> {
        let containers = self.list_containers(release)?;
        let starts = self.read_container_starts(release, &containers)?;
        Ok((find_container_faults(services, &containers), starts))
    }
}

impl Engine for ComposeEngine<'_> {
    fn try_candidate(&self, release: &Release) -> Result<()> {
        self.run_compose(release, &["config", "--quiet"], QUERY_TIMEOUT)?;
        self.run_compose(release, &["build"], BUILD_TIMEOUT)?;
        self.run_compose(
            release,
            &["pull", "--ignore-buildable", "--policy", "missing"],
            BUILD_TIMEOUT,
        )
    }

    fn serve(&self, release: &Release) -> Result<()> {
        let within = self.ctx.ready_within.as_secs().max(1).to_string();
        let up = ["up", "--detach", "--build", "--remove-orphans"];
        let wait = [&up[..], &["--wait", "--wait-timeout", &within]].concat();
        match self.run_compose(release, &wait, BUILD_TIMEOUT + self.ctx.ready_within) {
            // `--wait` takes a service for broken that has done its work and ended well. To create what is not
            // there says whether what runs is this release at all, and has no work done twice; then it is asked
            // how it is.
            Err(failure) if failure.kind() == ErrorKind::Negative => {
                if self
                    .run_compose(release, &["create", "--remove-orphans"], BUILD_TIMEOUT)
                    .is_err()
                {
                    return Err(failure);
                }
                let services = self.list_services(release)?;
                match self.list_containers(release) {
                    Ok(found) if find_container_faults(&services, &found).is_empty() => Ok(()),
                    _ => Err(failure),
                }
            }
            done => done,
        }
    }

    fn watch(&self, release: &Release, longest: Duration) -> Result<()> {
        let deadline = Deadline::after(longest);
        let mut misses = 0;
        let services = self.list_services(release)?;
        let mut first: Option<ContainerStarts> = None;
        loop {
            if self.ctx.interrupts.was_interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted while it was watched"));
            }
            let left = deadline.remaining();
            let (mut faults, starts) = match self.find_faults(release, &services) {
                // A question that fails once says nothing of the release.
                Err(_) if misses < MAX_FAILED_QUERIES => {
                    misses += 1;
                    std::thread::sleep(POLL_INTERVAL);
                    continue;
                }
                asked => asked?,
            };
            misses = 0;
            let first = first.get_or_insert_with(|| starts.clone());
            if faults.is_empty() && *first != starts {
                faults.push("a container was started again or replaced".to_owned());
            }
            ensure_no_faults(faults)?;
            match left {
                Some(left) => std::thread::sleep(left.min(POLL_INTERVAL)),
                None => return Ok(()),
            }
        }
    }

    fn check_health(&self, release: &Release) -> Result<()> {
        let services = self.list_services(release)?;
        ensure_no_faults(self.find_faults(release, &services)?.0)
    }

    fn stop_others(&self, keep: Option<&Release>) -> Result<()> {
        // Those of one release have taken the place of all others.
        if keep.is_some() {
            return Ok(());
        }
        let mut args = build_context_args(self.settings);
        args.extend(to_args(&["compose", "--project-name", &self.settings.project, "down"]));
        args.push("--remove-orphans".to_owned());
        let (folder, variables) = (self.target.root.clone(), Vec::new());
        let docker = EngineTool { name: "docker", folder, variables, ctx: &self.ctx };
        docker.run(&args, DOWN_TIMEOUT)
    }

    fn discard_release(&self, _: &Release) -> Result<()> {
        Ok(())
    }
}

/// What is not well.
fn find_container_faults(services: &[String], containers: &[Container]) -> Vec<String> {
    let mut faults = Vec::new();
    for service in services {
        let mut own = containers.iter().filter(|one| one.service == *service).peekable();
        if own.peek().is_none() {
            faults.push(format!("{service}: it has no container"));
        }
        for one in own {
            match (one.state.as_str(), one.health.as_str(), one.exit_code) {
                ("running", "" | "healthy", _) | ("exited", _, 0) => {}
                ("running", health, _) => faults.push(format!("{service}: it is {health}")),
                ("exited", _, code) => faults.push(format!("{service}: it ended with {code}")),
                (state, _, _) => faults.push(format!("{service}: it is {state}")),
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn one_that_has_done_its_work_is_well_and_all_else_is_told() {
        let text = r#"
            {"ID":"1","Service":"web","State":"running","Health":"healthy","ExitCode":0}
            {"ID":"2","Service":"once","State":"exited","Health":"","ExitCode":0}
            {"ID":"3","Service":"sick","State":"running","Health":"unhealthy","ExitCode":0}
            {"ID":"4","Service":"dead","State":"exited","ExitCode":7}
            {"ID":"5","Service":"loop","State":"restarting","ExitCode":1}
            {"ID":"6","Service":"old","State":"dead"}"#;
        let containers: Vec<Container> = parse_json_objects(text)
            .unwrap()
            .into_iter()
            .map(|value| serde_json::from_value(value).unwrap())
            .collect();
        let services = to_args(&["web", "once", "sick", "dead", "loop", "gone"]);
        expect![[r#"
            sick: it is unhealthy
            dead: it ended with 7
            loop: it is restarting
            gone: it has no container"#]]
        .assert_eq(&find_container_faults(&services, &containers).join("\n"));
    }
}
