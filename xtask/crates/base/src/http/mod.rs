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
mod server;
mod timed_stream;

pub use client::{
    HttpError, HttpResponse, check_connect, check_connect_at, get, get_at, get_head_at,
};
pub use server::{HttpReply, HttpRequest, HttpServer, RequestHandler, ServerHandle};

/// The maximum number of headers in a message.
const MOST_HEADERS: usize = 100;
