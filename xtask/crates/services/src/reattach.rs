//! Finds the services of a previous supervisor that provably still run.
//!
//! A process counts as ours in two cases: it is the recorded one (pid, start time and boot match)
//! and carries no other marker; or it leads a session and carries our marker. After a reboot, no
//! process matches an old record.
//!
//! ```text
//! ServiceRecord {api, run: 3} + process with XTASK_SERVICE=TOKEN/api/3
//!   -> ReattachedService {is_up: true}
//! ```

use std::path::Path;

use super::logs::ServiceLog;
use super::marker::{MARKER_VARIABLE, Marker, ProcessMark};
use super::members::{ProcessSelector, ProcessSnapshot, ProcessTable, find_members, to_identity};
use super::service_state::{ServiceNotes, ServiceState, SupervisedService};
use super::spec::EnvFileStamp;
use super::stack::{ServiceRecord, Stack, StackRecord};
use super::status::ReportedState;
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result};
use xtask_base::processes::{self, ProcessIdentity};
use xtask_base::record::{self, LoadedRecord as Record};

/// Stack as found by `reattach_stack`.
pub struct ReattachedStack {
    /// Token in the markers of its processes.
    pub token: String,
    /// Port of the status page.
    pub status: Option<u16>,
    /// Processes that services left to the supervisor.
    pub strays: Vec<ProcessIdentity>,
    pub units: Vec<ReattachedService>,
}

/// Service as found by `reattach_stack`.
pub struct ReattachedService {
    pub unit: SupervisedService,
    /// Whether its process runs.
    pub is_up: bool,
    pub was_ready: bool,
    /// Offset in the log, in bytes, at which the current run begins.
    pub log_at: u64,
    /// Stamps of its env files at its start.
    pub env_file_stamps: Vec<EnvFileStamp>,
}

/// Reads the stack record and compares it with the running processes. Without a record, returns an
/// empty stack with a new token.
pub fn reattach_stack(stack: &Stack, world: &Environment) -> Result<ReattachedStack> {
    let Some(saved) = read_stack_record(stack)? else {
        let (strays, units) = (Vec::new(), Vec::new());
        return Ok(ReattachedStack {
            token: generate_token(stack, world),
            status: None,
            strays,
            units,
        });
    };
    let table = ProcessTable::default().read_snapshot()?;
    let logs = stack.logs_folder();
    let units = saved
        .units
        .iter()
        .map(|unit| reattach_service(unit, &saved.token, &logs, &table))
        .collect();
    Ok(ReattachedStack { token: saved.token, status: saved.status, strays: saved.strays, units })
}

/// Reads the stack record. Returns `None` if there is no record, and an error if it is corrupt or
/// from a newer xtask.
pub fn read_stack_record(stack: &Stack) -> Result<Option<StackRecord>> {
    match stack.read_record() {
        Record::Missing => Ok(None),
        Record::Valid(saved) => Ok(Some(saved)),
        Record::Newer => {
            Err(record::newer_record_error("the record of the services", &stack.folder))
        }
        Record::Corrupt(why) => Err(Error::unable(format!(
            "cannot read the record of the services in `{}`: {why}",
            stack.folder.display()
        ))
        .with_hint("nothing was changed")
        .with_hint("if none of its services is running, remove that folder")),
    }
}

/// Returns identity and run of the process of a service, if both are beyond doubt.
#[must_use]
pub fn find_process(
    saved: &ServiceRecord,
    token: &str,
    logs: &Path,
    table: &ProcessSnapshot,
) -> Option<(ProcessIdentity, u64)> {
    let recorded = saved.identity.clone().filter(|who| {
        let marked = processes::read_variables(who.pid, &[MARKER_VARIABLE])
            .and_then(|mut found| found.pop());
        let is_consistent = match marked.flatten() {
            Some(marked) => marked == Marker::new(token, &saved.spec.name, saved.run).to_string(),
            // Some programs overwrite or drop their variables. They still lead the session that
            // they were started in; and either none of their variables is readable, or they write
            // to the log of the service.
            None => {
                is_session_leader(who.pid, table)
                    && (has_no_variables(who.pid) || writes_to_log(who.pid, logs, &saved.spec.name))
            }
        };
        is_consistent && processes::is_alive(who)
    });
    if let Some(identity) = recorded {
        return Some((identity, saved.run));
    }
    // A run that started after the last record was written.
    table.processes.iter().filter(|process| process.session == process.pid).find_map(|process| {
        let ProcessMark::Service(Marker { stack, service, run }) =
            table.markers.get(&process.pid)?
        else {
            return None;
        };
        let is_newer = *run > saved.run || saved.identity.is_none() && *run == saved.run;
        let is_ours = stack == token && *service == saved.spec.name && is_newer;
        is_ours.then(|| (to_identity(process, &table.boot), *run))
    })
}

/// Returns whether none of the variables that each of our processes receives is readable.
fn has_no_variables(pid: u32) -> bool {
    let given = ["PATH", "HOME", "XTASK_ROOT", "XTASK_LAYER"];
    processes::read_variables(pid, &given).is_some_and(|found| found.iter().all(Option::is_none))
}

/// Returns whether a process writes to the log of a service.
fn writes_to_log(pid: u32, logs: &Path, service: &str) -> bool {
    let log = ServiceLog::new(logs, service).file_ids();
    processes::find_output_files(pid).iter().any(|file| log.contains(file))
}

/// Returns whether a process leads a session, or the system does not report sessions.
fn is_session_leader(pid: u32, table: &ProcessSnapshot) -> bool {
    let process = table.processes.iter().find(|process| process.pid == pid);
    process.is_some_and(|process| process.session == pid || process.session == 0)
}

fn reattach_service(
    saved: &ServiceRecord,
    token: &str,
    logs: &Path,
    table: &ProcessSnapshot,
) -> ReattachedService {
    let mut unit = SupervisedService::new(saved.spec.clone());
    unit.run = saved.run;
    unit.started_ms = saved.started_ms;
    unit.notes = ServiceNotes { killed: None, ..saved.notes.clone() };
    // A completed service stays completed.
    unit.is_wanted = saved.is_wanted && saved.state == ReportedState::Done;
    if let Some((identity, run)) = find_process(saved, token, logs, table) {
        unit.identity = Some(identity);
        // A service that was being stopped is stopped.
        unit.is_wanted = saved.is_wanted;
        unit.run = run;
        let was_ready = saved.was_ready && run == saved.run;
        let (log_at, seen) = (saved.log_at, saved.seen.clone());
        return ReattachedService { unit, is_up: true, was_ready, log_at, env_file_stamps: seen };
    }
    // Its first process is gone; leftover processes are stopped before the next start.
    let logs = ServiceLog::new(logs, &saved.spec.name).file_ids();
    let ours = ProcessSelector::for_service(token, &saved.spec.name, None, logs);
    let left = find_members(&ours, table);
    unit.survivors = left.iter().map(|process| format!("pid {}", process.pid)).collect();
    unit.state = match saved.state {
        ReportedState::Done => ServiceState::Done,
        ReportedState::Failed => ServiceState::Failed,
        _ if !unit.survivors.is_empty() => ServiceState::Failed,
        _ => ServiceState::Down,
    };
    ReattachedService {
        unit,
        is_up: false,
        was_ready: false,
        log_at: 0,
        env_file_stamps: Vec::new(),
    }
}

/// Returns a token that no other stack has, and that cannot be guessed from another one.
fn generate_token(stack: &Stack, world: &Environment) -> String {
    let now = (world.clock)().as_nanos().to_le_bytes();
    let pid = std::process::id().to_le_bytes();
    let folder = stack.folder.as_os_str().as_encoded_bytes();
    digest::to_hex(&digest::hash_parts([&now[..], &pid[..], folder]))[..24].to_owned()
}
