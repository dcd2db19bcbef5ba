//! `StackStatus`: the status of a stack, as shown by `ps --json`, the status page and the supervisor.
//!
//! ```text
//! {"schema": "xtask.ps/1", "layer": "local", "services": [{"service": "api", "state": "ready", …}], …}
//! ```

use serde::{Deserialize, Serialize};

use super::service_state::{
    AfterStop, LimitedResource, ServiceNotes, ServiceState, SupervisedService,
};
use super::spec::ServiceSpec;
use xtask_base::words::format_size;

/// Format of `StackStatus`, without its version.
pub const SCHEMA_NAME: &str = "xtask.ps";

/// Name and version of `StackStatus`.
pub const SCHEMA: &str = "xtask.ps/1";

/// Duration of a start, in milliseconds, from which on reports name what it waits for.
pub const SLOW_START_MS: u64 = 1000;

/// Status of a stack and its services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackStatus {
    /// Name and version of this format: `SCHEMA`.
    pub schema: String,
    /// Name of the layer.
    pub layer: String,
    /// Root of the worktree.
    pub worktree: String,
    /// Running supervisor, if any.
    pub supervisor: Option<SupervisorStatus>,
    /// Services, ordered by name.
    pub services: Vec<ServiceStatus>,
}

/// Status of a supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SupervisorStatus {
    pub pid: u32,
    /// Version of the toolkit.
    pub version: String,
    /// Port of the status page, if it is open.
    pub status_port: Option<u16>,
    /// Last failure of its own work, e.g. writing its record or opening the status page.
    #[serde(default)]
    pub error: Option<String>,
}

/// Status of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Name of the service.
    pub service: String,
    pub state: ReportedState,
    pub health: Health,
    /// First process, while it runs.
    pub pid: Option<u32>,
    pub port: Option<u16>,
    /// Address while the service runs: a URL if one of its probes is an HTTP request.
    #[serde(default)]
    pub address: Option<String>,
    /// Time since the start, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// Number of automatic restarts.
    pub restarts: u32,
    /// Resident memory of all its processes, in bytes.
    pub memory: Option<u64>,
    /// CPU time of all its processes, in percent of one CPU.
    pub cpu: Option<f64>,
    /// Whether it runs without one of its dependencies.
    pub degraded: bool,
    /// Whether the stack is unhealthy without this service.
    pub required: bool,
    /// Exceeded limits, as messages.
    pub warnings: Vec<String>,
    /// Last error message.
    pub error: Option<String>,
    /// Message about the processes that the last stop had to kill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub killed: Option<String>,
}

/// State of a service as reported by `ps`, e.g. `restarting` for `Ending(Pause)` and `Pausing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReportedState {
    Stopped,
    Waiting,
    Blocked,
    Starting,
    Ready,
    Stopping,
    Restarting,
    Finishing,
    Done,
    Failed,
    /// Running without a supervisor.
    Lost,
    /// A state of another version.
    #[serde(other)]
    Unknown,
}

impl ReportedState {
    /// Returns its name in `ps`, the same as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ReportedState::Stopped => "stopped",
            ReportedState::Waiting => "waiting",
            ReportedState::Blocked => "blocked",
            ReportedState::Starting => "starting",
            ReportedState::Ready => "ready",
            ReportedState::Stopping => "stopping",
            ReportedState::Restarting => "restarting",
            ReportedState::Finishing => "finishing",
            ReportedState::Done => "done",
            ReportedState::Failed => "failed",
            ReportedState::Lost => "lost",
            ReportedState::Unknown => "unknown",
        }
    }

    /// Returns whether the service does its work, with or without a supervisor.
    #[must_use]
    pub fn is_serving(self) -> bool {
        matches!(self, ReportedState::Ready | ReportedState::Done | ReportedState::Lost)
    }
}

impl std::fmt::Display for ReportedState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl From<&ServiceState> for ReportedState {
    fn from(state: &ServiceState) -> ReportedState {
        match state {
            ServiceState::Down => ReportedState::Stopped,
            ServiceState::Waiting => ReportedState::Waiting,
            ServiceState::Blocked => ReportedState::Blocked,
            ServiceState::Starting => ReportedState::Starting,
            ServiceState::Ready => ReportedState::Ready,
            ServiceState::Ending(AfterStop::Done) => ReportedState::Finishing,
            ServiceState::Ending(AfterStop::Down | AfterStop::Failed) => ReportedState::Stopping,
            ServiceState::Ending(AfterStop::Again | AfterStop::Pause) | ServiceState::Pausing => {
                ReportedState::Restarting
            }
            ServiceState::Done => ReportedState::Done,
            ServiceState::Failed => ReportedState::Failed,
        }
    }
}

/// Health of a service, by its state and its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Healthy,
    Unhealthy,
    #[serde(other)]
    Unknown,
}

impl Health {
    /// Returns its name in `ps`, the same as in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
            Health::Unknown => "unknown",
        }
    }
}

/// Returns the address of a service, e.g. `http://localhost:8100`; `None` without a port.
fn find_address(spec: &ServiceSpec) -> Option<String> {
    let port = spec.port?;
    let speaks_http = spec.probes().any(|probe| probe.http.is_some());
    let scheme = if speaks_http { "http://" } else { "" };
    Some(format!("{scheme}localhost:{port}"))
}

fn describe_warning(spec: &ServiceSpec, what: LimitedResource) -> String {
    let limits = spec.supervision.limits;
    match (what, limits.memory_warn, limits.cpu_warn) {
        (LimitedResource::Memory, Some(limit), _) => format!("memory over {}", format_size(limit)),
        (LimitedResource::Memory, None, _) => "memory".to_owned(),
        (LimitedResource::Cpu, _, Some(limit)) => format!("processor time over {limit}%"),
        (LimitedResource::Cpu, _, None) => "cpu".to_owned(),
    }
}

impl ServiceStatus {
    /// Returns the status of a service, without resource usage.
    #[must_use]
    pub fn from_service(unit: &SupervisedService, now_ms: i64) -> ServiceStatus {
        let health = match unit.state {
            ServiceState::Ready | ServiceState::Done if unit.probing.failed == 0 => Health::Healthy,
            ServiceState::Ready
            | ServiceState::Failed
            | ServiceState::Blocked
            | ServiceState::Pausing => Health::Unhealthy,
            _ => Health::Unknown,
        };
        let process = unit.identity.as_ref().filter(|_| unit.is_active());
        ServiceStatus {
            degraded: unit.notes.is_degraded && unit.is_active(),
            warnings: unit
                .usage
                .warnings
                .iter()
                .map(|what| describe_warning(&unit.spec, *what))
                .collect(),
            ..ServiceStatus::from_parts(
                (&unit.spec, &unit.notes),
                ((&unit.state).into(), health),
                process.map(|process| process.pid),
                now_ms.saturating_sub(unit.started_ms),
            )
        }
    }

    /// Returns the status of a service with the process `pid`, which has run for `uptime_ms`.
    pub(super) fn from_parts(
        (spec, notes): (&ServiceSpec, &ServiceNotes),
        (state, health): (ReportedState, Health),
        pid: Option<u32>,
        uptime_ms: i64,
    ) -> ServiceStatus {
        ServiceStatus {
            service: spec.name.clone(),
            state,
            health,
            pid,
            port: spec.port,
            address: find_address(spec).filter(|_| pid.is_some()),
            uptime_ms: pid.map(|_| u64::try_from(uptime_ms).unwrap_or(0)),
            restarts: notes.restarts,
            memory: None,
            cpu: None,
            degraded: notes.is_degraded && pid.is_some(),
            required: spec.required,
            warnings: Vec::new(),
            error: notes.error.clone(),
            killed: notes.killed.clone(),
        }
    }

    /// Returns whether the stack can be healthy with this service.
    #[must_use]
    pub fn is_healthy_or_optional(&self) -> bool {
        !self.required || self.health == Health::Healthy
    }

    /// Returns whether it runs or is about to.
    #[must_use]
    pub fn is_running(&self) -> bool {
        use ReportedState::{Restarting, Starting, Waiting};
        self.pid.is_some() || matches!(self.state, Waiting | Starting | Restarting)
    }

    /// Returns whether a start leaves it as it is: it is running, stopping or done.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.is_running() || matches!(self.state, ReportedState::Stopping | ReportedState::Done)
    }

    /// Returns whether it has been starting for more than a second, and when that is worth a report.
    #[must_use]
    pub fn is_slow_start(&self) -> bool {
        self.state == ReportedState::Starting && self.uptime_ms > Some(SLOW_START_MS)
    }

    /// Returns what is wrong with it, e.g. `failed`, or `unhealthy` for one that is ready.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        match self.state {
            ReportedState::Failed | ReportedState::Blocked | ReportedState::Lost => {
                Some(self.state.name())
            }
            ReportedState::Ready if self.health == Health::Unhealthy => Some(self.health.name()),
            _ => None,
        }
    }
}

impl StackStatus {
    /// Returns whether it has a supervisor or a running service.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.supervisor.is_some() || self.has_running_services()
    }

    /// Returns whether a service runs or is about to.
    #[must_use]
    pub fn has_running_services(&self) -> bool {
        self.services.iter().any(ServiceStatus::is_running)
    }

    /// Returns whether services run, and their supervisor is gone.
    #[must_use]
    pub fn is_unsupervised(&self) -> bool {
        let is_lost = |row: &ServiceStatus| row.state == ReportedState::Lost;
        self.supervisor.is_none() && self.services.iter().any(is_lost)
    }

    /// Returns the status of a service.
    #[must_use]
    pub fn find_service(&self, name: &str) -> Option<&ServiceStatus> {
        self.services.iter().find(|row| row.service == name)
    }

    /// Returns a message for each service that makes the stack unhealthy; empty if it is healthy.
    #[must_use]
    pub fn unhealthy_reasons(&self) -> Vec<String> {
        let ill = self.services.iter().filter(|row| !row.is_healthy_or_optional());
        ill.map(|row| match &row.error {
            Some(error) => format!("{} is {}: {error}", row.service, row.state),
            None => format!("{} is {}", row.service, row.state),
        })
        .collect()
    }

    /// Returns the metrics in the text format of Prometheus.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        let mut family =
            |name: &str, kind: &str, help: &str, value: &dyn Fn(&ServiceStatus) -> Option<f64>| {
                text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
                for row in &self.services {
                    if let Some(value) = value(row) {
                        let (layer, service) = (&self.layer, &row.service);
                        text.push_str(&format!(
                            "{name}{{layer=\"{layer}\",service=\"{service}\"}} {value}\n"
                        ));
                    }
                }
            };
        let yes = |is: bool| Some(f64::from(u8::from(is)));
        family("xtask_service_up", "gauge", "Whether the service is ready.", &|row| {
            yes(matches!(row.state, ReportedState::Ready | ReportedState::Done))
        });
        family("xtask_service_healthy", "gauge", "Whether the service is healthy.", &|row| {
            yes(row.health == Health::Healthy)
        });
        family("xtask_service_degraded", "gauge", "Whether a dependency is missing.", &|row| {
            yes(row.degraded)
        });
        family("xtask_service_restarts_total", "counter", "Restarts by the supervisor.", &|row| {
            Some(f64::from(row.restarts))
        });
        family("xtask_service_uptime_seconds", "gauge", "Time since its start.", &|row| {
            row.uptime_ms.map(|ms| ms as f64 / 1000.0)
        });
        family("xtask_service_memory_bytes", "gauge", "Resident memory.", &|row| {
            row.memory.map(|bytes| bytes as f64)
        });
        family("xtask_service_cpu_percent", "gauge", "Percent of one processor.", &|row| row.cpu);
        text
    }
}
