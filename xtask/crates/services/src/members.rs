//! Which processes belong to a service or a stack, determined anew each time from the process table.
//!
//! These are the recorded first process; every process with our marker in its environment, or with
//! no marker at all and output into the log of the service; the sessions that these lead; and all
//! their descendants. All others are strangers, including the supervisor of another stack.
//!
//! ```text
//! ProcessSelector::for_service("1f0c", "api", …) + ProcessSnapshot -> [pid 7 (`node`), pid 8 (`sh`)]
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::marker::{MARKER_VARIABLE, ProcessMark, SUPERVISOR_VARIABLE};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::error::Result;
use xtask_base::files::FileId;
use xtask_base::processes::{self, ProcessIdentity, ProcessInfo};

/// Selection of processes.
#[derive(Clone, Debug)]
pub struct ProcessSelector<'a> {
    /// Token of the stack.
    pub stack: &'a str,
    /// Name of the service; `None` for the entire stack.
    pub service: Option<&'a str>,
    /// First processes of services, as recorded.
    pub leaders: Vec<ProcessIdentity>,
    /// Log files, by device and inode: a process that writes to one, and has no marker, has cleared its
    /// variables.
    pub logs: Vec<FileId>,
    /// Pids that are never selected: the supervisor and the calling process.
    pub excluded: Vec<u32>,
    /// Pid of the supervisor, to also select its children without a marker: services left them to it.
    pub subreaper: Option<u32>,
}

impl<'a> ProcessSelector<'a> {
    /// Selects the processes of a service, by its first process and the files of its log.
    #[must_use]
    pub fn for_service(
        stack: &'a str,
        service: &'a str,
        leader: Option<ProcessIdentity>,
        logs: Vec<FileId>,
    ) -> ProcessSelector<'a> {
        let (leaders, excluded) = (leader.into_iter().collect(), vec![std::process::id()]);
        ProcessSelector { stack, service: Some(service), leaders, logs, excluded, subreaper: None }
    }

    fn is_leader(&self, process: &ProcessInfo, table: &ProcessSnapshot) -> bool {
        self.leaders.iter().any(|leader| {
            leader.pid == process.pid
                && leader.started == process.started
                && leader.boot == table.boot
        })
    }

    /// Returns whether a process is never selected: it is excluded, or the supervisor of another stack,
    /// whatever its parent.
    fn is_stranger(&self, process: &ProcessInfo, table: &ProcessSnapshot) -> bool {
        self.excluded.contains(&process.pid)
            || table.markers.get(&process.pid) == Some(&ProcessMark::Supervisor)
                && !self.is_leader(process, table)
    }

    /// Returns whether a process is selected by itself, and not by its parent or session.
    fn is_member(&self, process: &ProcessInfo, table: &ProcessSnapshot) -> bool {
        let mark = table.markers.get(&process.pid);
        let is_marked = matches!(mark, Some(ProcessMark::Service(marker))
            if marker.stack == self.stack
                && self.service.is_none_or(|service| service == marker.service));
        let outputs = table.outputs.get(&process.pid);
        let is_stray = self.subreaper == Some(process.parent_pid) && mark.is_none();
        is_marked
            || is_stray
            || outputs.is_some_and(|files| files.iter().any(|file| self.logs.contains(file)))
            || self.is_leader(process, table)
    }
}

/// Cached process table with the marker of each process, shared by concurrent callers.
#[derive(Default)]
pub struct ProcessTable {
    cache: Mutex<TableCache>,
}

#[derive(Default)]
struct TableCache {
    begun: Duration,
    table: Arc<ProcessSnapshot>,
    known: HashMap<(u32, u64), KnownMarker>,
}

/// Marker of a process, and the time at which it was first read.
#[derive(Clone)]
struct KnownMarker {
    marker: Option<ProcessMark>,
    first: Duration,
}

/// Age from which on a marker is not read again: a process shows the variables of its parent between
/// `fork` and `exec`.
const MARKER_SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Snapshot of all processes and their markers.
#[derive(Clone, Debug, Default)]
pub struct ProcessSnapshot {
    pub processes: Vec<ProcessInfo>,
    /// Marks by pid.
    pub markers: HashMap<u32, ProcessMark>,
    /// Output files of the processes without a marker, by pid.
    pub outputs: HashMap<u32, Vec<FileId>>,
    /// Boot id.
    pub boot: String,
    /// Whether no process was created during the scan, so that none is missing.
    pub is_exact: bool,
}

impl ProcessTable {
    /// Returns a snapshot whose scan began after this call.
    pub fn read_snapshot(&self) -> Result<Arc<ProcessSnapshot>> {
        let asked = read_monotonic_clock();
        let mut seen = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // A scan that another thread began after this call is recent enough.
        if seen.begun > asked && !seen.table.processes.is_empty() {
            return Ok(seen.table.clone());
        }
        seen.begun = read_monotonic_clock();
        let before = processes::count_forks();
        let mut table = ProcessSnapshot {
            processes: processes::list_processes()?,
            ..ProcessSnapshot::default()
        };
        table.is_exact = before.is_some() && before == processes::count_forks();
        table.boot = processes::read_boot_id()?;
        let now = seen.begun;
        let mut all = HashMap::with_capacity(table.processes.len());
        for process in &table.processes {
            let key = (process.pid, process.started);
            let known = match seen.known.get(&key) {
                Some(known) if now.saturating_sub(known.first) >= MARKER_SETTLED_AFTER => {
                    known.clone()
                }
                before => KnownMarker {
                    marker: read_marker(process),
                    first: before.map_or(now, |known| known.first),
                },
            };
            match &known.marker {
                Some(marker) => drop(table.markers.insert(process.pid, marker.clone())),
                None if process.is_zombie => {}
                None => drop(
                    table.outputs.insert(process.pid, processes::find_output_files(process.pid)),
                ),
            }
            all.insert(key, known);
        }
        (seen.known, seen.table) = (all, Arc::new(table));
        Ok(seen.table.clone())
    }
}

fn read_marker(process: &ProcessInfo) -> Option<ProcessMark> {
    if process.is_zombie {
        return None;
    }
    let mut found =
        processes::read_variables(process.pid, &[MARKER_VARIABLE, SUPERVISOR_VARIABLE])?;
    // The supervisor of a stack that a service has started belongs to that stack. It leads a session;
    // a child of a supervisor between `fork` and `exec` looks like one, and does not.
    if found.pop().flatten().is_some() && process.session == process.pid {
        return Some(ProcessMark::Supervisor);
    }
    let marker = found.pop().flatten()?;
    Some(marker.parse().map_or(ProcessMark::Invalid, ProcessMark::Service))
}

/// Returns the processes that belong to a service or a stack, without zombies.
#[must_use]
pub fn find_members<'t>(
    ours: &ProcessSelector<'_>,
    table: &'t ProcessSnapshot,
) -> Vec<&'t ProcessInfo> {
    let mut found: HashMap<u32, &ProcessInfo> = HashMap::new();
    let mut sessions: HashSet<u32> = HashSet::new();
    loop {
        let before = found.len();
        for process in &table.processes {
            if found.contains_key(&process.pid) || ours.is_stranger(process, table) {
                continue;
            }
            let is_child = found
                .get(&process.parent_pid)
                .is_some_and(|parent| parent.started <= process.started);
            if is_child || sessions.contains(&process.session) || ours.is_member(process, table) {
                found.insert(process.pid, process);
                // A session is ours if its leader is. A process with our marker in another session,
                // e.g. a shell that inherited our variables, is taken without that session.
                if process.session == process.pid {
                    sessions.insert(process.session);
                }
            }
        }
        if found.len() == before {
            break;
        }
    }
    let mut members: Vec<&ProcessInfo> =
        found.into_values().filter(|process| !process.is_zombie).collect();
    members.sort_by_key(|process| process.pid);
    members
}

/// Returns the unambiguous identity of a process.
#[must_use]
pub fn to_identity(process: &ProcessInfo, boot: &str) -> ProcessIdentity {
    ProcessIdentity { pid: process.pid, started: process.started, boot: boot.to_owned() }
}
