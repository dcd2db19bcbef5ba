//! Listening sockets from the kernel's `sock_diag(7)` interface (Linux 3.3). It visits only the few
//! sockets that listen; reading `/proc/net/tcp` walks the table of all connections, which takes a
//! hundred times as long. For example, a server on port 8000 is `ListeningSocket { address:
//! 127.0.0.1:8000, inode: 51234 }`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListeningSocket {
    pub address: SocketAddr,
    pub inode: u64,
}

// From <linux/netlink.h>, <linux/sock_diag.h> and <linux/inet_diag.h>.
const REQUEST_AND_DUMP: u16 = 0x301;
const BY_FAMILY: u16 = 20;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const TCP: u8 = 6;
const LISTENING: u32 = 1 << 10;
const FAMILIES: [(u8, usize); 2] = [(2, 4), (10, 16)];

/// The lengths of a netlink header and of the reply for one socket, in bytes.
const HEADER_LEN: usize = 16;
const SOCKET_LEN: usize = 72;

/// Returns the sockets that listen on `port`, or on any port if `None`. Returns `None` if the
/// kernel does not support the query.
pub(super) fn query_listeners(port: Option<u16>) -> Option<Vec<ListeningSocket>> {
    let kernel = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    );
    let kernel = kernel.ok()?;
    let mut found = Vec::new();
    for (family, length) in FAMILIES {
        send(&kernel, &build_query(family, port), SendFlags::empty()).ok()?;
        receive_replies(&kernel, length, &mut found)?;
    }
    found.retain(|one| port.is_none_or(|port| one.address.port() == port));
    Some(found)
}

fn build_query(family: u8, port: Option<u16>) -> Vec<u8> {
    let mut text = Vec::with_capacity(HEADER_LEN + 56);
    text.extend(72_u32.to_ne_bytes());
    text.extend(BY_FAMILY.to_ne_bytes());
    text.extend(REQUEST_AND_DUMP.to_ne_bytes());
    // Sequence number and sender: there is one query at a time, and the kernel knows the sender.
    text.extend([0; 8]);
    text.extend([family, TCP, 0, 0]);
    text.extend(LISTENING.to_ne_bytes());
    text.extend(port.unwrap_or(0).to_be_bytes());
    text.extend([0; 46]);
    text
}

/// Reads the replies to one query into `found`; `length` is that of an address in bytes, 4 or 16.
/// Returns `None` for an error or an invalid reply.
fn receive_replies(
    kernel: &OwnedFd,
    length: usize,
    found: &mut Vec<ListeningSocket>,
) -> Option<()> {
    let mut room = vec![0; 32 << 10];
    loop {
        let (said, _) = recv(kernel, &mut room[..], RecvFlags::empty()).ok()?;
        let mut rest = room.get(..said)?;
        while !rest.is_empty() {
            let size = usize::try_from(u32::from_ne_bytes(read_array(rest, 0)?)).ok()?;
            let kind = u16::from_ne_bytes(read_array(rest, 4)?);
            match kind {
                DONE => return Some(()),
                ERROR => return None,
                _ => found.push(parse_socket(
                    rest.get(HEADER_LEN..size.max(HEADER_LEN + SOCKET_LEN))?,
                    length,
                )?),
            }
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn parse_socket(text: &[u8], length: usize) -> Option<ListeningSocket> {
    let port = u16::from_be_bytes(read_array(text, 4)?);
    let ip = match length {
        4 => IpAddr::V4(Ipv4Addr::from(read_array::<4>(text, 8)?)),
        _ => IpAddr::V6(Ipv6Addr::from(read_array::<16>(text, 8)?)),
    };
    let inode = u64::from(u32::from_ne_bytes(read_array(text, 68)?));
    Some(ListeningSocket { address: SocketAddr::new(ip, port), inode })
}

fn read_array<const N: usize>(text: &[u8], at: usize) -> Option<[u8; N]> {
    text.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_kernel_names_those_that_listen() {
        let four = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = four.local_addr().unwrap().port();
        // A kernel may have been built without.
        let Some(all) = query_listeners(None) else { return };
        assert!(all.iter().any(|one| one.address == four.local_addr().unwrap()));
        let only = query_listeners(Some(port)).unwrap();
        assert!(only.iter().any(|one| one.address == four.local_addr().unwrap() && one.inode > 0));
        assert!(only.iter().all(|one| one.address.port() == port));
        if let Ok(six) = TcpListener::bind(("::1", port)) {
            let both = query_listeners(Some(port)).unwrap();
            assert!(both.iter().any(|one| one.address == six.local_addr().unwrap()));
        }
        // It is asked with a connection open, which does not listen.
        let _open = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(
            query_listeners(Some(port)).unwrap().iter().filter(|one| one.address.is_ipv4()).count(),
            1
        );
        drop(four);
    }
}
