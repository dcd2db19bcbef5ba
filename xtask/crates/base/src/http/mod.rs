//! Minimal HTTP: a client for probes of local ports (`client.rs`) and a server for xtask's own
//! pages (`server.rs`).
//!
//! Headers are parsed by `httparse`. Each step is limited in time and size. A connection carries
//! one request and is then closed.
//!
//! The side that closes a connection first keeps its port in `TIME_WAIT` for a minute, and the next
//! start would find the port in use. So the server lets the client close first, and the client
//! resets a connection that the server has closed.

mod client;
mod connection_pool;
mod server;
mod timed_stream;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use client::{
    HttpError, HttpResponse, check_connect, check_connect_at, get, get_at, get_head_at,
};
pub use server::{
    EventStream, HttpReply, HttpRequest, HttpServer, RequestHandler, ServerEvent, ServerHandle,
};

/// The loopback addresses, in the order in which they are tried.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// The maximum number of headers in a message.
const MOST_HEADERS: usize = 100;
