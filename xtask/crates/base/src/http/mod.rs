//! The little of HTTP that probes and local pages need: a question to a port of this machine
//! (`ask.rs`), and a small server for pages of our own (`server.rs`).
//!
//! Headers are read by `httparse`. Every step has a bound of time and of size, and a connection
//! carries one request and is closed.
//!
//! Whoever closes a connection first keeps its port busy for a minute (`TIME_WAIT`), and a port that
//! is busy looks taken to the next start. So the server lets the other side close first, and who asks
//! resets a connection that the other side has closed.

mod client;
mod server;
mod timed_stream;

pub use client::{
    HttpError, HttpResponse, check_connect, check_connect_at, get, get_at, get_head_at,
};
pub use server::{HttpReply, HttpRequest, HttpServer, RequestHandler, ServerHandle};

/// How many headers a message may have.
const MOST_HEADERS: usize = 100;
