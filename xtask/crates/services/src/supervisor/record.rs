//! The record of a stack: written before a service starts, and read back by the next supervisor.
//!
//! Guarantee: no run starts before `StackRecord` holds it, so a killed supervisor leaves no service
//! that its successor cannot find.
//!
//! ```text
//! {"token": "1f0c…", "units": [{"spec": {"name": "api", …}, "state": "ready", "run": 3, …}]}
//! ```

use super::launch_env::restore_launch_envs;
use super::{RunningService, Supervisor};
use crate::events::{Event, ProcessExit};
use crate::listeners::LastLookup;
use crate::log_rotator::LogRotator;
use crate::probe::LogSearch;
use crate::reattach::ReattachedService;
use crate::service_state::{ServiceNotes, ServiceState};
use crate::stack::{ServiceRecord, StackRecord};
use std::sync::PoisonError;
use xtask_base::error::{Error, Result};

impl Supervisor<'_> {
    /// Takes over the services of a previous supervisor.
    pub(super) fn take_over_services(&mut self, units: Vec<ReattachedService>) {
        self.launch_envs.extend(restore_launch_envs(&units, &self.token, self.host.world));
        for found in units {
            let name = found.unit.spec.name.clone();
            let run = found.unit.run;
            let identity = found.unit.identity.clone();
            if !found.is_up {
                self.machine.insert_service(found.unit);
                continue;
            }
            let log = self.service_log(&name);
            let log_at = found.log_at;
            self.logs.starts.insert(name.clone(), log_at);
            let mut rotators = self.logs.rotators.lock().unwrap_or_else(PoisonError::into_inner);
            rotators.insert(name.clone(), LogRotator::new(log, found.unit.spec.supervision.log));
            drop(rotators);
            let now = self.event_context();
            self.machine.reattach_service(found.unit, found.was_ready, now);
            match identity {
                Some(identity) => {
                    let watched = self.watch_exit(&name, run, &identity, false);
                    let search = LogSearch::starting_at(log_at);
                    let elsewhere = LastLookup::default();
                    let (child, _pipe) = (None, None);
                    let process = RunningService {
                        child,
                        identity,
                        log_at,
                        _pipe,
                        search,
                        last_lookup: elsewhere,
                    };
                    self.running.insert(name.clone(), process);
                    if watched.is_err() {
                        self.handle_event(Event::Exited { name, run, exit: ProcessExit::Unseen });
                    }
                }
                None => self.handle_event(Event::Exited { name, run, exit: ProcessExit::Unseen }),
            }
        }
    }

    /// Returns whether the last written record holds this run.
    pub(super) fn is_recorded(&self, name: &str, run: u64) -> bool {
        let units = self.record.last.iter().flat_map(|saved| &saved.units);
        self.owns_folder()
            && units.into_iter().any(|unit| unit.spec.name == name && unit.run == run)
    }

    /// Writes the stack record if it has changed.
    pub(super) fn write_record(&mut self) -> Result<()> {
        let units = self.machine.services().values().map(|unit| ServiceRecord {
            spec: unit.spec.clone(),
            is_wanted: unit.is_wanted,
            state: (&unit.state).into(),
            run: unit.run,
            identity: unit.identity.clone(),
            was_ready: unit.state == ServiceState::Ready,
            started_ms: unit.started_ms,
            log_at: self.running.get(&unit.spec.name).map_or(0, |process| process.log_at),
            notes: ServiceNotes {
                error: unit.notes.error.clone().filter(|_| unit.state != ServiceState::Starting),
                ..unit.notes.clone()
            },
            seen: self
                .launch_envs
                .get(&unit.spec.name)
                .map_or(Vec::new(), |given| given.env_file_stamps.clone()),
        });
        let saved = StackRecord {
            folder: self.host.stack.folder.clone(),
            token: self.token.clone(),
            status: self.page.port,
            strays: self.strays.known.clone(),
            units: units.collect(),
        };
        // A removed worktree is not recreated, and no service starts in it.
        if !self.owns_folder() {
            let gone = format!("`{}` no longer exists", self.host.stack.folder.display());
            return Err(Error::unable(gone));
        }
        if self.record.last.as_ref() != Some(&saved) {
            self.host.stack.write_record(self.host.disk, &saved)?;
            self.record.last = Some(saved);
        }
        Ok(())
    }
}
