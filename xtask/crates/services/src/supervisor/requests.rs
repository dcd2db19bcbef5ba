//! What commands ask of the supervisor, and when they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::upkeep::STRAY_TIMEOUT;
use super::{Given, Goal, Input, Pending, Supervisor, Sweep};
use crate::control::{self, Answer, Failure, Start, What};
use crate::machine::Event;
use crate::page::{Page, Row, SupervisorLine};
use crate::unit::{State, Then, Unit};

/// From when on who waits for a service is told for what, in milliseconds.
const A_MOMENT_MS: u64 = 1000;

/// How many lines of the log of a service that failed are told.
const LAST_LINES: usize = 20;

/// How much of each.
const LONGEST_LINE: usize = 400;

impl Supervisor<'_> {
    pub(super) fn rows(&self) -> Vec<Row> {
        let now = self.now().wall_ms;
        let rows = self.machine.units().values().map(|unit| Row::of(unit, now));
        // Time alone is no news, but that it takes longer than a moment.
        let is_long = |row: &Row| {
            row.state == "starting" && row.uptime_ms.is_some_and(|uptime| uptime > A_MOMENT_MS)
        };
        rows.map(|row| Row { uptime_ms: is_long(&row).then_some(A_MOMENT_MS), ..row }).collect()
    }

    pub(super) fn page(&self) -> Page {
        let now = self.now().wall_ms;
        Page {
            schema: "xtask.ps/1".to_owned(),
            layer: self.stack.layer.clone(),
            worktree: self.stack.root.display().to_string(),
            supervisor: Some(SupervisorLine {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                status_port: self.serving.as_ref().map(|(port, _)| *port),
                error: self.complaints.values().next().cloned(),
            }),
            services: self.machine.units().values().map(|unit| Row::of(unit, now)).collect(),
        }
    }

    pub(super) fn asked(&mut self, what: What, reply: Sender<Answer>, is_gone: Arc<AtomicBool>) {
        self.was_asked |= !matches!(what, What::Show { .. });
        match what {
            What::Show { .. } => {
                drop(reply.send(Answer::Now { page: self.page() }));
            }
            What::Stop { names, within_ms } => {
                let all = self.machine.units().keys().cloned();
                let names = if names.is_empty() { all.collect() } else { names };
                let names = self.machine.with_dependants(names);
                let within = within_ms.map(Duration::from_millis);
                let goal = Goal::Gone { names: names.clone(), failures: None, within };
                self.pending.push(Pending { reply, is_gone, goal, told: Vec::new() });
                self.act(Event::Stop { names, within });
            }
            What::Start(start) => self.asked_to_start(start, reply, is_gone),
        }
    }

    fn asked_to_start(&mut self, start: Start, reply: Sender<Answer>, is_gone: Arc<AtomicBool>) {
        // Before anything is ended in order to be started again: nothing is started that cannot be
        // written down.
        self.saved = None;
        if let Err(failure) = self.save() {
            drop(reply.send(Answer::Refused { why: failure.to_string() }));
            return;
        }
        if self.status != start.status {
            self.status = start.status;
            self.open_status_page();
        }
        let names: Vec<String> = start.specs.iter().map(|spec| spec.name.clone()).collect();
        let env = control::env(&start.env);
        let mut started = Vec::new();
        for spec in start.specs {
            let known = self.machine.units().get(&spec.name);
            let is_up = known.is_some_and(|unit| match unit.state {
                // One that ends now and is not to go on begins anew.
                State::Ending(_) => unit.is_wanted,
                _ => unit.is_active() || matches!(unit.state, State::Pausing | State::Done),
            });
            if !is_up {
                started.push(spec.name.clone());
            }
            // What is ending now begins with what is said now.
            let is_ending = known.is_some_and(|unit| matches!(unit.state, State::Ending(_)));
            if !is_up || is_ending || start.again.contains(&spec.name) {
                let read = start.values.get(&spec.name);
                if read.is_some() || spec.env_files.is_empty() {
                    let mut env = env.clone();
                    env.extend(read.map(control::env).unwrap_or_default());
                    let seen = start.seen.get(&spec.name).cloned().unwrap_or_default();
                    self.given.insert(spec.name.clone(), Given { env: Arc::new(env), seen });
                } else {
                    self.given.remove(&spec.name);
                }
                self.machine.know(spec);
            }
        }
        self.machine.forget_but(&start.layer);
        let ready_within = Duration::from_millis(start.ready_within_ms);
        let units = self.machine.units().iter();
        // One that is still ending has failed before this began: the pause to come is not of this start.
        let told =
            |unit: &Unit| unit.restarts + u32::from(unit.state == State::Ending(Then::Pause));
        let restarts = units.map(|(name, unit)| (name.clone(), told(unit))).collect();
        let goal = Goal::Ready { names: names.clone(), started, restarts };
        self.pending.push(Pending { reply, is_gone, goal, told: Vec::new() });
        if !start.again.is_empty() {
            self.act(Event::Restart { names: start.again, ready_within });
        }
        self.act(Event::Start { names, ready_within, without: start.without });
    }

    /// Answers those whose goal is reached or lost, and tells the others how far it is.
    pub(super) fn answer_pending(&mut self) {
        let mut waiting = Vec::new();
        let mut stops = Vec::new();
        for mut pending in std::mem::take(&mut self.pending) {
            let page = self.page();
            let is_gone = pending.is_gone.load(Ordering::SeqCst);
            match &pending.goal {
                Goal::Ready { names, started, restarts } => {
                    let failures = self.failures(names, restarts);
                    if is_gone || !failures.is_empty() {
                        // What this command has started goes with it; what was there stays.
                        let up = started.iter().filter(|name| !self.is_lost(name)).cloned();
                        let up: Vec<String> = up.collect();
                        stops.push(up.clone());
                        let failures = Some(failures);
                        pending.goal = Goal::Gone { names: up, failures, within: None };
                    } else if names.iter().all(|name| self.is_settled(name)) {
                        drop(pending.reply.send(Answer::Done { page, survivors: Vec::new() }));
                        continue;
                    }
                }
                Goal::Gone { names, failures, within } => {
                    let units = self.machine.units();
                    // One that is wanted again meanwhile does not go.
                    let is_down = |name: &String| {
                        units.get(name).is_none_or(|unit| !unit.is_active() || unit.is_wanted)
                    };
                    let is_idle = self.is_idle();
                    let all_down = names.iter().all(is_down);
                    if all_down && is_idle && self.sweep == Sweep::None {
                        let within = *within;
                        self.sweep(within.unwrap_or(STRAY_TIMEOUT));
                    }
                    let is_swept = !is_idle || matches!(self.sweep, Sweep::Done(_));
                    if all_down && is_swept {
                        let units = self.machine.units();
                        let survivors = names.iter().filter_map(|name| units.get(name));
                        let mut survivors: Vec<String> =
                            survivors.flat_map(|unit| unit.survivors.clone()).collect();
                        if let (true, Sweep::Done(left)) = (is_idle, &self.sweep) {
                            survivors.extend(left.iter().cloned());
                        }
                        let answer = match failures.clone() {
                            Some(failures) => Answer::Failed { failures, page, survivors },
                            None => Answer::Done { page, survivors },
                        };
                        drop(pending.reply.send(answer));
                        continue;
                    }
                }
            }
            let rows = self.rows();
            if rows != pending.told {
                drop(pending.reply.send(Answer::Now { page: self.page() }));
                pending.told = rows;
            }
            waiting.push(pending);
        }
        // What came in while this was done stays.
        waiting.append(&mut self.pending);
        self.pending = waiting;
        for names in stops {
            self.act(Event::Stop { names, within: None });
            // It may have been all there was to do.
            drop(self.tell.send(Input::Event(Event::Tick)));
        }
    }

    fn is_lost(&self, name: &str) -> bool {
        self.machine.units().get(name).is_some_and(Unit::is_lost)
    }

    fn is_settled(&self, name: &str) -> bool {
        // One that was stopped meanwhile, and that can be done without, is what it is.
        self.machine.units().get(name).is_none_or(|unit| unit.is_settled() || !unit.is_wanted)
    }

    /// Those of a start that failed and without which it cannot be called done.
    fn failures(&self, names: &[String], restarts: &BTreeMap<String, u32>) -> Vec<Failure> {
        let units = self.machine.units();
        // One that has been started again since this began, and is still not ready, may go on like that
        // for ever.
        let goes_round = |unit: &&Unit| {
            let before = restarts.get(&unit.spec.name).copied().unwrap_or(unit.restarts);
            unit.restarts > before && !unit.is_ready() && unit.state != State::Starting
        };
        let is_off = |unit: &&Unit| unit.is_lost() || !unit.is_wanted || goes_round(unit);
        let lost = names.iter().filter_map(|name| units.get(name)).filter(is_off);
        let failures = lost.filter(|unit| !self.is_tolerated(unit, names)).map(|unit| {
            let log = self.log(&unit.spec.name);
            let from = self.log_starts.get(&unit.spec.name).copied();
            let lines = match (&unit.state, from) {
                (State::Failed | State::Pausing, Some(from)) => {
                    log.last_lines(LAST_LINES, from, log.length()).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            Failure {
                service: unit.spec.name.clone(),
                why: match &unit.error {
                    _ if !unit.is_wanted && !unit.is_lost() => {
                        "it was stopped meanwhile".to_owned()
                    }
                    Some(error) => error.clone(),
                    None => "it failed".to_owned(),
                },
                lines: lines.into_iter().map(|line| shortened(&line.text)).collect(),
            }
        });
        failures.collect()
    }

    /// Whether a stack can go without a service: nobody requires it, or all that need it can do
    /// without.
    fn is_tolerated(&self, unit: &Unit, names: &[String]) -> bool {
        let name = &unit.spec.name;
        let units = names.iter().filter_map(|name| self.machine.units().get(name));
        let mut needing = units.filter(|other| other.spec.needs.contains(name)).peekable();
        !unit.spec.required
            || needing.peek().is_some()
                && needing.all(|other| {
                    other.spec.fallback.as_ref().is_some_and(|rule| rule.when.contains(name))
                })
    }
}

/// A line of a log, as far as anybody reads it in an answer.
fn shortened(line: &str) -> String {
    match line.char_indices().nth(LONGEST_LINE) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
