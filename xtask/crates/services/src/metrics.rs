//! Measures memory and CPU usage of services, including all their processes, e.g.
//! `ServiceUsage { memory: 12_582_912, cpu: 3.5 }`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::members::{ProcessSelector, ProcessSnapshot, ProcessTable, find_members, to_identity};
use super::status::StackStatus;
use xtask_base::environment::read_monotonic_clock;

/// Minimum time between two samples for a meaningful difference.
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// Resource usage of a service.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceUsage {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// CPU time since the last sample, in percent of one CPU.
    pub cpu: f64,
}

/// Last sample of each service.
#[derive(Default)]
pub struct CpuHistory {
    last: Mutex<HashMap<String, CpuSample>>,
}

#[derive(Clone, Copy)]
struct CpuSample {
    at: Duration,
    cpu_ms: u64,
    percent: f64,
}

impl CpuHistory {
    /// Measures a service now. The first time, CPU usage is averaged over `uptime_ms`.
    pub fn measure_service(
        &self,
        ours: &ProcessSelector<'_>,
        table: &ProcessSnapshot,
        uptime_ms: u64,
    ) -> ServiceUsage {
        let members = find_members(ours, table);
        let memory = members.iter().map(|process| process.memory).sum();
        let cpu_ms: u64 = members.iter().map(|process| process.cpu_ms).sum();
        let name = ours.service.unwrap_or_default().to_owned();
        let now = read_monotonic_clock();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = |spent: u64, over: u64| 100.0 * spent as f64 / over.max(1) as f64;
        let seen = match last.get(&name) {
            // A process that has exited takes its CPU time along.
            Some(seen) if cpu_ms >= seen.cpu_ms => {
                let over = now.saturating_sub(seen.at);
                if over < MIN_SAMPLE_INTERVAL {
                    *seen
                } else {
                    let spent = cpu_ms - seen.cpu_ms;
                    let over = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
                    CpuSample { at: now, cpu_ms, percent: percent(spent, over) }
                }
            }
            _ => CpuSample { at: now, cpu_ms, percent: percent(cpu_ms, uptime_ms) },
        };
        last.insert(name, seen);
        ServiceUsage { memory, cpu: (seen.percent * 10.0).round() / 10.0 }
    }
}

/// Monitor of the resource usage of a stack.
#[derive(Clone)]
pub struct UsageMonitor {
    pub process_table: Arc<ProcessTable>,
    pub cpu_history: Arc<CpuHistory>,
    token: Arc<str>,
}

impl UsageMonitor {
    /// Creates a monitor for the stack with this token.
    #[must_use]
    pub fn new(token: &str) -> UsageMonitor {
        UsageMonitor {
            process_table: Arc::default(),
            cpu_history: Arc::default(),
            token: token.into(),
        }
    }

    /// Fills in the usage of each service. It stays `None` if the process table cannot be read.
    pub fn fill_usage(&self, page: &mut StackStatus) {
        let Ok(table) = self.process_table.read_snapshot() else { return };
        for row in &mut page.services {
            let Some(pid) = row.pid else { continue };
            let leader = table.processes.iter().find(|process| process.pid == pid);
            let leader = leader.map(|process| to_identity(process, &table.boot));
            let ours = ProcessSelector::for_service(&self.token, &row.service, leader, Vec::new());
            let used = self.cpu_history.measure_service(&ours, &table, row.uptime_ms.unwrap_or(0));
            (row.memory, row.cpu) = (Some(used.memory), Some(used.cpu));
        }
    }
}
