//! What `deploy`, `rollback` and `history` share: the layer and its target, asking before, and the answers.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use super::{DONE, Exit, stack};
use xtask_base::error::{Error, Kind, Result};
use xtask_base::signals::Interrupts;
use xtask_base::words::harmless;
use xtask_config::{self as config, Deploy, DeployEngine, Layer, Service};
use xtask_deploy::Around;
use xtask_deploy::compose::Compose;
use xtask_deploy::directory::Directory;
use xtask_deploy::engine::Engine;
use xtask_deploy::gates::{self, Gate};
use xtask_deploy::history::{self, Entry};
use xtask_deploy::kubernetes::Kubernetes;
use xtask_deploy::order::Verified;
use xtask_deploy::run::Site;
use xtask_deploy::target::Target;
use xtask_deploy::tool::Outside;
use xtask_git::Repo;
use xtask_report as report;

/// The longest name of a user that is kept, in characters.
const LONGEST_USER: usize = 40;

/// A layer that is deployed.
pub(super) struct Place {
    pub(super) layer: Layer,
    pub(super) deploy: Deploy,
    pub(super) target: Target,
    /// The texts of its files, for another host.
    pub(super) files: BTreeMap<String, String>,
    /// What the tool of its engine is told.
    pub(super) outside: Option<Outside>,
}

impl Place {
    /// Reads the layer, which must say how it is deployed.
    pub(super) fn load(repo: &Repo, name: &str) -> Result<Place> {
        let (layer, files) = stack::load_with_texts(repo, name)?;
        let Some(deploy) = layer.deploy.clone() else {
            return Err(Error::usage(format!("layer `{name}` is not deployed"))
                .hint(format!("`[deploy]` in `{}` says how", config::layer_file(name)))
                .hint("deployment/README.md says what can stand there"));
        };
        let target = Target::of(repo, name, &deploy);
        let outside = Outside::of(repo, name, &deploy);
        Ok(Place { layer, deploy, target, files, outside })
    }

    /// Whether it is on another host.
    pub(super) fn is_there(&self) -> bool {
        self.deploy.engine == DeployEngine::Ssh
    }

    /// Does something with the outside.
    pub(super) fn with_around<T>(
        &self,
        session: &Session,
        ready_within: Duration,
        work: impl FnOnce(Around<'_>) -> Result<T>,
    ) -> Result<T> {
        let tell = |text: &str| session.story(text);
        let tools = session.tools();
        let (disk, interrupts) = (tools.disk, tools.interrupts);
        let names = ["USER", "LOGNAME"];
        let user = names.into_iter().find_map(|name| session.world.variable(name));
        let by = harmless(user.unwrap_or("unknown"), LONGEST_USER);
        work(Around { world: &session.world, disk, interrupts, tell: &tell, by: &by, ready_within })
    }

    /// Does something with the target and those who work on it.
    pub(super) fn with_site<T>(
        &self,
        session: &Session,
        ready_within: Duration,
        work: impl FnOnce(&Site<'_>) -> Result<T>,
    ) -> Result<T> {
        self.with_around(session, ready_within, |around| {
            let none = Interrupts::none();
            let deaf = Around { interrupts: &none, ..around };
            let (engine, calm) = (self.engine(around), self.engine(deaf));
            work(&Site { target: &self.target, engine: &*engine, calm: &*calm, around })
        })
    }

    fn engine<'a>(&'a self, around: Around<'a>) -> Box<dyn Engine + 'a> {
        let (target, layer) = (&self.target, &self.layer);
        match (&self.outside, self.deploy.engine) {
            (Some(outside), DeployEngine::Kubernetes) => {
                Box::new(Kubernetes { target, outside, around })
            }
            (Some(outside), _) => Box::new(Compose { target, outside, around }),
            (None, _) => Box::new(Directory { target, layer, around }),
        }
    }

    /// Asks for the name of the layer, where the layer wants that.
    pub(super) fn confirm(&self, what: &str, is_said: bool) -> Result<bool> {
        if is_said || !self.deploy.confirm {
            return Ok(true);
        }
        let name = &self.layer.name;
        let typed = report::ask_for(&format!("{what} [type {name}]"));
        typed.map(|typed| typed == *name).ok_or_else(|| {
            Error::usage("nothing was changed: this asks first, and there is no terminal to ask on")
                .hint("`--yes` says yes; `confirm = false` in `[deploy]` never asks")
        })
    }

    /// Refuses where a gate is shut. `--json` says so, too, with all that was looked at.
    pub(super) fn refuse(&self, gates: &[Gate], json: bool, entries: &[Entry]) -> Result<()> {
        let refusal = gates::refuse(gates);
        if json && refusal.is_err() {
            let (current, serves) = history::standing(entries);
            let layer = &self.layer.name;
            let run = None;
            let gates = Some(gates);
            let schema = "xtask.deploy/1";
            report::answer_json(&Answer { schema, layer, ok: false, run, current, serves, gates })?;
        }
        refusal
    }

    /// Says what would happen, and what stands in the way.
    pub(super) fn answer_plan(
        &self,
        gates: &[Gate],
        plan: &[String],
        commit: &str,
        json: bool,
    ) -> Exit {
        let ok = gates.iter().all(|gate| gate.ok);
        let layer = &self.layer.name;
        if json {
            let schema = "xtask.deploy-dry-run/1";
            report::answer_json(&DryRun { schema, layer, commit, ok, gates, plan })?;
        } else {
            let mut text = format!("deploy layer {layer} to {}\n", self.deploy.to);
            for gate in gates {
                let mark = if gate.ok { "ok" } else { "NO" };
                text.push_str(&format!("  {mark}  {:<9}  {}\n", gate.name, gate.words));
            }
            for (at, line) in plan.iter().enumerate() {
                text.push_str(&format!("  {}. {line}\n", at + 1));
            }
            report::answer(&text)?;
        }
        Ok(if ok { DONE } else { Kind::No.code() })
    }

    /// Says what is wrong with what serves.
    pub(super) fn answer_verified(&self, found: &Verified, json: bool) -> Exit {
        let ok = found.faults.is_empty();
        let layer = &self.layer.name;
        let name = found.release.as_deref();
        if json {
            report::answer_json(&VerifyReport {
                schema: "xtask.deploy-verify/1",
                layer,
                ok,
                release: name,
                commit: found.commit.as_deref(),
                faults: &found.faults,
            })?;
            return Ok(if ok { DONE } else { Kind::No.code() });
        }
        if ok {
            let name = name.unwrap_or_default();
            report::answer(&format!("{name} serves layer {layer}, whole and well\n"))?;
            return Ok(DONE);
        }
        let error = Error::no(format!("layer `{layer}` is not as it was deployed"));
        Err(found.faults.iter().fold(error, |error, fault| error.detail(fault.clone())))
    }

    /// Answers with how the last run ended, after it did or failed.
    pub(super) fn answer(&self, result: Result<()>, json: bool, from: usize) -> Exit {
        let entries = history::read(&self.target.history())?;
        let last = entries.last().filter(|_| entries.len() > from);
        self.answer_run(result, json, last, history::standing(&entries))
    }

    /// Where its services are found, a line each.
    fn addresses(&self) -> String {
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

    /// The same, of a run that is known.
    pub(super) fn answer_run(
        &self,
        result: Result<()>,
        json: bool,
        run: Option<&Entry>,
        (current, serves): (Option<&str>, Option<&str>),
    ) -> Exit {
        let layer = &self.layer.name;
        if json {
            let (schema, ok) = ("xtask.deploy/1", result.is_ok());
            let gates = None;
            report::answer_json(&Answer { schema, layer, ok, run, current, serves, gates })?;
        } else if let (Ok(()), Some(entry)) = (&result, run) {
            let at = self.addresses();
            report::answer(&format!("{} serves layer {layer}{at}\n", entry.release))?;
        }
        result.map(|()| DONE)
    }
}

/// What a run has to say.
#[derive(Serialize)]
struct Answer<'a> {
    schema: &'static str,
    layer: &'a str,
    ok: bool,
    run: Option<&'a Entry>,
    current: Option<&'a str>,
    serves: Option<&'a str>,
    /// What must be so, where something of it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    gates: Option<&'a [Gate]>,
}

/// What a dry run has to say.
#[derive(Serialize)]
struct DryRun<'a> {
    schema: &'static str,
    layer: &'a str,
    commit: &'a str,
    ok: bool,
    gates: &'a [Gate],
    plan: &'a [String],
}

/// What `--verify` has to say.
#[derive(Serialize)]
struct VerifyReport<'a> {
    schema: &'static str,
    layer: &'a str,
    ok: bool,
    release: Option<&'a str>,
    commit: Option<&'a str>,
    faults: &'a [String],
}
