//! Input and output of the state machine: each `Event` of the supervisor, and each `Effect` that it performs.
//!
//! ```text
//! Event::Exited {api, run: 3, exit: Code(1)} -> Effect::Teardown {api, run: 3, …}
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use xtask_base::processes::ProcessIdentity;

/// Clocks and randomness at the time of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventContext {
    /// Monotonic time, since an arbitrary start.
    pub steady: Duration,
    /// Wall clock, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// Random number that spreads backoffs, so that they do not all end at once.
    pub jitter: u16,
}

/// Exit of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessExit {
    /// Exit code.
    Code(i32),
    /// Number of the signal that killed it.
    Signal(i32),
    /// Unknown: the process is not our child, or no supervisor was running.
    Unseen,
}

impl std::fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProcessExit::Code(code) => write!(f, "exited with code {code}"),
            ProcessExit::Signal(signal) => write!(f, "killed by signal {signal}"),
            ProcessExit::Unseen => f.write_str("exited"),
        }
    }
}

/// Kind of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Readiness probe, while `Starting`.
    Ready,
    /// Liveness probe, while `Ready`.
    Live,
}

/// Action for the supervisor to perform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Starts the service; if `degraded`, with the variables of its `FallbackConfig`.
    Spawn { name: String, run: u64, degraded: bool },
    /// Runs a probe.
    Probe { name: String, run: u64, ask: ProbeKind },
    /// Stops all its processes: `asking` says how, and after `timeout` by SIGKILL.
    Teardown { name: String, run: u64, asking: StopMethod, timeout: Duration },
}

/// Signal of a stop, and its recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopMethod {
    /// Signal number.
    pub signal: i32,
    /// Whether all processes are signalled at once.
    pub to_all: bool,
}

/// Result of stopping processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeardownReport {
    /// Descriptions of the remaining processes, e.g. ``pid 7 (`node`)``. Empty proves that none is left.
    pub survivors: Vec<String>,
    /// Descriptions of the processes that needed SIGKILL.
    pub killed: Vec<String>,
}

/// Input of `StateMachine::step`.
#[derive(Clone, Debug)]
pub enum Event {
    /// Services wanted up, each ready within `ready_within`. Those that have a fallback for a
    /// dependency in `without` run without that dependency.
    Start { names: Vec<String>, ready_within: Duration, without: Vec<String> },
    /// Services wanted down, with their dependants; `within` overrides their stop timeout.
    Stop { names: Vec<String>, within: Option<Duration> },
    /// Services to stop and start again.
    Restart { names: Vec<String>, ready_within: Duration },
    /// A process was started.
    Spawned { name: String, run: u64, identity: ProcessIdentity },
    /// A process could not be started.
    SpawnFailed { name: String, run: u64, why: String },
    /// The first process of a service exited.
    Exited { name: String, run: u64, exit: ProcessExit },
    /// Result of a probe.
    Probed { name: String, run: u64, ask: ProbeKind, answer: Result<(), String> },
    /// The processes of a service are gone, except `survivors`; `conflict` says who holds its port.
    TornDown { name: String, run: u64, ending: TeardownReport, conflict: Option<String> },
    /// Resource usage: resident memory in bytes, CPU in percent of one CPU.
    Sampled { name: String, run: u64, memory: u64, cpu_percent: u32 },
    /// The time from `next_deadline` was reached.
    Tick,
}
