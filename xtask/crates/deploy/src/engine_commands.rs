//! Translation of `start`, `stop`, `restart`, `ps` and `logs` into a command line of `docker compose` or `kubectl`,
//! with the files of the worktree. Unsupported commands are refused with an alternative.
//!
//! For example, `cargo xtask restart --layer prod web` becomes `docker compose ... restart -- web` or
//! `kubectl ... rollout restart deployment/web`.

use std::path::Path;
use std::time::Duration;

use super::compose;
use super::kubernetes::{build_manifest_args, build_scope_args};
use super::tool::{EngineSettings, to_args};
use xtask_base::error::{Error, Result};
use xtask_config::DeployEngine;

/// A services command of a layer that does not run in the worktree, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicesCommand {
    /// `start`: create and start the services.
    Start {
        /// Time limit to become ready.
        within: Duration,
        /// Whether only the command line is shown.
        dry_run: bool,
        /// The given options that only services in the worktree have, e.g. `--port`.
        local_options: Vec<&'static str>,
    },
    /// `stop`: stop the services.
    Stop {
        /// Time limit for each service; the default if `None`.
        within: Option<Duration>,
        json: bool,
    },
    /// `restart`: restart the services.
    Restart { json: bool },
    /// `ps`: show the status.
    Ps { json: bool, watch: bool },
    /// `logs`: show the logs.
    Logs {
        /// Follow new lines.
        follow: bool,
        /// Number of lines to show.
        lines: usize,
        /// Maximum age of the lines.
        since: Option<Duration>,
        /// Prefix each line with its time.
        timestamps: bool,
        /// Show earlier runs, too.
        all: bool,
    },
}

impl ServicesCommand {
    /// Returns a given option that the engine's tool does not support.
    pub(super) fn unsupported_option(&self) -> Option<&'static str> {
        match self {
            ServicesCommand::Start { local_options, .. } => local_options.first().copied(),
            ServicesCommand::Stop { json, .. } | ServicesCommand::Restart { json } => {
                json.then_some("--json")
            }
            ServicesCommand::Ps { watch, .. } => watch.then_some("--watch"),
            ServicesCommand::Logs { .. } => None,
        }
    }
}

/// Returns the program (`docker` or `kubectl`) and its arguments. `root` is the worktree.
///
/// Returns a usage error for a command that the engine does not support.
pub fn build_command_line(
    engine: DeployEngine,
    outside: &EngineSettings,
    root: &Path,
    asked: &ServicesCommand,
    services: &[String],
) -> Result<(&'static str, Vec<String>)> {
    match engine {
        DeployEngine::Kubernetes => {
            Ok(("kubectl", build_kubectl_args(outside, root, asked, services)?))
        }
        _ => Ok(("docker", build_docker_args(outside, root, asked, services))),
    }
}

fn build_docker_args(
    outside: &EngineSettings,
    root: &Path,
    asked: &ServicesCommand,
    services: &[String],
) -> Vec<String> {
    let mut args = compose::build_compose_args(outside, root);
    match asked {
        ServicesCommand::Start { within, .. } => {
            args.extend(to_args(&["up", "--detach", "--wait", "--wait-timeout"]));
            args.push(within.as_secs().max(1).to_string());
        }
        ServicesCommand::Stop { within, .. } => {
            args.push("stop".to_owned());
            if let Some(within) = within {
                // Docker takes full seconds, and 0 kills without a stop signal; so 300 ms become 1.
                let seconds = within.as_millis().div_ceil(1000);
                args.extend(["--timeout".to_owned(), seconds.to_string()]);
            }
        }
        ServicesCommand::Restart { .. } => args.push("restart".to_owned()),
        ServicesCommand::Ps { json, .. } => {
            args.extend(to_args(&["ps", "--all"]));
            if *json {
                args.extend(to_args(&["--format", "json"]));
            }
        }
        ServicesCommand::Logs { .. } => {
            args.push("logs".to_owned());
            args.extend(build_logs_args(asked));
        }
    }
    if !services.is_empty() {
        args.push("--".to_owned());
        args.extend(services.to_vec());
    }
    args
}

fn build_kubectl_args(
    outside: &EngineSettings,
    root: &Path,
    asked: &ServicesCommand,
    services: &[String],
) -> Result<Vec<String>> {
    let mut args = build_scope_args(outside.context.as_deref(), outside.namespace.as_deref());
    let typed = |rest: &str| format!("`kubectl {} {rest}`", args.join(" "));
    let one = |of: &str| Error::usage(format!("`{of}` needs exactly one workload in a cluster"));
    match asked {
        ServicesCommand::Stop { .. } => {
            return Err(Error::usage("`stop` is not supported in a cluster")
                .with_detail(
                    "a workload stops with 0 replicas, until the next deploy starts it again",
                )
                .with_hint(typed("scale deployment/NAME --replicas=0")));
        }
        ServicesCommand::Restart { .. } => {
            let [name] = services else {
                let hint = "as in `cargo xtask restart --layer LAYER NAME`, or `statefulset/NAME`";
                return Err(one("restart").with_hint(hint));
            };
            args.extend(to_args(&["rollout", "restart", &qualify_workload(name)]));
        }
        ServicesCommand::Start { .. } | ServicesCommand::Ps { .. } if !services.is_empty() => {
            return Err(Error::usage("`start` and `ps` take no workloads in a cluster")
                .with_hint(typed("get deployment/NAME")));
        }
        ServicesCommand::Start { .. } => {
            args.push("apply".to_owned());
            args.extend(build_manifest_args(outside, root));
        }
        ServicesCommand::Ps { json, .. } => {
            args.push("get".to_owned());
            args.extend(build_manifest_args(outside, root));
            args.extend(to_args(if *json { &["-o", "json"] } else { &["-o", "wide"] }));
        }
        ServicesCommand::Logs { .. } => {
            let [name] = services else {
                let hint = "as in `cargo xtask logs --layer LAYER NAME`, or `statefulset/NAME`";
                return Err(one("logs").with_hint(hint));
            };
            args.push("logs".to_owned());
            args.extend(build_logs_args(asked));
            args.push(qualify_workload(name));
        }
    }
    Ok(args)
}

/// Returns a workload as `kind/name`; a plain name means a deployment, e.g. `web` becomes `deployment/web`.
fn qualify_workload(name: &str) -> String {
    if name.contains('/') && !name.starts_with('-') {
        name.to_owned()
    } else {
        format!("deployment/{name}")
    }
}

/// Returns the options of `logs`, which are the same for both tools.
fn build_logs_args(asked: &ServicesCommand) -> Vec<String> {
    let ServicesCommand::Logs { follow, lines, since, timestamps, .. } = asked else {
        return Vec::new();
    };
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
        let outside = EngineSettings {
            to: "deploy/app.yml".to_owned(),
            context: Some("c".to_owned()),
            namespace: None,
            project: "app-prod".to_owned(),
        };
        let logs = |follow| ServicesCommand::Logs {
            follow,
            lines: 20,
            since: follow.then_some(Duration::from_secs(90)),
            timestamps: follow,
            all: false,
        };
        let within = Duration::from_secs(30);
        let asked = [
            (ServicesCommand::Start { within, dry_run: false, local_options: vec![] }, vec![]),
            (ServicesCommand::Stop { within: Some(within), json: false }, vec!["web"]),
            (ServicesCommand::Stop { within: None, json: false }, vec![]),
            (ServicesCommand::Restart { json: false }, vec!["web"]),
            (ServicesCommand::Restart { json: false }, vec![]),
            (ServicesCommand::Ps { json: true, watch: false }, vec![]),
            (ServicesCommand::Ps { json: false, watch: false }, vec!["web"]),
            (logs(false), vec![]),
            (logs(true), vec!["statefulset/db"]),
        ];
        let mut text = String::new();
        for engine in [DeployEngine::Compose, DeployEngine::Kubernetes] {
            for (asked, services) in &asked {
                let services = to_args(services);
                let line =
                    match build_command_line(engine, &outside, Path::new("/w"), asked, &services) {
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
            `stop` is not supported in a cluster; `kubectl --context c scale deployment/NAME --replicas=0`
            `stop` is not supported in a cluster; `kubectl --context c scale deployment/NAME --replicas=0`
            kubectl --context c rollout restart deployment/web
            `restart` needs exactly one workload in a cluster; as in `cargo xtask restart --layer LAYER NAME`, or `statefulset/NAME`
            kubectl --context c get -f /w/deploy/app.yml -o json
            `start` and `ps` take no workloads in a cluster; `kubectl --context c get deployment/NAME`
            `logs` needs exactly one workload in a cluster; as in `cargo xtask logs --layer LAYER NAME`, or `statefulset/NAME`
            kubectl --context c logs --tail=20 --since=90s --follow --timestamps statefulset/db
        "#]].assert_eq(&text);
    }
}
