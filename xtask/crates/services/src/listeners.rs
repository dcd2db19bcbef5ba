//! Finds the addresses on which the processes of a service listen, so that a probe reaches this
//! service and no other.
//!
//! Usually one process listens on a port, and is probed. If several do, e.g. on 127.0.0.1 and on
//! ::1, the one of the service is looked up. If none does, the service may listen on another port;
//! that is looked up only every `LOOKUP_INTERVAL`, because it inspects every process.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::members::{ProcessSelector, ProcessTable, find_members};
use xtask_base::environment::read_monotonic_clock;
use xtask_base::files::FileId;
use xtask_base::ports;
use xtask_base::processes::ProcessIdentity;

/// Interval of lookups of other ports.
const LOOKUP_INTERVAL: Duration = Duration::from_millis(900);

/// Time and result of the last lookup.
pub type LastLookup = Arc<Mutex<Option<(Duration, Option<String>)>>>;

/// Finder of the listening sockets of one service.
#[derive(Clone)]
pub struct ListenerFinder {
    pub process_table: Arc<ProcessTable>,
    /// Token of the stack.
    pub token: String,
    /// Name of the service.
    pub service: String,
    /// First process of the service.
    pub leader: Option<ProcessIdentity>,
    /// Files of its log, by device and inode.
    pub logs: Vec<FileId>,
    /// Last result of `describe_elsewhere`.
    pub last: LastLookup,
}

impl ListenerFinder {
    /// Returns the address that a probe of `port` should connect to, if it can be determined.
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

    /// Returns a message about other ports that the service listens on; `None` if there are none.
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
                "none of its processes is running: a service must stay in the foreground \
                 (`daemon off;`, `--foreground`, …)"
                    .to_owned(),
            ),
            (true, false) => None,
        };
        *last = Some((now, words.clone()));
        words
    }

    fn find_pids(&self) -> BTreeSet<u32> {
        let (leader, logs) = (self.leader.clone(), self.logs.clone());
        let ours = ProcessSelector::for_service(&self.token, &self.service, leader, logs);
        let table = self.process_table.read_snapshot().unwrap_or_default();
        find_members(&ours, &table).into_iter().map(|process| process.pid).collect()
    }
}

/// Replaces an unspecified address (all interfaces) by the loopback address.
fn to_loopback(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
