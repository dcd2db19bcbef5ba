//! `StateMachine`: the decisions of the supervisor, from each `Event` to its `Effect`s.
//!
//! Pure code: time and randomness come in as `EventContext`, so tests can walk every path. Each
//! service is wanted up or down. `reconcile_once` compares that with its state and takes the next
//! step that the dependencies allow: up only once all its `needs` are ready, down only once no
//! dependant runs. Events of an earlier `run` are ignored.
//!
//! ```text
//! Start {db, api}          -> Spawn {db, run: 1}
//! Probed {db, Ready, Ok}   -> Spawn {api, run: 1}
//! Stop {db}                -> Teardown {api}, then Teardown {db}
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::events::{Effect, Event, EventContext, ProbeKind};
use super::service_state::{
    ASSUME_READY_AFTER, AfterStop, RequestOptions, ServiceState, SupervisedService,
};
use super::spec::ServiceSpec;

/// States of all services of a stack.
#[derive(Clone, Debug, Default)]
pub struct StateMachine {
    services: BTreeMap<String, SupervisedService>,
}

impl StateMachine {
    /// Returns the services by name.
    #[must_use]
    pub fn services(&self) -> &BTreeMap<String, SupervisedService> {
        &self.services
    }

    /// Adds a service, or replaces the spec that its next start uses.
    pub fn upsert_spec(&mut self, spec: ServiceSpec) {
        match self.services.get_mut(&spec.name) {
            Some(unit) => unit.spec = spec,
            None => drop(self.services.insert(spec.name.clone(), SupervisedService::new(spec))),
        }
    }

    /// Removes services that are not in `names`, unless they run or have survivors.
    pub fn forget_all_but(&mut self, names: &[String]) {
        self.services.retain(|name, unit| {
            let is_there = unit.is_active() || unit.is_wanted && !unit.is_failed_or_blocked();
            names.contains(name) || is_there || !unit.survivors.is_empty()
        });
    }

    /// Adds a service in its given state.
    pub fn insert_service(&mut self, unit: SupervisedService) {
        self.services.insert(unit.spec.name.clone(), unit);
    }

    /// Adds a running service that another supervisor started. If `was_ready`, it counts as ready
    /// until a probe fails.
    pub fn reattach_service(
        &mut self,
        mut unit: SupervisedService,
        was_ready: bool,
        now: EventContext,
    ) {
        unit.state = if was_ready { ServiceState::Ready } else { ServiceState::Starting };
        unit.readiness.has_been_ready = was_ready;
        unit.readiness.since = was_ready.then_some(now.steady);
        unit.readiness.deadline = (!was_ready).then(|| now.steady + unit.request.ready_timeout);
        let ask = if was_ready { ProbeKind::Live } else { ProbeKind::Ready };
        if ask == ProbeKind::Ready && unit.spec.supervision.ready.is_some()
            || ask == ProbeKind::Live && unit.spec.supervision.live.is_some()
        {
            unit.probing.next = Some((ask, now.steady));
        }
        self.services.insert(unit.spec.name.clone(), unit);
    }

    /// Returns the earliest time at which a timer fires; `None` if no timer is set.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        let dues = self.services.values().flat_map(|unit| {
            let pause = unit.backoff.until.filter(|_| unit.state == ServiceState::Pausing);
            let late = unit.readiness.deadline.filter(|_| unit.state == ServiceState::Starting);
            [pause, late, unit.readiness.assumed_at, unit.probing.next.map(|(_, at)| at)]
        });
        dues.flatten().min()
    }

    /// Applies an event and returns the effects to perform.
    pub fn step(&mut self, event: Event, now: EventContext) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.apply_event(event, now, &mut effects);
        self.fire_timers(now, &mut effects);
        // One step may make another one possible.
        while self.reconcile_once(now, &mut effects) {}
        effects
    }

    fn apply_event(&mut self, event: Event, now: EventContext, effects: &mut Vec<Effect>) {
        match event {
            Event::Start { names, ready_within, without } => {
                for name in names {
                    self.request_start(&name, ready_within, &without, effects);
                }
            }
            Event::Stop { names, within } => self.request_stop(names, within, effects),
            Event::Restart { names, ready_within } => {
                for name in names {
                    self.request_restart(&name, ready_within);
                }
            }
            Event::Spawned { name, run, identity } => {
                let Some(unit) = self.find_current(&name, run) else { return };
                unit.identity = Some(identity);
                unit.notes.killed = None;
                unit.started_ms = now.wall_ms;
                if unit.state == ServiceState::Starting
                    && unit.spec.supervision.ready.is_none()
                    && !unit.spec.once
                {
                    unit.readiness.assumed_at =
                        Some(now.steady + ASSUME_READY_AFTER.min(unit.request.ready_timeout));
                }
            }
            Event::SpawnFailed { name, run, why } => {
                let Some(unit) = self.find_current(&name, run) else { return };
                unit.identity = None;
                // The process may have been partly started.
                let then = unit.decide_after_failure(why, now);
                unit.begin_teardown(then, effects);
            }
            Event::Exited { name, run, exit } => {
                let Some(unit) = self.find_current(&name, run) else { return };
                if matches!(unit.state, ServiceState::Starting | ServiceState::Ready) {
                    let then = unit.decide_after_exit(exit, now);
                    unit.begin_teardown(then, effects);
                }
            }
            Event::Probed { name, run, ask, answer } => {
                let Some(unit) = self.find_current(&name, run) else { return };
                unit.apply_probe_result(ask, answer, now, effects);
            }
            Event::TornDown { name, run, ending, conflict } => {
                let Some(unit) = self.find_current(&name, run) else { return };
                unit.finish_teardown(ending, conflict, now);
            }
            Event::Sampled { name, run, memory, cpu_percent } => {
                let Some(unit) = self.find_current(&name, run) else { return };
                unit.check_usage(memory, cpu_percent);
            }
            Event::Tick => {}
        }
    }

    fn request_start(
        &mut self,
        name: &str,
        ready_within: Duration,
        without: &[String],
        effects: &mut Vec<Effect>,
    ) {
        let Some(unit) = self.services.get_mut(name) else { return };
        unit.is_wanted = true;
        // A timeout applies only to the stop that set it.
        unit.request = RequestOptions {
            skipped_needs: without.to_vec(),
            ready_timeout: ready_within,
            stop_timeout: None,
        };
        if !unit.survivors.is_empty() {
            unit.begin_teardown(AfterStop::Again, effects);
        } else if !unit.is_active()
            && !matches!(unit.state, ServiceState::Pausing | ServiceState::Done)
        {
            unit.reset_to_waiting();
        }
    }

    fn request_stop(
        &mut self,
        names: Vec<String>,
        within: Option<Duration>,
        effects: &mut Vec<Effect>,
    ) {
        for name in &names {
            let unit = self.services.get_mut(name).filter(|unit| unit.survivors.is_empty());
            if let Some(unit) = unit.filter(|unit| unit.is_failed_or_blocked()) {
                (unit.state, unit.notes.error) = (ServiceState::Down, None);
            }
        }
        for name in self.with_dependants(names) {
            if let Some(unit) = self.services.get_mut(&name) {
                unit.is_wanted = false;
                unit.request.stop_timeout = within;
                if !unit.survivors.is_empty() {
                    unit.begin_teardown(AfterStop::Down, effects);
                }
            }
        }
    }

    fn request_restart(&mut self, name: &str, ready_within: Duration) {
        let Some(unit) = self.services.get_mut(name) else { return };
        unit.is_wanted = true;
        unit.request.stop_timeout = None;
        unit.request.ready_timeout = ready_within;
        if unit.is_active() || !unit.survivors.is_empty() {
            unit.restart_pending = true;
        } else {
            unit.reset_to_waiting();
        }
    }

    /// Returns the service if `run` is its current run.
    fn find_current(&mut self, name: &str, run: u64) -> Option<&mut SupervisedService> {
        self.services.get_mut(name).filter(|unit| unit.run == run)
    }

    /// Returns `names` and all services that need them, directly or transitively, except those with a
    /// fallback.
    #[must_use]
    pub fn with_dependants(&self, names: Vec<String>) -> Vec<String> {
        let mut found = names;
        let mut at = 0;
        while at < found.len() {
            let needed = found[at].clone();
            for (name, unit) in &self.services {
                if unit.spec.needs.contains(&needed)
                    && !found.contains(name)
                    && !unit.can_do_without(&needed)
                {
                    found.push(name.clone());
                }
            }
            at += 1;
        }
        found
    }

    fn fire_timers(&mut self, now: EventContext, effects: &mut Vec<Effect>) {
        for unit in self.services.values_mut() {
            if unit.state == ServiceState::Pausing
                && unit.backoff.until.is_some_and(|at| at <= now.steady)
            {
                unit.backoff.until = None;
                unit.state = ServiceState::Waiting;
            }
            if unit.state == ServiceState::Starting
                && unit.readiness.assumed_at.is_some_and(|at| at <= now.steady)
            {
                unit.mark_ready(now);
            }
            if unit.state == ServiceState::Starting
                && unit.readiness.deadline.is_some_and(|at| at <= now.steady)
            {
                let seconds = unit.request.ready_timeout.as_secs_f64();
                let last =
                    unit.notes.error.take().map_or(String::new(), |error| format!(": {error}"));
                let why = format!("not ready within {seconds} s{last}");
                let then = unit.decide_after_failure(why, now);
                unit.begin_teardown(then, effects);
            }
            if let Some((ask, _)) = unit.probing.next.filter(|(_, at)| *at <= now.steady) {
                unit.probing.next = None;
                let name = unit.spec.name.clone();
                effects.push(Effect::Probe { name, run: unit.run, ask });
            }
        }
    }

    /// Takes one possible step; returns whether there was one.
    fn reconcile_once(&mut self, now: EventContext, effects: &mut Vec<Effect>) -> bool {
        let names: Vec<String> = self.services.keys().cloned().collect();
        names.iter().any(|name| self.reconcile_service(name, now, effects))
    }

    fn reconcile_service(
        &mut self,
        name: &str,
        now: EventContext,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let unit = &self.services[name];
        let goes_down = !unit.is_wanted || unit.restart_pending;
        match unit.state {
            ServiceState::Starting | ServiceState::Ready if goes_down => {
                let is_needed = self.services.values().any(|other| {
                    other.spec.needs.iter().any(|need| need == name)
                        && match other.state {
                            ServiceState::Ending(_) => true,
                            ServiceState::Starting | ServiceState::Ready => {
                                !other.is_wanted || other.restart_pending
                            }
                            _ => false,
                        }
                });
                let then = if unit.is_wanted { AfterStop::Again } else { AfterStop::Down };
                !is_needed && self.update_service(name, |unit| unit.begin_teardown(then, effects))
            }
            ServiceState::Failed
                if goes_down && !unit.survivors.is_empty() && unit.restart_pending =>
            {
                self.update_service(name, |unit| unit.begin_teardown(AfterStop::Again, effects))
            }
            ServiceState::Waiting | ServiceState::Pausing | ServiceState::Done
                if !unit.is_wanted =>
            {
                self.set_state(name, ServiceState::Down, None)
            }
            ServiceState::Waiting | ServiceState::Blocked if unit.is_wanted => {
                self.start_if_needs_ready(name, now, effects)
            }
            _ => false,
        }
    }

    /// Starts a service if each of its `needs` is ready or covered by its fallback.
    fn start_if_needs_ready(
        &mut self,
        name: &str,
        now: EventContext,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let unit = &self.services[name];
        let mut is_degraded = false;
        let mut blocked = None;
        for need in &unit.spec.needs {
            let needed = self.services.get(need);
            let is_forced = unit.request.skipped_needs.contains(need) && unit.can_do_without(need);
            let is_there = |other: &SupervisedService| {
                other.is_ready() && other.is_wanted && !other.restart_pending
            };
            if needed.is_some_and(is_there) && !is_forced {
                continue;
            }
            let is_lost =
                needed.is_none_or(|other| other.is_failed_or_blocked() || !other.is_wanted);
            if (is_lost || is_forced) && unit.can_do_without(need) {
                is_degraded = true;
            } else if is_lost {
                let why = needed.and_then(|other| other.notes.error.clone());
                let why = why.unwrap_or_else(|| "not running".to_owned());
                blocked = Some(format!("dependency `{need}` is not ready: {why}"));
            } else {
                return unit.state == ServiceState::Blocked
                    && self.set_state(name, ServiceState::Waiting, None);
            }
        }
        if let Some(why) = blocked {
            return unit.state != ServiceState::Blocked
                && self.set_state(name, ServiceState::Blocked, Some(why));
        }
        self.update_service(name, |unit| {
            unit.mark_starting(is_degraded, now);
            let (name, run) = (name.to_owned(), unit.run);
            effects.push(Effect::Spawn { name, run, degraded: is_degraded });
        })
    }

    fn set_state(&mut self, name: &str, state: ServiceState, error: Option<String>) -> bool {
        self.update_service(name, |unit| {
            unit.state = state;
            unit.notes.error = error;
        })
    }

    /// Changes a service. Always returns true, because something has changed.
    fn update_service(&mut self, name: &str, change: impl FnOnce(&mut SupervisedService)) -> bool {
        if let Some(unit) = self.services.get_mut(name) {
            change(unit);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{ProcessExit, TeardownReport};
    use crate::spec::{
        LimitsSpec, LivenessSpec, ProbeSpec, ServiceSpec, StopSpec, SupervisionSpec,
    };
    use xtask_base::processes::ProcessIdentity;
    use xtask_config::{FallbackConfig, LogConfig, RestartConfig};

    /// A service with a probe of each kind, and what it needs.
    fn spec(name: &str, needs: &[&str]) -> ServiceSpec {
        let probe = ProbeSpec { tcp: Some(1), timeout_ms: 1000, ..ProbeSpec::default() };
        ServiceSpec {
            name: name.to_owned(),
            argv: vec!["true".to_owned()],
            folder: "/".into(),
            port: Some(1),
            is_moved: false,
            env: BTreeMap::new(),
            env_files: Vec::new(),
            needs: needs.iter().map(ToString::to_string).collect(),
            once: false,
            required: true,
            supervision: SupervisionSpec {
                ready: Some(probe.clone()),
                live: Some(LivenessSpec { probe, every_ms: 30_000, failures: 3 }),
                restart: RestartConfig {
                    max: 3,
                    within: LONG,
                    first: Duration::from_millis(500),
                    longest: Duration::from_secs(4),
                },
                stop: StopSpec { signal: 15, timeout_ms: 10_000, to_all: false },
                limits: LimitsSpec::default(),
                fallback: None,
                log: LogConfig { size: 1, keep: 1 },
            },
            state: Vec::new(),
            tries_serving: false,
            backup: None,
        }
    }

    /// A machine, a clock, and what it asked for.
    struct Play {
        machine: StateMachine,
        now: Duration,
    }

    const LONG: Duration = Duration::from_secs(60);

    impl Play {
        fn new(specs: Vec<ServiceSpec>) -> Play {
            let mut machine = StateMachine::default();
            specs.into_iter().for_each(|spec| machine.upsert_spec(spec));
            Play { machine, now: Duration::ZERO }
        }

        /// An event, and what comes of it in short words.
        fn hear(&mut self, event: Event) -> Vec<String> {
            let moment = EventContext { steady: self.now, wall_ms: 0, jitter: 0 };
            let effects = self.machine.step(event, moment);
            effects
                .into_iter()
                .map(|effect| match effect {
                    Effect::Spawn { name, run, degraded: false } => format!("spawn {name} {run}"),
                    Effect::Spawn { name, run, degraded: true } => {
                        format!("spawn {name} {run} less")
                    }
                    Effect::Probe { name, ask, .. } => format!("probe {name} {ask:?}"),
                    Effect::Teardown { name, .. } => format!("end {name}"),
                })
                .collect()
        }

        fn pass(&mut self, ms: u64) -> Vec<String> {
            self.now += Duration::from_millis(ms);
            self.hear(Event::Tick)
        }

        fn start(&mut self, names: &[&str]) -> Vec<String> {
            let names = names.iter().map(ToString::to_string).collect();
            let start = Event::Start { names, ready_within: LONG, without: Vec::new() };
            let mut effects = self.hear(start);
            effects.retain(|effect| !effect.starts_with("probe"));
            effects
        }

        fn stop(&mut self, names: &[&str]) -> Vec<String> {
            let names = names.iter().map(ToString::to_string).collect();
            self.hear(Event::Stop { names, within: None })
        }

        fn run(&self, name: &str) -> u64 {
            self.machine.services()[name].run
        }

        fn spawned(&mut self, name: &str) -> Vec<String> {
            let run = self.run(name);
            let identity = ProcessIdentity { pid: 1, started: run, boot: String::new() };
            self.hear(Event::Spawned { name: name.to_owned(), run, identity })
        }

        fn probed(&mut self, name: &str, ask: ProbeKind, answer: Result<(), &str>) -> Vec<String> {
            let (name, run) = (name.to_owned(), self.run(name));
            self.hear(Event::Probed { name, run, ask, answer: answer.map_err(str::to_owned) })
        }

        fn ready(&mut self, name: &str) -> Vec<String> {
            let mut effects = self.spawned(name);
            effects.extend(self.probed(name, ProbeKind::Ready, Ok(())));
            effects.retain(|effect| !effect.starts_with("probe"));
            effects
        }

        fn exited(&mut self, name: &str, exit: ProcessExit) -> Vec<String> {
            let (name, run) = (name.to_owned(), self.run(name));
            self.hear(Event::Exited { name, run, exit })
        }

        fn ended(&mut self, name: &str) -> Vec<String> {
            let (name, run) = (name.to_owned(), self.run(name));
            self.hear(Event::TornDown {
                name,
                run,
                ending: TeardownReport::default(),
                conflict: None,
            })
        }

        fn state(&self, name: &str) -> &ServiceState {
            &self.machine.services()[name].state
        }

        fn error(&self, name: &str) -> &str {
            self.machine.services()[name].notes.error.as_deref().unwrap_or_default()
        }
    }

    #[test]
    fn services_start_as_soon_as_what_they_need_is_ready_and_end_in_reverse() {
        let specs = vec![
            spec("db", &[]),
            spec("cache", &[]),
            spec("api", &["db", "cache"]),
            spec("web", &["api"]),
        ];
        let mut play = Play::new(specs);
        let begun = play.start(&["web", "api", "db", "cache"]);
        assert_eq!(begun, ["spawn cache 1", "spawn db 1"]);
        assert!(play.ready("db").is_empty(), "the cache is not ready yet");
        assert_eq!(play.ready("cache"), ["spawn api 1"]);
        assert_eq!(play.ready("api"), ["spawn web 1"]);
        play.ready("web");
        // Whoever needs it goes first, also when only the lowest was named.
        assert_eq!(play.stop(&["db"]), ["end web"]);
        assert_eq!(play.ended("web"), ["end api"]);
        assert_eq!(play.ended("api"), ["end db"]);
        assert!(play.ended("db").is_empty());
        assert_eq!(
            (play.state("db"), play.state("cache")),
            (&ServiceState::Down, &ServiceState::Ready)
        );
        assert!(play.start(&["cache"]).is_empty(), "it runs already");
    }

    #[test]
    fn pauses_between_probes_grow_and_a_late_one_fails_with_its_last_answer() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        assert_eq!(play.spawned("api"), ["probe api Ready"]);
        for pause in [5, 10, 15, 20, 20] {
            assert!(play.probed("api", ProbeKind::Ready, Err("nobody listens")).is_empty());
            assert!(play.pass(pause - 1).is_empty(), "{pause}");
            assert_eq!(play.pass(1), ["probe api Ready"]);
        }
        play.probed("api", ProbeKind::Ready, Err("nobody listens"));
        assert_eq!(play.pass(60_000)[0], "end api");
        play.ended("api");
        assert_eq!(play.state("api"), &ServiceState::Failed);
        assert_eq!(play.error("api"), "not ready within 60 s: nobody listens");
    }

    #[test]
    fn who_ends_before_it_is_ready_fails_at_once_and_blocks_who_needs_it() {
        let mut play = Play::new(vec![spec("db", &[]), spec("api", &["db"])]);
        play.start(&["db", "api"]);
        play.spawned("db");
        assert_eq!(play.exited("db", ProcessExit::Code(3)), ["end db"]);
        play.ended("db");
        assert_eq!(
            (play.state("db"), play.state("api")),
            (&ServiceState::Failed, &ServiceState::Blocked)
        );
        assert_eq!(
            play.error("api"),
            "dependency `db` is not ready: exited with code 3 before it was ready"
        );
        // Started anew, both come up.
        assert_eq!(play.start(&["db", "api"]), ["spawn db 2"]);
        assert_eq!(play.ready("db"), ["spawn api 1"]);
    }

    #[test]
    fn restarts_pause_twice_as_long_each_time_and_end_at_the_limit() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        for pause in [500, 1000, 2000] {
            assert_eq!(play.exited("api", ProcessExit::Signal(9)), ["end api"]);
            assert!(play.ended("api").is_empty());
            assert_eq!(play.state("api"), &ServiceState::Pausing);
            assert!(play.pass(pause - 1).is_empty());
            assert_eq!(play.pass(1)[0], format!("spawn api {}", play.run("api")));
            play.ready("api");
        }
        play.exited("api", ProcessExit::Code(1));
        play.ended("api");
        assert_eq!(play.state("api"), &ServiceState::Failed);
        assert_eq!(play.error("api"), "exited with code 1; gave up after 3 restarts");
        assert_eq!(play.machine.services()["api"].notes.restarts, 3);
    }

    #[test]
    fn attempts_that_never_get_ready_count_however_long_they_take() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        play.exited("api", ProcessExit::Code(1));
        for _ in 0..3 {
            play.ended("api");
            assert_eq!(play.state("api"), &ServiceState::Pausing);
            play.pass(4_000);
            play.spawned("api");
            play.pass(60_000);
        }
        play.ended("api");
        assert_eq!(play.state("api"), &ServiceState::Failed);
    }

    #[test]
    fn half_a_minute_of_health_forgives() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        for _ in 0..10 {
            play.pass(30_000);
            play.exited("api", ProcessExit::Code(1));
            play.ended("api");
            assert_eq!(play.state("api"), &ServiceState::Pausing);
            assert!(play.pass(500).iter().any(|effect| effect.starts_with("spawn")));
            play.ready("api");
        }
        assert_eq!(play.machine.services()["api"].notes.restarts, 10);
    }

    #[test]
    fn what_cannot_run_at_all_is_not_tried_again() {
        for exit in [ProcessExit::Code(126), ProcessExit::Code(127)] {
            let mut play = Play::new(vec![spec("api", &[])]);
            play.start(&["api"]);
            play.ready("api");
            play.exited("api", exit);
            play.ended("api");
            assert_eq!(play.state("api"), &ServiceState::Failed);
        }
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        play.exited("api", ProcessExit::Code(1));
        let run = play.run("api");
        let conflict = Some("port 1 is taken".to_owned());
        play.hear(Event::TornDown {
            name: "api".into(),
            run,
            ending: TeardownReport::default(),
            conflict,
        });
        assert_eq!(
            (play.state("api"), play.error("api")),
            (&ServiceState::Failed, "port 1 is taken")
        );
    }

    #[test]
    fn three_failed_answers_in_a_row_are_too_many() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        for answer in [Err("503"), Err("503"), Ok(()), Err("503"), Err("503")] {
            assert_eq!(play.pass(30_000), ["probe api Live"]);
            assert!(play.probed("api", ProbeKind::Live, answer).is_empty());
        }
        play.pass(30_000);
        assert_eq!(play.probed("api", ProbeKind::Live, Err("503")), ["end api"]);
        assert_eq!(play.error("api"), "health check failed: 503");
        play.ended("api");
        assert_eq!(play.state("api"), &ServiceState::Pausing);
    }

    #[test]
    fn a_rule_lets_a_service_do_without_and_nothing_else_does() {
        let mut api = spec("api", &["memory", "db"]);
        api.supervision.fallback =
            Some(FallbackConfig { when: vec!["memory".to_owned()], env: BTreeMap::new() });
        let specs = vec![spec("memory", &[]), spec("db", &[]), api];
        let mut play = Play::new(specs.clone());
        play.start(&["memory", "db", "api"]);
        play.ready("db");
        play.spawned("memory");
        play.exited("memory", ProcessExit::Code(1));
        assert_eq!(play.ended("memory"), ["spawn api 1 less"]);
        assert!(play.machine.services()["api"].notes.is_degraded);
        // Forced, though it is there.
        let mut play = Play::new(specs);
        let names = ["memory", "db", "api"].map(str::to_owned).to_vec();
        let without = vec!["memory".to_owned()];
        play.hear(Event::Start { names, ready_within: LONG, without });
        play.ready("memory");
        assert_eq!(play.ready("db"), ["spawn api 1 less"]);
        // What can do without is not ended with what it can do without.
        play.ready("api");
        assert_eq!(play.stop(&["memory"]), ["end memory"]);
    }

    #[test]
    fn what_does_its_work_and_ends_counts_as_ready() {
        let mut migrate = spec("migrate", &[]);
        (migrate.once, migrate.supervision.ready, migrate.supervision.live) = (true, None, None);
        let mut play = Play::new(vec![migrate, spec("api", &["migrate"])]);
        play.start(&["migrate", "api"]);
        assert!(play.spawned("migrate").is_empty(), "that it runs is not enough");
        play.exited("migrate", ProcessExit::Code(0));
        assert_eq!(play.ended("migrate"), ["spawn api 1"]);
        assert!(play.start(&["migrate"]).is_empty(), "it is done");
        // One that fails is not tried again.
        let mut play =
            Play::new(play.machine.services().values().map(|u| u.spec.clone()).collect());
        play.start(&["migrate", "api"]);
        play.exited("migrate", ProcessExit::Code(1));
        play.ended("migrate");
        assert_eq!(
            (play.state("migrate"), play.state("api")),
            (&ServiceState::Failed, &ServiceState::Blocked)
        );
    }

    #[test]
    fn a_restart_ends_and_starts_and_leaves_the_others() {
        let mut play = Play::new(vec![spec("db", &[]), spec("api", &["db"])]);
        play.start(&["db", "api"]);
        play.ready("db");
        play.ready("api");
        let names = vec!["db".to_owned()];
        assert_eq!(play.hear(Event::Restart { names, ready_within: LONG }), ["end db"]);
        assert_eq!(play.ended("db"), ["spawn db 2"]);
        assert_eq!(play.state("api"), &ServiceState::Ready);
        play.ready("db");
        // Both at once: in reverse, and then in order.
        let names = vec!["db".to_owned(), "api".to_owned()];
        assert_eq!(play.hear(Event::Restart { names, ready_within: LONG }), ["end api"]);
        assert_eq!(play.ended("api"), ["end db"]);
        assert_eq!(play.ended("db"), ["spawn db 3"]);
        assert_eq!(play.ready("db"), ["spawn api 2"]);
    }

    #[test]
    fn a_start_during_the_end_and_an_end_during_a_pause_are_heard() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        play.stop(&["api"]);
        assert!(play.start(&["api"]).is_empty(), "it is ending");
        assert_eq!(play.ended("api"), ["spawn api 2"]);
        play.ready("api");
        play.exited("api", ProcessExit::Code(1));
        play.ended("api");
        play.stop(&["api"]);
        assert_eq!(play.state("api"), &ServiceState::Down);
        assert!(play.pass(60_000).is_empty(), "it stays down");
    }

    #[test]
    fn the_limit_of_one_stop_is_not_that_of_the_next() {
        let mut play = Play::new(vec![spec("api", &[])]);
        let timeouts = |play: &mut Play, event: Event| -> Vec<Duration> {
            let moment = EventContext { steady: play.now, ..EventContext::default() };
            let effects = play.machine.step(event, moment).into_iter();
            let ends = effects.filter_map(|effect| match effect {
                Effect::Teardown { timeout, .. } => Some(timeout),
                _ => None,
            });
            ends.collect()
        };
        let names = || vec!["api".to_owned()];
        play.start(&["api"]);
        play.ready("api");
        let within = Some(Duration::from_millis(1));
        let stopped = timeouts(&mut play, Event::Stop { names: names(), within });
        assert_eq!(stopped, [Duration::from_millis(1)]);
        play.ended("api");
        play.start(&["api"]);
        play.ready("api");
        let restart = Event::Restart { names: names(), ready_within: LONG };
        assert_eq!(timeouts(&mut play, restart), [Duration::from_secs(10)]);
    }

    #[test]
    fn what_survives_is_kept_named_and_ended_first_at_the_next_start() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        play.stop(&["api"]);
        let survivors = vec!["pid 7".to_owned()];
        play.hear(Event::TornDown {
            name: "api".into(),
            run: 1,
            ending: TeardownReport { survivors, killed: Vec::new() },
            conflict: None,
        });
        assert_eq!(
            (play.state("api"), play.error("api")),
            (&ServiceState::Failed, "still running: pid 7")
        );
        assert_eq!(play.start(&["api"]), ["end api"]);
        assert_eq!(play.ended("api"), ["spawn api 2"]);
    }

    #[test]
    fn one_without_a_probe_must_run_for_a_moment() {
        let mut sleeper = spec("sleeper", &[]);
        (sleeper.supervision.ready, sleeper.supervision.live) = (None, None);
        let mut play = Play::new(vec![sleeper, spec("api", &["sleeper"])]);
        play.start(&["sleeper", "api"]);
        play.spawned("sleeper");
        assert!(play.pass(199).is_empty());
        assert_eq!(play.pass(1), ["spawn api 1"]);
        let mut play = Play::new(vec![play.machine.services()["sleeper"].spec.clone()]);
        play.start(&["sleeper"]);
        play.spawned("sleeper");
        play.exited("sleeper", ProcessExit::Code(127));
        play.ended("sleeper");
        assert_eq!(play.state("sleeper"), &ServiceState::Failed);
        assert!(play.pass(1000).is_empty());
    }

    #[test]
    fn what_cannot_be_started_now_is_ended_whatever_there_is_of_it_and_tried_again() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        let not = |run| Event::SpawnFailed { name: "api".into(), run, why: "disk full".into() };
        assert_eq!(play.hear(not(1)), ["end api"]);
        play.ended("api");
        assert_eq!((play.state("api"), play.error("api")), (&ServiceState::Failed, "disk full"));
        // One that has been ready is tried again.
        play.start(&["api"]);
        play.ready("api");
        play.exited("api", ProcessExit::Code(1));
        play.ended("api");
        play.pass(500);
        assert_eq!(play.hear(not(3)), ["end api"]);
        play.ended("api");
        assert_eq!(play.state("api"), &ServiceState::Pausing);
    }

    #[test]
    fn events_of_an_earlier_run_are_not_heard() {
        let mut play = Play::new(vec![spec("api", &[])]);
        play.start(&["api"]);
        play.ready("api");
        play.exited("api", ProcessExit::Code(1));
        play.ended("api");
        play.pass(500);
        play.ready("api");
        let late = Event::Exited { name: "api".into(), run: 1, exit: ProcessExit::Code(0) };
        assert!(play.hear(late).is_empty());
        assert_eq!(play.state("api"), &ServiceState::Ready);
    }

    #[test]
    fn three_samples_over_the_limit_warn_once_and_ten_points_below_clear() {
        let mut api = spec("api", &[]);
        api.supervision.limits = LimitsSpec { memory_warn: Some(800), cpu_warn: None };
        let mut play = Play::new(vec![api]);
        play.start(&["api"]);
        play.ready("api");
        let mut warned = Vec::new();
        for memory in [900, 900, 100, 900, 900, 900, 750, 900, 690, 900] {
            play.hear(Event::Sampled { name: "api".into(), run: 1, memory, cpu_percent: 900 });
            warned.push(!play.machine.services()["api"].usage.warnings.is_empty());
        }
        let expected = [false, false, false, false, false, true, true, true, false, false];
        assert_eq!(warned, expected);
    }

    /// Whatever happens, in whatever order: nothing is spawned that still runs, nothing runs whose
    /// needs were never ready, and a stop of all ends with nothing left.
    #[test]
    fn no_order_of_events_breaks_the_rules() {
        let mut seed = 7_u64;
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let names = ["a", "b", "c", "d"];
        for _ in 0..300 {
            let specs =
                vec![spec("a", &[]), spec("b", &["a"]), spec("c", &["a", "b"]), spec("d", &[])];
            let mut play = Play::new(specs);
            let mut alive: Vec<&str> = Vec::new();
            let mut last: Vec<String> = Vec::new();
            for round in 0..200 {
                for effect in last.drain(..) {
                    let words: Vec<&str> = effect.split(' ').collect();
                    let name = *names.iter().find(|name| **name == words[1]).unwrap();
                    if words[0] == "spawn" {
                        assert!(!alive.contains(&name), "{name} was started twice");
                        for need in &play.machine.services()[name].spec.needs {
                            assert!(
                                play.machine.services()[need].is_ready(),
                                "{name} before {need}"
                            );
                        }
                        alive.push(name);
                    }
                }
                let name = names[usize::try_from(next(4)).unwrap()];
                let is_closing = round > 150;
                let choice = if is_closing { 10 } else { next(11) };
                last = match choice {
                    0 => play.start(&[name]),
                    1 => play.start(&names),
                    2 if next(4) == 0 => play.stop(&[name]),
                    3 => {
                        let names = vec![name.to_owned()];
                        play.hear(Event::Restart { names, ready_within: LONG })
                    }
                    4 | 5 => play.ready(name),
                    6 if alive.contains(&name) => play.exited(name, ProcessExit::Code(1)),
                    7 => play.probed(name, ProbeKind::Live, Err("no")),
                    8 => play.pass(next(40_000)),
                    10 => {
                        if is_closing && round == 151 {
                            last = play.stop(&names);
                        }
                        let ending = names
                            .iter()
                            .find(|name| matches!(play.state(name), ServiceState::Ending(_)));
                        match ending {
                            Some(name) => {
                                alive.retain(|other| other != name);
                                play.ended(name)
                            }
                            None => std::mem::take(&mut last),
                        }
                    }
                    _ => Vec::new(),
                };
            }
            for name in names {
                let state = play.state(name);
                assert!(!play.machine.services()[name].is_active(), "{name} is {state:?}");
            }
            assert!(alive.is_empty(), "{alive:?} still run");
        }
    }
}
