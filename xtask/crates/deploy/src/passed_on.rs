//! What `start`, `stop`, `restart`, `ps` and `logs` come to where a tool runs the layer: its own command line, with
//! the files of the worktree. What makes no sense there is refused, with what to type instead.

use std::path::Path;
use std::time::Duration;

use super::compose;
use super::kubernetes::{manifests, place};
use super::tool::{Outside, words};
use xtask_base::error::{Error, Result};
use xtask_config::DeployEngine;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// That it runs.
    Start {
        /// How long it may take.
        within: Duration,
    },
    /// That it ends.
    Stop {
        /// How long each may take.
        within: Option<Duration>,
    },
    /// That it is started again.
    Restart,
    /// How it is.
    Ps {
        /// As JSON.
        json: bool,
    },
    /// What it has written.
    Logs {
        /// And what comes.
        follow: bool,
        /// How many lines.
        lines: usize,
        /// How far back.
        since: Option<Duration>,
        /// With times.
        timestamps: bool,
    },
}

/// The command line: a program and its arguments. `root` is the worktree.
pub fn command(
    engine: DeployEngine,
    outside: &Outside,
    root: &Path,
    asked: &Asked,
    services: &[String],
) -> Result<(&'static str, Vec<String>)> {
    match engine {
        DeployEngine::Kubernetes => Ok(("kubectl", kubectl(outside, root, asked, services)?)),
        _ => Ok(("docker", docker(outside, root, asked, services))),
    }
}

fn docker(outside: &Outside, root: &Path, asked: &Asked, services: &[String]) -> Vec<String> {
    let mut args = compose::before(outside, root);
    match asked {
        Asked::Start { within } => {
            args.extend(words(&["up", "--detach", "--wait", "--wait-timeout"]));
            args.push(within.as_secs().max(1).to_string());
        }
        Asked::Stop { within } => {
            args.push("stop".to_owned());
            if let Some(within) = within {
                // Docker takes whole seconds, and 0 for an end without a question.
                let seconds = within.as_millis().div_ceil(1000);
                args.extend(["--timeout".to_owned(), seconds.to_string()]);
            }
        }
        Asked::Restart => args.push("restart".to_owned()),
        Asked::Ps { json } => {
            args.extend(words(&["ps", "--all"]));
            if *json {
                args.extend(words(&["--format", "json"]));
            }
        }
        Asked::Logs { .. } => {
            args.push("logs".to_owned());
            args.extend(of_logs(asked));
        }
    }
    if !services.is_empty() {
        args.push("--".to_owned());
        args.extend(services.to_vec());
    }
    args
}

fn kubectl(
    outside: &Outside,
    root: &Path,
    asked: &Asked,
    services: &[String],
) -> Result<Vec<String>> {
    let mut args = place(outside.context.as_deref(), outside.namespace.as_deref());
    let typed = |rest: &str| format!("`kubectl {} {rest}`", args.join(" "));
    let one = |of: &str| Error::usage(format!("{of} of a layer in a cluster names one workload"));
    match asked {
        Asked::Stop { .. } => {
            return Err(Error::usage("a layer in a cluster is not stopped")
                .detail(
                    "without replicas it would serve nobody, and the next deploy starts it again",
                )
                .hint(typed("scale deployment/NAME --replicas=0")));
        }
        Asked::Restart => {
            let [name] = services else {
                let hint = "as in `cargo xtask restart --layer LAYER NAME`, or `statefulset/NAME`";
                return Err(one("a restart").hint(hint));
            };
            args.extend(words(&["rollout", "restart", &workload(name)]));
        }
        Asked::Start { .. } | Asked::Ps { .. } if !services.is_empty() => {
            return Err(Error::usage("a layer in a cluster is applied and shown as a whole")
                .hint(typed("get deployment/NAME")));
        }
        Asked::Start { .. } => {
            args.push("apply".to_owned());
            args.extend(manifests(outside, root));
        }
        Asked::Ps { json } => {
            args.push("get".to_owned());
            args.extend(manifests(outside, root));
            args.extend(words(if *json { &["-o", "json"] } else { &["-o", "wide"] }));
        }
        Asked::Logs { .. } => {
            let [name] = services else {
                let hint = "as in `cargo xtask logs --layer LAYER NAME`, or `statefulset/NAME`";
                return Err(one("a log").hint(hint));
            };
            args.push("logs".to_owned());
            args.extend(of_logs(asked));
            args.push(workload(name));
        }
    }
    Ok(args)
}

/// A workload, as `kubectl` takes it. A name alone is that of a deployment.
fn workload(name: &str) -> String {
    if name.contains('/') && !name.starts_with('-') {
        name.to_owned()
    } else {
        format!("deployment/{name}")
    }
}

/// The options of logs, which both tools have.
fn of_logs(asked: &Asked) -> Vec<String> {
    let Asked::Logs { follow, lines, since, timestamps } = asked else { return Vec::new() };
    let mut args = vec![format!("--tail={lines}")];
    if let Some(since) = since {
        args.push(format!("--since={}s", since.as_secs().max(1)));
    }
    if *follow {
        args.push("--follow".to_owned());
    }
    if *timestamps {
        args.push("--timestamps".to_owned());
    }
    args
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn each_is_the_command_line_of_its_tool() {
        let outside = Outside {
            to: "deploy/app.yml".to_owned(),
            context: Some("c".to_owned()),
            namespace: None,
            project: "app-prod".to_owned(),
        };
        let logs = |follow| Asked::Logs {
            follow,
            lines: 20,
            since: follow.then_some(Duration::from_secs(90)),
            timestamps: follow,
        };
        let within = Duration::from_secs(30);
        let asked = [
            (Asked::Start { within }, vec![]),
            (Asked::Stop { within: Some(within) }, vec!["web"]),
            (Asked::Stop { within: None }, vec![]),
            (Asked::Restart, vec!["web"]),
            (Asked::Restart, vec![]),
            (Asked::Ps { json: true }, vec![]),
            (Asked::Ps { json: false }, vec!["web"]),
            (logs(false), vec![]),
            (logs(true), vec!["statefulset/db"]),
        ];
        let mut text = String::new();
        for engine in [DeployEngine::Compose, DeployEngine::Kubernetes] {
            for (asked, services) in &asked {
                let services = words(services);
                let line = match command(engine, &outside, Path::new("/w"), asked, &services) {
                    Ok((program, args)) => format!("{program} {}", args.join(" ")),
                    Err(failure) => format!("{failure}; {}", failure.hints().join("; ")),
                };
                text.push_str(&format!("{line}\n"));
            }
        }
        expect![[r#"
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml up --detach --wait --wait-timeout 30
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml stop --timeout 30 -- web
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml stop
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml restart -- web
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml restart
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml ps --all --format json
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml ps --all -- web
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml logs --tail=20
            docker --context c compose --project-name app-prod --project-directory /w/deploy --file /w/deploy/app.yml logs --tail=20 --since=90s --follow --timestamps -- statefulset/db
            kubectl --context c apply -f /w/deploy/app.yml
            a layer in a cluster is not stopped; `kubectl --context c scale deployment/NAME --replicas=0`
            a layer in a cluster is not stopped; `kubectl --context c scale deployment/NAME --replicas=0`
            kubectl --context c rollout restart deployment/web
            a restart of a layer in a cluster names one workload; as in `cargo xtask restart --layer LAYER NAME`, or `statefulset/NAME`
            kubectl --context c get -f /w/deploy/app.yml -o json
            a layer in a cluster is applied and shown as a whole; `kubectl --context c get deployment/NAME`
            a log of a layer in a cluster names one workload; as in `cargo xtask logs --layer LAYER NAME`, or `statefulset/NAME`
            kubectl --context c logs --tail=20 --since=90s --follow --timestamps statefulset/db
        "#]].assert_eq(&text);
    }
}
