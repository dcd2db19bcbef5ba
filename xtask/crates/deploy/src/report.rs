//! What `deploy`, `rollback` and `history` show: values that are the JSON output themselves, and their texts, e.g.
//! `20250310T101500Z-4cfd10e1a2b3 serves layer staging`.

use serde::Serialize;

use super::deployment::LayerDeployment;
use super::gates::Gate;
use super::history::{CurrentReleases, DeployEntry, current_and_serving};
use super::wire_protocol::Verification;
use xtask_base::environment::format_rfc3339;
use xtask_base::error::{Error, Result};
use xtask_config::{DeployEngine, Service};

/// How a deploy or a rollback ended, `xtask.deploy/1`.
#[derive(Serialize)]
pub struct DeployRunReport {
    schema: &'static str,
    layer: String,
    ok: bool,
    /// Entry of the run in the history, if it added one.
    run: Option<DeployEntry>,
    current: Option<String>,
    serves: Option<String>,
    /// All gates, if some of them failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    gates: Option<Vec<Gate>>,
    /// The error, unless the release serves.
    #[serde(skip)]
    pub failure: Option<Error>,
}

/// The gates and steps of a deploy, `xtask.deploy-dry-run/1`.
#[derive(Serialize)]
pub struct DeployPlanReport {
    schema: &'static str,
    layer: String,
    commit: String,
    /// Whether all gates passed.
    pub ok: bool,
    gates: Vec<Gate>,
    plan: Vec<String>,
}

/// The result of `deploy --verify`, `xtask.deploy-verify/1`.
#[derive(Serialize)]
pub struct DeployVerifyReport<'a> {
    schema: &'static str,
    layer: &'a str,
    /// Whether the release is intact and healthy.
    pub ok: bool,
    #[serde(flatten)]
    found: &'a Verification,
}

/// All runs of a layer, `xtask.deploy-history/1`.
#[derive(Serialize)]
pub struct DeployHistoryReport<'a> {
    schema: &'static str,
    layer: &'a str,
    current: Option<&'a str>,
    serves: Option<&'a str>,
    runs: Vec<DeployHistoryLine<'a>>,
}

/// A run, with its time as RFC 3339.
#[derive(Serialize)]
struct DeployHistoryLine<'a> {
    time: String,
    #[serde(flatten)]
    entry: &'a DeployEntry,
}

impl DeployRunReport {
    pub(super) fn new(
        layer: &str,
        result: Result<()>,
        run: Option<DeployEntry>,
        CurrentReleases { current, serving }: CurrentReleases<'_>,
    ) -> DeployRunReport {
        DeployRunReport {
            schema: "xtask.deploy/1",
            layer: layer.to_owned(),
            ok: result.is_ok(),
            run,
            current: current.map(str::to_owned),
            serves: serving.map(str::to_owned),
            gates: None,
            failure: result.err(),
        }
    }

    /// Returns the report of a run that `gates` refuse, with `refusal` as the error.
    pub(super) fn refused(
        layer: &str,
        gates: &[Gate],
        entries: &[DeployEntry],
        refusal: Error,
    ) -> DeployRunReport {
        let releases = current_and_serving(entries);
        let report = DeployRunReport::new(layer, Err(refusal), None, releases);
        DeployRunReport { gates: Some(gates.to_vec()), ..report }
    }

    /// Returns the release that serves and the addresses of its services; nothing after a failure.
    #[must_use]
    pub fn render_text(&self, place: &LayerDeployment) -> String {
        match (&self.failure, &self.run) {
            (None, Some(run)) => {
                format!("{} serves layer {}{}\n", run.release, self.layer, render_addresses(place))
            }
            _ => String::new(),
        }
    }
}

/// Returns the address of each service, one line each, e.g. `  api  http://localhost:8100`.
fn render_addresses(LayerDeployment { layer, deploy, .. }: &LayerDeployment) -> String {
    if !deploy.engine.has_ports() {
        return String::new();
    }
    let host = match deploy.engine {
        DeployEngine::Ssh => deploy.to.split(':').next().unwrap_or_default(),
        _ => "localhost",
    };
    let host = host.rsplit('@').next().unwrap_or(host);
    let line = |service: &Service| {
        let port = service.port?;
        let probes = [
            service.supervision.ready.as_ref(),
            service.supervision.live.as_ref().map(|live| &live.probe),
        ];
        let speaks_http = probes.into_iter().flatten().any(|probe| probe.http.is_some());
        let scheme = if speaks_http { "http://" } else { "" };
        Some(format!("\n  {}  {scheme}{host}:{port}", service.name))
    };
    layer.services.iter().filter_map(line).collect()
}

impl DeployPlanReport {
    pub(super) fn new(layer: &str, commit: String, gates: Vec<Gate>, plan: Vec<String>) -> Self {
        let ok = gates.iter().all(|gate| gate.ok);
        let layer = layer.to_owned();
        DeployPlanReport { schema: "xtask.deploy-dry-run/1", layer, commit, ok, gates, plan }
    }

    /// Returns a line for each gate and each step. `to` is `deploy.to`.
    #[must_use]
    pub fn render_text(&self, to: &str) -> String {
        let mut text = format!("deploy layer {} to {to}\n", self.layer);
        for gate in &self.gates {
            let mark = if gate.ok { "ok" } else { "NO" };
            text.push_str(&format!("  {mark}  {:<9}  {}\n", gate.name, gate.describe()));
        }
        for (at, line) in self.plan.iter().enumerate() {
            text.push_str(&format!("  {}. {line}\n", at + 1));
        }
        text
    }
}

impl<'a> DeployVerifyReport<'a> {
    #[must_use]
    pub fn new(layer: &'a str, found: &'a Verification) -> Self {
        let ok = found.faults.is_empty();
        DeployVerifyReport { schema: "xtask.deploy-verify/1", layer, ok, found }
    }

    /// Returns the text for an intact and healthy release, or an error with all faults.
    pub fn render_text(&self) -> Result<String> {
        let (layer, found) = (self.layer, self.found);
        if self.ok {
            let name = found.release.as_deref().unwrap_or_default();
            return Ok(format!("{name} serves layer {layer}: intact and healthy\n"));
        }
        let error = Error::negative(format!("verification of layer `{layer}` failed"));
        Err(found.faults.iter().fold(error, Error::with_detail))
    }
}

impl<'a> DeployHistoryReport<'a> {
    #[must_use]
    pub fn new(layer: &'a str, entries: &'a [DeployEntry]) -> Self {
        let CurrentReleases { current, serving: serves } = current_and_serving(entries);
        let line =
            |entry: &'a DeployEntry| DeployHistoryLine { time: format_rfc3339(entry.at), entry };
        let runs = entries.iter().map(line).collect();
        DeployHistoryReport { schema: "xtask.deploy-history/1", layer, current, serves, runs }
    }

    /// Returns a line for each run.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut text = String::new();
        for DeployHistoryLine { time, entry } in &self.runs {
            let (doing, release) = (entry.doing.name(), &entry.release);
            text.push_str(&format!("{time}  {doing:<8}  {release}  {}", entry.outcome.label()));
            if entry.serves.as_ref() != Some(release) {
                let serves = entry.serves.as_deref().unwrap_or("nothing");
                text.push_str(&format!("; {serves} serves"));
            }
            if let Some(why) = &entry.why {
                text.push_str(&format!(": {}", why.lines().next().unwrap_or_default()));
            }
            text.push_str(&format!("  ({})\n", entry.by));
        }
        text
    }
}
