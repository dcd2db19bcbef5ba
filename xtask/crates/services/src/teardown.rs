//! Stops the processes of a service, and proves that they are gone.
//!
//! Guarantee: only processes that `find_members` selects are signalled, each through a
//! `ProcessHandle`, which cannot come to mean another process.
//!
//! ```text
//! SIGTERM to the first process -> (exit, or half of the timeout) SIGTERM to the others
//!   -> (timeout) SIGKILL -> TeardownReport {survivors: [], killed: ["pid 7 (`sh`)"]}
//! ```

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use rustix::process::Signal;

use super::events::{StopMethod, TeardownReport};
use super::members::{ProcessSelector, ProcessSnapshot, ProcessTable, find_members, to_identity};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::error::Result;
use xtask_base::processes::{self, ProcessHandle, ProcessInfo};

/// How long a killed process may take to disappear. A process in an uninterruptible system call
/// takes longer, and is reported as a survivor.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Number of empty scans that count as proof while processes are being created.
const EMPTY_SCANS: u32 = 20;

/// Shortest and longest interval of scans during a stop.
const MIN_POLL: Duration = Duration::from_millis(2);
const MAX_POLL: Duration = Duration::from_millis(50);

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
    let mut teardown = Teardown::new(ours, asking, timeout, serves);
    teardown.signal_leader();
    let mut pause = MIN_POLL;
    loop {
        let table = census.read_snapshot()?;
        let members = find_members(ours, &table);
        let waited = teardown.waited();
        let is_late = waited >= timeout + KILL_TIMEOUT;
        if members.is_empty() {
            let is_proof = teardown.is_proof_of_end(&table);
            if is_proof || is_late {
                let hidden = "a process that forks and exits too fast to be signalled".to_owned();
                return Ok(teardown.report((!is_proof).then_some(hidden).into_iter().collect()));
            }
            std::thread::sleep(MIN_POLL);
            continue;
        }
        teardown.empty_scans = 0;
        if is_late {
            let left = members.iter().map(|process| describe_process(process, &table.boot));
            return Ok(teardown.report(left.collect()));
        }
        teardown.signal_and_wait(&members, &table, waited, pause);
        pause = (pause * 2).min(MAX_POLL);
    }
}

/// Pid and start time of a process.
type ProcessKey = (u32, u64);

/// Progress of `terminate_processes`. Processes that the others start in order to stop are left
/// alone: each group is signalled once.
struct Teardown<'a> {
    ours: &'a ProcessSelector<'a>,
    asking: StopMethod,
    signal: Signal,
    timeout: Duration,
    serves: &'a dyn Fn() -> bool,
    begun: Duration,
    /// Which groups were signalled: the first process, the others, and all of them again.
    first_done: bool,
    others_done: bool,
    again_done: bool,
    asked: HashSet<ProcessKey>,
    killed: BTreeMap<ProcessKey, String>,
    orphans: Option<HashSet<ProcessKey>>,
    empty_scans: u32,
}

impl<'a> Teardown<'a> {
    fn new(
        ours: &'a ProcessSelector<'a>,
        asking: StopMethod,
        timeout: Duration,
        serves: &'a dyn Fn() -> bool,
    ) -> Teardown<'a> {
        Teardown {
            ours,
            asking,
            signal: Signal::from_named_raw(asking.signal).unwrap_or(Signal::TERM),
            timeout,
            serves,
            begun: read_monotonic_clock(),
            first_done: false,
            others_done: asking.to_all,
            again_done: false,
            asked: HashSet::new(),
            killed: BTreeMap::new(),
            orphans: None,
            empty_scans: 0,
        }
    }

    fn waited(&self) -> Duration {
        read_monotonic_clock().saturating_sub(self.begun)
    }

    fn report(&self, survivors: Vec<String>) -> TeardownReport {
        TeardownReport { survivors, killed: self.killed.values().cloned().collect() }
    }

    /// Signals the first process, which needs no scan, and waits for it.
    fn signal_leader(&mut self) {
        let leader = self.ours.leaders.first().filter(|_| !self.asking.to_all);
        if let Some(leader) = leader
            && let Some(handle) = ProcessHandle::open(leader)
            && handle.send_signal(self.signal).is_ok()
        {
            self.asked.insert((leader.pid, leader.started));
            self.first_done = true;
            let _has_ended = handle.wait_timeout(self.timeout / 2);
        }
    }

    /// Returns whether a scan without members proves that there are none. No single scan may catch a
    /// process that forks and exits without pause; its orphans become children of the supervisor, and
    /// reveal it.
    fn is_proof_of_end(&mut self, table: &ProcessSnapshot) -> bool {
        let now = list_children(&self.ours.excluded, table);
        let before = self.orphans.replace(now.clone());
        let comes_and_goes = before.is_some_and(|before| !now.is_subset(&before));
        self.empty_scans = if comes_and_goes { 0 } else { self.empty_scans + 1 };
        table.is_exact || self.empty_scans >= EMPTY_SCANS
    }

    /// Signals those whose turn it is, and waits for one of them; the next scan shows whether it has
    /// exited.
    fn signal_and_wait(
        &mut self,
        members: &[&ProcessInfo],
        table: &ProcessSnapshot,
        waited: Duration,
        pause: Duration,
    ) {
        let timeout = self.timeout;
        let leads = |process: &ProcessInfo| {
            let mut leaders = self.ours.leaders.iter();
            leaders.any(|one| one.pid == process.pid && one.started == process.started)
        };
        let has_leader = members.iter().any(|process| leads(process));
        let asks_first = !self.first_done;
        let asks_others = !self.others_done && (!has_leader || waited >= timeout / 2);
        let asks_again = !self.again_done
            && self.signal == Signal::TERM
            && waited >= timeout * 3 / 4
            && waited < timeout
            && (self.serves)();
        // While the first process is stopping, wait for the next of these times.
        let times =
            [(self.others_done, timeout / 2), (self.again_done, timeout * 3 / 4), (false, timeout)];
        let next = times.iter().find(|(is_done, at)| !is_done && *at > waited);
        let is_left_to_it = has_leader && !self.asking.to_all && waited < timeout;
        let mut waits_for = None;
        for process in members {
            let Some(handle) = ProcessHandle::open(&to_identity(process, &table.boot)) else {
                continue;
            };
            let key = (process.pid, process.started);
            let is_first = self.asking.to_all || leads(process) || !has_leader;
            if waited >= timeout {
                // A process that must not be signalled still shows up as a survivor.
                self.killed.entry(key).or_insert_with(|| describe_process(process, &table.boot));
                handle.send_signal(Signal::KILL).ok();
            } else if asks_again
                || (asks_first && is_first || asks_others) && self.asked.insert(key)
            {
                handle.send_signal(self.signal).ok();
            }
            if waits_for.is_none() || is_left_to_it && leads(process) {
                waits_for = Some(handle);
            }
        }
        self.first_done = true;
        self.others_done |= asks_others;
        self.again_done |= asks_again;
        if let Some(handle) = waits_for {
            let pause = match next {
                Some((_, at)) if is_left_to_it => *at - waited,
                _ => pause.min(remaining_wait(timeout, waited)),
            };
            let _has_ended = handle.wait_timeout(pause);
        }
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

fn describe_process(process: &ProcessInfo, boot: &str) -> String {
    let who = to_identity(process, boot);
    let command =
        processes::describe_process(&who).map_or_else(|| process.name.clone(), |d| d.command);
    format!("pid {} (`{command}`)", process.pid)
}
