//! How much memory and processor time services use, with all their processes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ending::{Census, Ours, Table, identity, members};
use super::page::Page;
use xtask_base::world::steady;

/// The least time between two looks for the difference to say something.
const LEAST: Duration = Duration::from_millis(500);

/// What a service uses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// Resident memory, in bytes.
    pub memory: u64,
    /// Processor time since the last look, in percent of one processor.
    pub cpu: f64,
}

/// What was seen at the last look.
#[derive(Default)]
pub struct Usage {
    last: Mutex<HashMap<String, Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    at: Duration,
    cpu_ms: u64,
    percent: f64,
}

impl Usage {
    /// What a service uses now; `uptime_ms` stands in where it was never looked at before.
    pub fn of(&self, ours: &Ours<'_>, table: &Table, uptime_ms: u64) -> Used {
        let members = members(ours, table);
        let memory = members.iter().map(|process| process.memory).sum();
        let cpu_ms: u64 = members.iter().map(|process| process.cpu_ms).sum();
        let name = ours.service.unwrap_or_default().to_owned();
        let now = steady();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = |spent: u64, over: u64| 100.0 * spent as f64 / over.max(1) as f64;
        let seen = match last.get(&name) {
            // A process that has ended took its time along.
            Some(seen) if cpu_ms >= seen.cpu_ms => {
                let over = now.saturating_sub(seen.at);
                if over < LEAST {
                    *seen
                } else {
                    let spent = cpu_ms - seen.cpu_ms;
                    let over = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
                    Seen { at: now, cpu_ms, percent: percent(spent, over) }
                }
            }
            _ => Seen { at: now, cpu_ms, percent: percent(cpu_ms, uptime_ms) },
        };
        last.insert(name, seen);
        Used { memory, cpu: (seen.percent * 10.0).round() / 10.0 }
    }
}

/// Looks at what the services of a stack use.
#[derive(Clone)]
pub struct Looker {
    /// The kernel's table.
    pub census: Arc<Census>,
    /// What was seen in it before.
    pub usage: Arc<Usage>,
    token: Arc<str>,
}

impl Looker {
    /// For the stack of this token.
    #[must_use]
    pub fn new(token: &str) -> Looker {
        Looker { census: Arc::default(), usage: Arc::default(), token: token.into() }
    }

    /// Fills in what each service uses. Where the table cannot be read, it stays unknown.
    pub fn fill(&self, page: &mut Page) {
        let Ok(table) = self.census.look() else { return };
        for row in &mut page.services {
            let Some(pid) = row.pid else { continue };
            let leader = table.processes.iter().find(|process| process.pid == pid);
            let ours = Ours {
                stack: &self.token,
                service: Some(&row.service),
                leaders: leader.map(|process| identity(process, &table.boot)).into_iter().collect(),
                logs: Vec::new(),
                spared: vec![std::process::id()],
                heir: None,
            };
            let used = self.usage.of(&ours, &table, row.uptime_ms.unwrap_or(0));
            (row.memory, row.cpu) = (Some(used.memory), Some(used.cpu));
        }
    }
}
