//! Shared code of `deploy`, `rollback` and `history`: the layer and its target, the prompt, and the JSON and text
//! reports.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use super::{CommandResult, SUCCESS, stack};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::signals::Interrupts;
use xtask_base::words::sanitize_line;
use xtask_config::{self as config, DeployConfig, DeployEngine, Layer, Service};
use xtask_deploy::DeployContext;
use xtask_deploy::compose::ComposeEngine;
use xtask_deploy::directory::DirectoryEngine;
use xtask_deploy::engine::Engine;
use xtask_deploy::engine::EngineContext;
use xtask_deploy::gates::{self, Gate};
use xtask_deploy::history::{self, CurrentReleases, DeployEntry};
use xtask_deploy::kubernetes::KubernetesEngine;
use xtask_deploy::target::DeployTarget;
use xtask_deploy::tool::EngineSettings;
use xtask_deploy::wire_protocol::Verification;
use xtask_git::Repo;
use xtask_report as report;

/// The longest user name that is recorded in the history, in characters.
const MAX_USER_CHARS: usize = 40;

/// A layer with `[deploy]`, and its target.
pub(super) struct LayerDeployment {
    pub(super) layer: Layer,
    pub(super) deploy: DeployConfig,
    pub(super) target: DeployTarget,
    /// The texts of the layer's files by layer name, to be sent to another host.
    pub(super) layer_texts: BTreeMap<String, String>,
    /// The settings of `docker compose` or `kubectl`, or `None` for another engine.
    pub(super) engine_settings: Option<EngineSettings>,
}

impl LayerDeployment {
    /// Reads a layer. Returns an error if it has no `[deploy]`.
    pub(super) fn read_layer(repo: &Repo, name: &str) -> Result<LayerDeployment> {
        let (layer, files) = stack::read_layer_with_texts(repo, name)?;
        let Some(deploy) = layer.deploy.clone() else {
            return Err(Error::usage(format!("layer `{name}` has no `[deploy]`"))
                .with_hint(format!("add `[deploy]` to `{}`", config::layer_file_path(name)))
                .with_hint("its keys are documented in deployment/README.md"));
        };
        let target = DeployTarget::for_layer(repo, name, &deploy);
        let outside = EngineSettings::for_layer(repo, name, &deploy);
        Ok(LayerDeployment { layer, deploy, target, layer_texts: files, engine_settings: outside })
    }

    /// Returns whether the target is on another host.
    pub(super) fn is_on_host(&self) -> bool {
        self.deploy.engine == DeployEngine::Ssh
    }

    /// Calls `work` with the context of a deploy: environment, disk, interrupts, output, user.
    pub(super) fn with_deploy_context<T>(
        &self,
        session: &Session,
        ready_within: Duration,
        work: impl FnOnce(DeployContext<'_>) -> Result<T>,
    ) -> Result<T> {
        let tell = |text: &str| session.print_info(text);
        let tools = session.tools();
        let (disk, interrupts) = (tools.disk, tools.interrupts);
        let names = ["USER", "LOGNAME"];
        let user = names.into_iter().find_map(|name| session.world.variable(name));
        let by = sanitize_line(user.unwrap_or("unknown"), MAX_USER_CHARS);
        work(DeployContext {
            world: &session.world,
            disk,
            interrupts,
            tell: &tell,
            by: &by,
            ready_within,
        })
    }

    /// Calls `work` with the target and its engine.
    pub(super) fn with_engine<T>(
        &self,
        session: &Session,
        ready_within: Duration,
        work: impl FnOnce(&EngineContext<'_>) -> Result<T>,
    ) -> Result<T> {
        self.with_deploy_context(session, ready_within, |around| {
            let none = Interrupts::without_handlers();
            let deaf = DeployContext { interrupts: &none, ..around };
            let (engine, calm) = (self.build_engine(around), self.build_engine(deaf));
            work(&EngineContext {
                target: &self.target,
                engine: &*engine,
                uninterruptible: &*calm,
                ctx: around,
            })
        })
    }

    fn build_engine<'a>(&'a self, around: DeployContext<'a>) -> Box<dyn Engine + 'a> {
        let (target, layer) = (&self.target, &self.layer);
        match (&self.engine_settings, self.deploy.engine) {
            (Some(outside), DeployEngine::Kubernetes) => {
                Box::new(KubernetesEngine { target, settings: outside, ctx: around })
            }
            (Some(outside), _) => {
                Box::new(ComposeEngine { target, settings: outside, ctx: around })
            }
            (None, _) => Box::new(DirectoryEngine { target, layer, ctx: around }),
        }
    }

    /// Asks for the name of the layer, unless `--yes` was given or `confirm` is off. Returns whether it was typed.
    pub(super) fn confirm_by_name(&self, what: &str, is_said: bool) -> Result<bool> {
        if is_said || !self.deploy.confirm {
            return Ok(true);
        }
        let name = &self.layer.name;
        let typed = report::prompt_line(&format!("{what} [type {name}]"));
        typed.map(|typed| typed == *name).ok_or_else(|| {
            Error::usage("nothing was changed: confirmation needed, but there is no terminal")
                .with_hint("use `--yes`, or set `confirm = false` in `[deploy]`")
        })
    }

    /// Fails if a gate is not met; with `json`, also prints all gates (`xtask.deploy/1`).
    pub(super) fn check_gates(
        &self,
        gates: &[Gate],
        json: bool,
        entries: &[DeployEntry],
    ) -> Result<()> {
        let refusal = gates::ensure_gates_pass(gates);
        if json && refusal.is_err() {
            let CurrentReleases { current, serving: serves } =
                history::current_and_serving(entries);
            let layer = &self.layer.name;
            let run = None;
            let gates = Some(gates);
            let schema = "xtask.deploy/1";
            report::print_json(&DeployRunReport {
                schema,
                layer,
                ok: false,
                run,
                current,
                serves,
                gates,
            })?;
        }
        refusal
    }

    /// Prints the gates and the steps of a dry run. Returns exit code 1 if a gate is not met.
    pub(super) fn print_plan(
        &self,
        gates: &[Gate],
        plan: &[String],
        commit: &str,
        json: bool,
    ) -> CommandResult {
        let ok = gates.iter().all(|gate| gate.ok);
        let layer = &self.layer.name;
        if json {
            let schema = "xtask.deploy-dry-run/1";
            report::print_json(&DeployPlanReport { schema, layer, commit, ok, gates, plan })?;
        } else {
            let mut text = format!("deploy layer {layer} to {}\n", self.deploy.to);
            for gate in gates {
                let mark = if gate.ok { "ok" } else { "NO" };
                text.push_str(&format!("  {mark}  {:<9}  {}\n", gate.name, gate.describe()));
            }
            for (at, line) in plan.iter().enumerate() {
                text.push_str(&format!("  {}. {line}\n", at + 1));
            }
            report::print_output(&text)?;
        }
        Ok(if ok { SUCCESS } else { ErrorKind::Negative.exit_code() })
    }

    /// Prints the result of `--verify`.
    pub(super) fn print_verification(&self, found: &Verification, json: bool) -> CommandResult {
        let ok = found.faults.is_empty();
        let layer = &self.layer.name;
        let name = found.release.as_deref();
        if json {
            report::print_json(&DeployVerifyReport {
                schema: "xtask.deploy-verify/1",
                layer,
                ok,
                release: name,
                commit: found.commit.as_deref(),
                faults: &found.faults,
            })?;
            return Ok(if ok { SUCCESS } else { ErrorKind::Negative.exit_code() });
        }
        if ok {
            let name = name.unwrap_or_default();
            report::print_output(&format!("{name} serves layer {layer}: intact and healthy\n"))?;
            return Ok(SUCCESS);
        }
        let error = Error::negative(format!("verification of layer `{layer}` failed"));
        Err(found.faults.iter().fold(error, |error, fault| error.with_detail(fault.clone())))
    }

    /// Prints the entry that the run has added to the history after its first `from` entries.
    pub(super) fn print_last_run(
        &self,
        result: Result<()>,
        json: bool,
        from: usize,
    ) -> CommandResult {
        let entries = history::read_history(&self.target.history_file())?;
        let last = entries.last().filter(|_| entries.len() > from);
        self.print_run(result, json, last, history::current_and_serving(&entries))
    }

    /// Returns the address of each service, one line each, e.g. `  api  http://localhost:8100`.
    fn render_addresses(&self) -> String {
        if !self.deploy.engine.has_ports() {
            return String::new();
        }
        let host = match self.deploy.engine {
            DeployEngine::Ssh => self.deploy.to.split(':').next().unwrap_or_default(),
            _ => "localhost",
        };
        let host = host.rsplit('@').next().unwrap_or(host);
        let line = |service: &Service| {
            let port = service.port?;
            let probes = [service.ready.as_ref(), service.live.as_ref().map(|live| &live.probe)];
            let speaks_http = probes.into_iter().flatten().any(|probe| probe.http.is_some());
            let scheme = if speaks_http { "http://" } else { "" };
            Some(format!("\n  {}  {scheme}{host}:{port}", service.name))
        };
        self.layer.services.iter().filter_map(line).collect()
    }

    /// Prints how `run` ended.
    pub(super) fn print_run(
        &self,
        result: Result<()>,
        json: bool,
        run: Option<&DeployEntry>,
        CurrentReleases { current, serving: serves }: CurrentReleases<'_>,
    ) -> CommandResult {
        let layer = &self.layer.name;
        if json {
            let (schema, ok) = ("xtask.deploy/1", result.is_ok());
            let gates = None;
            report::print_json(&DeployRunReport {
                schema,
                layer,
                ok,
                run,
                current,
                serves,
                gates,
            })?;
        } else if let (Ok(()), Some(entry)) = (&result, run) {
            let at = self.render_addresses();
            report::print_output(&format!("{} serves layer {layer}{at}\n", entry.release))?;
        }
        result.map(|()| SUCCESS)
    }
}

/// The JSON output of `deploy` and `rollback`.
#[derive(Serialize)]
struct DeployRunReport<'a> {
    schema: &'static str,
    layer: &'a str,
    ok: bool,
    run: Option<&'a DeployEntry>,
    current: Option<&'a str>,
    serves: Option<&'a str>,
    /// All gates, or `None` if they are met.
    #[serde(skip_serializing_if = "Option::is_none")]
    gates: Option<&'a [Gate]>,
}

/// The JSON output of `deploy --dry-run`.
#[derive(Serialize)]
struct DeployPlanReport<'a> {
    schema: &'static str,
    layer: &'a str,
    commit: &'a str,
    ok: bool,
    gates: &'a [Gate],
    plan: &'a [String],
}

/// The JSON output of `deploy --verify`.
#[derive(Serialize)]
struct DeployVerifyReport<'a> {
    schema: &'static str,
    layer: &'a str,
    ok: bool,
    release: Option<&'a str>,
    commit: Option<&'a str>,
    faults: &'a [String],
}
