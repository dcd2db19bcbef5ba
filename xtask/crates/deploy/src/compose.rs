//! The engine `compose`: containers, run by `docker compose`.
//!
//! All releases of a layer share one project, so a release replaces the one before service by service, and
//! services that it no longer has are removed. Volumes are never removed. Images are built from the files of the
//! release each time it is started, because an image name does not identify a release; the build cache keeps
//! this fast. For example, a release is started by:
//!
//! ```text
//! docker compose --project-name shop-prod --project-directory FILES --file FILES/compose.yml \
//!   up --detach --build --remove-orphans --wait --wait-timeout 60
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::DeployContext;
use super::engine::Engine;
use super::health::{ensure_no_faults, watch_by_queries};
use super::release::Release;
use super::target::DeployTarget;
use super::tool::{
    EngineSettings, EngineTool, QUERY_TIMEOUT, parse_json_objects, read_engine_settings, to_args,
};
use xtask_base::error::{ErrorKind, Result, ResultExt as _};

/// Time limit for building and pulling images: one hour.
const BUILD_TIMEOUT: Duration = Duration::from_secs(3600);

/// Time limit for `down`: five minutes, as each container has a stop timeout of its own.
const DOWN_TIMEOUT: Duration = Duration::from_secs(300);

/// Interval between two polls of a watch; each poll starts two processes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Engine that runs `docker compose`.
pub struct ComposeEngine<'a> {
    /// Folder of releases and history, in this clone.
    pub target: &'a DeployTarget,
    /// Current settings of the layer, for `down` without a release.
    pub settings: &'a EngineSettings,
    pub ctx: DeployContext<'a>,
}

/// A container in the output of `docker compose ps --format json`.
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

/// Container id to restart count and last start, e.g. `0 2025-03-10T10:15:00Z`.
type ContainerStarts = BTreeMap<String, String>;

/// Returns the arguments of `docker` up to the subcommand: context, project, folder and file. `files` is the
/// root of the release or the worktree.
#[must_use]
pub fn build_compose_args(outside: &EngineSettings, files: &std::path::Path) -> Vec<String> {
    let mut args = build_project_args(outside, &["--project-directory"]);
    // Relative paths in a compose file start at its folder, as with `docker compose -f`.
    let file = files.join(&outside.to);
    let folder = file.parent().unwrap_or(files);
    args.extend([folder.display().to_string(), "--file".to_owned()]);
    args.push(file.display().to_string());
    args
}

/// Returns the arguments of `docker` for a `compose` subcommand on a project, without its files.
pub(super) fn build_project_args(outside: &EngineSettings, what: &[&str]) -> Vec<String> {
    let mut args = build_context_args(outside);
    args.extend(to_args(&["compose", "--project-name", &outside.project]));
    args.extend(to_args(what));
    args
}

/// Returns `--context NAME`, or no arguments without a context.
fn build_context_args(outside: &EngineSettings) -> Vec<String> {
    let context = outside.context.iter();
    context.flat_map(|name| ["--context".to_owned(), name.clone()]).collect()
}

impl ComposeEngine<'_> {
    fn docker_for_release<'a>(&'a self, release: &Release) -> EngineTool<'a> {
        EngineTool::for_release("docker", self.target, release, &self.ctx)
    }

    /// Returns the arguments of `docker` for a `compose` subcommand on `release`.
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
            .with_context(|| "cannot parse the output of `docker compose ps`")
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
            // `up --wait` fails for a service that has completed its work with code 0. `create` fails unless
            // the containers are those of this release, and runs no work twice; then their state is checked.
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
        let services = self.list_services(release)?;
        let mut first: Option<ContainerStarts> = None;
        watch_by_queries(longest, POLL_INTERVAL, &self.ctx, &mut || {
            let (mut faults, starts) = self.find_faults(release, &services)?;
            if faults.is_empty() && *first.get_or_insert_with(|| starts.clone()) != starts {
                faults.push("a container was restarted or replaced".to_owned());
            }
            Ok(faults)
        })
    }

    fn check_health(&self, release: &Release) -> Result<()> {
        let services = self.list_services(release)?;
        ensure_no_faults(self.find_faults(release, &services)?.0)
    }

    fn stop_others(&self, keep: Option<&Release>) -> Result<()> {
        // `up` has replaced the containers of all other releases.
        if keep.is_some() {
            return Ok(());
        }
        let args = build_project_args(self.settings, &["down", "--remove-orphans"]);
        let (folder, variables) = (self.target.root.clone(), Vec::new());
        let docker = EngineTool { name: "docker", folder, variables, ctx: &self.ctx };
        docker.run(&args, DOWN_TIMEOUT)
    }

    fn discard_release(&self, _: &Release) -> Result<()> {
        Ok(())
    }
}

/// Returns the faults of `services`: a missing container, or one that is neither running and healthy nor exited
/// with code 0.
fn find_container_faults(services: &[String], containers: &[Container]) -> Vec<String> {
    let mut faults = Vec::new();
    for service in services {
        let mut own = containers.iter().filter(|one| one.service == *service).peekable();
        if own.peek().is_none() {
            faults.push(format!("{service}: no container"));
        }
        for one in own {
            match (one.state.as_str(), one.health.as_str(), one.exit_code) {
                ("running", "" | "healthy", _) | ("exited", _, 0) => {}
                ("running", health, _) => faults.push(format!("{service}: container is {health}")),
                ("exited", _, code) => {
                    faults.push(format!("{service}: container exited with code {code}"))
                }
                (state, _, _) => faults.push(format!("{service}: container is {state}")),
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
            sick: container is unhealthy
            dead: container exited with code 7
            loop: container is restarting
            gone: no container"#]]
        .assert_eq(&find_container_faults(&services, &containers).join("\n"));
    }
}
