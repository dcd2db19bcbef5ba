//! HTTP server for xtask's own pages, on the loopback addresses only.
//!
//! Answers `GET` and `HEAD`, one request per connection, and only for the hosts `localhost`,
//! `127.0.0.1` and `[::1]`: a foreign web page can neither reach it under its own name (DNS
//! rebinding) nor read its replies, and a script of one is refused by its `Origin`. For example:
//!
//! ```text
//! GET /status + Host: localhost:8080                               -> 200
//! GET /status + Host: evil.example                                 -> 403
//! GET /status + Host: localhost:8080, Origin: http://evil.example  -> 403
//! GET /status + Host: localhost:8080, Sec-Fetch-Site: cross-site   -> 403, unless a link leads there
//! ```
//!
//! A reply may go on as a stream of server-sent events ([`EventStream`]), until the client or the
//! server ends it. At most 8 streams are open at once, and one whose client reads nothing for 5
//! seconds ends.
//!
//! At most 16 connections are open at once, each for at most 5 seconds besides the time that its
//! handler takes. One more displaces the
//! oldest connection that has not sent its request yet or has already received its reply; if all
//! are being answered, it waits in the system's backlog. So idle clients cannot lock others out.
//!
//! An idle server uses no CPU: its only thread waits without a timeout for a connection, or for the
//! end of a pipe, which stops the server. Other threads live only as long as their connection.

use std::io::{ErrorKind, PipeReader, PipeWriter, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use httparse::{EMPTY_HEADER, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;

use super::connection_pool::{ConnectionPool, ConnectionSlot};
use super::timed_stream::TimedStream;
use super::{LOOPBACK, MOST_HEADERS};
use crate::deadline::Deadline;
use crate::error::{Error, Result, ResultExt};

/// The maximum duration of a connection: 5 seconds.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// The maximum time for a client to close after its reply: 1 second.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The maximum length of a request head: 16 KiB.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// The stack size of each server thread: 1 MiB, of which a thread takes what it uses.
const STACK_BYTES: usize = 1 << 20;

/// The pause before the next `accept` when the system is out of resources: 100 ms.
const ACCEPT_RETRY_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// The number of attempts to find a port that is free on both addresses.
const MAX_BIND_TRIES: usize = 20;

/// The `Content-Security-Policy` of HTML replies: inline style and script, and requests to the same
/// server. External data never enters a page as markup.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; connect-src 'self'; img-src data:; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET` or `HEAD`. Handlers answer both alike; the server omits the body for `HEAD`.
    pub method: String,
    /// The path as sent, from the first `/`, without the query.
    pub path: String,
    /// The text after the first `?`, or an empty string.
    pub query: String,
}

/// The interval of comments in a stream without events, which show whether the client is there: 15
/// seconds.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// The status code, one that comes with a body, e.g. 200.
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
    /// The `Content-Security-Policy` of an HTML reply, if it is not that of all pages.
    pub policy: Option<String>,
    /// The events that follow the body.
    pub events: Option<EventStream>,
}

/// A stream of server-sent events.
#[derive(Clone)]
pub struct EventStream {
    /// The pause between two questions for the next event.
    pub interval: Duration,
    /// Returns the next event, or `None` if there is nothing new.
    pub next: Arc<dyn Fn() -> Option<ServerEvent> + Send + Sync>,
}

/// A server-sent event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerEvent {
    /// The type of the event, on which a script listens; a word.
    pub name: &'static str,
    pub data: String,
    /// Where the client is after it, which it may say when it comes back.
    pub id: Option<u64>,
}

impl ServerEvent {
    /// Renders the event as it is sent: each line of the data on a `data:` line of its own.
    fn to_text(&self) -> String {
        let mut text = format!("event: {}\n", self.name);
        if let Some(id) = self.id {
            text.push_str(&format!("id: {id}\n"));
        }
        for line in self.data.split(['\n', '\r']) {
            text.push_str(&format!("data: {line}\n"));
        }
        text.push('\n');
        text
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventStream").field("interval", &self.interval).finish_non_exhaustive()
    }
}

impl PartialEq for EventStream {
    fn eq(&self, other: &EventStream) -> bool {
        Arc::ptr_eq(&self.next, &other.next)
    }
}

impl Eq for EventStream {}

impl HttpReply {
    /// Creates a JSON reply.
    #[must_use]
    pub fn json<T: Serialize>(status: u16, value: &T) -> HttpReply {
        let body =
            serde_json::to_vec(value).expect("because replies hold nothing that JSON cannot");
        HttpReply::new(status, "application/json", body)
    }

    /// Creates a reply of any type.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, body: Vec<u8>) -> HttpReply {
        HttpReply { status, content_type, body, policy: None, events: None }
    }

    /// Creates a reply that is a stream of events.
    #[must_use]
    pub fn events(events: EventStream) -> HttpReply {
        let reply = HttpReply::new(200, "text/event-stream", Vec::new());
        HttpReply { events: Some(events), ..reply }
    }

    /// Creates a plain-text reply.
    #[must_use]
    pub fn text(status: u16, text: impl Into<String>) -> HttpReply {
        HttpReply::new(status, "text/plain; charset=utf-8", text.into().into_bytes())
    }

    /// Creates an HTML reply.
    #[must_use]
    pub fn html(status: u16, page: &str) -> HttpReply {
        HttpReply::new(status, "text/html; charset=utf-8", page.as_bytes().to_vec())
    }

    fn head(&self) -> Vec<u8> {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n\
             Cross-Origin-Resource-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n",
            self.status,
            reason_phrase(self.status),
            self.content_type,
        );
        // The end of a stream is that of the connection.
        if self.events.is_none() {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        if self.content_type.starts_with("text/html") {
            let policy = self.policy.as_deref().unwrap_or(PAGE_POLICY);
            head.push_str(&format!("Content-Security-Policy: {policy}\r\n"));
        }
        if self.status == 405 {
            head.push_str("Allow: GET, HEAD\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}

/// A function from a request to a reply. A client waits for as long as it takes.
pub type RequestHandler = dyn Fn(&HttpRequest) -> HttpReply + Send + Sync;

/// A server that is bound and does not accept yet: clients wait in the backlog.
#[derive(Debug)]
pub struct HttpServer {
    listeners: Vec<TcpListener>,
    port: u16,
}

impl HttpServer {
    /// Binds `port` on 127.0.0.1 and, if the machine has IPv6, on ::1; with 0 the system chooses a
    /// port. Returns an error if the port is in use on either address.
    pub fn bind(port: u16) -> Result<HttpServer> {
        let [first, second] = LOOPBACK;
        for _ in 0..MAX_BIND_TRIES {
            let one = bind_listener(first, port).map_err(|cause| bind_error(first, port, cause))?;
            let chosen =
                one.local_addr().with_context(|| "cannot read the port of a bound socket")?;
            let chosen = chosen.port();
            match bind_listener(second, chosen) {
                Ok(other) => return Ok(HttpServer { listeners: vec![one, other], port: chosen }),
                Err(cause) if is_address_unavailable(&cause) => {
                    return Ok(HttpServer { listeners: vec![one], port: chosen });
                }
                Err(cause) if port == 0 && cause.kind() == ErrorKind::AddrInUse => {}
                Err(cause) => return Err(bind_error(second, chosen, cause)),
            }
        }
        Err(Error::unable("no port is free on both 127.0.0.1 and ::1"))
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Serves in background threads until the returned [`ServerHandle`] is dropped.
    pub fn serve(self, answer: Arc<RequestHandler>) -> Result<ServerHandle> {
        let unable = || format!("cannot serve on port {}", self.port);
        let (stopped, stop) = std::io::pipe().with_context(unable)?;
        let port = self.port;
        let pool = Arc::new(ConnectionPool::default());
        let shared = Arc::clone(&pool);
        let acceptor = Acceptor { listeners: self.listeners, stopped };
        let thread = Builder::new()
            .name(format!("http:{port}"))
            .stack_size(STACK_BYTES)
            .spawn(move || acceptor.accept_connections(&shared, &answer))
            .with_context(unable)?;
        Ok(ServerHandle { port, pool, stop: Some(stop), thread: Some(thread) })
    }
}

fn bind_listener(address: IpAddr, port: u16) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::new(address, port))?;
    // A client may disconnect between `poll` and `accept`, which must not block then.
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn is_address_unavailable(cause: &std::io::Error) -> bool {
    cause.kind() == ErrorKind::AddrNotAvailable
        || Errno::from_io_error(cause) == Some(Errno::AFNOSUPPORT)
}

fn bind_error(address: IpAddr, port: u16, cause: std::io::Error) -> Error {
    if cause.kind() == ErrorKind::AddrInUse {
        return Error::unable(format!("port {port} is already in use on {address}"));
    }
    Error::unable(format!("cannot listen on port {port} of {address}")).with_cause(cause)
}

/// A running server. Dropping it closes its connections, ends its threads and frees its port; a
/// handler that is running has five seconds to return.
#[derive(Debug)]
pub struct ServerHandle {
    port: u16,
    pool: Arc<ConnectionPool>,
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl ServerHandle {
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for ServerHandle {
    fn drop(&mut self) {
        self.pool.close();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread leaves no work to do here.
            thread.join().ok();
        }
        self.pool.wait_until_empty(CONNECTION_TIMEOUT);
    }
}

/// The accept loop over all listeners.
struct Acceptor {
    listeners: Vec<TcpListener>,
    /// Reaches its end when the server is to stop.
    stopped: PipeReader,
}

impl Acceptor {
    fn accept_connections(&self, pool: &Arc<ConnectionPool>, answer: &Arc<RequestHandler>) {
        loop {
            let waits = self.listeners.iter().map(|one| PollFd::new(one, PollFlags::IN));
            let stopped = PollFd::new(&self.stopped, PollFlags::IN);
            let mut waits: Vec<PollFd<'_>> = waits.chain([stopped]).collect();
            match poll(&mut waits, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => self.pause(),
            }
            for listener in &self.listeners {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let stream = Arc::new(stream);
                        let Some(slot) = ConnectionPool::admit_connection(pool, &stream) else {
                            return;
                        };
                        let answer = Arc::clone(answer);
                        // Without a thread for it, the connection is closed.
                        drop(Builder::new().stack_size(STACK_BYTES).spawn(move || {
                            serve_connection(stream, &slot, &*answer);
                            drop(slot);
                        }));
                    }
                    Err(cause) => match cause.kind() {
                        ErrorKind::WouldBlock
                        | ErrorKind::Interrupted
                        | ErrorKind::ConnectionAborted => {}
                        _ => self.pause(),
                    },
                }
            }
            if pool.is_closing() {
                return;
            }
        }
    }

    /// Waits for `ACCEPT_RETRY_PAUSE`, or until the server is to stop.
    fn pause(&self) {
        let mut stopped = [PollFd::new(&self.stopped, PollFlags::IN)];
        // An error only shortens the pause.
        poll(&mut stopped, Some(&ACCEPT_RETRY_PAUSE)).ok();
    }
}

/// Handles one connection from start to end.
fn serve_connection(stream: Arc<TcpStream>, slot: &ConnectionSlot, answer: &RequestHandler) {
    let Ok(mut stream) = TimedStream::new(stream, Deadline::after(CONNECTION_TIMEOUT)) else {
        return;
    };
    let (reply, with_body) = match receive_request(&mut stream) {
        ReceivedRequest::Closed => {
            // The client was too slow or was displaced; a reset keeps the port out of `TIME_WAIT`.
            stream.reset_when_closed();
            return;
        }
        ReceivedRequest::Invalid(reply) => (reply, true),
        ReceivedRequest::Valid(request) => {
            slot.set_being_answered(true);
            (answer(&request), request.method != "HEAD")
        }
    };
    let (reply, with_body) = match reply.events {
        Some(_) if with_body && !slot.start_stream() => {
            (HttpReply::text(503, "too many pages follow events here; close one\n"), true)
        }
        _ => (reply, with_body),
    };
    // However long the handler took, the reply has its own time.
    stream.set_deadline(Deadline::after(CONNECTION_TIMEOUT));
    let body = if with_body { &reply.body[..] } else { &[] };
    let is_sent = stream.write_all(&reply.head()).and_then(|()| stream.write_all(body)).is_ok();
    if let (Some(events), true, true) = (&reply.events, is_sent, with_body) {
        send_events(&mut stream, events);
        stream.reset_when_closed();
        return;
    }
    slot.set_being_answered(false);
    if is_sent {
        stream.wait_for_close(CLOSE_TIMEOUT);
    }
}

/// Sends events until the client has closed, does not read, or the server is to stop.
fn send_events(stream: &mut TimedStream, events: &EventStream) {
    let mut silence = Duration::ZERO;
    loop {
        let text = match (events.next)() {
            Some(event) => event.to_text(),
            None if silence < HEARTBEAT_INTERVAL => String::new(),
            None => ": still here\n\n".to_owned(),
        };
        if !text.is_empty() {
            silence = Duration::ZERO;
            stream.set_deadline(Deadline::after(CONNECTION_TIMEOUT));
            if stream.write_all(text.as_bytes()).is_err() {
                return;
            }
        }
        if stream.closes_within(events.interval) {
            return;
        }
        silence += events.interval;
    }
}

enum ReceivedRequest {
    Valid(HttpRequest),
    Invalid(HttpReply),
    /// The client closed, failed or took too long.
    Closed,
}

fn receive_request(stream: &mut TimedStream) -> ReceivedRequest {
    let mut held = Vec::new();
    let mut part = [0; 4096];
    loop {
        match stream.read(&mut part) {
            Ok(count @ 1..) => held.extend_from_slice(&part[..count]),
            _ => return ReceivedRequest::Closed,
        }
        match parse_request(&held) {
            Ok(Some(request)) => return ReceivedRequest::Valid(request),
            Ok(None) if held.len() < MAX_HEAD_BYTES => {}
            Ok(None) => return ReceivedRequest::Invalid(too_long_reply()),
            Err(reply) => return ReceivedRequest::Invalid(reply),
        }
    }
}

fn too_long_reply() -> HttpReply {
    HttpReply::text(431, "the headers are too long or too many\n")
}

/// Parses the request at the start of `bytes`. Returns `None` if incomplete, or the reply to an
/// invalid request.
fn parse_request(bytes: &[u8]) -> Result<Option<HttpRequest>, HttpReply> {
    let wrong = |why: &str| HttpReply::text(400, format!("{why}\n"));
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(Status::Complete(_)) => {}
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(too_long_reply()),
        Err(cause) => return Err(wrong(&format!("not HTTP: {cause}"))),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else { return Ok(None) };
    let hosts = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("host"));
    let hosts: Vec<&[u8]> = hosts.map(|header| header.value).collect();
    let [host] = hosts[..] else {
        return Err(wrong("invalid request: expected exactly one `Host` header"));
    };
    if !is_local_host(host) {
        return Err(HttpReply::text(403, "only the host `localhost` is served\n"));
    }
    let origins = request.headers.iter().filter(|one| one.name.eq_ignore_ascii_case("origin"));
    if !origins.map(|origin| origin.value).all(|origin| is_own_origin(origin, host)) {
        return Err(HttpReply::text(403, "only pages of this server may ask it\n"));
    }
    if is_embedded_elsewhere(request.headers) {
        return Err(HttpReply::text(403, "pages of other sites may only link to it\n"));
    }
    if !["GET", "HEAD"].contains(&method) {
        return Err(HttpReply::text(405, "only GET and HEAD are supported\n"));
    }
    if !target.starts_with('/') {
        return Err(wrong("invalid path: expected `/` at the beginning"));
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Ok(Some(HttpRequest {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
    }))
}

/// Returns whether a browser says that a page of another site, or of another port, has asked without leading there: by
/// an image, a frame or a script. Such a request has no `Origin`.
fn is_embedded_elsewhere(headers: &[httparse::Header<'_>]) -> bool {
    let value = |name: &str| {
        let header = headers.iter().find(|one| one.name.eq_ignore_ascii_case(name));
        header.map_or(&b""[..], |header| header.value.trim_ascii())
    };
    let is_foreign = [&b"cross-site"[..], b"same-site"].contains(&value("sec-fetch-site"));
    let is_visit = value("sec-fetch-mode") == b"navigate" && value("sec-fetch-dest") == b"document";
    is_foreign && !is_visit
}

/// Returns whether an `Origin` header is that of a page of the server at `host`.
fn is_own_origin(origin: &[u8], host: &[u8]) -> bool {
    origin
        .strip_prefix(b"http://")
        .is_some_and(|origin| origin.eq_ignore_ascii_case(host.trim_ascii()))
}

/// Returns whether a `Host` header names the local machine, with any port.
fn is_local_host(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let host = host.trim().to_ascii_lowercase();
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_number(port) => name,
        _ => host.as_str(),
    };
    ["localhost", "127.0.0.1", "[::1]"].contains(&name)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, Shutdown};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Condvar, Mutex};

    use rustix::net::{AddressFamily, SocketType, bind, socket};

    use super::super::connection_pool::MAX_CONNECTIONS;
    use super::super::get;
    use super::*;
    use crate::process::Program;

    const LONG: Duration = Duration::from_secs(60);

    fn echo(request: &HttpRequest) -> HttpReply {
        HttpReply::text(200, format!("{} {} {}", request.method, request.path, request.query))
    }

    fn serving(answer: impl Fn(&HttpRequest) -> HttpReply + Send + Sync + 'static) -> ServerHandle {
        HttpServer::bind(0).unwrap().serve(Arc::new(answer)).unwrap()
    }

    fn connect(port: u16) -> TcpStream {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    /// What is answered to these very bytes.
    fn said(port: u16, bytes: &[u8]) -> String {
        let mut stream = connect(port);
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn asked(port: u16, request: &str) -> String {
        said(port, format!("{request} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes())
    }

    /// Whether a port can be bound by somebody who may not take over what is still closing.
    /// Whether a port is free, or soon: what another test has just forked holds it until it becomes another
    /// program.
    fn is_free(port: u16) -> bool {
        (0..400).any(|_| {
            let is_so = is_free_now(port);
            if !is_so {
                std::thread::sleep(Duration::from_millis(5));
            }
            is_so
        })
    }

    fn is_free_now(port: u16) -> bool {
        LOOPBACK.iter().all(|address| {
            let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let Ok(socket) = socket(family, SocketType::STREAM, None) else { return true };
            bind(&socket, &SocketAddr::new(*address, port)) != Err(Errno::ADDRINUSE)
        })
    }

    #[test]
    fn a_question_is_answered_on_both_addresses() {
        let serving = serving(echo);
        let answer = get(serving.port(), "/a/b?c=d?e", LONG).unwrap();
        assert_eq!((answer.status, answer.body), (200, b"GET /a/b c=d?e".to_vec()));
        if let Ok(mut stream) = TcpStream::connect((Ipv6Addr::LOCALHOST, serving.port())) {
            stream.write_all(b"GET /6 HTTP/1.0\r\nHost: [::1]\r\n\r\n").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.ends_with("\r\n\r\nGET /6 "), "{answer}");
        }
    }

    #[test]
    fn replies_carry_what_keeps_them_in_place() {
        let serving = serving(|request| match request.path.as_str() {
            "/" => HttpReply::html(200, "<p>page</p>"),
            _ => HttpReply::json(200, &[1, 2]),
        });
        let page = asked(serving.port(), "GET /");
        for line in [
            "HTTP/1.1 200 OK\r\n",
            "Content-Type: text/html; charset=utf-8\r\n",
            "Content-Length: 11\r\n",
            "Connection: close\r\n",
            "X-Content-Type-Options: nosniff\r\n",
            "Cache-Control: no-store\r\n",
            "Content-Security-Policy: default-src 'none'; ",
        ] {
            assert!(page.contains(line), "{line}: {page}");
        }
        assert!(page.ends_with("\r\n\r\n<p>page</p>"), "{page}");
        assert!(!page.contains("Access-Control"), "{page}");
        let json = asked(serving.port(), "GET /json");
        assert!(json.contains("Content-Type: application/json\r\n"), "{json}");
        assert!(json.ends_with("\r\n\r\n[1,2]"), "{json}");
        let head = asked(serving.port(), "HEAD /");
        assert!(head.contains("Content-Length: 11\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    }

    #[test]
    fn what_is_not_asked_as_it_should_be_is_refused() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let serving = serving(move |request| {
            counted.fetch_add(1, Ordering::SeqCst);
            echo(request)
        });
        let with_host = |rest: &str| format!("GET / HTTP/1.1\r\nHost: localhost\r\n{rest}");
        for (bytes, status) in [
            ("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nhi".to_owned(), 405),
            ("OPTIONS / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 405),
            ("GET / HTTP/1.1\r\n\r\n".into(), 400),
            ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n".into(), 400),
            ("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n".into(), 400),
            ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n".into(), 400),
            ("\x16\x03\x01\x02\x00\x01\x00\x01".into(), 400),
            ("GET /\r\n\r\n".into(), 400),
            (with_host("no header\r\n\r\n"), 400),
            (with_host(&("A: b\r\n".repeat(MOST_HEADERS) + "\r\n")), 431),
            (with_host(&format!("A: {}\r\n\r\n", "a".repeat(2 * MAX_HEAD_BYTES))), 431),
        ] {
            let answer = said(serving.port(), bytes.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes:.200}: {answer}");
            assert_eq!(answer.contains("Allow: GET, HEAD\r\n"), status == 405, "{answer}");
        }
        // What was only begun is not answered.
        let mut begun = connect(serving.port());
        begun.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
        begun.shutdown(Shutdown::Write).unwrap();
        let cause = begun.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(cause.kind(), ErrorKind::ConnectionReset);
        assert_eq!(calls.load(Ordering::SeqCst), 0);
        // A second question on the same connection is not heard.
        let twice = "GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(2);
        let answer = said(serving.port(), twice.as_bytes());
        assert_eq!((answer.matches("HTTP/1.1").count(), calls.load(Ordering::SeqCst)), (1, 1));
    }

    #[test]
    fn only_this_machine_may_be_asked_for() {
        for host in ["localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:3000"]
        {
            assert!(is_local_host(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            ":80",
            "evil.example",
            "evil.example:80",
            "localhost.evil.example",
            "evil.localhost",
            "localhost@evil.example",
            "localhost:80:80",
            "localhost:evil",
            "localhost80",
            "127.0.0.1.evil.example",
            "127.0.0.2",
            "0.0.0.0",
            "::1",
            "[::1",
            "[::1]x",
            "\u{ff}",
        ] {
            assert!(!is_local_host(host.as_bytes()), "{host}");
        }
        let serving = serving(echo);
        let answer = said(serving.port(), b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    }

    #[test]
    fn who_says_nothing_keeps_nobody_out() {
        let serving = serving(echo);
        let port = serving.port();
        let mut idle: Vec<TcpStream> = (0..MAX_CONNECTIONS).map(|_| connect(port)).collect();
        assert_eq!(get(port, "/17", LONG).unwrap().status, 200);
        // It was the oldest that gave way.
        let mut rest = Vec::new();
        let gone = idle.remove(0).read_to_end(&mut rest);
        assert!(gone.is_err_and(|cause| cause.kind() == ErrorKind::ConnectionReset));
        let mut last = idle.pop().unwrap();
        last.write_all(b"GET /16 HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        last.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("GET /16 "), "{answer}");
    }

    #[test]
    fn who_trickles_is_let_go() {
        let serving = serving(echo);
        let mut stream = connect(serving.port());
        let (_tell, pace) = channel::<()>();
        let mut slowly =
            b"GET / HTTP/1.1\r\nHost: localhost\r\nA: ".iter().chain([b'a'; 900].iter());
        // It would take much longer than a connection may take.
        let is_let_go = slowly.any(|byte| {
            pace.recv_timeout(Duration::from_millis(50)).unwrap_err();
            stream.write_all(&[*byte]).is_err()
        });
        assert!(is_let_go);
    }

    /// An answer that takes until the test says so, and counts how many are being made at once.
    #[derive(Default)]
    struct Gate {
        state: Mutex<(usize, usize, bool)>,
        changed: Condvar,
    }

    impl Gate {
        fn pass(&self) {
            let mut state = self.state.lock().unwrap();
            state.0 += 1;
            state.1 = state.1.max(state.0);
            self.changed.notify_all();
            let mut state = self.changed.wait_while(state, |state| !state.2).unwrap();
            state.0 -= 1;
        }

        fn wait_for(&self, count: usize) {
            let state = self.state.lock().unwrap();
            let waited = self.changed.wait_timeout_while(state, LONG, |state| state.0 < count);
            assert!(!waited.unwrap().1.timed_out());
        }

        fn open(&self) {
            self.state.lock().unwrap().2 = true;
            self.changed.notify_all();
        }
    }

    fn asks(port: u16, tell: &Sender<Option<u16>>) {
        let tell = tell.clone();
        std::thread::spawn(move || {
            tell.send(get(port, "/", LONG).ok().map(|answer| answer.status)).unwrap();
        });
    }

    #[test]
    fn no_more_than_sixteen_are_answered_at_once_and_the_others_wait() {
        let gate = Arc::new(Gate::default());
        let passed = Arc::clone(&gate);
        let serving = serving(move |request| {
            passed.pass();
            echo(request)
        });
        let (tell, told) = channel();
        (0..MAX_CONNECTIONS).for_each(|_| asks(serving.port(), &tell));
        // Who has not said yet what he wants makes room for others.
        gate.wait_for(MAX_CONNECTIONS);
        (0..4).for_each(|_| asks(serving.port(), &tell));
        gate.open();
        for _ in 0..MAX_CONNECTIONS + 4 {
            assert_eq!(told.recv_timeout(LONG), Ok(Some(200)));
        }
        assert_eq!(gate.state.lock().unwrap().1, MAX_CONNECTIONS);
    }

    #[test]
    fn an_answer_that_is_being_made_is_given_before_the_end() {
        let gate = Arc::new(Gate::default());
        let passed = Arc::clone(&gate);
        let serving = serving(move |request| {
            passed.pass();
            echo(request)
        });
        let (port, pool) = (serving.port(), Arc::clone(&serving.pool));
        let (tell, told) = channel();
        asks(port, &tell);
        gate.wait_for(1);
        let ended = std::thread::spawn(move || drop(serving));
        while !pool.is_closing() {
            std::thread::sleep(Duration::from_millis(1));
        }
        gate.open();
        ended.join().unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok(Some(200)));
        // What is left of the connection may take the system a moment.
        assert!((0..2000).any(|_| is_free(port) || {
            std::thread::sleep(Duration::from_millis(1));
            false
        }));
    }

    #[test]
    fn an_answer_that_panics_takes_nobody_along() {
        let serving = serving(|request| {
            assert!(request.path != "/panic", "as was asked for");
            echo(request)
        });
        for _ in 0..MAX_CONNECTIONS + 1 {
            get(serving.port(), "/panic", LONG).unwrap_err();
        }
        assert_eq!(get(serving.port(), "/", LONG).unwrap().status, 200);
    }

    #[test]
    fn dropped_it_is_gone_with_its_connections_and_its_port_is_free() {
        let serving = serving(echo);
        let port = serving.port();
        let mut idle = connect(port);
        for _ in 0..3 {
            get(port, "/", LONG).unwrap();
        }
        assert!(!is_free(port));
        drop(serving);
        let mut rest = Vec::new();
        assert!(idle.read_to_end(&mut rest).is_err(), "it was reset");
        assert!(is_free(port));
        drop(HttpServer::bind(port).unwrap());
    }

    #[test]
    fn a_port_of_somebody_else_is_named() {
        let (first, second) = (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST);
        let other = HttpServer::bind(0).unwrap();
        let taken = HttpServer::bind(other.port()).unwrap_err();
        assert_eq!(
            taken.to_string(),
            format!("port {} is already in use on {first}", other.port())
        );
        let Ok(other) = TcpListener::bind((second, 0)) else { return };
        let port = other.local_addr().unwrap().port();
        if let Err(taken) = HttpServer::bind(port) {
            assert!(
                taken.to_string().starts_with(&format!("port {port} is already in use on ")),
                "{taken}"
            );
        } else {
            panic!("port {port} was bound beside somebody else");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn idle_it_is_one_thread() {
        let serving = serving(echo);
        let name = format!("http:{}\n", serving.port());
        // Those of its connections have its name, too.
        let threads = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names =
                tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")));
            names.filter(|other| other.as_ref().is_ok_and(|other| *other == name)).count()
        };
        let comes_to = |count: usize| {
            (0..4000).any(|_| {
                let is_so = threads() == count;
                if !is_so {
                    std::thread::sleep(Duration::from_millis(5));
                }
                is_so
            })
        };
        let idle = connect(serving.port());
        assert!(comes_to(2), "{}", threads());
        drop(idle);
        get(serving.port(), "/", LONG).unwrap();
        assert!(comes_to(1), "{}", threads());
        drop(serving);
        assert!(comes_to(0), "{}", threads());
    }

    #[test]
    fn curl_can_ask_it() {
        let here = std::env::temp_dir();
        if Program::new("curl", &here).args(["--version"]).run_with_timeout(LONG).is_err() {
            return;
        }
        let serving = serving(echo);
        let port = serving.port();
        let curl = |options: &[&str], address: String| {
            let usual = ["-q", "-sS", "--noproxy", "*", "-m", "60", "-w", "|%{http_code}"];
            let curl = Program::new("curl", &here).args(usual).args(options).args([address]);
            curl.run_with_timeout(LONG).unwrap().stdout
        };
        let here = format!("http://localhost:{port}/a?b");
        assert_eq!(curl(&[], here.clone()), "GET /a b|200");
        assert_eq!(curl(&["-4"], here.clone()), "GET /a b|200");
        assert!(curl(&["-I"], here.clone()).ends_with("\r\n\r\n|200"));
        assert!(curl(&["-d", "body"], here.clone()).ends_with("|405"));
        assert!(curl(&["-H", "Host: evil.example"], here.clone()).ends_with("|403"));
        assert!(curl(&["-H", "Expect: 100-continue"], here).ends_with("|200"));
        drop(serving);
        assert!(is_free(port));
    }

    /// A server whose `/events` counts, as fast as it is asked.
    fn counting() -> ServerHandle {
        serving(|request| {
            if request.path != "/events" {
                return echo(request);
            }
            let count = AtomicUsize::new(0);
            let next = move || {
                let number = count.fetch_add(1, Ordering::SeqCst);
                (number != 1).then(|| ServerEvent {
                    name: "count",
                    data: format!("a\n{number}"),
                    id: None,
                })
            };
            HttpReply::events(EventStream {
                interval: Duration::from_millis(5),
                next: Arc::new(next),
            })
        })
    }

    /// Asks for events and leaves the rest unread.
    fn follow(port: u16) -> TcpStream {
        let mut stream = connect(port);
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream
    }

    #[test]
    fn events_come_until_the_client_has_enough() {
        let serving = counting();
        let mut stream = follow(serving.port());
        let mut all = String::new();
        while !all.contains("data: 3\n\n") {
            let mut part = [0; 256];
            let count = stream.read(&mut part).unwrap();
            assert_ne!(count, 0, "{all}");
            all.push_str(std::str::from_utf8(&part[..count]).unwrap());
        }
        assert!(all.contains("Content-Type: text/event-stream\r\n"), "{all}");
        assert!(!all.contains("Content-Length"), "{all}");
        let events = all.split_once("\r\n\r\n").unwrap().1;
        assert!(
            events.starts_with(
                "event: count\ndata: a\ndata: 0\n\nevent: count\ndata: a\ndata: 2\n\n"
            ),
            "{events}"
        );
        assert!(!asked(serving.port(), "HEAD /events").contains("data:"));
        // Its end ends the streams, too.
        let other = follow(serving.port());
        drop(serving);
        drop((stream, other));
    }

    #[test]
    fn streams_that_nobody_reads_leave_room_for_others() {
        let serving = counting();
        let idle: Vec<TcpStream> = (0..8).map(|_| follow(serving.port())).collect();
        for stream in &idle {
            // The head of the reply: then it counts.
            assert_eq!((&mut &*stream).read(&mut [0; 1]).unwrap(), 1);
        }
        let refused = asked(serving.port(), "GET /events");
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        for _ in 0..20 {
            assert!(asked(serving.port(), "GET /a").ends_with("GET /a "));
        }
        // One that goes makes room, as soon as the server has seen it go.
        drop(idle);
        let comes = (0..2000).any(|_| {
            std::thread::sleep(Duration::from_millis(5));
            let mut stream = follow(serving.port());
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            &head == b"HTTP/1.1 200"
        });
        assert!(comes);
    }

    #[test]
    fn only_pages_of_the_server_itself_may_ask() {
        let serving = serving(echo);
        let port = serving.port();
        for (origin, status) in [
            (format!("http://localhost:{port}"), 200),
            (format!("HTTP://LOCALHOST:{port}"), 403),
            ("http://localhost".to_owned(), 403),
            ("http://evil.example".to_owned(), 403),
            (format!("http://localhost:{port}.evil.example"), 403),
            ("null".to_owned(), 403),
            (String::new(), 403),
        ] {
            let request =
                format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nOrigin: {origin}\r\n\r\n");
            let answer = said(port, request.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {answer}");
        }
    }

    #[test]
    fn pages_of_other_sites_lead_here_and_embed_nothing() {
        let serving = serving(echo);
        let port = serving.port();
        for (site, mode, dest, status) in [
            ("none", "navigate", "document", 200),
            ("same-origin", "cors", "empty", 200),
            ("cross-site", "navigate", "document", 200),
            ("cross-site", "navigate", "iframe", 403),
            ("cross-site", "no-cors", "image", 403),
            ("same-site", "no-cors", "script", 403),
        ] {
            let request = format!(
                "GET / HTTP/1.1\r\nHost: localhost:{port}\r\nSec-Fetch-Site: {site}\r\n\
                 Sec-Fetch-Mode: {mode}\r\nSec-Fetch-Dest: {dest}\r\n\r\n"
            );
            let answer = said(port, request.as_bytes());
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{site} {dest}: {answer}");
        }
    }
}
