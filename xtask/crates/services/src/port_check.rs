//! `PortReport`: whether the ports of a start are free, before anything is started.
//!
//! ```text
//! {"schema": "xtask.start-ports/1", "ok": true, "ports": [{"service": "api", "port": 8100, "free": true, …}], …}
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use super::follow::StackContext;
use super::observe::observe_stack;
use super::port_plan::{self, PortPlan};
use super::stack::Stack;
use xtask_base::error::Result;
use xtask_config::Layer;

/// Whether the ports of a start are free.
#[derive(Debug, Serialize)]
pub struct PortReport {
    pub schema: &'static str,
    pub layer: String,
    pub ok: bool,
    pub ports: Vec<PortCheck>,
}

/// Whether a port is free.
#[derive(Debug, Serialize)]
pub struct PortCheck {
    pub service: String,
    pub port: u16,
    pub free: bool,
    /// Whether this stack uses it.
    pub ours: bool,
    pub words: String,
}

/// Checks for each port of the `chosen` services whether it is free, in use by this stack, or in use
/// by another process.
pub fn check_ports(
    context: &StackContext<'_>,
    stack: &Stack,
    layer: &Layer,
    chosen: &[usize],
    mut ports: PortPlan,
    moved: &BTreeMap<String, u16>,
) -> Result<PortReport> {
    let seen = observe_stack(stack, context.world)?;
    let running = seen.running_services();
    ports.keep_running(running.specs.iter(), moved);
    let chosen = chosen.iter().map(|at| &layer.services[*at].name);
    let chosen = chosen.filter_map(|name| Some((name.clone(), *ports.services.get(name)?)));
    let (ours, mut wanted): (Vec<_>, Vec<_>) =
        chosen.partition(|(name, _)| running.find_spec(name).is_some());
    wanted.extend(ports.status_to_open(seen.is_supervised()));
    let obstacles = port_plan::find_conflicts(&wanted, running.token.as_deref())?;
    let ours = ours.into_iter().map(|(service, port)| {
        let words = "in use by this stack".to_owned();
        PortCheck { service, port, free: false, ours: true, words }
    });
    let others = wanted.into_iter().map(|(service, port)| {
        let obstacle = obstacles.iter().find(|one| one.service == service && one.port == port);
        let words = obstacle.map_or_else(|| "free".to_owned(), |one| one.describe(true));
        PortCheck { service, port, free: obstacle.is_none(), ours: false, words }
    });
    Ok(PortReport {
        schema: "xtask.start-ports/1",
        layer: layer.name.clone(),
        ok: obstacles.is_empty(),
        ports: ours.chain(others).collect(),
    })
}
