//! The engine `compose`: containers, by Docker Compose, which does the work.
//!
//! All releases of a layer are one project, so a release takes the place of the one before service by service, and
//! what it does not have any more is removed. Volumes are never removed. Images are built from the files of the
//! release each time it is to serve, because a name of an image says nothing of the release; what was built
//! before comes out of the cache.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::Around;
use super::engine::Engine;
use super::release::Release;
use super::target::Target;
use super::tool::{Outside, QUESTION, Tool, objects, settings, unwell, words};
use xtask_base::deadline::Deadline;
use xtask_base::error::{Context as _, Error, Kind, Result};

/// How long images may take to be built and fetched: an hour.
const BUILDING: Duration = Duration::from_secs(3600);

/// How long the end of all containers may take: five minutes, as each may take its time.
const ENDING: Duration = Duration::from_secs(300);

/// How many questions in a row may fail while it is watched.
const MOST_MISSES: usize = 2;

/// How often it is looked: each time starts two processes.
const POLL: Duration = Duration::from_secs(1);

/// The engine.
pub struct Compose<'a> {
    /// Where it keeps releases.
    pub target: &'a Target,
    /// How the layer is configured now, for where no release serves.
    pub outside: &'a Outside,
    /// The outside.
    pub around: Around<'a>,
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
type Starts = BTreeMap<String, String>;

/// What `docker compose` is told first, whatever it is to do.
#[must_use]
pub fn before(outside: &Outside, files: &std::path::Path) -> Vec<String> {
    let mut args = context(outside);
    args.extend(words(&["compose", "--project-name", &outside.project, "--project-directory"]));
    // Relative paths in the file begin where it lies, as for `docker compose -f`.
    let file = files.join(&outside.to);
    let folder = file.parent().unwrap_or(files);
    args.extend([folder.display().to_string(), "--file".to_owned()]);
    args.push(file.display().to_string());
    args
}

/// The context, as `docker` takes it.
pub(super) fn context(outside: &Outside) -> Vec<String> {
    let context = outside.context.iter();
    context.flat_map(|name| ["--context".to_owned(), name.clone()]).collect()
}

impl Compose<'_> {
    fn docker<'a>(&'a self, release: &Release) -> Tool<'a> {
        Tool::of("docker", self.target, release, &self.around)
    }

    /// The arguments of `docker` for a release.
    fn args(&self, release: &Release, what: &[&str]) -> Result<Vec<String>> {
        let outside = settings(release)?;
        let mut args = before(&outside, &release.files());
        args.extend(words(what));
        Ok(args)
    }

    fn run(&self, release: &Release, what: &[&str], longest: Duration) -> Result<()> {
        self.docker(release).run(&self.args(release, what)?, longest)
    }

    fn ask_for(&self, release: &Release, what: &[&str]) -> Result<String> {
        self.docker(release).ask(&self.args(release, what)?, QUESTION)
    }

    fn containers(&self, release: &Release) -> Result<Vec<Container>> {
        let found = objects(&self.ask_for(release, &["ps", "--all", "--format", "json"])?)?;
        let read = found.into_iter().map(serde_json::from_value);
        read.collect::<Result<_, _>>().unable(|| "what `docker compose ps` says cannot be read")
    }

    fn services(&self, release: &Release) -> Result<Vec<String>> {
        let said = self.ask_for(release, &["config", "--services"])?;
        Ok(said.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect())
    }

    fn starts(&self, release: &Release, containers: &[Container]) -> Result<Starts> {
        let ids: Vec<&str> = containers.iter().map(|one| one.id.as_str()).collect();
        if ids.is_empty() {
            return Ok(Starts::new());
        }
        let mut args = context(&settings(release)?);
        let format = "{{.Id}} {{.RestartCount}} {{.State.StartedAt}}";
        args.extend(words(&["inspect", "--format", format]));
        args.extend(ids.iter().map(|id| (*id).to_owned()));
        let said = self.docker(release).ask(&args, QUESTION)?;
        let lines = said.lines().filter_map(|line| line.trim().split_once(' '));
        Ok(lines.map(|(id, starts)| (id.to_owned(), starts.to_owned())).collect())
    }

    fn faults(&self, release: &Release, services: &[String]) -> Result<(Vec<String>, Starts)> {
        let containers = self.containers(release)?;
        let starts = self.starts(release, &containers)?;
        Ok((faults(services, &containers), starts))
    }
}

impl Engine for Compose<'_> {
    fn try_out(&self, release: &Release) -> Result<()> {
        self.run(release, &["config", "--quiet"], QUESTION)?;
        self.run(release, &["build"], BUILDING)?;
        self.run(release, &["pull", "--ignore-buildable", "--policy", "missing"], BUILDING)
    }

    fn serve(&self, release: &Release) -> Result<()> {
        let within = self.around.ready_within.as_secs().max(1).to_string();
        let up = ["up", "--detach", "--build", "--remove-orphans"];
        let wait = [&up[..], &["--wait", "--wait-timeout", &within]].concat();
        match self.run(release, &wait, BUILDING + self.around.ready_within) {
            // `--wait` takes a service for broken that has done its work and ended well. To create what is not
            // there says whether what runs is this release at all, and has no work done twice; then it is asked
            // how it is.
            Err(failure) if failure.kind() == Kind::No => {
                if self.run(release, &["create", "--remove-orphans"], BUILDING).is_err() {
                    return Err(failure);
                }
                let services = self.services(release)?;
                match self.containers(release) {
                    Ok(found) if faults(&services, &found).is_empty() => Ok(()),
                    _ => Err(failure),
                }
            }
            done => done,
        }
    }

    fn watch(&self, release: &Release, longest: Duration) -> Result<()> {
        let deadline = Deadline::after(longest);
        let mut misses = 0;
        let services = self.services(release)?;
        let mut first: Option<Starts> = None;
        loop {
            if self.around.interrupts.arrived() {
                return Err(Error::new(Kind::Interrupted, "interrupted while it was watched"));
            }
            let left = deadline.left();
            let (mut faults, starts) = match self.faults(release, &services) {
                // A question that fails once says nothing of the release.
                Err(_) if misses < MOST_MISSES => {
                    misses += 1;
                    std::thread::sleep(POLL);
                    continue;
                }
                asked => asked?,
            };
            misses = 0;
            let first = first.get_or_insert_with(|| starts.clone());
            if faults.is_empty() && *first != starts {
                faults.push("a container was started again or replaced".to_owned());
            }
            unwell(faults)?;
            match left {
                Some(left) => std::thread::sleep(left.min(POLL)),
                None => return Ok(()),
            }
        }
    }

    fn ask(&self, release: &Release) -> Result<()> {
        let services = self.services(release)?;
        unwell(self.faults(release, &services)?.0)
    }

    fn end_others(&self, keep: Option<&Release>) -> Result<()> {
        // Those of one release have taken the place of all others.
        if keep.is_some() {
            return Ok(());
        }
        let mut args = context(self.outside);
        args.extend(words(&["compose", "--project-name", &self.outside.project, "down"]));
        args.push("--remove-orphans".to_owned());
        let (folder, variables) = (self.target.root.clone(), Vec::new());
        let docker = Tool { name: "docker", folder, variables, around: &self.around };
        docker.run(&args, ENDING)
    }

    fn forget(&self, _: &Release) -> Result<()> {
        Ok(())
    }
}

/// What is not well.
fn faults(services: &[String], containers: &[Container]) -> Vec<String> {
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
        let containers: Vec<Container> = objects(text)
            .unwrap()
            .into_iter()
            .map(|value| serde_json::from_value(value).unwrap())
            .collect();
        let services = words(&["web", "once", "sick", "dead", "loop", "gone"]);
        expect![[r#"
            sick: it is unhealthy
            dead: it ended with 7
            loop: it is restarting
            gone: it has no container"#]]
        .assert_eq(&faults(&services, &containers).join("\n"));
    }
}
