//! How much memory and processor time services use, with all their processes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::status::StackStatus;
use super::teardown::{ProcessSelector, ProcessSnapshot, ProcessTable, find_members, to_identity};
use xtask_base::environment::read_monotonic_clock;

/// The least time between two looks for the difference to say something.
const MIN_SAMPLE_INTERVAL: Duration = Duration::from_millis(500);

/// What a service uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceUsage {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Processor time since the last look, in percent of one processor.
    pub cpu: f64,
}

/// What was seen at the last look.
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
    /// What a service uses now; `uptime_ms` stands in where it was never looked at before.
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
            // A process that has ended took its time along.
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

/// Looks at what the services of a stack use.
#[derive(Clone)]
pub struct UsageMonitor {
    /// The kernel's table.
    pub process_table: Arc<ProcessTable>,
    /// What was seen in it before.
    pub cpu_history: Arc<CpuHistory>,
    token: Arc<str>,
}

impl UsageMonitor {
    /// For the stack of this token.
    #[must_use]
    pub fn new(token: &str) -> UsageMonitor {
        UsageMonitor {
            process_table: Arc::default(),
            cpu_history: Arc::default(),
            token: token.into(),
        }
    }

    /// Fills in what each service uses. Where the table cannot be read, it stays unknown.
    pub fn fill_usage(&self, page: &mut StackStatus) {
        let Ok(table) = self.process_table.read_snapshot() else { return };
        for row in &mut page.services {
            let Some(pid) = row.pid else { continue };
            let leader = table.processes.iter().find(|process| process.pid == pid);
            let ours = ProcessSelector {
                stack: &self.token,
                service: Some(&row.service),
                leaders: leader
                    .map(|process| to_identity(process, &table.boot))
                    .into_iter()
                    .collect(),
                logs: Vec::new(),
                excluded: vec![std::process::id()],
                subreaper: None,
            };
            let used = self.cpu_history.measure_service(&ours, &table, row.uptime_ms.unwrap_or(0));
            (row.memory, row.cpu) = (Some(used.memory), Some(used.cpu));
        }
    }
}
