//! Handles each `ControlCommand`, and decides when its reply is sent.
//!
//! ```text
//! {"ask":"start",…} -> Now (progress, repeated) -> Done | Failed
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::housekeeping::STRAY_TIMEOUT;
use super::{Client, Input, LaunchEnv, PendingRequest, RequestGoal, StraySweep, Supervisor};
use crate::control_socket::{self, ControlCommand, ControlReply, ServiceFailure, StartRequest};
use crate::events::Event;
use crate::service_state::{AfterStop, ServiceState, SupervisedService};
use crate::status::{SCHEMA, SLOW_START_MS, ServiceStatus, StackStatus, SupervisorStatus};

/// Number of log lines reported for a failed service.
const FAILURE_LOG_LINES: usize = 20;

/// Maximum length of such a line, in characters.
const MAX_LINE_CHARS: usize = 400;

impl Client {
    fn send(&self, reply: ControlReply) {
        // The command may have disconnected.
        drop(self.reply.send(reply));
    }

    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::SeqCst)
    }
}

impl Supervisor<'_> {
    pub(super) fn list_progress(&self) -> Vec<ServiceStatus> {
        let now = self.event_context().wall_ms;
        let rows =
            self.machine.services().values().map(|unit| ServiceStatus::from_service(unit, now));
        // Uptime alone causes no report; crossing `SLOW_START_MS` does.
        rows.map(|row| {
            let uptime_ms = row.is_slow_start().then_some(SLOW_START_MS);
            ServiceStatus { uptime_ms, ..row }
        })
        .collect()
    }

    pub(super) fn stack_status(&self) -> StackStatus {
        let now = self.event_context().wall_ms;
        StackStatus {
            schema: SCHEMA.to_owned(),
            layer: self.host.stack.layer.clone(),
            worktree: self.host.stack.root.display().to_string(),
            supervisor: Some(SupervisorStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                status_port: self.page.serving.as_ref().map(|(port, _)| *port),
                error: self.problems.values().next().cloned(),
            }),
            services: self
                .machine
                .services()
                .values()
                .map(|unit| ServiceStatus::from_service(unit, now))
                .collect(),
        }
    }

    pub(super) fn handle_request(&mut self, what: ControlCommand, client: Client) {
        self.requests.was_asked |= !matches!(what, ControlCommand::Show { .. });
        match what {
            ControlCommand::Show { .. } => {
                client.send(ControlReply::Now { page: self.stack_status() });
            }
            ControlCommand::Stop { names, within_ms } => {
                let all = self.machine.services().keys().cloned();
                let names = if names.is_empty() { all.collect() } else { names };
                let names = self.machine.with_dependants(names);
                let within = within_ms.map(Duration::from_millis);
                let goal = RequestGoal::Gone { names: names.clone(), failures: None, within };
                self.requests.pending.push(PendingRequest { client, goal, reported: Vec::new() });
                self.handle_event(Event::Stop { names, within });
            }
            ControlCommand::Start(start) => self.handle_start(start, client),
        }
    }

    fn handle_start(&mut self, start: StartRequest, client: Client) {
        // Check that the record can be written before a restart stops anything.
        self.record.last = None;
        if let Err(failure) = self.write_record() {
            return client.send(ControlReply::Refused { why: failure.to_string() });
        }
        if self.page.port != start.status {
            self.page.port = start.status;
            self.open_status_page();
        }
        let names: Vec<String> = start.specs.iter().map(|spec| spec.name.clone()).collect();
        let env = control_socket::decode_env(&start.env);
        let mut started = Vec::new();
        for spec in start.specs {
            let known = self.machine.services().get(&spec.name);
            let is_up = known.is_some_and(|unit| match unit.state {
                // A service that is stopping for good counts as down.
                ServiceState::Ending(_) => unit.is_wanted,
                _ => {
                    unit.is_active()
                        || matches!(unit.state, ServiceState::Pausing | ServiceState::Done)
                }
            });
            if !is_up {
                started.push(spec.name.clone());
            }
            // A service that is stopping next starts with the spec of this request.
            let is_ending = known.is_some_and(|unit| matches!(unit.state, ServiceState::Ending(_)));
            if !is_up || is_ending || start.again.contains(&spec.name) {
                let read = start.values.get(&spec.name);
                if read.is_some() || spec.env_files.is_empty() {
                    let mut env = env.clone();
                    env.extend(read.map(control_socket::decode_env).unwrap_or_default());
                    let seen = start.seen.get(&spec.name).cloned().unwrap_or_default();
                    self.launch_envs.insert(
                        spec.name.clone(),
                        LaunchEnv { env: Arc::new(env), env_file_stamps: seen },
                    );
                } else {
                    self.launch_envs.remove(&spec.name);
                }
                self.machine.upsert_spec(spec);
            }
        }
        self.machine.forget_all_but(&start.layer);
        let ready_within = Duration::from_millis(start.ready_within_ms);
        let units = self.machine.services().iter();
        // A service in `Ending(Pause)` failed before this request: its coming restart is not counted.
        let told = |unit: &SupervisedService| {
            unit.notes.restarts + u32::from(unit.state == ServiceState::Ending(AfterStop::Pause))
        };
        let restarts = units.map(|(name, unit)| (name.clone(), told(unit))).collect();
        let goal = RequestGoal::Ready { names: names.clone(), started, restarts };
        self.requests.pending.push(PendingRequest { client, goal, reported: Vec::new() });
        if !start.again.is_empty() {
            self.handle_event(Event::Restart { names: start.again, ready_within });
        }
        self.handle_event(Event::Start { names, ready_within, without: start.without });
    }

    /// Replies to requests whose goal is reached or lost, and reports progress to the others.
    pub(super) fn answer_pending(&mut self) {
        let mut waiting = Vec::new();
        let mut stops = Vec::new();
        for mut pending in std::mem::take(&mut self.requests.pending) {
            let reply = match &pending.goal {
                RequestGoal::Ready { names, started, restarts } => {
                    let failures = self.find_failures(names, restarts);
                    if pending.client.is_gone() || !failures.is_empty() {
                        // Stop the services that this request started; the others stay up.
                        let up = started.iter().filter(|name| !self.is_failed_or_blocked(name));
                        let names: Vec<String> = up.cloned().collect();
                        stops.push(names.clone());
                        let failures = Some(failures);
                        pending.goal = RequestGoal::Gone { names, failures, within: None };
                        None
                    } else {
                        let is_done = names.iter().all(|name| self.is_settled(name));
                        let (page, survivors) = (self.stack_status(), Vec::new());
                        is_done.then_some(ControlReply::Done { page, survivors })
                    }
                }
                RequestGoal::Gone { names, failures, within } => {
                    self.answer_stop(names, failures.as_ref(), *within)
                }
            };
            if let Some(reply) = reply {
                pending.client.send(reply);
                continue;
            }
            let rows = self.list_progress();
            if rows != pending.reported {
                pending.client.send(ControlReply::Now { page: self.stack_status() });
                pending.reported = rows;
            }
            waiting.push(pending);
        }
        // Keep requests that arrived concurrently.
        waiting.append(&mut self.requests.pending);
        self.requests.pending = waiting;
        for names in stops {
            self.handle_event(Event::Stop { names, within: None });
            // Wake the loop: this may have been its last pending work.
            drop(self.input_sender.send(Input::Event(Event::Tick)));
        }
    }

    /// Returns the reply to a stop, or to a failed start that was rolled back, once all that was stopped
    /// is gone. With the last service, strays are stopped.
    fn answer_stop(
        &mut self,
        names: &[String],
        failures: Option<&Vec<ServiceFailure>>,
        within: Option<Duration>,
    ) -> Option<ControlReply> {
        let page = self.stack_status();
        let units = self.machine.services();
        // A service that was requested again concurrently stays up.
        let is_down =
            |name: &String| units.get(name).is_none_or(|unit| !unit.is_active() || unit.is_wanted);
        if !names.iter().all(is_down) {
            return None;
        }
        let survivors = names.iter().filter_map(|name| units.get(name));
        let mut survivors: Vec<String> =
            survivors.flat_map(|unit| unit.survivors.clone()).collect();
        if self.is_idle() {
            if self.strays.sweep == StraySweep::None {
                self.start_sweep(within.unwrap_or(STRAY_TIMEOUT));
            }
            let StraySweep::Done(left) = &self.strays.sweep else { return None };
            survivors.extend(left.iter().cloned());
        }
        Some(match failures {
            Some(failures) => ControlReply::Failed { failures: failures.clone(), page, survivors },
            None => ControlReply::Done { page, survivors },
        })
    }

    fn is_failed_or_blocked(&self, name: &str) -> bool {
        self.machine.services().get(name).is_some_and(SupervisedService::is_failed_or_blocked)
    }

    fn is_settled(&self, name: &str) -> bool {
        // A service that was stopped concurrently, and can be done without, counts as settled.
        self.machine.services().get(name).is_none_or(|unit| unit.is_settled() || !unit.is_wanted)
    }

    /// Returns the failed services without which a start request fails.
    fn find_failures(
        &self,
        names: &[String],
        restarts: &BTreeMap<String, u32>,
    ) -> Vec<ServiceFailure> {
        let units = self.machine.services();
        // A service that was restarted since the request and is still not ready may loop forever.
        let goes_round = |unit: &&SupervisedService| {
            let before = restarts.get(&unit.spec.name).copied().unwrap_or(unit.notes.restarts);
            unit.notes.restarts > before && !unit.is_ready() && unit.state != ServiceState::Starting
        };
        let is_off = |unit: &&SupervisedService| {
            unit.is_failed_or_blocked() || !unit.is_wanted || goes_round(unit)
        };
        let lost = names.iter().filter_map(|name| units.get(name)).filter(is_off);
        let failures = lost.filter(|unit| !self.is_tolerated(unit, names)).map(|unit| {
            let log = self.service_log(&unit.spec.name);
            let from = self.logs.starts.get(&unit.spec.name).copied();
            let lines = match (&unit.state, from) {
                (ServiceState::Failed | ServiceState::Pausing, Some(from)) => {
                    log.read_last_lines(FAILURE_LOG_LINES, from, log.length()).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            ServiceFailure {
                service: unit.spec.name.clone(),
                why: match &unit.notes.error {
                    _ if !unit.is_wanted && !unit.is_failed_or_blocked() => {
                        "stopped while it was starting".to_owned()
                    }
                    Some(error) => error.clone(),
                    None => "failed".to_owned(),
                },
                lines: lines.into_iter().map(|line| truncate_line(&line.text)).collect(),
            }
        });
        failures.collect()
    }

    /// Returns whether a start can succeed without this service: it is not `required`, or every
    /// service that needs it has a fallback.
    fn is_tolerated(&self, unit: &SupervisedService, names: &[String]) -> bool {
        let name = &unit.spec.name;
        let units = names.iter().filter_map(|name| self.machine.services().get(name));
        let mut needing = units.filter(|other| other.spec.needs.contains(name)).peekable();
        !unit.spec.required
            || needing.peek().is_some()
                && needing.all(|other| {
                    other
                        .spec
                        .supervision
                        .fallback
                        .as_ref()
                        .is_some_and(|rule| rule.when.contains(name))
                })
    }
}

/// Truncates a log line to `MAX_LINE_CHARS`.
fn truncate_line(line: &str) -> String {
    match line.char_indices().nth(MAX_LINE_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}
