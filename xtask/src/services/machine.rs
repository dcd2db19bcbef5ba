//! What the supervisor decides: events in, effects out. It touches nothing, and time and chance are
//! given to it, so every path of it can be walked in a test.
//!
//! A service is wanted up or down. `settle` looks at what is wanted and at what is, and takes the
//! next step that the needs allow: up only when all that it needs is ready, down only when nothing
//! that needs it runs any more. Events of an earlier run of a service are not heard.

use std::collections::BTreeMap;
use std::time::Duration;

use super::spec::Spec;
use super::unit::{Ask, Effect, Exit, Moment, State, Then, Unit};
use crate::base::processes::Identity;

/// What can happen.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the line above each says what its fields are")]
pub enum Event {
    /// These are wanted up; each may take so long to get ready. `degraded` are those of which the
    /// others are to do without, where they have a rule for it.
    Start { names: Vec<String>, ready_within: Duration, without: Vec<String> },
    /// These are wanted down, with all that need them; in so long, where that is given.
    Stop { names: Vec<String>, within: Option<Duration> },
    /// These are to be ended and started again.
    Restart { names: Vec<String>, ready_within: Duration },
    /// A process was started.
    Spawned { name: String, run: u64, identity: Identity },
    /// It could not be.
    NotSpawned { name: String, run: u64, why: String },
    /// The process of a service has ended.
    Exited { name: String, run: u64, exit: Exit },
    /// A probe has an answer.
    Probed { name: String, run: u64, ask: Ask, answer: Result<(), String> },
    /// What a service was is gone, but for `survivors`; `conflict` says who holds its port.
    Ended { name: String, run: u64, survivors: Vec<String>, conflict: Option<String> },
    /// What a service uses.
    Sampled { name: String, run: u64, memory: u64, cpu_percent: u32 },
    /// A moment has come that `next_due` has named.
    Tick,
}

/// All services of a stack.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    units: BTreeMap<String, Unit>,
}

impl Machine {
    /// The services by their names.
    #[must_use]
    pub fn units(&self) -> &BTreeMap<String, Unit> {
        &self.units
    }

    /// Takes a service in, or what it is to be at its next start.
    pub fn know(&mut self, spec: Spec) {
        match self.units.get_mut(&spec.name) {
            Some(unit) => unit.spec = spec,
            None => drop(self.units.insert(spec.name.clone(), Unit::new(spec))),
        }
    }

    /// Takes a service in as it is.
    pub fn put(&mut self, unit: Unit) {
        self.units.insert(unit.spec.name.clone(), unit);
    }

    /// Takes a service in that runs already: one that another supervisor has started. Where it was
    /// ready, it is taken to be so until a probe says otherwise.
    pub fn adopt(&mut self, mut unit: Unit, was_ready: bool, now: Moment) {
        unit.state = if was_ready { State::Ready } else { State::Starting };
        unit.is_wanted = true;
        unit.has_been_ready = was_ready;
        unit.ready_since = was_ready.then_some(now.steady);
        unit.ready_by = (!was_ready).then(|| now.steady + unit.ready_within);
        let ask = if was_ready { Ask::Live } else { Ask::Ready };
        if ask == Ask::Ready && unit.spec.ready.is_some()
            || ask == Ask::Live && unit.spec.live.is_some()
        {
            unit.probe_at = Some((ask, now.steady));
        }
        self.units.insert(unit.spec.name.clone(), unit);
    }

    /// When something is to be done though nothing happens.
    #[must_use]
    pub fn next_due(&self) -> Option<Duration> {
        let dues = self.units.values().flat_map(|unit| {
            let pause = unit.pause_until.filter(|_| unit.state == State::Pausing);
            let late = unit.ready_by.filter(|_| unit.state == State::Starting);
            [pause, late, unit.probe_at.map(|(_, at)| at)]
        });
        dues.flatten().min()
    }

    /// Hears what happened, and says what is to be done.
    pub fn step(&mut self, event: Event, now: Moment) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.hear(event, now, &mut effects);
        self.look_at_the_clock(now, &mut effects);
        // One step may make another one possible.
        while self.settle(now, &mut effects) {}
        effects
    }

    fn hear(&mut self, event: Event, now: Moment, effects: &mut Vec<Effect>) {
        match event {
            Event::Start { names, ready_within, without } => {
                for name in names {
                    let Some(unit) = self.units.get_mut(&name) else { continue };
                    unit.is_wanted = true;
                    unit.ready_within = ready_within;
                    unit.without.clone_from(&without);
                    if !unit.survivors.is_empty() {
                        unit.end(Then::Again, effects);
                    } else if !unit.is_active()
                        && !matches!(unit.state, State::Pausing | State::Done)
                    {
                        unit.begin_anew();
                    }
                }
            }
            Event::Stop { names, within } => {
                for name in self.with_dependants(names) {
                    if let Some(unit) = self.units.get_mut(&name) {
                        unit.is_wanted = false;
                        unit.stop_within = within;
                        if !unit.survivors.is_empty() {
                            unit.end(Then::Down, effects);
                        }
                    }
                }
            }
            Event::Restart { names, ready_within } => {
                for name in names {
                    let Some(unit) = self.units.get_mut(&name) else { continue };
                    unit.is_wanted = true;
                    unit.ready_within = ready_within;
                    if unit.is_active() || !unit.survivors.is_empty() {
                        unit.bounce = true;
                    } else {
                        unit.begin_anew();
                    }
                }
            }
            Event::Spawned { name, run, identity } => {
                let Some(unit) = self.current(&name, run) else { return };
                unit.identity = Some(identity);
                unit.started_ms = now.wall_ms;
                if unit.state == State::Starting && unit.spec.ready.is_none() && !unit.spec.once {
                    unit.become_ready(now);
                }
            }
            Event::NotSpawned { name, run, why } => {
                let Some(unit) = self.current(&name, run) else { return };
                unit.identity = None;
                unit.error = Some(why);
                unit.probe_at = None;
                unit.state = if unit.is_wanted { State::Failed } else { State::Down };
            }
            Event::Exited { name, run, exit } => {
                let Some(unit) = self.current(&name, run) else { return };
                if matches!(unit.state, State::Starting | State::Ready) {
                    let then = unit.after_exit(exit, now);
                    unit.end(then, effects);
                }
            }
            Event::Probed { name, run, ask, answer } => {
                let Some(unit) = self.current(&name, run) else { return };
                unit.hear_probe(ask, answer, now, effects);
            }
            Event::Ended { name, run, survivors, conflict } => {
                let Some(unit) = self.current(&name, run) else { return };
                unit.after_end(survivors, conflict, now);
            }
            Event::Sampled { name, run, memory, cpu_percent } => {
                let Some(unit) = self.current(&name, run) else { return };
                unit.judge(memory, cpu_percent);
            }
            Event::Tick => {}
        }
    }

    /// The service, if this is about its present process.
    fn current(&mut self, name: &str, run: u64) -> Option<&mut Unit> {
        self.units.get_mut(name).filter(|unit| unit.run == run)
    }

    /// These and all that need them, directly or not.
    #[must_use]
    pub fn with_dependants(&self, names: Vec<String>) -> Vec<String> {
        let mut found = names;
        let mut at = 0;
        while at < found.len() {
            let needed = found[at].clone();
            for (name, unit) in &self.units {
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

    fn look_at_the_clock(&mut self, now: Moment, effects: &mut Vec<Effect>) {
        for unit in self.units.values_mut() {
            if unit.state == State::Pausing && unit.pause_until.is_some_and(|at| at <= now.steady) {
                unit.pause_until = None;
                unit.state = State::Waiting;
            }
            if unit.state == State::Starting && unit.ready_by.is_some_and(|at| at <= now.steady) {
                let seconds = unit.ready_within.as_secs_f64();
                let last = unit.error.take().map_or(String::new(), |error| format!(": {error}"));
                let why = format!("it was not ready within {seconds} s{last}");
                let then = unit.after_failure(why, now);
                unit.end(then, effects);
            }
            if let Some((ask, _)) = unit.probe_at.filter(|(_, at)| *at <= now.steady) {
                unit.probe_at = None;
                let name = unit.spec.name.clone();
                effects.push(Effect::Probe { name, run: unit.run, ask });
            }
        }
    }

    /// Takes a step that is possible now; whether there was one.
    fn settle(&mut self, now: Moment, effects: &mut Vec<Effect>) -> bool {
        let names: Vec<String> = self.units.keys().cloned().collect();
        names.iter().any(|name| self.settle_one(name, now, effects))
    }

    fn settle_one(&mut self, name: &str, now: Moment, effects: &mut Vec<Effect>) -> bool {
        let unit = &self.units[name];
        let goes_down = !unit.is_wanted || unit.bounce;
        match unit.state {
            State::Starting | State::Ready if goes_down => {
                let is_needed = self.units.values().any(|other| {
                    other.spec.needs.iter().any(|need| need == name)
                        && other.is_active()
                        && (!other.is_wanted || other.bounce)
                });
                let then = if unit.is_wanted { Then::Again } else { Then::Down };
                !is_needed && self.change(name, |unit| unit.end(then, effects))
            }
            State::Failed if goes_down && !unit.survivors.is_empty() && unit.bounce => {
                self.change(name, |unit| unit.end(Then::Again, effects))
            }
            State::Waiting | State::Blocked | State::Pausing | State::Done if !unit.is_wanted => {
                self.change(name, |unit| unit.state = State::Down)
            }
            State::Failed if !unit.is_wanted && unit.survivors.is_empty() => {
                self.change(name, |unit| unit.state = State::Down)
            }
            State::Waiting | State::Blocked => self.try_to_start(name, now, effects),
            _ => false,
        }
    }

    /// Starts a service if all that it needs is ready, or it can do without.
    fn try_to_start(&mut self, name: &str, now: Moment, effects: &mut Vec<Effect>) -> bool {
        let unit = &self.units[name];
        let mut is_degraded = false;
        let mut blocked = None;
        for need in &unit.spec.needs {
            let needed = self.units.get(need);
            let is_forced = unit.without.contains(need) && unit.can_do_without(need);
            if needed.is_some_and(Unit::is_ready) && !is_forced {
                continue;
            }
            let is_lost = needed.is_none_or(|other| other.is_lost() || !other.is_wanted);
            if (is_lost || is_forced) && unit.can_do_without(need) {
                is_degraded = true;
            } else if is_lost {
                let why = needed.and_then(|other| other.error.clone());
                let why = why.unwrap_or_else(|| "it does not run".to_owned());
                blocked = Some(format!("it needs `{need}`: {why}"));
            } else {
                return unit.state == State::Blocked && self.turn(name, State::Waiting, None);
            }
        }
        if let Some(why) = blocked {
            return unit.state != State::Blocked && self.turn(name, State::Blocked, Some(why));
        }
        self.change(name, |unit| {
            unit.begin(is_degraded, now);
            let (name, run) = (name.to_owned(), unit.run);
            effects.push(Effect::Spawn { name, run, degraded: is_degraded });
        })
    }

    fn turn(&mut self, name: &str, state: State, error: Option<String>) -> bool {
        self.change(name, |unit| {
            unit.state = state;
            unit.error = error;
        })
    }

    /// Changes a service; always true, because something has changed.
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Unit)) -> bool {
        if let Some(unit) = self.units.get_mut(name) {
            change(unit);
        }
        true
    }
}
