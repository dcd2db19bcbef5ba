//! Ending what was started, and proving that it is gone.
//!
//! What belongs to a service is found anew each time from the kernel's table: its first process as it
//! was recorded, every process that carries our marker in its environment or, with no marker at all,
//! writes to the service's log, the sessions that these lead, and all their descendants. Each is held by
//! a handle that cannot become somebody else's before it is signalled. Whoever is none of that is a
//! stranger, and so is the supervisor of another stack.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use super::service_state::{StopMethod, TeardownReport};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::error::Result;
use xtask_base::processes::{self, ProcessHandle, ProcessIdentity, ProcessInfo};

/// The variable by which what was started here is known: `STACK/SERVICE/RUN`.
pub const MARKER_VARIABLE: &str = "XTASK_SERVICE";

/// The variable that every supervisor has.
pub const SUPERVISOR_VARIABLE: &str = "XTASK_SUPERVISOR";

/// How long what was killed may take to go. What sits in a call that cannot be interrupted takes
/// longer; it is named then.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How many looks that find nobody are proof, where processes are made all the time.
const EMPTY_SCANS: u32 = 20;

/// The pauses between looks, while something is ending.
const MIN_POLL: Duration = Duration::from_millis(2);
const MAX_POLL: Duration = Duration::from_millis(50);

/// The value of the marker.
#[must_use]
pub fn format_marker(stack: &str, service: &str, run: u64) -> String {
    format!("{stack}/{service}/{run}")
}

/// Whose processes are meant.
#[derive(Clone, Debug)]
pub struct ProcessSelector<'a> {
    /// The stack, by its token.
    pub stack: &'a str,
    /// The service; all of the stack where there is none.
    pub service: Option<&'a str>,
    /// The first processes, as they were recorded.
    pub leaders: Vec<ProcessIdentity>,
    /// The logs, by device and number: whoever writes to one and has no marker has cleared its variables.
    pub logs: Vec<(u64, u64)>,
    /// Who is never meant: the supervisor and whoever asks.
    pub excluded: Vec<u32>,
    /// The supervisor, where its own children are meant as well: those that nobody else knows have
    /// been left to it by services.
    pub subreaper: Option<u32>,
}

/// The kernel's table, shared by those who look at the same time, with the marker of each process.
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

/// The marker of a process, and when it was read first.
#[derive(Clone)]
struct KnownMarker {
    marker: Option<String>,
    first: Duration,
}

/// For how long a marker is read anew: a process that was just made shows the variables of who has made
/// it, until it has become another program.
const MARKER_SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A table of processes, and the marker of each that carries one.
#[derive(Clone, Debug, Default)]
pub struct ProcessSnapshot {
    /// The processes.
    pub processes: Vec<ProcessInfo>,
    /// The markers, by number.
    pub markers: HashMap<u32, String>,
    /// The files to which those without a marker write, by number.
    pub outputs: HashMap<u32, Vec<(u64, u64)>>,
    /// The boot in which they run.
    pub boot: String,
    /// Whether nobody was born while it was read, so that nobody is missing.
    pub is_exact: bool,
}

impl ProcessTable {
    /// The table as it is now: one that was begun after this was called.
    pub fn read_snapshot(&self) -> Result<Arc<ProcessSnapshot>> {
        let asked = read_monotonic_clock();
        let mut seen = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has waited for somebody else's look can use it, if that was begun late enough.
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
    // what a supervisor has just made, and still looks like it, does not.
    let is_supervisor = found.pop().flatten().is_some() && process.session == process.pid;
    if is_supervisor { Some(SUPERVISOR_VARIABLE.to_owned()) } else { found.pop().flatten() }
}

/// The processes that belong to a service or to a stack. Zombies are gone already.
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
    // The supervisor of another stack is not ours, whoever its parent is.
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
                // A session is ours if its leader is. Whoever carries our marker in somebody else's
                // session, a shell that was given our variables, goes alone.
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

/// Asks processes to end, kills what has not after `timeout`, and says what is left after that.
///
/// The first process is asked first, and knows what to do about the others: a worker of Celery or RQ has its
/// job finished so. What is left when it has ended, or when half of the time is over, is asked itself. Nobody
/// is asked twice, but for a TERM where the port is still served (`serves`) when three quarters are over: Redis
/// refuses one whose save has failed, and takes the next.
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
    // What they start in order to end is left to them: each group is asked once, as it is then.
    let (mut first_done, mut others_done, mut again_done) = (false, asking.to_all, false);
    let mut empty_looks = 0;
    let mut orphans: Option<HashSet<(u32, u64)>> = None;
    let begun = read_monotonic_clock();
    let mut pause = MIN_POLL;
    // The first process is known without a look at all.
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
            // Who forks and ends without pause may be met by no single look. What it leaves behind comes
            // to the supervisor, and shows that it is there.
            let now = list_children(&ours.excluded, &table);
            let comes_and_goes =
                orphans.replace(now.clone()).is_some_and(|then| !now.is_subset(&then));
            empty_looks = if comes_and_goes { 0 } else { empty_looks + 1 };
            if table.is_exact || empty_looks >= EMPTY_SCANS {
                return Ok(ending(Vec::new()));
            }
            if waited >= timeout + KILL_TIMEOUT {
                let what = "something that comes and goes too fast to be held".to_owned();
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
        // While the first process is at it, there is nothing to do until the next of these moments.
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
                // One that may not be signalled is still there at the end, and is named then.
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
            // Whether it has ended, the next look says.
            let pause = match next {
                Some((_, at)) if is_left_to_it => *at - waited,
                _ => pause.min(remaining_wait(timeout, waited)),
            };
            let _has_ended = handle.wait_timeout(pause);
        }
        pause = (pause * 2).min(MAX_POLL);
    }
}

/// The children of these, those that have ended as well.
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

/// Which process this is, beyond doubt.
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
