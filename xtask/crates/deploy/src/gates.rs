//! The gates: preflight checks of a deploy, reported together. They change nothing.
//!
//! Local gates check the repository, target gates the target; with the engine `ssh` the latter run on the host.
//! Messages contain names of variables, never their values. For example:
//!
//! ```text
//! Gate { name: "branch",    ok: true,  message: "main", hints: [] }
//! Gate { name: "variables", ok: false, message: "not set: `API_KEY`", hints: ["set them in this shell, or ..."] }
//! ```

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::DeployContext;
use super::local_gates::{check_local_gates, compute_needed_bytes};
use super::required_variables::find_missing_variables;
use super::target::DeployTarget;
use super::target_gates::check_target_gates;
use xtask_base::error::{Error, Result};
use xtask_base::words::pluralize;
use xtask_config::{DeployConfig, Layer};
use xtask_git::Repo;

/// Number of names that a message of a gate lists.
pub(super) const MAX_SHOWN: usize = 10;

/// Names of all gates, in the order of the report.
const GATE_ORDER: [&str; 11] = [
    "tree",
    "branch",
    "pushed",
    "requires",
    "variables",
    "target",
    "state",
    "disk",
    "tools",
    "project",
    "ports",
];

/// Result of one preflight check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "GateLine", into = "GateLine")]
pub struct Gate {
    /// Name, one of `GATE_ORDER`.
    pub name: Cow<'static, str>,
    /// Whether the check passed.
    pub ok: bool,
    /// The finding, or what failed, with details.
    pub message: String,
    /// What helps against a failure.
    pub hints: Vec<String>,
}

/// A gate in JSON, on the wire and in reports.
#[derive(Serialize, Deserialize)]
struct GateLine {
    name: Cow<'static, str>,
    ok: bool,
    words: String,
}

impl From<Gate> for GateLine {
    fn from(gate: Gate) -> GateLine {
        GateLine { words: gate.describe(), name: gate.name, ok: gate.ok }
    }
}

impl From<GateLine> for Gate {
    fn from(GateLine { name, ok, words }: GateLine) -> Gate {
        Gate { name, ok, message: words, hints: Vec::new() }
    }
}

impl Gate {
    /// Converts the result of a check into a gate.
    #[must_use]
    pub fn from_result(name: &'static str, found: Result<String>) -> Gate {
        let name = name.into();
        match found {
            Ok(message) => Gate { name, ok: true, message, hints: Vec::new() },
            Err(failure) => {
                let details = failure.details().iter().map(|detail| format!("; {detail}"));
                let message = std::iter::once(failure.to_string()).chain(details).collect();
                Gate { name, ok: false, message, hints: failure.hints().to_vec() }
            }
        }
    }

    /// Returns the message and the hints, joined by `; `.
    #[must_use]
    pub fn describe(&self) -> String {
        let hints = self.hints.iter().map(|hint| format!("; {hint}"));
        std::iter::once(self.message.clone()).chain(hints).collect()
    }
}

/// Inputs of the local gates.
pub struct GateContext<'a> {
    pub repo: &'a Repo,
    pub layer: &'a Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: &'a DeployConfig,
    /// The target, on this machine or (local gates only) on the host.
    pub target: &'a DeployTarget,
    /// Loads another layer by name, for `requires`.
    pub load: &'a dyn Fn(&str) -> Result<Layer>,
    pub ctx: DeployContext<'a>,
}

/// Inputs of the target gates, on the machine of the target.
pub struct TargetGateContext<'a> {
    pub layer: &'a Layer,
    /// The `[deploy]` table of `layer`.
    pub deploy: &'a DeployConfig,
    /// The target, on this machine.
    pub target: &'a DeployTarget,
    /// Required free space, in bytes.
    pub needed: u64,
    /// Names of required variables that neither the deploying shell nor the commit sets.
    pub missing: Vec<String>,
    pub ctx: DeployContext<'a>,
}

/// Runs all gates, for a target on this machine.
pub fn check_gates(scene: &GateContext<'_>) -> Result<Vec<Gate>> {
    let grounds = TargetGateContext {
        layer: scene.layer,
        deploy: scene.deploy,
        target: scene.target,
        needed: compute_needed_bytes(scene)?,
        missing: find_missing_variables(scene)?,
        ctx: scene.ctx,
    };
    Ok(merge_gates(check_local_gates(scene)?, check_target_gates(&grounds)))
}

/// Merges the local gates (`here`) and the target gates (`there`) in `GATE_ORDER`.
#[must_use]
pub fn merge_gates(here: Vec<Gate>, there: Vec<Gate>) -> Vec<Gate> {
    let mut all: Vec<Gate> = here.into_iter().chain(there).collect();
    let place = |gate: &Gate| GATE_ORDER.iter().position(|name| *name == gate.name);
    all.sort_by_key(|gate| place(gate).unwrap_or(GATE_ORDER.len()));
    all
}

/// Returns an error with all failed gates as details, if any failed.
pub fn ensure_gates_pass(gates: &[Gate]) -> Result<()> {
    let shut: Vec<&Gate> = gates.iter().filter(|gate| !gate.ok).collect();
    if shut.is_empty() {
        return Ok(());
    }
    let what = format!("nothing was deployed: {} failed", pluralize(shut.len(), "preflight check"));
    let error = Error::negative(what);
    Err(shut.into_iter().fold(error, |error, gate| {
        error.with_detail(format!("{}: {}", gate.name, gate.describe()))
    }))
}
