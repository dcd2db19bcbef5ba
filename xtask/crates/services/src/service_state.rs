//! `SupervisedService`: the state of one service, and its transitions on exits, probe results and
//! teardowns.
//!
//! Pure code: no I/O, clock or randomness. `state_machine` decides when a service may start or stop.
//!
//! ```text
//! Down -> Waiting -> Starting -> Ready -> (exit code 1) Ending(Pause) -> Pausing -> Waiting -> …
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::events::{Effect, EventContext, ProbeKind, ProcessExit, StopMethod, TeardownReport};
use super::spec::ServiceSpec;
use xtask_base::processes::ProcessIdentity;
use xtask_base::words::pluralize;

/// How long a service must have been ready for its earlier restarts to no longer count.
const RESTARTS_FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// Delays between readiness attempts, in milliseconds; the last one repeats. They are shorter than
/// those of most peers, because a start takes up to one delay longer than the service itself; an
/// attempt at a local port takes less than 0.1 ms.
const READY_DELAYS_MS: [u64; 4] = [5, 10, 15, 20];

/// Delays for command probes, in milliseconds: each attempt is a process.
const READY_COMMAND_DELAYS_MS: [u64; 4] = [20, 50, 100, 250];

/// Number of attempts before the delays grow, each by a fourteenth, up to `MAX_READY_DELAY_MS`
/// (milliseconds): a service that is not ready after a third of a second is probed less and less
/// often, so that our requests do not fill its log.
const STEADY_ATTEMPTS: usize = 16;
const MAX_READY_DELAY_MS: u64 = 500;

/// Returns the delay after attempt number `attempt`, in milliseconds.
fn compute_probe_delay(pauses: [u64; 4], attempt: usize) -> u64 {
    let mut pause = pauses[attempt.min(pauses.len() - 1)];
    for _ in STEADY_ATTEMPTS..attempt.min(STEADY_ATTEMPTS + 100) {
        pause = (pause + pause.div_ceil(14)).min(MAX_READY_DELAY_MS.max(pause));
    }
    pause
}

/// How long a service without a probe must run to count as ready. A program that cannot be executed
/// or rejects its arguments has usually exited by then.
pub(super) const ASSUME_READY_AFTER: Duration = Duration::from_millis(200);

/// Consecutive samples over a limit that raise a warning.
const SAMPLES_TO_WARN: u32 = 3;

/// State of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
    /// Not running, and not wanted.
    Down,
    /// Waits for its dependencies.
    Waiting,
    /// A dependency failed, and no fallback covers that.
    Blocked,
    /// Running, not ready yet.
    Starting,
    Ready,
    /// Being stopped; `AfterStop` says which state follows.
    Ending(AfterStop),
    /// In backoff before a restart.
    Pausing,
    /// Completed (a `once` service).
    Done,
    /// Given up: not restarted automatically.
    Failed,
}

/// State to enter after a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterStop {
    Down,
    /// Immediate start.
    Again,
    /// Start after a backoff.
    Pause,
    Failed,
    Done,
}

/// Service with its current state.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisedService {
    pub spec: ServiceSpec,
    pub state: ServiceState,
    /// Whether the service should be up.
    pub is_wanted: bool,
    /// Number of the current or last run; each start increments it.
    pub run: u64,
    /// First process of the run.
    pub identity: Option<ProcessIdentity>,
    /// Start time of the run, in milliseconds since the Unix epoch.
    pub started_ms: i64,
    pub notes: ServiceNotes,
    /// Descriptions of processes that could not be stopped.
    pub survivors: Vec<String>,
    /// Whether it is stopped and then started again.
    pub(super) restart_pending: bool,
    pub(super) request: RequestOptions,
    pub(super) readiness: Readiness,
    pub(super) probing: Probing,
    pub(super) backoff: Backoff,
    pub usage: UsageWarnings,
}

/// What is told of a service besides its state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceNotes {
    /// Number of automatic restarts.
    pub restarts: u32,
    /// Whether it runs without one of its dependencies.
    pub is_degraded: bool,
    /// Last error message.
    pub error: Option<String>,
    /// Message about the processes that the last stop had to kill.
    #[serde(default)]
    pub killed: Option<String>,
}

/// Options of the last request for a service.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RequestOptions {
    pub(super) skipped_needs: Vec<String>,
    pub(super) ready_timeout: Duration,
    /// Overrides the timeout of the spec.
    pub(super) stop_timeout: Option<Duration>,
}

/// Whether and when a service is ready.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Readiness {
    /// Whether it has been since the last request.
    pub(super) has_been_ready: bool,
    pub(super) deadline: Option<Duration>,
    pub(super) since: Option<Duration>,
    /// When a service without a probe counts as ready.
    pub(super) assumed_at: Option<Duration>,
}

/// Probes of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Probing {
    pub(super) next: Option<(ProbeKind, Duration)>,
    attempt: usize,
    /// Consecutive failures of the liveness probe.
    pub(super) failed: u32,
}

/// Automatic restarts since the last request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Backoff {
    pub(super) until: Option<Duration>,
    count: u32,
    restarted_at: Vec<Duration>,
}

/// Resource with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedResource {
    Memory,
    Cpu,
}

/// Limits that a service exceeds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageWarnings {
    pub warnings: Vec<LimitedResource>,
    samples_over_limit: [u32; 2],
}

impl SupervisedService {
    /// Returns a service in state `Down`.
    #[must_use]
    pub fn new(spec: ServiceSpec) -> SupervisedService {
        SupervisedService {
            spec,
            state: ServiceState::Down,
            is_wanted: false,
            run: 0,
            identity: None,
            started_ms: 0,
            notes: ServiceNotes::default(),
            survivors: Vec::new(),
            restart_pending: false,
            request: RequestOptions {
                skipped_needs: Vec::new(),
                ready_timeout: Duration::from_secs(60),
                stop_timeout: None,
            },
            readiness: Readiness::default(),
            probing: Probing::default(),
            backoff: Backoff::default(),
            usage: UsageWarnings::default(),
        }
    }

    /// Returns whether one of its processes may be running.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state, ServiceState::Starting | ServiceState::Ready | ServiceState::Ending(_))
    }

    /// Returns whether its dependants can start.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, ServiceState::Ready | ServiceState::Done)
    }

    /// Returns whether the current run is an automatic restart after a failure.
    #[must_use]
    pub fn was_auto_restarted(&self) -> bool {
        self.backoff.count > 0
    }

    /// Returns whether the last request for it is completed, successfully or not.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_failed_or_blocked() || self.is_ready() && self.is_wanted && !self.restart_pending
    }

    /// Returns whether it stays down until the next request.
    #[must_use]
    pub fn is_failed_or_blocked(&self) -> bool {
        matches!(self.state, ServiceState::Failed | ServiceState::Blocked)
    }
}

impl SupervisedService {
    pub(super) fn can_do_without(&self, need: &str) -> bool {
        self.spec
            .supervision
            .fallback
            .as_ref()
            .is_some_and(|rule| rule.when.iter().any(|name| name == need))
    }

    /// Begins a new run.
    pub(super) fn mark_starting(&mut self, is_degraded: bool, now: EventContext) {
        self.run += 1;
        self.state = ServiceState::Starting;
        self.identity = None;
        self.notes.is_degraded = is_degraded;
        self.probing.failed = 0;
        self.probing.attempt = 0;
        self.readiness.assumed_at = None;
        self.readiness.since = None;
        self.readiness.deadline = Some(now.steady + self.request.ready_timeout);
        self.probing.next =
            self.spec.supervision.ready.is_some().then_some((ProbeKind::Ready, now.steady));
    }

    /// Prepares a start as if it had never run: clears error, backoff and restart history.
    pub(super) fn reset_to_waiting(&mut self) {
        self.state = ServiceState::Waiting;
        self.notes.error = None;
        self.readiness.has_been_ready = false;
        self.backoff.count = 0;
        self.backoff.restarted_at.clear();
        self.backoff.until = None;
        self.restart_pending = false;
    }

    pub(super) fn mark_ready(&mut self, now: EventContext) {
        self.state = ServiceState::Ready;
        self.readiness.has_been_ready = true;
        self.readiness.assumed_at = None;
        self.notes.error = None;
        self.probing.failed = 0;
        self.readiness.deadline = None;
        self.readiness.since = Some(now.steady);
        let every =
            self.spec.supervision.live.as_ref().map(|live| Duration::from_millis(live.every_ms));
        self.probing.next = every.map(|every| (ProbeKind::Live, now.steady + every));
    }

    pub(super) fn begin_teardown(&mut self, then: AfterStop, effects: &mut Vec<Effect>) {
        self.state = ServiceState::Ending(then);
        self.survivors.clear();
        self.restart_pending = false;
        self.probing.next = None;
        self.readiness.assumed_at = None;
        self.readiness.deadline = None;
        let timeout = Duration::from_millis(self.spec.supervision.stop.timeout_ms);
        effects.push(Effect::Teardown {
            name: self.spec.name.clone(),
            run: self.run,
            asking: StopMethod {
                signal: self.spec.supervision.stop.signal,
                to_all: self.spec.supervision.stop.to_all,
            },
            timeout: self.request.stop_timeout.unwrap_or(timeout),
        });
    }

    /// Returns the state to enter after the first process exited on its own.
    pub(super) fn decide_after_exit(&mut self, exit: ProcessExit, now: EventContext) -> AfterStop {
        self.identity = None;
        if self.spec.once && exit == ProcessExit::Unseen {
            self.notes.error = Some(
                "exited while no supervisor was running, exit code unknown; `cargo xtask restart` \
                 runs it again"
                    .to_owned(),
            );
            return AfterStop::Failed;
        }
        if self.spec.once && exit == ProcessExit::Code(0) {
            self.notes.error = None;
            return AfterStop::Done;
        }
        let mut why = exit.to_string();
        if self.readiness.since.is_none() && !self.spec.once {
            why.push_str(" before it was ready");
        }
        if self.spec.once || matches!(exit, ProcessExit::Code(126 | 127)) {
            self.notes.error = Some(why);
            return AfterStop::Failed;
        }
        self.decide_after_failure(why, now)
    }

    /// Returns `Failed` for a service that was never ready, because whoever started it gets the error;
    /// otherwise applies `RestartConfig`.
    pub(super) fn decide_after_failure(&mut self, why: String, now: EventContext) -> AfterStop {
        if self.readiness.has_been_ready {
            return self.decide_restart(why, now);
        }
        self.notes.error = Some(why);
        AfterStop::Failed
    }

    /// Applies `RestartConfig`: backoff and restart, or failure.
    fn decide_restart(&mut self, why: String, now: EventContext) -> AfterStop {
        let rule = self.spec.supervision.restart;
        if rule.max == 0 {
            self.notes.error =
                Some(format!("{why}; automatic restarts are disabled (`restart.max = 0`)"));
            return AfterStop::Failed;
        }
        if self
            .readiness
            .since
            .is_some_and(|since| now.steady.saturating_sub(since) >= RESTARTS_FORGIVEN_AFTER)
        {
            self.backoff.count = 0;
            self.backoff.restarted_at.clear();
        }
        // Attempts that never became ready count regardless of their duration.
        if self.readiness.since.is_some() {
            self.backoff.restarted_at.retain(|at| now.steady.saturating_sub(*at) <= rule.within);
        }
        if self.backoff.restarted_at.len() >= rule.max as usize {
            let max = rule.max;
            self.notes.error =
                Some(format!("{why}; gave up after {}", pluralize(max as usize, "restart")));
            return AfterStop::Failed;
        }
        self.notes.error = Some(why);
        AfterStop::Pause
    }

    pub(super) fn finish_teardown(
        &mut self,
        TeardownReport { survivors, killed }: TeardownReport,
        conflict: Option<String>,
        now: EventContext,
    ) {
        let ServiceState::Ending(then) = self.state else { return };
        let is_to_go_on = self.is_wanted && (self.restart_pending || then == AfterStop::Down);
        self.restart_pending = false;
        self.identity = None;
        self.readiness.since = None;
        self.probing.failed = 0;
        self.usage.warnings.clear();
        self.usage.samples_over_limit = [0; 2];
        self.survivors = survivors;
        self.notes.killed = (!killed.is_empty()).then(|| {
            let timeout = Duration::from_millis(self.spec.supervision.stop.timeout_ms);
            let timeout = self.request.stop_timeout.unwrap_or(timeout);
            format!(
                "killed (SIGKILL) because it did not stop within {timeout:?}: {}",
                killed.join(", ")
            )
        });
        if !self.survivors.is_empty() {
            self.notes.error = Some(format!("still running: {}", self.survivors.join(", ")));
            self.state = ServiceState::Failed;
            return;
        }
        self.state = match then {
            _ if is_to_go_on => {
                self.reset_to_waiting();
                ServiceState::Waiting
            }
            AfterStop::Down => {
                self.notes.error = None;
                ServiceState::Down
            }
            AfterStop::Done => ServiceState::Done,
            AfterStop::Failed => ServiceState::Failed,
            _ if !self.is_wanted => {
                self.notes.error = None;
                ServiceState::Down
            }
            _ if conflict.is_some() => {
                self.notes.error = conflict;
                ServiceState::Failed
            }
            AfterStop::Again => {
                self.reset_to_waiting();
                ServiceState::Waiting
            }
            AfterStop::Pause => {
                self.notes.restarts += 1;
                self.backoff.restarted_at.push(now.steady);
                self.backoff.until = Some(now.steady + self.next_backoff(now.jitter));
                self.backoff.count += 1;
                ServiceState::Pausing
            }
        };
    }

    /// Returns the next backoff: twice the previous one, minus a random share of up to half.
    fn next_backoff(&self, chance: u16) -> Duration {
        let rule = self.spec.supervision.restart;
        let doubled = rule.first.saturating_mul(1 << self.backoff.count.min(20));
        let whole = doubled.min(rule.longest.max(rule.first));
        whole - whole * u32::from(chance) / (2 * u32::from(u16::MAX))
    }

    pub(super) fn apply_probe_result(
        &mut self,
        ask: ProbeKind,
        answer: Result<(), String>,
        now: EventContext,
        effects: &mut Vec<Effect>,
    ) {
        match (ask, &self.state, answer) {
            (ProbeKind::Ready, ServiceState::Starting, Ok(())) => self.mark_ready(now),
            (ProbeKind::Ready, ServiceState::Starting, Err(why)) => {
                let is_command =
                    self.spec.supervision.ready.as_ref().is_some_and(|probe| probe.run.is_some());
                let pauses = if is_command { READY_COMMAND_DELAYS_MS } else { READY_DELAYS_MS };
                let pause = compute_probe_delay(pauses, self.probing.attempt);
                self.probing.attempt += 1;
                self.notes.error = Some(why);
                self.probing.next =
                    Some((ProbeKind::Ready, now.steady + Duration::from_millis(pause)));
            }
            (ProbeKind::Live, ServiceState::Ready, answer) => {
                let Some(live) = &self.spec.supervision.live else { return };
                let every = Duration::from_millis(live.every_ms);
                let most = live.failures;
                self.probing.next = Some((ProbeKind::Live, now.steady + every));
                match answer {
                    Ok(()) => {
                        self.probing.failed = 0;
                        self.notes.error = None;
                    }
                    Err(why) => {
                        self.probing.failed += 1;
                        self.notes.error = Some(why.clone());
                        if self.probing.failed >= most {
                            let then =
                                self.decide_restart(format!("health check failed: {why}"), now);
                            self.begin_teardown(then, effects);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Warns after `SAMPLES_TO_WARN` samples over a limit, and clears the warning once usage is an
    /// eighth below that limit.
    pub(super) fn check_usage(&mut self, memory: u64, cpu_percent: u32) {
        let limits = self.spec.supervision.limits;
        let memory = (memory, limits.memory_warn);
        let cpu = (u64::from(cpu_percent), limits.cpu_warn.map(u64::from));
        for (at, ((used, limit), resource)) in
            [(memory, LimitedResource::Memory), (cpu, LimitedResource::Cpu)].into_iter().enumerate()
        {
            let Some(limit) = limit else { continue };
            self.usage.samples_over_limit[at] =
                if used > limit { self.usage.samples_over_limit[at] + 1 } else { 0 };
            let has_warned = self.usage.warnings.contains(&resource);
            if self.usage.samples_over_limit[at] >= SAMPLES_TO_WARN && !has_warned {
                self.usage.warnings.push(resource);
            }
            // For example, below 70 % for a limit of 80 %.
            if has_warned && used < limit / 8 * 7 {
                self.usage.warnings.retain(|other| *other != resource);
            }
        }
    }
}
