//! Where the processes of a service listen, so that a probe asks them and nobody else.
//!
//! Mostly one process listens on a port, and is asked. Where several do, on 127.0.0.1 and on ::1 for one, the
//! one of the service is looked up. Where nobody does, it may listen elsewhere; that is looked up now and then,
//! because it takes a look at every process.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::teardown::{ProcessSelector, ProcessTable, find_members};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::ports;
use xtask_base::processes::ProcessIdentity;

/// How often it is looked up where a service listens instead.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(900);

/// What was found out last, and when.
pub type LastLookup = Arc<Mutex<Option<(Duration, Option<String>)>>>;

/// A service, by its processes.
#[derive(Clone)]
pub struct ListenerFinder {
    /// The table of processes.
    pub process_table: Arc<ProcessTable>,
    /// The token of its stack.
    pub token: String,
    /// Its name.
    pub service: String,
    /// Its first process.
    pub leaders: Vec<ProcessIdentity>,
    /// Its log.
    pub logs: Vec<(u64, u64)>,
    /// What was found out last.
    pub last: LastLookup,
}

impl ListenerFinder {
    /// The address at which a probe of this port should ask, where that can be told.
    #[must_use]
    pub fn find_address(&self, port: u16) -> Option<SocketAddr> {
        let there: BTreeSet<SocketAddr> = ports::list_listen_addresses(port).into_iter().collect();
        match there.len() {
            0 => None,
            1 => there.first().copied().map(to_loopback),
            _ => {
                let own = ports::list_process_addresses(&self.find_pids());
                own.into_iter().find(|at| at.port() == port).map(to_loopback)
            }
        }
    }

    /// Where else the service listens, in words; nothing where it does not, or that was looked up just now.
    #[must_use]
    pub fn describe_elsewhere(&self, port: u16) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = read_monotonic_clock();
        if let Some((at, words)) = &*last
            && now.saturating_sub(*at) < LOOKUP_INTERVAL
        {
            return words.clone();
        }
        let pids = self.find_pids();
        let own: BTreeSet<String> = ports::list_process_addresses(&pids)
            .into_iter()
            .filter(|at| at.port() != port)
            .map(|at| format!("port {} of {}", at.port(), at.ip()))
            .collect();
        let words = match (own.is_empty(), pids.is_empty()) {
            (false, _) => {
                let own: Vec<String> = own.into_iter().collect();
                Some(format!("it listens on {} instead", own.join(" and ")))
            }
            (true, true) => Some(
                "none of its processes is left: one that goes into the background must stay in the foreground \
                 (`daemon off;`, `--foreground`, …)"
                    .to_owned(),
            ),
            (true, false) => None,
        };
        *last = Some((now, words.clone()));
        words
    }

    fn find_pids(&self) -> BTreeSet<u32> {
        let ours = ProcessSelector {
            stack: &self.token,
            service: Some(&self.service),
            leaders: self.leaders.clone(),
            logs: self.logs.clone(),
            excluded: vec![std::process::id()],
            subreaper: None,
        };
        let table = self.process_table.read_snapshot().unwrap_or_default();
        find_members(&ours, &table).into_iter().map(|process| process.pid).collect()
    }
}

/// Who listens on all addresses is asked on the one of this machine.
fn to_loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
