//! Where the processes of a service listen, so that a probe asks them and nobody else.
//!
//! Mostly one process listens on a port, and is asked. Where several do, on 127.0.0.1 and on ::1 for one, the
//! one of the service is looked up. Where nobody does, it may listen elsewhere; that is looked up now and then,
//! because it takes a look at every process.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::ending::{Census, Ours, members};
use xtask_base::ports;
use xtask_base::processes::Identity;
use xtask_base::world::steady;

/// How often it is looked up where a service listens instead.
const NOW_AND_THEN: Duration = Duration::from_millis(900);

/// What was found out last, and when.
pub type Last = Arc<Mutex<Option<(Duration, Option<String>)>>>;

/// A service, by its processes.
#[derive(Clone)]
pub struct Reach {
    /// The table of processes.
    pub census: Arc<Census>,
    /// The token of its stack.
    pub token: String,
    /// Its name.
    pub service: String,
    /// Its first process.
    pub leaders: Vec<Identity>,
    /// Its log.
    pub logs: Vec<(u64, u64)>,
    /// What was found out last.
    pub last: Last,
}

impl Reach {
    /// The address at which a probe of this port should ask, where that can be told.
    #[must_use]
    pub fn address(&self, port: u16) -> Option<SocketAddr> {
        let there: BTreeSet<SocketAddr> = ports::listening(port).into_iter().collect();
        match there.len() {
            0 => None,
            1 => there.first().copied().map(asked_at),
            _ => {
                let own = ports::listened_by(&self.pids());
                own.into_iter().find(|at| at.port() == port).map(asked_at)
            }
        }
    }

    /// Where else the service listens, in words; nothing where it does not, or that was looked up just now.
    #[must_use]
    pub fn elsewhere(&self, port: u16) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = steady();
        if let Some((at, words)) = &*last
            && now.saturating_sub(*at) < NOW_AND_THEN
        {
            return words.clone();
        }
        let pids = self.pids();
        let own: BTreeSet<String> = ports::listened_by(&pids)
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

    fn pids(&self) -> BTreeSet<u32> {
        let ours = Ours {
            stack: &self.token,
            service: Some(&self.service),
            leaders: self.leaders.clone(),
            logs: self.logs.clone(),
            spared: vec![std::process::id()],
            heir: None,
        };
        let table = self.census.look().unwrap_or_default();
        members(&ours, &table).into_iter().map(|process| process.pid).collect()
    }
}

/// Who listens on all addresses is asked on the one of this machine.
fn asked_at(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
