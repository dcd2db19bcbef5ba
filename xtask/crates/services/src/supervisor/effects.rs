//! Performs the effects of the state machine: starts a service, watches its process, probes it, and stops
//! it, e.g. `Effect::Spawn` -> process -> `Event::Spawned`.
//!
//! What takes time happens in a thread, whose result comes back as an event.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::child_exit::{describe_port_holder, wait_for_child};
use super::{Input, RunningService, StraySweep, Supervisor, spawn_thread};
use crate::events::{Event, ProbeKind, ProcessExit, StopMethod, TeardownReport};
use crate::launch::{self, Env, LaunchContext};
use crate::listeners::{LastLookup, ListenerFinder};
use crate::log_rotator::LogRotator;
use crate::logs::ServiceLog;
use crate::members::ProcessSelector;
use crate::probe::{self, LogSearch};
use crate::service_state::{AfterStop, ServiceState};
use crate::spec::ServiceSpec;
use crate::teardown;
use xtask_base::error::{Error, Result};
use xtask_base::http;
use xtask_base::processes::{ProcessHandle, ProcessIdentity};

/// Timeout for checking whether a port is still served.
const PORT_CHECK_TIMEOUT: Duration = Duration::from_millis(200);

impl Supervisor<'_> {
    /// Reaps the child of a service whose processes are all gone; from then on its pid can be reused.
    /// A child that has not exited after all becomes a survivor.
    pub(super) fn reap_child(&mut self, event: Event) -> Event {
        let Event::TornDown { name, run, mut ending, conflict } = event else { return event };
        if ending.survivors.is_empty() {
            let child = self.running.get_mut(&name).and_then(|process| process.child.as_mut());
            if let Some(child) = child
                && matches!(child.try_wait(), Ok(None))
            {
                ending.survivors.push(format!("pid {}", child.id()));
            } else {
                self.running.remove(&name);
            }
        }
        Event::TornDown { name, run, ending, conflict }
    }

    pub(super) fn service_log(&self, name: &str) -> ServiceLog {
        ServiceLog::new(&self.host.stack.logs_folder(), name)
    }

    fn launch_context(&self) -> LaunchContext {
        let units = self.machine.services().values();
        let ports = units.filter_map(|unit| Some((unit.spec.name.clone(), unit.spec.port?)));
        LaunchContext {
            token: self.token.clone(),
            layer: self.host.stack.layer.clone(),
            root: self.host.stack.root.clone(),
            ports: ports.collect(),
            status: self.page.serving.as_ref().map(|(port, _)| *port),
        }
    }

    fn build_environment(&self, spec: &ServiceSpec, run: u64, degraded: bool) -> Result<Env> {
        let base = match self.launch_envs.get(&spec.name) {
            Some(given) => given.env.clone(),
            None if spec.env_files.is_empty() => Arc::new(self.host.world.variables.clone()),
            None => {
                return Err(Error::unable("the environment of its last start is no longer known")
                    .with_hint(format!(
                        "`cargo xtask restart {}` reads its env files again",
                        spec.name
                    )));
            }
        };
        Ok(launch::build_environment(spec, &base, &self.launch_context(), run, degraded))
    }

    pub(super) fn spawn_service(&mut self, name: &str, run: u64, degraded: bool) -> Event {
        self.strays.sweep = StraySweep::None;
        let (name, spec) = (name.to_owned(), self.machine.services()[name].spec.clone());
        // Record the run before it starts.
        let saved = if self.is_recorded(&name, run) { Ok(()) } else { self.write_record() };
        let log = self.service_log(&name);
        self.logs.starts.insert(name.clone(), log.length());
        let is_again = self.machine.services()[&name].was_auto_restarted();
        // Without this entry, `logs` shows the entire log.
        log.record_run(self.host.disk, self.event_context().wall_ms, is_again).ok();
        {
            let mut rotators = self.logs.rotators.lock().unwrap_or_else(PoisonError::into_inner);
            rotators.insert(name.clone(), LogRotator::new(log.clone(), spec.supervision.log));
        }
        let started = saved.and_then(|()| {
            let env = self.build_environment(&spec, run, degraded)?;
            let pipe = self.logs.writer.open_pipe(&log);
            let started = launch::start_service(
                &spec,
                &env,
                self.host.world,
                &self.host.toolkit,
                &log,
                pipe.as_ref().map(|pipe| &pipe.write_end),
            )?;
            self.watch_exit(&name, run, &started.identity, true)?;
            Ok((started, pipe))
        });
        match started {
            Ok((started, pipe)) => {
                let identity = started.identity.clone();
                let process = RunningService {
                    child: Some(started.child),
                    identity: started.identity,
                    log_at: started.log_at,
                    _pipe: pipe,
                    search: LogSearch::starting_at(started.log_at),
                    last_lookup: LastLookup::default(),
                };
                self.running.insert(name.clone(), process);
                Event::Spawned { name, run, identity }
            }
            Err(failure) => {
                let mut why = failure.to_string();
                for hint in failure.hints() {
                    why.push_str(&format!(" ({hint})"));
                }
                Event::SpawnFailed { name, run, why }
            }
        }
    }

    /// Waits for the process to exit, in a separate thread. Does not reap a child.
    pub(super) fn watch_exit(
        &self,
        name: &str,
        run: u64,
        identity: &ProcessIdentity,
        is_child: bool,
    ) -> Result<()> {
        let (tell, name, identity) = (self.input_sender.clone(), name.to_owned(), identity.clone());
        let writer = self.logs.writer.clone();
        spawn_thread(move || {
            let exit = if is_child { wait_for_child(identity.pid) } else { None };
            let exit = exit.unwrap_or_else(|| {
                if let Some(handle) = ProcessHandle::open(&identity) {
                    handle.wait_until_exit();
                }
                ProcessExit::Unseen
            });
            // The last output often explains the exit.
            writer.wait_until_written();
            drop(tell.send(Input::Event(Event::Exited { name, run, exit })));
        })
    }

    pub(super) fn start_probe(&mut self, name: &str, run: u64, ask: ProbeKind) {
        let Some(unit) = self.machine.services().get(name) else { return };
        let spec = unit.spec.clone();
        let probe = match ask {
            ProbeKind::Ready => spec.supervision.ready.clone(),
            ProbeKind::Live => spec.supervision.live.as_ref().map(|live| live.probe.clone()),
        };
        let Some(probe) = probe else { return };
        let env = match &probe.run {
            Some(_) => self.build_environment(&spec, run, unit.notes.is_degraded),
            None => Ok(Env::new()),
        };
        let env = match env {
            Ok(env) => env,
            Err(failure) => {
                // A liveness probe that cannot run has not failed.
                let answer = if ask == ProbeKind::Live { Ok(()) } else { Err(failure.to_string()) };
                let name = name.to_owned();
                drop(self.input_sender.send(Input::Event(Event::Probed {
                    name,
                    run,
                    ask,
                    answer,
                })));
                return;
            }
        };
        let search = self.running.get(name).map(|process| process.search.clone());
        let search = search.unwrap_or_else(|| LogSearch::starting_at(0));
        let log = self.service_log(name);
        let (leader, logs) = (self.find_leader(name), self.service_log(name).file_ids());
        let last = self.running.get(name).map(|process| process.last_lookup.clone());
        let reach = ListenerFinder {
            process_table: self.usage_monitor.process_table.clone(),
            token: self.token.clone(),
            service: name.to_owned(),
            leader,
            logs,
            last: last.unwrap_or_default(),
        };
        let (tell, is_ending, name) =
            (self.input_sender.clone(), self.is_ending.clone(), name.to_owned());
        let failed = (name.clone(), tell.clone());
        let asked = spawn_thread(move || {
            let around = probe::ProbeContext {
                folder: &spec.folder,
                env: &env,
                log: &log,
                search: &search,
                listeners: &reach,
                is_over: &|| is_ending.load(Ordering::SeqCst),
            };
            let answer = probe::run_probe(&probe, &around);
            drop(tell.send(Input::Event(Event::Probed { name, run, ask, answer })));
        });
        if let Err(failure) = asked {
            let (name, tell) = failed;
            let answer = Err(failure.to_string());
            drop(tell.send(Input::Event(Event::Probed { name, run, ask, answer })));
        }
    }

    pub(super) fn process_selector<'n>(&'n self, name: &'n str) -> ProcessSelector<'n> {
        let logs = self.service_log(name).file_ids();
        ProcessSelector::for_service(&self.token, name, self.find_leader(name), logs)
    }

    fn find_leader(&self, name: &str) -> Option<ProcessIdentity> {
        self.running.get(name).map(|process| process.identity.clone())
    }

    pub(super) fn start_teardown(
        &mut self,
        name: &str,
        run: u64,
        asking: StopMethod,
        timeout: Duration,
    ) {
        let (leader, logs) = (self.find_leader(name), self.service_log(name).file_ids());
        let unit = self.machine.services().get(name);
        let port = unit.and_then(|unit| unit.spec.port);
        // A port conflict matters only if the service is started again.
        let goes_on = unit.is_some_and(|unit| {
            unit.is_wanted
                || matches!(unit.state, ServiceState::Ending(AfterStop::Again | AfterStop::Pause))
        });
        let (census, token) = (self.usage_monitor.process_table.clone(), self.token.clone());
        let log = self.service_log(name);
        let (tell, name) = (self.input_sender.clone(), name.to_owned());
        let failed = (name.clone(), tell.clone());
        let begun = spawn_thread(move || {
            let ours = ProcessSelector::for_service(&token, &name, leader, logs);
            let serves =
                || port.is_some_and(|port| http::check_connect(port, PORT_CHECK_TIMEOUT).is_ok());
            let ending = teardown::terminate_processes(&census, &ours, asking, timeout, &serves);
            let ending = ending.unwrap_or_else(|failure| TeardownReport {
                survivors: vec![failure.to_string()],
                killed: Vec::new(),
            });
            for who in &ending.killed {
                // Users look in the log for missing output. A log removed with its worktree is not
                // recreated.
                if log.exists() {
                    log.append_line(&format!(
                        "xtask: killed {who} (SIGKILL) because it did not stop within {timeout:?}"
                    ));
                }
            }
            let conflict = port
                .filter(|_| goes_on && ending.survivors.is_empty())
                .and_then(describe_port_holder);
            drop(tell.send(Input::Event(Event::TornDown { name, run, ending, conflict })));
        });
        if let Err(failure) = begun {
            let (name, tell) = failed;
            let ending =
                TeardownReport { survivors: vec![failure.to_string()], killed: Vec::new() };
            drop(tell.send(Input::Event(Event::TornDown { name, run, ending, conflict: None })));
        }
    }
}
