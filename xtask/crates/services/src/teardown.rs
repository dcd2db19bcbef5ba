//! Stops the processes of a service, and proves that they are gone.
//!
//! The processes are determined anew each time from the process table: the recorded first process;
//! every process with our marker in its environment, or with no marker at all and output into the
//! log of the service; the sessions that these lead; and all their descendants. Each is held by a
//! `ProcessHandle`, which cannot come to mean another process, before it is signalled. All others
//! are strangers, including the supervisor of another stack.
//!
//! ```text
//! SIGTERM to the first process -> (exit, or half of the timeout) SIGTERM to the others
//!   -> (timeout) SIGKILL -> TeardownReport {survivors: [], killed: ["pid 7 (`sh`)"]}
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::service_state::{StopMethod, TeardownReport};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::error::Result;
use xtask_base::files::FileId;
use xtask_base::processes::{self, ProcessHandle, ProcessIdentity, ProcessInfo};

/// Variable that marks our processes, with the value `STACK/SERVICE/RUN`, e.g. `TOKEN/api/1`.
pub const MARKER_VARIABLE: &str = "XTASK_SERVICE";

/// Variable that marks supervisors.
pub const SUPERVISOR_VARIABLE: &str = "XTASK_SUPERVISOR";

/// How long a killed process may take to disappear. A process in an uninterruptible system call
/// takes longer, and is reported as a survivor.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of empty scans that count as proof while processes are being created.
const EMPTY_SCANS: u32 = 20;

/// Shortest and longest interval of scans during a stop.
const MIN_POLL: Duration = Duration::from_millis(2);
const MAX_POLL: Duration = Duration::from_millis(50);

/// Returns the value of `MARKER_VARIABLE`.
#[must_use]
pub fn format_marker(stack: &str, service: &str, run: u64) -> String {
    format!("{stack}/{service}/{run}")
}

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
    marker: Option<String>,
    first: Duration,
}

/// Age from which on a marker is not read again: a process shows the variables of its parent between
/// `fork` and `exec`.
const MARKER_SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Snapshot of all processes and their markers.
#[derive(Clone, Debug, Default)]
pub struct ProcessSnapshot {
    pub processes: Vec<ProcessInfo>,
    /// Markers by pid.
    pub markers: HashMap<u32, String>,
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

fn read_marker(process: &ProcessInfo) -> Option<String> {
    if process.is_zombie {
        return None;
    }
    let mut found =
        processes::read_variables(process.pid, &[MARKER_VARIABLE, SUPERVISOR_VARIABLE])?;
    // The supervisor of a stack that a service has started belongs to that stack. It leads a session;
    // a child of a supervisor between `fork` and `exec` looks like one, and does not.
    let is_supervisor = found.pop().flatten().is_some() && process.session == process.pid;
    if is_supervisor { Some(SUPERVISOR_VARIABLE.to_owned()) } else { found.pop().flatten() }
}

/// Returns the processes that belong to a service or a stack, without zombies.
#[must_use]
pub fn find_members<'t>(
    ours: &ProcessSelector<'_>,
    table: &'t ProcessSnapshot,
) -> Vec<&'t ProcessInfo> {
    let prefix = match ours.service {
        Some(service) => format!("{}/{service}/", ours.stack),
        None => format!("{}/", ours.stack),
    };
    let led = |process: &ProcessInfo| {
        ours.leaders.iter().any(|leader| {
            leader.pid == process.pid
                && leader.started == process.started
                && leader.boot == table.boot
        })
    };
    let marked = |process: &ProcessInfo| {
        table.markers.get(&process.pid).is_some_and(|marker| marker.starts_with(&prefix))
    };
    let writes = |process: &ProcessInfo| {
        let outputs = table.outputs.get(&process.pid);
        outputs.is_some_and(|files| files.iter().any(|file| ours.logs.contains(file)))
    };
    // The supervisor of another stack is not ours, whatever its parent.
    let is_foreign = |process: &ProcessInfo| {
        table.markers.get(&process.pid).is_some_and(|marker| marker == SUPERVISOR_VARIABLE)
    };
    let is_stray = |process: &ProcessInfo| {
        ours.subreaper == Some(process.parent_pid) && !table.markers.contains_key(&process.pid)
    };
    let mut found: HashMap<u32, &ProcessInfo> = HashMap::new();
    let mut sessions: HashSet<u32> = HashSet::new();
    loop {
        let before = found.len();
        for process in &table.processes {
            if found.contains_key(&process.pid)
                || ours.excluded.contains(&process.pid)
                || is_foreign(process) && !led(process)
            {
                continue;
            }
            let is_child = found
                .get(&process.parent_pid)
                .is_some_and(|parent| parent.started <= process.started);
            if led(process)
                || marked(process)
                || writes(process)
                || is_stray(process)
                || is_child
                || sessions.contains(&process.session)
            {
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

/// Signals processes to stop, kills the remaining ones after `timeout`, and reports the survivors.
///
/// The first process is signalled first, and decides about the others: for example, a worker of
/// Celery or RQ finishes its job. Once it has exited, or at half of `timeout`, the others are
/// signalled. Each process is signalled once, except that SIGTERM is repeated at three quarters of
/// `timeout` if the port is still served (`serves`): Redis refuses a SIGTERM after a failed save, and
/// accepts the next one.
pub fn terminate_processes(
    census: &ProcessTable,
    ours: &ProcessSelector<'_>,
    asking: StopMethod,
    timeout: Duration,
    serves: &dyn Fn() -> bool,
) -> Result<TeardownReport> {
    let signal = Signal::from_named_raw(asking.signal).unwrap_or(Signal::TERM);
    let mut asked: HashSet<(u32, u64)> = HashSet::new();
    let mut killed: BTreeMap<(u32, u64), String> = BTreeMap::new();
    // Processes that they start in order to stop are left alone: each group is signalled once.
    let (mut first_done, mut others_done, mut again_done) = (false, asking.to_all, false);
    let mut empty_looks = 0;
    let mut orphans: Option<HashSet<(u32, u64)>> = None;
    let begun = read_monotonic_clock();
    let mut pause = MIN_POLL;
    // The first process needs no scan.
    let leader = ours.leaders.first().filter(|_| !asking.to_all);
    if let Some((leader, handle)) = leader.and_then(|one| Some((one, ProcessHandle::open(one)?)))
        && handle.send_signal(signal).is_ok()
    {
        asked.insert((leader.pid, leader.started));
        first_done = true;
        let _has_ended = handle.wait_timeout(timeout / 2);
    }
    loop {
        let table = census.read_snapshot()?;
        let members = find_members(ours, &table);
        let waited = read_monotonic_clock().saturating_sub(begun);
        let ending = |survivors: Vec<String>| TeardownReport {
            survivors,
            killed: killed.values().cloned().collect(),
        };
        if members.is_empty() {
            // No single scan may catch a process that forks and exits without pause. Its orphans
            // become children of the supervisor, and reveal it.
            let now = list_children(&ours.excluded, &table);
            let comes_and_goes =
                orphans.replace(now.clone()).is_some_and(|then| !now.is_subset(&then));
            empty_looks = if comes_and_goes { 0 } else { empty_looks + 1 };
            if table.is_exact || empty_looks >= EMPTY_SCANS {
                return Ok(ending(Vec::new()));
            }
            if waited >= timeout + KILL_TIMEOUT {
                let what = "a process that forks and exits too fast to be signalled".to_owned();
                return Ok(ending(vec![what]));
            }
            std::thread::sleep(MIN_POLL);
            continue;
        }
        empty_looks = 0;
        if waited >= timeout + KILL_TIMEOUT {
            let left =
                members.iter().map(|process| describe_process(process, &table.boot)).collect();
            return Ok(ending(left));
        }
        let leads = |process: &ProcessInfo| {
            ours.leaders.iter().any(|one| one.pid == process.pid && one.started == process.started)
        };
        let has_leader = members.iter().any(|process| leads(process));
        let asks_first = !first_done;
        let asks_others = !others_done && (!has_leader || waited >= timeout / 2);
        let asks_again = !again_done
            && signal == Signal::TERM
            && waited >= timeout * 3 / 4
            && waited < timeout
            && serves();
        // While the first process is stopping, wait for the next of these times.
        let moments = [(others_done, timeout / 2), (again_done, timeout * 3 / 4), (false, timeout)];
        let next = moments.iter().find(|(is_done, at)| !is_done && *at > waited);
        let is_left_to_it = has_leader && !asking.to_all && waited < timeout;
        let mut waits_for = None;
        for process in &members {
            let Some(handle) = ProcessHandle::open(&to_identity(process, &table.boot)) else {
                continue;
            };
            let key = (process.pid, process.started);
            let is_first = asking.to_all || leads(process) || !has_leader;
            if waited >= timeout {
                // A process that must not be signalled still shows up as a survivor.
                killed.entry(key).or_insert_with(|| describe_process(process, &table.boot));
                handle.send_signal(Signal::KILL).ok();
            } else if asks_again || (asks_first && is_first || asks_others) && asked.insert(key) {
                handle.send_signal(signal).ok();
            }
            if waits_for.is_none() || is_left_to_it && leads(process) {
                waits_for = Some(handle);
            }
        }
        first_done = true;
        others_done |= asks_others;
        again_done |= asks_again;
        if let Some(handle) = waits_for {
            // The next scan shows whether it has exited.
            let pause = match next {
                Some((_, at)) if is_left_to_it => *at - waited,
                _ => pause.min(remaining_wait(timeout, waited)),
            };
            let _has_ended = handle.wait_timeout(pause);
        }
        pause = (pause * 2).min(MAX_POLL);
    }
}

/// Returns pid and start time of the children of `parents`, including zombies.
fn list_children(parents: &[u32], table: &ProcessSnapshot) -> HashSet<(u32, u64)> {
    let children = table.processes.iter().filter(|process| parents.contains(&process.parent_pid));
    children.map(|process| (process.pid, process.started)).collect()
}

fn remaining_wait(timeout: Duration, waited: Duration) -> Duration {
    match timeout.saturating_sub(waited) {
        Duration::ZERO => MAX_POLL,
        left => left,
    }
}

/// Returns the unambiguous identity of a process.
#[must_use]
pub fn to_identity(process: &ProcessInfo, boot: &str) -> ProcessIdentity {
    ProcessIdentity { pid: process.pid, started: process.started, boot: boot.to_owned() }
}

fn describe_process(process: &ProcessInfo, boot: &str) -> String {
    let who = to_identity(process, boot);
    let command =
        processes::describe_process(&who).map_or_else(|| process.name.clone(), |d| d.command);
    format!("pid {} (`{command}`)", process.pid)
}
