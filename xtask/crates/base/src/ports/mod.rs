//! State and owners of TCP ports.
//!
//! Whether a port is free is determined by binding it as a server would, on IPv4 and IPv6. The
//! socket never listens, and is closed at once. Connections in `TIME_WAIT` do not count if a server
//! could bind the port despite them.
//!
//! Owners come from `linux.rs` (`/proc`, with `sock_diag.rs` for listeners) or from `lsof.rs`; both
//! have the same functions. For example, `describe_owners` returns:
//!
//! ```text
//! port 8000 is already in use by `python3 -m http.server` (pid 77, user ada, in `/srv`, started 2 hours ago)
//! ```

#[cfg(target_os = "linux")]
mod linux;
#[cfg(any(test, not(target_os = "linux")))]
mod lsof;
#[cfg(target_os = "linux")]
mod sock_diag;

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::environment::format_ago;
use super::error::{Result, ResultExt};
use super::processes::{ProcessDescription, ProcessIdentity, describe_process, find_user_name};
use super::words::sanitize_line;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use lsof as system;

/// The number of attempts to bind a port that is in use without a listener, and the pause between
/// them: another process may be trying the port at the same time, and holds it for a moment.
const MAX_BIND_TRIES: usize = 5;
const BIND_RETRY_PAUSE: Duration = Duration::from_millis(10);

/// The maximum number of owners in a message: a hundred processes of a server may share its port.
const MOST_NAMED: usize = 4;

/// The maximum number of characters shown of a folder.
const MAX_FOLDER_CHARS: usize = 200;

/// The wildcard and loopback addresses of both families.
const BIND_ADDRESSES: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The availability of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Available to a server.
    Free,
    /// Not in use, and not permitted to this user, such as ports below 1024.
    NotPermitted,
    /// Held by these owners. Empty if no owner is visible and the port still cannot be bound.
    InUse(Vec<PortOwner>),
}

/// A process or user that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// The user ID of the process, or of the socket if the process is unknown.
    pub user: u32,
    /// The process, or `None` if this user may not inspect it.
    pub process: Option<ProcessIdentity>,
    /// The bound address, e.g. `127.0.0.1` or `[::]`.
    pub address: String,
}

/// An owner together with its port.
struct PortHolder {
    port: u16,
    /// Whether the owner listens on the port, instead of only having a connection from it.
    is_listening: bool,
    owner: PortOwner,
}

/// The result of a trial `bind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BindResult {
    Free,
    NotPermitted,
    InUse,
}

/// Returns the state of one port.
pub fn inspect_port(port: u16) -> Result<PortState> {
    Ok(inspect_ports(&[port])?.pop().map_or(PortState::Free, |(_, listening)| listening))
}

/// Returns the addresses on which a process listens on `port`; empty if the system does not report
/// them.
#[must_use]
pub fn list_listen_addresses(port: u16) -> Vec<SocketAddr> {
    system::list_listen_addresses(port)
}

/// Returns the addresses on which the processes `pids` listen, as far as this user may see.
#[must_use]
pub fn list_process_addresses(pids: &BTreeSet<u32>) -> Vec<SocketAddr> {
    system::list_process_addresses(pids)
}

/// Returns the state of each port, in the order of `ports`. The processes are searched at most
/// once, and only if a port is in use.
pub fn inspect_ports(ports: &[u16]) -> Result<Vec<(u16, PortState)>> {
    let mut bound = Vec::new();
    for port in ports {
        bound.push((*port, try_bind(*port, &BIND_ADDRESSES[..2], Reuse::No)?));
    }
    let asked = bound.iter().filter(|(_, bound)| *bound != BindResult::Free).map(|(port, _)| *port);
    let asked: BTreeSet<u16> = asked.collect();
    let holders = if asked.is_empty() { Vec::new() } else { system::find_holders(&asked)? };
    bound
        .into_iter()
        .map(|(port, bound)| Ok((port, classify_port(port, bound, &holders)?)))
        .collect()
}

/// Classifies a port: listeners own it; without any, it is in use if a server could not bind it.
fn classify_port(port: u16, bound: BindResult, holders: &[PortHolder]) -> Result<PortState> {
    let owners = |is_listening: bool| {
        let its = holders.iter().filter(|one| one.port == port && one.is_listening == is_listening);
        its.map(|one| one.owner.clone()).collect::<Vec<_>>()
    };
    let listeners = owners(true);
    Ok(match bound {
        BindResult::Free => PortState::Free,
        _ if !listeners.is_empty() => PortState::InUse(listeners),
        BindResult::NotPermitted => PortState::NotPermitted,
        BindResult::InUse if stays_in_use(port)? => PortState::InUse(owners(false)),
        BindResult::InUse => PortState::Free,
    })
}

/// Returns whether even a server cannot bind the port, for longer than a concurrent probe like this
/// one takes.
fn stays_in_use(port: u16) -> Result<bool> {
    for attempt in 0..MAX_BIND_TRIES {
        if attempt > 0 {
            std::thread::sleep(BIND_RETRY_PAUSE);
        }
        // With `SO_REUSEADDR`, some systems see no conflict between a specific address and the
        // wildcard.
        if try_bind(port, &BIND_ADDRESSES, Reuse::Yes)? != BindResult::InUse {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether to bind with `SO_REUSEADDR`, as servers do to ignore connections in `TIME_WAIT`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Yes,
    No,
}

/// Binds `port` on each of `addresses` in turn, and closes each socket at once.
fn try_bind(port: u16, addresses: &[IpAddr], reuse: Reuse) -> Result<BindResult> {
    for address in addresses {
        match bind_once(SocketAddr::new(*address, port), reuse) {
            Ok(()) => {}
            Err(Errno::ADDRINUSE) => return Ok(BindResult::InUse),
            Err(Errno::ACCESS) => return Ok(BindResult::NotPermitted),
            // A machine without addresses of this family.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {}
            Err(cause) => {
                return Err(cause).with_context(|| format!("cannot bind port {port}"));
            }
        }
    }
    Ok(BindResult::Free)
}

fn bind_once(address: SocketAddr, reuse: Reuse) -> rustix::io::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = open_socket(family)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if reuse == Reuse::Yes {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)
}

/// Opens a socket that is not inherited by programs that other threads start concurrently.
fn open_socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    #[cfg(target_os = "linux")]
    let flags = SocketFlags::CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    let flags = SocketFlags::empty();
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    Ok(socket)
}

/// Formats the message that `port` is in use, with its owners.
#[must_use]
pub fn describe_owners(port: u16, owners: &[PortOwner]) -> String {
    // One process may hold several addresses.
    let mut seen = HashSet::new();
    let who = owners.iter().map(|owner| (owner.user, owner.process.as_ref()));
    let who: Vec<(u32, Option<&ProcessIdentity>)> = who.filter(|one| seen.insert(*one)).collect();
    let named = who.iter().take(MOST_NAMED).map(|(user, process)| match process {
        Some(process) => describe_owner(process),
        None => format!(
            "a process of user {} that this user may not inspect (`{}` shows it)",
            find_user_name(*user),
            owner_query_command(port)
        ),
    });
    let mut named: Vec<String> = named.collect();
    match who.len() {
        0 => {
            return format!(
                "port {port} is already in use, and no owner is visible: closing connections may \
                 hold it for some minutes (`{}` shows them)",
                owner_query_command(port)
            );
        }
        all if all > MOST_NAMED => named.push(format!("{} more", all - MOST_NAMED)),
        _ => {}
    }
    format!("port {port} is already in use by {}", named.join(" and by "))
}

fn describe_owner(process: &ProcessIdentity) -> String {
    let Some(told) = describe_process(process) else {
        return format!("a process that has just exited (pid {})", process.pid);
    };
    let folder = told.folder.as_ref().map_or_else(String::new, |folder| {
        format!(", in `{}`", sanitize_line(&folder.display().to_string(), MAX_FOLDER_CHARS))
    });
    let started = format_ago(i64::try_from(told.age_s).unwrap_or(i64::MAX), 0);
    let ProcessDescription { command, user, .. } = told;
    format!("`{command}` (pid {}, user {user}{folder}, started {started})", process.pid)
}

/// Returns the command with which root can see the owner of a port.
fn owner_query_command(port: u16) -> String {
    if cfg!(target_os = "linux") {
        format!("sudo ss -tanp 'sport = :{port}'")
    } else {
        format!("sudo lsof -nP -iTCP:{port}")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;
    use std::process::{Child, Stdio};

    use super::*;
    use crate::process::Program;
    use crate::processes::identify_process;

    fn port_of(listener: &TcpListener) -> u16 {
        listener.local_addr().unwrap().port()
    }

    fn owners(port: u16) -> Vec<PortOwner> {
        match inspect_port(port).unwrap() {
            PortState::InUse(owners) => owners,
            other => panic!("{other:?}"),
        }
    }

    /// The owners without those that other tests start at this very moment.
    fn owners_of(port: u16, pids: &[u32]) -> Vec<(u32, String)> {
        let pid = |owner: &PortOwner| owner.process.as_ref().map_or(0, |process| process.pid);
        let found = owners(port).into_iter().map(|owner| (pid(&owner), owner.address));
        found.filter(|(pid, _)| pids.contains(pid)).collect()
    }

    /// What other tests start may hold our files for a moment.
    fn soon_nobody(port: u16) {
        let free = (0..2000).any(|_| inspect_port(port).unwrap() == PortState::Free);
        assert!(free, "{:?}", inspect_port(port));
    }

    /// Children that have a listener as their input. They are ended with their test.
    struct Heirs(Vec<Child>);

    impl Heirs {
        fn of(listener: &TcpListener, count: usize) -> Heirs {
            let start = |_| {
                let mut sleep = Program::new("sleep", Path::new("/usr")).args(["600"]);
                let input = Stdio::from(OwnedFd::from(listener.try_clone().unwrap()));
                sleep.command_mut().stdin(input).spawn().unwrap()
            };
            Heirs((0..count).map(start).collect())
        }

        fn pids(&self) -> Vec<u32> {
            self.0.iter().map(Child::id).collect()
        }
    }

    impl Drop for Heirs {
        fn drop(&mut self) {
            for child in &mut self.0 {
                child.kill().and_then(|()| child.wait()).unwrap();
            }
        }
    }

    #[test]
    fn every_kind_of_listener_is_found_and_let_go_of() {
        let six_only = {
            let socket = open_socket(AddressFamily::INET6).unwrap();
            sockopt::set_ipv6_v6only(&socket, true).unwrap();
            bind(&socket, &SocketAddr::new(BIND_ADDRESSES[1], 0)).unwrap();
            rustix::net::listen(&socket, 1).unwrap();
            TcpListener::from(socket)
        };
        let bound = |address: &str| TcpListener::bind(address).unwrap();
        for (listener, address) in [
            (bound("127.0.0.1:0"), "127.0.0.1"),
            (bound("0.0.0.0:0"), "0.0.0.0"),
            (bound("[::1]:0"), "[::1]"),
            (bound("[::]:0"), "[::]"),
            (six_only, "[::]"),
        ] {
            let port = port_of(&listener);
            let own = std::process::id();
            assert_eq!(owners_of(port, &[own]), [(own, address.to_owned())]);
            let owner = owners(port).into_iter().next().unwrap();
            assert_eq!(owner.user, rustix::process::geteuid().as_raw());
            drop(listener);
            soon_nobody(port);
            // It was not left bound by us.
            TcpListener::bind(("0.0.0.0", port)).unwrap();
        }
    }

    #[test]
    fn all_who_share_a_listener_are_owners() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port_of(&listener);
        let heirs = Heirs::of(&listener, 6);
        drop(listener);
        let pids = heirs.pids();
        let mut found = owners_of(port, &pids);
        found.sort();
        let mut wanted: Vec<_> = pids.iter().map(|pid| (*pid, "127.0.0.1".to_owned())).collect();
        wanted.sort();
        assert_eq!(found, wanted);
        let all = owners(port);
        let said = describe_owners(port, &all);
        let user = find_user_name(rustix::process::geteuid().as_raw());
        let one = format!("port {port} is already in use by `sleep 600` (pid ");
        assert!(said.starts_with(&one), "{said}");
        let rest = format!(", user {user}, in `/usr`, started just now) and by `sleep 600` (pid ");
        assert_eq!(said.matches(&rest).count(), MOST_NAMED - 1, "{said}");
        assert!(said.ends_with(&format!(" and by {} more", all.len() - MOST_NAMED)), "{said}");
        drop(heirs);
        let said = describe_owners(port, &all[..1]);
        assert!(said.contains("a process that has just exited (pid "), "{said}");
        soon_nobody(port);
    }

    #[test]
    fn many_ports_keep_their_order() {
        let listeners = ["127.0.0.1:0", "[::1]:0"].map(|a| TcpListener::bind(a).unwrap());
        let free = port_of(&TcpListener::bind("127.0.0.1:0").unwrap());
        let ports = [port_of(&listeners[1]), free, port_of(&listeners[0])];
        let found = inspect_ports(&ports).unwrap();
        assert_eq!(found.iter().map(|(port, _)| *port).collect::<Vec<_>>(), ports);
        let is_taken = |at: usize| matches!(&found[at].1, PortState::InUse(who) if !who.is_empty());
        assert!(is_taken(0) && !is_taken(1) && is_taken(2), "{found:?}");
        assert_eq!(inspect_ports(&[]).unwrap(), []);
    }

    #[test]
    fn dying_connections_of_a_server_do_not_count() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = port_of(&listener);
        let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        // Who closes first has to wait.
        drop(server);
        drop(listener);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);
        let waits = |address| bind_once(SocketAddr::new(address, port), Reuse::No);
        soon_nobody(port);
        assert_eq!(waits(BIND_ADDRESSES[0]), Err(Errno::ADDRINUSE), "the connection waits to die");
        assert_eq!(inspect_port(port).unwrap(), PortState::Free);
    }

    #[test]
    fn a_port_that_no_server_can_have_is_taken_although_nobody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let port = client.local_addr().unwrap().port();
        let own = std::process::id();
        let seen = if cfg!(target_os = "linux") { vec![own] } else { Vec::new() };
        let wanted: Vec<_> = seen.iter().map(|pid| (*pid, "127.0.0.1".to_owned())).collect();
        assert_eq!(owners_of(port, &[own]), wanted);
        let socket = open_socket(AddressFamily::INET).unwrap();
        bind(&socket, &SocketAddr::new(BIND_ADDRESSES[2], 0)).unwrap();
        let port = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap().port();
        assert_eq!(inspect_port(port).unwrap(), PortState::InUse(Vec::new()));
        let said = describe_owners(port, &[]);
        assert!(
            said.starts_with(&format!("port {port} is already in use, and no owner is visible")),
            "{said}"
        );
        drop(socket);
        soon_nobody(port);
    }

    #[test]
    fn ports_that_need_privileges_are_told_apart() {
        for port in 1..30 {
            let found = inspect_port(port).unwrap();
            let by_library = TcpListener::bind(("0.0.0.0", port)).map_err(|cause| cause.kind());
            match by_library {
                Ok(_) => assert_eq!(found, PortState::Free, "{port}"),
                Err(std::io::ErrorKind::PermissionDenied) => {
                    let is_refused = matches!(found, PortState::NotPermitted | PortState::InUse(_));
                    assert!(is_refused, "{port}: {found:?}");
                }
                Err(_) => assert!(matches!(found, PortState::InUse(_)), "{port}: {found:?}"),
            }
        }
        let holders = |is_listening| {
            let owner = PortOwner { user: 0, process: None, address: "[::]".to_owned() };
            [PortHolder { port: 80, is_listening, owner }]
        };
        let judged = |is_listening| {
            classify_port(80, BindResult::NotPermitted, &holders(is_listening)).unwrap()
        };
        assert_eq!(judged(false), PortState::NotPermitted);
        assert!(matches!(judged(true), PortState::InUse(owners) if owners.len() == 1));
    }

    #[test]
    fn who_cannot_be_seen_is_told_with_the_command_that_shows_them() {
        let unseen =
            |address: &str| PortOwner { user: 0, process: None, address: address.to_owned() };
        let shows = owner_query_command(8000);
        let root =
            format!("a process of user root that this user may not inspect (`{shows}` shows it)");
        // Both addresses are of one server.
        assert_eq!(
            describe_owners(8000, &[unseen("0.0.0.0"), unseen("[::]")]),
            format!("port 8000 is already in use by {root}")
        );
        let own = PortOwner { process: identify_process(std::process::id()), ..unseen("[::1]") };
        let said = describe_owners(8000, &[own, unseen("0.0.0.0")]);
        assert!(said.ends_with(&format!(") and by {root}")), "{said}");
    }
}
