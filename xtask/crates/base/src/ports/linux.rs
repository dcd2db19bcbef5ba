//! The owners of ports by `/proc`: the tables of connections say which sockets have a port, and the open
//! files of processes who has which socket.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
use procfs::{ProcError, ProcResult};

use super::sock_diag::{self, ListeningSocket};
use super::{PortHolder, PortOwner};
use crate::error::{Result, ResultExt};
use crate::processes::{self, ProcessIdentity};

/// For how long a process that is being started may have the files of the one that starts it: a
/// thousandth of a second is usual.
const SPAWN_GRACE: Duration = Duration::from_millis(10);

/// A process that has a socket.
struct SocketOwner {
    inode: u64,
    user: u32,
    process: ProcessIdentity,
}

/// Who has any of these ports.
pub(super) fn find_holders(ports: &BTreeSet<u16>) -> Result<Vec<PortHolder>> {
    let sockets =
        list_sockets(ports).with_context(|| "the connections of this machine cannot be listed")?;
    let inodes: BTreeSet<u64> = sockets.iter().map(|socket| socket.inode).collect();
    let found = if inodes.is_empty() { Vec::new() } else { find_socket_owners(&inodes)? };
    let mut holders = Vec::new();
    for socket in &sockets {
        let holder = |user: u32, process: Option<ProcessIdentity>| PortHolder {
            port: socket.local_address.port(),
            is_listening: socket.state == TcpState::Listen,
            owner: PortOwner { user, process, address: format_address(socket.local_address) },
        };
        let its = found.iter().filter(|found| found.inode == socket.inode);
        let before = holders.len();
        holders.extend(its.map(|found| holder(found.user, Some(found.process.clone()))));
        if holders.len() == before {
            holders.push(holder(socket.uid, None));
        }
    }
    Ok(holders)
}

pub(super) fn list_listen_addresses(port: u16) -> Vec<SocketAddr> {
    list_listeners(Some(port)).into_iter().map(|one| one.address).collect()
}

pub(super) fn list_process_addresses(pids: &BTreeSet<u32>) -> Vec<SocketAddr> {
    let own: BTreeSet<u64> = pids.iter().flat_map(|pid| list_process_sockets(*pid)).collect();
    let listens = list_listeners(None).into_iter().filter(|one| own.contains(&one.inode));
    listens.map(|one| one.address).collect()
}

/// Those that listen, by the kernel's own question or, where it has none, by its table of connections.
fn list_listeners(port: Option<u16>) -> Vec<ListeningSocket> {
    if let Some(found) = sock_diag::query_listeners(port) {
        return found;
    }
    let all = tcp().unwrap_or_default().into_iter().chain(tcp6().unwrap_or_default());
    let listens = all.filter(|one| one.state == TcpState::Listen);
    let found = listens.map(|one| ListeningSocket { address: one.local_address, inode: one.inode });
    found.filter(|one| port.is_none_or(|port| one.address.port() == port)).collect()
}

/// The sockets that have any of these ports. Those that only wait to die belong to nobody any more.
fn list_sockets(ports: &BTreeSet<u16>) -> ProcResult<Vec<TcpNetEntry>> {
    let of_six = match tcp6() {
        // A machine without IPv6.
        Err(ProcError::NotFound(_)) => Vec::new(),
        listed => listed?,
    };
    let all = tcp()?.into_iter().chain(of_six);
    Ok(all.filter(|one| ports.contains(&one.local_address.port()) && one.inode != 0).collect())
}

fn format_address(address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The processes that have any of these sockets, of those whose files this user may see. Several may
/// share one.
fn find_socket_owners(inodes: &BTreeSet<u64>) -> Result<Vec<SocketOwner>> {
    let mut found = Vec::new();
    for process in processes::list_processes()? {
        for inode in
            list_process_sockets(process.pid).into_iter().filter(|inode| inodes.contains(inode))
        {
            let who = processes::identify_process(process.pid)
                .filter(|who| who.started == process.started);
            found.extend(who.map(|who| SocketOwner { inode, user: process.user, process: who }));
        }
    }
    let is_shared = |one: &SocketOwner| {
        found.iter().any(|other| other.inode == one.inode && other.process != one.process)
    };
    if found.iter().any(is_shared) {
        // Some may have been caught while they were started, and do not keep it.
        std::thread::sleep(SPAWN_GRACE);
    }
    // Who still has it, and was the same process in between, is beyond doubt.
    found.retain(|one| list_process_sockets(one.process.pid).contains(&one.inode));
    Ok(found)
}

/// The sockets that a process has open, as far as this user may see.
fn list_process_sockets(pid: u32) -> BTreeSet<u64> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let inode = |target: std::path::PathBuf| {
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    targets.filter_map(inode).collect()
}
