//! What another supervisor has left: which of its services still run, beyond doubt.
//!
//! A process is taken for a service of ours if it is the one that was written down, by number, start
//! and boot, and carries no other marker; or if it leads a session and carries ours. After another
//! boot, and for everything else that stands in an old record, nobody is.

use std::path::Path;

use super::ending::{Census, MARKER, Ours, Table, identity, marker, members};
use super::logs::Log;
use super::spec::Seen;
use super::stack::{Saved, SavedUnit, Stack};
use super::unit::{State, Unit};
use xtask_base::digest;
use xtask_base::error::{Error, Result};
use xtask_base::processes::{self, Identity};
use xtask_base::record::{self, Found as Record};
use xtask_base::world::World;

/// What was found.
pub struct Adopted {
    /// By what the processes of the stack are known.
    pub token: String,
    /// The port of the status page.
    pub status: Option<u16>,
    /// Processes that services have left to the supervisor.
    pub strays: Vec<Identity>,
    /// The services.
    pub units: Vec<Found>,
}

/// A service that was found.
pub struct Found {
    /// What it is.
    pub unit: Unit,
    /// Whether it runs.
    pub is_up: bool,
    /// Whether it was ready.
    pub was_ready: bool,
    /// Where its log began to be its own.
    pub log_at: u64,
    /// How its files of variables looked when it was started.
    pub seen: Vec<Seen>,
}

/// Reads what was written down, and looks what of it is true.
pub fn find(stack: &Stack, world: &World) -> Result<Adopted> {
    let Some(saved) = read(stack)? else {
        let (strays, units) = (Vec::new(), Vec::new());
        return Ok(Adopted { token: new_token(stack, world), status: None, strays, units });
    };
    let table = Census::default().look()?;
    let logs = stack.logs();
    let units = saved.units.iter().map(|unit| look(unit, &saved.token, &logs, &table)).collect();
    Ok(Adopted { token: saved.token, status: saved.status, strays: saved.strays, units })
}

/// What was written down of a stack; nothing where nothing was.
pub fn read(stack: &Stack) -> Result<Option<Saved>> {
    match stack.saved() {
        Record::Nothing => Ok(None),
        Record::Whole(saved) => Ok(Some(saved)),
        Record::Newer => Err(record::newer("what is kept of the services", &stack.folder)),
        Record::Broken(why) => Err(Error::unable(format!(
            "what is kept of the services in `{}` cannot be read: {why}",
            stack.folder.display()
        ))
        .hint("nothing was touched")
        .hint("if none of its services runs any more, remove that folder")),
    }
}

/// The process of a service, if it is beyond doubt.
#[must_use]
pub fn process_of(
    saved: &SavedUnit,
    token: &str,
    logs: &Path,
    table: &Table,
) -> Option<(Identity, u64)> {
    let recorded = saved.identity.clone().filter(|who| {
        let marked = processes::variables(who.pid, &[MARKER]).and_then(|mut found| found.pop());
        let is_consistent = match marked.flatten() {
            Some(marked) => marked == marker(token, &saved.spec.name, saved.run),
            // Some programs write over their variables, or drop them. They still lead the session that they
            // were given; and nothing is left of any variable, or they write to the log of the service.
            None => {
                leads_a_session(who.pid, table)
                    && (has_no_variables(who.pid) || writes_to(who.pid, logs, &saved.spec.name))
            }
        };
        is_consistent && processes::is_alive(who)
    });
    if let Some(identity) = recorded {
        return Some((identity, saved.run));
    }
    // One that was started when nobody could write it down any more.
    let prefix = format!("{token}/{}/", saved.spec.name);
    table.processes.iter().filter(|process| process.session == process.pid).find_map(|process| {
        let run = table.markers.get(&process.pid)?.strip_prefix(&prefix)?.parse().ok()?;
        let is_newer = run > saved.run || saved.identity.is_none() && run == saved.run;
        is_newer.then(|| (identity(process, &table.boot), run))
    })
}

/// Whether nothing can be read of what every process of ours is given.
fn has_no_variables(pid: u32) -> bool {
    let given = ["PATH", "HOME", "XTASK_ROOT", "XTASK_LAYER"];
    processes::variables(pid, &given).is_some_and(|found| found.iter().all(Option::is_none))
}

/// Whether a process writes to the log of a service.
fn writes_to(pid: u32, logs: &Path, service: &str) -> bool {
    let log = Log::new(logs, service).ids();
    processes::outputs(pid).iter().any(|file| log.contains(file))
}

/// Whether a process leads a session, where the system tells.
fn leads_a_session(pid: u32, table: &Table) -> bool {
    let process = table.processes.iter().find(|process| process.pid == pid);
    process.is_some_and(|process| process.session == pid || process.session == 0)
}

fn look(saved: &SavedUnit, token: &str, logs: &Path, table: &Table) -> Found {
    let mut unit = Unit::new(saved.spec.clone());
    unit.run = saved.run;
    unit.started_ms = saved.started_ms;
    unit.restarts = saved.restarts;
    unit.is_degraded = saved.is_degraded;
    unit.error.clone_from(&saved.error);
    // What is done stays done.
    unit.is_wanted = saved.is_wanted && saved.state == "done";
    if let Some((identity, run)) = process_of(saved, token, logs, table) {
        unit.identity = Some(identity);
        // One that was being ended is ended.
        unit.is_wanted = saved.is_wanted;
        unit.run = run;
        let was_ready = saved.was_ready && run == saved.run;
        let (log_at, seen) = (saved.log_at, saved.seen.clone());
        return Found { unit, is_up: true, was_ready, log_at, seen };
    }
    // Its first process is gone; what it has left behind is ended before it is started again.
    let ours = Ours {
        stack: token,
        service: Some(&saved.spec.name),
        leaders: Vec::new(),
        logs: Log::new(logs, &saved.spec.name).ids(),
        spared: vec![std::process::id()],
        heir: None,
    };
    let left = members(&ours, table);
    unit.survivors = left.iter().map(|process| format!("pid {}", process.pid)).collect();
    unit.state = match saved.state.as_str() {
        "done" => State::Done,
        "failed" => State::Failed,
        _ if !unit.survivors.is_empty() => State::Failed,
        _ => State::Down,
    };
    Found { unit, is_up: false, was_ready: false, log_at: 0, seen: Vec::new() }
}

/// A token that no other stack has, and nobody can guess from another one.
fn new_token(stack: &Stack, world: &World) -> String {
    let now = (world.clock)().as_nanos().to_le_bytes();
    let pid = std::process::id().to_le_bytes();
    let folder = stack.folder.as_os_str().as_encoded_bytes();
    digest::hex(&digest::of_parts([&now[..], &pid[..], folder]))[..24].to_owned()
}
