//! One service: where it stands, and what an event makes of it. It touches nothing; `machine` says
//! when it may go up or down.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::ServiceSpec;
use xtask_base::processes::ProcessIdentity;

/// How long a service must have been ready for its earlier restarts to be forgotten.
const RESTARTS_FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// The pauses between attempts to see whether a service is ready, in milliseconds. The last one goes
/// on. They are shorter than those of most peers, because the pause is what a start takes longer than
/// the service itself; an attempt at a port of this machine takes less than a tenth of a millisecond.
const READY_DELAYS_MS: [u64; 4] = [5, 10, 15, 20];

/// The same for commands, each of which is a process.
const READY_COMMAND_DELAYS_MS: [u64; 4] = [20, 50, 100, 250];

/// How many attempts go by before the pauses grow, by a fourteenth each, and up to what, in milliseconds: who is
/// not ready after a third of a second is asked less and less often, and its own log is not full of us.
const STEADY_ATTEMPTS: usize = 16;
const MAX_READY_DELAY_MS: u64 = 500;

/// The pause after so many attempts, in milliseconds.
fn compute_probe_delay(pauses: [u64; 4], attempt: usize) -> u64 {
    let mut pause = pauses[attempt.min(pauses.len() - 1)];
    for _ in STEADY_ATTEMPTS..attempt.min(STEADY_ATTEMPTS + 100) {
        pause = (pause + pause.div_ceil(14)).min(MAX_READY_DELAY_MS.max(pause));
    }
    pause
}

/// For how long a service without a probe must run to count as ready: by then a program that cannot be
/// run at all, or does not like its arguments, has mostly said so.
pub(super) const ASSUME_READY_AFTER: Duration = Duration::from_millis(200);

/// How many samples over a limit make a warning.
const SAMPLES_TO_WARN: u32 = 3;

/// What is happening when an event is heard.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventContext {
    /// Time that never goes back, since any beginning.
    pub steady: Duration,
    /// The wall clock, in milliseconds since the Unix epoch.
    pub wall_ms: i64,
    /// A number by chance, for pauses that do not all end at once.
    pub jitter: u16,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessExit {
    /// With a code.
    Code(i32),
    /// By a signal.
    Signal(i32),
    /// While nobody watched who could be told.
    Unseen,
}

impl std::fmt::Display for ProcessExit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ProcessExit::Code(code) => write!(f, "it ended with code {code}"),
            ProcessExit::Signal(signal) => write!(f, "it was ended by signal {signal}"),
            ProcessExit::Unseen => f.write_str("it ended"),
        }
    }
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Whether it is ready.
    Ready,
    /// Whether it still lives.
    Live,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Start it. `degraded`: with the variables of its fallback.
    Spawn { name: String, run: u64, degraded: bool },
    /// Ask it.
    Probe { name: String, run: u64, ask: ProbeKind },
    /// End all that belongs to it: `asking` says how, and after so long it is done by SIGKILL.
    Teardown { name: String, run: u64, asking: StopMethod, timeout: Duration },
}

/// How a service is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopMethod {
    /// The number of the signal.
    pub signal: i32,
    /// Whether all of its processes are asked at once.
    pub to_all: bool,
}

/// What came of ending processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TeardownReport {
    /// What is left, in words. Nothing left is proof that nothing of it runs.
    pub survivors: Vec<String>,
    /// What had to be killed, in words.
    pub killed: Vec<String>,
}

/// Where a service stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceState {
    /// It does not run, and is not to.
    Down,
    /// It waits for what it needs.
    Waiting,
    /// What it needs has failed, and it has no way without.
    Blocked,
    /// It runs, and is not ready yet.
    Starting,
    /// It is ready.
    Ready,
    /// It is being ended; what comes then.
    Ending(AfterStop),
    /// It will be started again.
    Pausing,
    /// It has done its work.
    Done,
    /// It is not started again.
    Failed,
}

/// What comes after the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AfterStop {
    /// Nothing.
    Down,
    /// Another start at once.
    Again,
    /// Another start after a pause.
    Pause,
    /// It has failed.
    Failed,
    /// It has done its work.
    Done,
}

/// A service and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct SupervisedService {
    /// What it is.
    pub spec: ServiceSpec,
    /// Where it stands.
    pub state: ServiceState,
    /// Whether it is wanted up.
    pub is_wanted: bool,
    /// The number of its present or last process.
    pub run: u64,
    /// Its process.
    pub identity: Option<ProcessIdentity>,
    /// When that was started, by the wall clock.
    pub started_ms: i64,
    /// How often it was started again by us.
    pub restarts: u32,
    /// Whether it runs without something that it needs.
    pub is_degraded: bool,
    /// What went wrong last.
    pub error: Option<String>,
    /// How many answers in a row said that it does not live.
    pub failed_probes: u32,
    /// What it uses too much of.
    pub warnings: Vec<&'static str>,
    /// What of it could not be ended.
    pub survivors: Vec<String>,
    /// What of it had to be killed when it was ended last, in words.
    pub killed: Option<String>,
    pub(super) has_been_ready: bool,
    pub(super) restart_pending: bool,
    pub(super) skipped_needs: Vec<String>,
    pub(super) ready_timeout: Duration,
    pub(super) ready_deadline: Option<Duration>,
    pub(super) ready_since: Option<Duration>,
    pub(super) stop_timeout: Option<Duration>,
    attempt: usize,
    pub(super) backoff_until: Option<Duration>,
    backoff_count: u32,
    restarted_at: Vec<Duration>,
    pub(super) probe_at: Option<(ProbeKind, Duration)>,
    pub(super) assumed_ready_at: Option<Duration>,
    samples_over_limit: [u32; 2],
}

impl SupervisedService {
    /// A service that does not run.
    #[must_use]
    pub fn new(spec: ServiceSpec) -> SupervisedService {
        SupervisedService {
            spec,
            state: ServiceState::Down,
            is_wanted: false,
            run: 0,
            identity: None,
            started_ms: 0,
            restarts: 0,
            is_degraded: false,
            error: None,
            failed_probes: 0,
            warnings: Vec::new(),
            survivors: Vec::new(),
            killed: None,
            has_been_ready: false,
            restart_pending: false,
            skipped_needs: Vec::new(),
            ready_timeout: Duration::from_secs(60),
            ready_deadline: None,
            ready_since: None,
            stop_timeout: None,
            attempt: 0,
            backoff_until: None,
            backoff_count: 0,
            restarted_at: Vec::new(),
            probe_at: None,
            assumed_ready_at: None,
            samples_over_limit: [0; 2],
        }
    }

    /// Whether something of it may run.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.state, ServiceState::Starting | ServiceState::Ready | ServiceState::Ending(_))
    }

    /// Whether what needs it can be started.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.state, ServiceState::Ready | ServiceState::Done)
    }

    /// Whether its process is one that was started again by itself, after one that has failed.
    #[must_use]
    pub fn was_auto_restarted(&self) -> bool {
        self.backoff_count > 0
    }

    /// Whether nothing more is to come of what it was asked to be.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_failed_or_blocked() || self.is_ready() && self.is_wanted && !self.restart_pending
    }

    /// Whether it will not get ready by itself any more.
    #[must_use]
    pub fn is_failed_or_blocked(&self) -> bool {
        matches!(self.state, ServiceState::Failed | ServiceState::Blocked)
    }
}

impl SupervisedService {
    pub(super) fn can_do_without(&self, need: &str) -> bool {
        self.spec.fallback.as_ref().is_some_and(|rule| rule.when.iter().any(|name| name == need))
    }

    /// A new process of it begins.
    pub(super) fn mark_starting(&mut self, is_degraded: bool, now: EventContext) {
        self.run += 1;
        self.state = ServiceState::Starting;
        self.identity = None;
        self.is_degraded = is_degraded;
        self.failed_probes = 0;
        self.attempt = 0;
        self.assumed_ready_at = None;
        self.ready_since = None;
        self.ready_deadline = Some(now.steady + self.ready_timeout);
        self.probe_at = self.spec.ready.is_some().then_some((ProbeKind::Ready, now.steady));
    }

    /// It is to be started as if it had never run.
    pub(super) fn reset_to_waiting(&mut self) {
        self.state = ServiceState::Waiting;
        self.error = None;
        self.has_been_ready = false;
        self.backoff_count = 0;
        self.restarted_at.clear();
        self.backoff_until = None;
        self.restart_pending = false;
    }

    pub(super) fn mark_ready(&mut self, now: EventContext) {
        self.state = ServiceState::Ready;
        self.has_been_ready = true;
        self.assumed_ready_at = None;
        self.error = None;
        self.failed_probes = 0;
        self.ready_deadline = None;
        self.ready_since = Some(now.steady);
        let every = self.spec.live.as_ref().map(|live| Duration::from_millis(live.every_ms));
        self.probe_at = every.map(|every| (ProbeKind::Live, now.steady + every));
    }

    pub(super) fn begin_teardown(&mut self, then: AfterStop, effects: &mut Vec<Effect>) {
        self.state = ServiceState::Ending(then);
        self.survivors.clear();
        self.restart_pending = false;
        self.probe_at = None;
        self.assumed_ready_at = None;
        self.ready_deadline = None;
        let timeout = Duration::from_millis(self.spec.stop.timeout_ms);
        effects.push(Effect::Teardown {
            name: self.spec.name.clone(),
            run: self.run,
            asking: StopMethod { signal: self.spec.stop.signal, to_all: self.spec.stop.to_all },
            timeout: self.stop_timeout.unwrap_or(timeout),
        });
    }

    /// What comes after the process has ended by itself.
    pub(super) fn decide_after_exit(&mut self, exit: ProcessExit, now: EventContext) -> AfterStop {
        self.identity = None;
        if self.spec.once && exit == ProcessExit::Unseen {
            self.error = Some(
                "it ended while nobody watched, and how is not known; `cargo xtask restart` runs it \
                 again"
                    .to_owned(),
            );
            return AfterStop::Failed;
        }
        if self.spec.once && exit == ProcessExit::Code(0) {
            self.error = None;
            return AfterStop::Done;
        }
        let mut why = exit.to_string();
        if self.ready_since.is_none() && !self.spec.once {
            why.push_str(" before it was ready");
        }
        if self.spec.once || matches!(exit, ProcessExit::Code(126 | 127)) {
            self.error = Some(why);
            return AfterStop::Failed;
        }
        self.decide_after_failure(why, now)
    }

    /// What was never ready at all is not tried again: whoever started it is told.
    pub(super) fn decide_after_failure(&mut self, why: String, now: EventContext) -> AfterStop {
        if self.has_been_ready {
            return self.decide_restart(why, now);
        }
        self.error = Some(why);
        AfterStop::Failed
    }

    /// Whether it is started again, by the rule for restarts.
    fn decide_restart(&mut self, why: String, now: EventContext) -> AfterStop {
        let rule = self.spec.restart;
        if rule.max == 0 {
            self.error = Some(format!("{why}; it is not to be started again"));
            return AfterStop::Failed;
        }
        if self
            .ready_since
            .is_some_and(|since| now.steady.saturating_sub(since) >= RESTARTS_FORGIVEN_AFTER)
        {
            self.backoff_count = 0;
            self.restarted_at.clear();
        }
        let within = Duration::from_millis(rule.within_ms);
        // Attempts that never got ready count however long each has taken.
        if self.ready_since.is_some() {
            self.restarted_at.retain(|at| now.steady.saturating_sub(*at) <= within);
        }
        if self.restarted_at.len() >= rule.max as usize {
            let max = rule.max;
            self.error = Some(format!("{why}; it was started again {max} times before that"));
            return AfterStop::Failed;
        }
        self.error = Some(why);
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
        self.ready_since = None;
        self.failed_probes = 0;
        self.warnings.clear();
        self.samples_over_limit = [0; 2];
        self.survivors = survivors;
        self.killed = (!killed.is_empty()).then(|| {
            let timeout = Duration::from_millis(self.spec.stop.timeout_ms);
            let timeout = self.stop_timeout.unwrap_or(timeout);
            format!(
                "killed (SIGKILL), as it had not ended within {timeout:?}: {}",
                killed.join(", ")
            )
        });
        if !self.survivors.is_empty() {
            self.error = Some(format!("{} did not end", self.survivors.join(", ")));
            self.state = ServiceState::Failed;
            return;
        }
        self.state = match then {
            _ if is_to_go_on => {
                self.reset_to_waiting();
                ServiceState::Waiting
            }
            AfterStop::Down => {
                self.error = None;
                ServiceState::Down
            }
            AfterStop::Done => ServiceState::Done,
            AfterStop::Failed => ServiceState::Failed,
            _ if !self.is_wanted => {
                self.error = None;
                ServiceState::Down
            }
            _ if conflict.is_some() => {
                self.error = conflict;
                ServiceState::Failed
            }
            AfterStop::Again => {
                self.reset_to_waiting();
                ServiceState::Waiting
            }
            AfterStop::Pause => {
                self.restarts += 1;
                self.restarted_at.push(now.steady);
                self.backoff_until = Some(now.steady + self.next_backoff(now.jitter));
                self.backoff_count += 1;
                ServiceState::Pausing
            }
        };
    }

    /// The next pause: twice the one before, less up to half of it by chance.
    fn next_backoff(&self, chance: u16) -> Duration {
        let rule = self.spec.restart;
        let doubled = rule.first_ms.saturating_mul(1 << self.backoff_count.min(20));
        let whole = doubled.min(rule.longest_ms.max(rule.first_ms));
        Duration::from_millis(whole - whole * u64::from(chance) / (2 * u64::from(u16::MAX)))
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
                let is_command = self.spec.ready.as_ref().is_some_and(|probe| probe.run.is_some());
                let pauses = if is_command { READY_COMMAND_DELAYS_MS } else { READY_DELAYS_MS };
                let pause = compute_probe_delay(pauses, self.attempt);
                self.attempt += 1;
                self.error = Some(why);
                self.probe_at = Some((ProbeKind::Ready, now.steady + Duration::from_millis(pause)));
            }
            (ProbeKind::Live, ServiceState::Ready, answer) => {
                let Some(live) = &self.spec.live else { return };
                let every = Duration::from_millis(live.every_ms);
                let most = live.failures;
                self.probe_at = Some((ProbeKind::Live, now.steady + every));
                match answer {
                    Ok(()) => {
                        self.failed_probes = 0;
                        self.error = None;
                    }
                    Err(why) => {
                        self.failed_probes += 1;
                        self.error = Some(why.clone());
                        if self.failed_probes >= most {
                            let then =
                                self.decide_restart(format!("it does not answer: {why}"), now);
                            self.begin_teardown(then, effects);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    /// Warns once after three samples over a limit, and stops to when it is ten points of a hundred
    /// below.
    pub(super) fn check_usage(&mut self, memory: u64, cpu_percent: u32) {
        let limits = self.spec.limits;
        let memory = (memory, limits.memory_warn);
        let cpu = (u64::from(cpu_percent), limits.cpu_warn.map(u64::from));
        for (at, ((used, limit), word)) in
            [(memory, "memory"), (cpu, "cpu")].into_iter().enumerate()
        {
            let Some(limit) = limit else { continue };
            self.samples_over_limit[at] =
                if used > limit { self.samples_over_limit[at] + 1 } else { 0 };
            let has_warned = self.warnings.contains(&word);
            if self.samples_over_limit[at] >= SAMPLES_TO_WARN && !has_warned {
                self.warnings.push(word);
            }
            // 70 % where the limit was 80 %.
            if has_warned && used < limit / 8 * 7 {
                self.warnings.retain(|other| *other != word);
            }
        }
    }
}
