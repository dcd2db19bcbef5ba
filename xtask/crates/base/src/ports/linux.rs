//! Owners of ports from `/proc`: the TCP tables list the sockets of a port, and the open files of
//! processes show who has a socket. For example:
//!
//! ```text
//! /proc/net/tcp   127.0.0.1:8000, inode 51234
//! /proc/77/fd/3 -> socket:[51234]               process 77 holds port 8000
//! ```

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
use procfs::{ProcError, ProcResult};

use super::sock_diag::{self, ListeningSocket};
use super::{PortHolder, PortOwner};
use crate::error::{Result, ResultExt};
use crate::processes::{self, ProcessIdentity};

/// The time for which a new process may still have the files of its parent; a millisecond is
/// typical.
const SPAWN_GRACE: Duration = Duration::from_millis(10);

/// A process that has a socket open.
struct SocketOwner {
    inode: u64,
    user: u32,
    process: ProcessIdentity,
}

/// Returns the holders of any of `ports`.
pub(super) fn find_holders(ports: &BTreeSet<u16>) -> Result<Vec<PortHolder>> {
    let sockets = list_sockets(ports).with_context(|| "cannot list TCP connections")?;
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

/// Returns the listening sockets, from [`sock_diag`] or, if the kernel does not support it, from
/// `/proc/net/tcp` and `/proc/net/tcp6`.
fn list_listeners(port: Option<u16>) -> Vec<ListeningSocket> {
    if let Some(found) = sock_diag::query_listeners(port) {
        return found;
    }
    let all = tcp().unwrap_or_default().into_iter().chain(tcp6().unwrap_or_default());
    let listens = all.filter(|one| one.state == TcpState::Listen);
    let found = listens.map(|one| ListeningSocket { address: one.local_address, inode: one.inode });
    found.filter(|one| port.is_none_or(|port| one.address.port() == port)).collect()
}

/// Returns the sockets bound to any of `ports`. Closing sockets, such as those in `TIME_WAIT`, have
/// inode 0 and no owner, and are left out.
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

/// Returns the processes that have any of the sockets `inodes` open, limited to those whose files
/// this user may see. Several may share a socket.
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
        // Some were just being started and do not keep the socket.
        std::thread::sleep(SPAWN_GRACE);
    }
    // A process that still has the socket, and was the same process in between, is certain.
    found.retain(|one| list_process_sockets(one.process.pid).contains(&one.inode));
    Ok(found)
}

/// Returns the inodes of the sockets that the process `pid` has open, as far as this user may see.
fn list_process_sockets(pid: u32) -> BTreeSet<u64> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = files.filter_map(|file| std::fs::read_link(file.path()).ok());
    let inode = |target: std::path::PathBuf| {
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    targets.filter_map(inode).collect()
}
