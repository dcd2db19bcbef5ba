//! HTTP client for a local port, used by health probes.
//!
//! One time limit covers an entire request: connecting, sending and each read. Heads are limited to
//! 64 KiB and 100 headers; 1 MiB of a body is kept. A body that ends early is an error, not a
//! response. Redirects are not followed. For example:
//!
//! ```text
//! get(8080, "/health", 5 s) -> HttpResponse { status: 200, body: b"ok", is_truncated: false }
//! get(8081, "/health", 5 s) -> HttpError::Refused
//! ```

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Response, Status};
use rustix::io::Errno;

use super::timed_stream::TimedStream;
use super::{LOOPBACK, MOST_HEADERS};
use crate::deadline::Deadline;

/// The maximum number of body bytes kept: 1 MiB.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The maximum length of all heads of a response together, and of the trailers of a chunked body:
/// 64 KiB.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// The maximum length of the line with a chunk size: 4 KiB.
const MAX_CHUNK_LINE_BYTES: usize = 4 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code, e.g. 200.
    pub status: u16,
    /// The body, at most 1 MiB.
    pub body: Vec<u8>,
    /// Whether `body` was cut.
    pub is_truncated: bool,
}

/// The reason why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpError {
    /// No process listens on the port.
    Refused,
    /// Any other failure, as a message that can follow a colon.
    Failed(String),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HttpError::Refused => "connection refused",
            HttpError::Failed(why) => why,
        })
    }
}

impl std::error::Error for HttpError {}

fn http_failure(why: impl Into<String>) -> HttpError {
    HttpError::Failed(why.into())
}

/// Sends `GET path` to a local port: to 127.0.0.1, or to ::1 if the former refuses the connection.
/// The entire request ends within `longest`.
pub fn get(port: u16, path: &str, longest: Duration) -> Result<HttpResponse, HttpError> {
    get_at(None, port, path, longest)
}

/// Sends a request like [`get`], to `address` if given.
pub fn get_at(
    address: Option<SocketAddr>,
    port: u16,
    path: &str,
    longest: Duration,
) -> Result<HttpResponse, HttpError> {
    let (mut incoming, status, framing) = send_request(address, port, path, longest)?;
    let (body, is_cut) = incoming.read_body(framing)?;
    if incoming.stream.is_closed_by_peer() {
        incoming.stream.reset_when_closed();
    }
    Ok(HttpResponse { status, body, is_truncated: is_cut })
}

/// Sends a request like [`get_at`], and returns after the response head, for bodies that may never
/// end. `body` holds only the bytes that arrived with the head.
pub fn get_head_at(
    address: Option<SocketAddr>,
    port: u16,
    path: &str,
    longest: Duration,
) -> Result<HttpResponse, HttpError> {
    let (mut incoming, status, _) = send_request(address, port, path, longest)?;
    let body = std::mem::take(&mut incoming.buffer);
    if incoming.stream.is_closed_by_peer() {
        incoming.stream.reset_when_closed();
    }
    Ok(HttpResponse { status, body, is_truncated: true })
}

/// Sends the request and reads the response head.
fn send_request(
    address: Option<SocketAddr>,
    port: u16,
    path: &str,
    longest: Duration,
) -> Result<(ResponseReader, u16, BodyFraming), HttpError> {
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_path {
        return Err(http_failure(format!(
            "invalid path `{path}`: expected `/` at the beginning and no spaces"
        )));
    }
    let until = Deadline::after(longest);
    let stream = connect_local(address, port, until)?;
    let stream = TimedStream::new(Arc::new(stream), until)
        .map_err(|cause| http_failure(cause.to_string()))?;
    let mut incoming =
        ResponseReader { stream, timeout: longest, buffer: Vec::new(), has_received: false };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\nAccept: */*\r\n\
         User-Agent: xtask-probe\r\n\r\n"
    );
    match incoming.stream.write_all(request.as_bytes()) {
        Err(cause) if cause.kind() == ErrorKind::TimedOut => return Err(incoming.timeout_error()),
        // The server may have responded before reading the entire request; if not, reading reports
        // the error.
        _ => {}
    }
    let (status, framing) = incoming.read_head()?;
    Ok((incoming, status, framing))
}

/// Checks that a local port accepts connections on 127.0.0.1 or ::1.
pub fn check_connect(port: u16, longest: Duration) -> Result<(), HttpError> {
    check_connect_at(None, port, longest)
}

/// Checks like [`check_connect`], at `address` if given.
pub fn check_connect_at(
    address: Option<SocketAddr>,
    port: u16,
    longest: Duration,
) -> Result<(), HttpError> {
    connect_local(address, port, Deadline::after(longest)).map(drop)
}

fn connect_local(
    address: Option<SocketAddr>,
    port: u16,
    until: Deadline,
) -> Result<TcpStream, HttpError> {
    if let Some(address) = address {
        return connect_address(address, until);
    }
    let [first, second] = LOOPBACK;
    match connect_address(SocketAddr::new(first, port), until) {
        Err(HttpError::Refused) => connect_address(SocketAddr::new(second, port), until),
        other => other,
    }
}

fn connect_address(address: SocketAddr, until: Deadline) -> Result<TcpStream, HttpError> {
    let too_late = || http_failure(format!("connection timed out after {:?}", until.limit()));
    let left = until.remaining().ok_or_else(too_late)?;
    match TcpStream::connect_timeout(&address, left) {
        Ok(stream) if is_self_connection(&stream) => {
            // The connection occupies the port on which the server is about to listen; zero linger
            // frees it at once.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).ok();
            Err(HttpError::Refused)
        }
        Ok(stream) => Ok(stream),
        Err(cause) if cause.kind() == ErrorKind::TimedOut => Err(too_late()),
        Err(cause) if is_unreachable(&cause) => Err(HttpError::Refused),
        Err(cause) => Err(http_failure(format!("cannot connect: {cause}"))),
    }
}

/// Returns whether the error means that no process listens. A machine without IPv6 counts as well.
fn is_unreachable(cause: &std::io::Error) -> bool {
    let kinds = [
        ErrorKind::ConnectionRefused,
        ErrorKind::AddrNotAvailable,
        ErrorKind::NetworkUnreachable,
        ErrorKind::HostUnreachable,
    ];
    kinds.contains(&cause.kind()) || Errno::from_io_error(cause) == Some(Errno::AFNOSUPPORT)
}

/// Returns whether the stream is connected to itself: the system may choose the requested port as
/// our source port, and without a listener TCP then connects both ends to each other.
fn is_self_connection(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(here), Ok(there)) if here == there)
}

/// The rule that determines the end of a body (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFraming {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// A connection and the received bytes that are not parsed yet.
struct ResponseReader {
    stream: TimedStream,
    timeout: Duration,
    buffer: Vec<u8>,
    has_received: bool,
}

impl ResponseReader {
    fn timeout_error(&self) -> HttpError {
        let what = if self.has_received { "incomplete response" } else { "no response" };
        http_failure(format!("{what} within {:?}", self.timeout))
    }

    /// Reads more bytes into `buffer`. Returns `false` if the server has closed the connection.
    fn read_more(&mut self) -> Result<bool, HttpError> {
        let mut part = [0; 16 << 10];
        match self.stream.read(&mut part) {
            Ok(0) => Ok(false),
            Ok(count) => {
                self.has_received = true;
                self.buffer.extend_from_slice(&part[..count]);
                Ok(true)
            }
            Err(cause) if cause.kind() == ErrorKind::TimedOut => Err(self.timeout_error()),
            Err(cause) => Err(http_failure(format!("connection lost: {cause}"))),
        }
    }

    /// Reads like [`ResponseReader::read_more`]; a closed connection is an error, because the
    /// response is incomplete.
    fn require_more(&mut self) -> Result<(), HttpError> {
        match self.read_more()? {
            true => Ok(()),
            false if self.has_received => {
                Err(http_failure("connection closed before the response was complete"))
            }
            false => Err(http_failure("connection closed without a response")),
        }
    }

    /// Reads up to the head of the final response, skipping interim ones (1xx, except 101).
    fn read_head(&mut self) -> Result<(u16, BodyFraming), HttpError> {
        let mut used = 0;
        loop {
            match parse_head(&self.buffer)? {
                Some((length, status, framing)) => {
                    used += length;
                    self.buffer.drain(..length);
                    let is_interim = (100..200).contains(&status) && status != 101;
                    if !is_interim {
                        return Ok((status, framing));
                    }
                }
                None if used + self.buffer.len() > MAX_HEAD_BYTES => {
                    return Err(http_failure("the response headers exceed 64 KiB"));
                }
                None => self.require_more()?,
            }
        }
    }

    /// Reads the body, and returns whether it was cut after `MAX_BODY_BYTES`.
    fn read_body(&mut self, framing: BodyFraming) -> Result<(Vec<u8>, bool), HttpError> {
        let mut body = Vec::new();
        match framing {
            BodyFraming::None => {}
            BodyFraming::Length(length) => self.take_bytes(length, &mut body)?,
            BodyFraming::UntilClose => {
                while self.buffer.len() <= MAX_BODY_BYTES && self.read_more()? {}
                body.append(&mut self.buffer);
            }
            BodyFraming::Chunked => self.read_chunks(&mut body)?,
        }
        let is_cut = body.len() > MAX_BODY_BYTES;
        body.truncate(MAX_BODY_BYTES);
        Ok((body, is_cut))
    }

    /// Moves `count` bytes into `body`; fewer only if `body` exceeds `MAX_BODY_BYTES`.
    fn take_bytes(&mut self, count: u64, body: &mut Vec<u8>) -> Result<(), HttpError> {
        let mut left = usize::try_from(count).unwrap_or(usize::MAX);
        while left > 0 && body.len() <= MAX_BODY_BYTES {
            if self.buffer.is_empty() {
                self.require_more()?;
            }
            let now = left.min(self.buffer.len());
            body.extend(self.buffer.drain(..now));
            left -= now;
        }
        Ok(())
    }

    fn read_chunks(&mut self, body: &mut Vec<u8>) -> Result<(), HttpError> {
        while body.len() <= MAX_BODY_BYTES {
            match self.read_chunk_size()? {
                0 => return self.skip_trailers(),
                size => self.take_bytes(size, body)?,
            }
            if body.len() > MAX_BODY_BYTES {
                break;
            }
            let mut end = Vec::new();
            self.take_bytes(2, &mut end)?;
            if end != b"\r\n" {
                return Err(http_failure("not HTTP: a chunk is longer than its size"));
            }
        }
        Ok(())
    }

    fn read_chunk_size(&mut self) -> Result<u64, HttpError> {
        loop {
            let is_number = self.buffer.first().is_none_or(u8::is_ascii_hexdigit);
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(Status::Complete((length, size))) if is_number => {
                    self.buffer.drain(..length);
                    return Ok(size);
                }
                Ok(Status::Partial) if is_number && self.buffer.len() <= MAX_CHUNK_LINE_BYTES => {
                    self.require_more()?;
                }
                _ => return Err(http_failure("not HTTP: invalid chunk size")),
            }
        }
    }

    /// Reads and ignores the trailers after the last chunk.
    fn skip_trailers(&mut self) -> Result<(), HttpError> {
        loop {
            let mut headers = [EMPTY_HEADER; MOST_HEADERS];
            match httparse::parse_headers(&self.buffer, &mut headers) {
                Ok(Status::Complete((length, _))) => {
                    self.buffer.drain(..length);
                    return Ok(());
                }
                Ok(Status::Partial) if self.buffer.len() <= MAX_HEAD_BYTES => {
                    self.require_more()?
                }
                Ok(Status::Partial) => {
                    return Err(http_failure("the response trailers exceed 64 KiB"));
                }
                Err(cause) => return Err(http_failure(format!("not HTTP: {cause}"))),
            }
        }
    }
}

/// Parses the head at the start of `bytes` into its length, status code and body framing. Returns
/// `None` if incomplete.
fn parse_head(bytes: &[u8]) -> Result<Option<(usize, u16, BodyFraming)>, HttpError> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut response = Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(http_failure(format!("the response has more than {MOST_HEADERS} headers")));
        }
        Err(cause) => return Err(http_failure(format!("not HTTP: {cause}"))),
    };
    let Some(status) = response.code else { return Ok(None) };
    if (100..200).contains(&status) || status == 204 || status == 304 {
        return Ok(Some((length, status, BodyFraming::None)));
    }
    let values = |name: &str| {
        let named =
            response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        let texts = named.map(|header| String::from_utf8_lossy(header.value).into_owned());
        let words: Vec<String> = texts
            .flat_map(|text| text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>())
            .collect();
        words
    };
    let framing = match (values("transfer-encoding"), values("content-length")) {
        // `Transfer-Encoding` overrides `Content-Length` (RFC 9112, section 6.3).
        (codings, _) if !codings.is_empty() => {
            let is_chunked =
                codings.last().is_some_and(|last| last.eq_ignore_ascii_case("chunked"));
            if is_chunked { BodyFraming::Chunked } else { BodyFraming::UntilClose }
        }
        (_, lengths) if lengths.is_empty() => BodyFraming::UntilClose,
        (_, lengths) => BodyFraming::Length(parse_content_length(&lengths)?),
    };
    Ok(Some((length, status, framing)))
}

/// Parses `Content-Length`, which may be repeated only with the same value.
fn parse_content_length(said: &[String]) -> Result<u64, HttpError> {
    let is_number = said[0].bytes().all(|byte| byte.is_ascii_digit());
    let length = said[0].parse().ok().filter(|_| is_number);
    let length = length.filter(|_| said.iter().all(|other| *other == said[0]));
    length.ok_or_else(|| {
        http_failure(format!("not HTTP: invalid Content-Length `{}`", said.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc::channel;
    use std::thread::JoinHandle;

    use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, listen, socket};

    use super::*;
    use crate::process::Program;

    const LONG: Duration = Duration::from_secs(60);

    /// A server that takes `times` connections, reads a request on each, and does something then.
    fn server(
        listener: TcpListener,
        times: usize,
        mut act: impl FnMut(TcpStream, String) + Send + 'static,
    ) -> (u16, JoinHandle<()>) {
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            for _ in 0..times {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    request.extend(byte);
                }
                act(stream, String::from_utf8(request).unwrap());
            }
        });
        (port, thread)
    }

    fn on_first_address() -> TcpListener {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()
    }

    /// A server that says this, so many times.
    fn that_says(answer: impl Into<Vec<u8>>, times: usize) -> (u16, JoinHandle<()>) {
        let answer = answer.into();
        server(on_first_address(), times, move |mut stream, _| {
            // Who has heard enough may have gone.
            stream.write_all(&answer).ok();
        })
    }

    fn asked(answer: impl Into<Vec<u8>>) -> Result<HttpResponse, HttpError> {
        let (port, thread) = that_says(answer, 1);
        let got = get(port, "/health", LONG);
        thread.join().unwrap();
        got
    }

    /// A port that is bound, so that nobody else gets it, and on which nobody listens.
    fn held(address: IpAddr, port: u16) -> rustix::io::Result<(OwnedFd, u16)> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket(family, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddr::new(address, port))?;
        let bound = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok((socket, bound.port()))
    }

    /// The same port on both addresses, or on the only one there is.
    fn held_on_both() -> (Vec<OwnedFd>, u16) {
        loop {
            let (first, port) = held(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
            match held(Ipv6Addr::LOCALHOST.into(), port) {
                Ok((second, _)) => return (vec![first, second], port),
                Err(Errno::ADDRINUSE) => {}
                Err(_) => return (vec![first], port),
            }
        }
    }

    /// What a server says, and what is heard: status and body.
    const WHOLE: [(&str, u16, &str); 17] = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello, and what is too much", 200, "hello"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, ""),
        ("HTTP/1.0 200 OK\r\n\r\nto the end", 200, "to the end"),
        ("HTTP/1.1 200\r\n\r\nno reason", 200, "no reason"),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\ndown", 503, "down"),
        ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 1\r\n\r\nx", 302, "x"),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", 204, ""),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, ""),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 200, ""),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
            200,
            "hello!",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nTrailer: A\r\n\r\nA\r\n0123456789\r\n\
             0\r\nA: b\r\nC: d\r\n\r\n",
            200,
            "0123456789",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n\
             2\r\nok\r\n0\r\n\r\n",
            200,
            "ok",
        ),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
             HTTP/1.1 404 Not Found\r\n\r\nno",
            404,
            "no",
        ),
        ("HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Other: \x7e\r\n\r\n\n\n", 200, "\n\n"),
    ];

    #[test]
    fn every_way_to_end_a_body_is_understood() {
        for (said, status, body) in WHOLE {
            let answer = HttpResponse { status, body: body.into(), is_truncated: false };
            assert_eq!(asked(said), Ok(answer), "{said}");
        }
    }

    #[test]
    fn curl_hears_the_same() {
        let here = std::env::temp_dir();
        if Program::new("curl", &here).args(["--version"]).run_with_timeout(LONG).is_err() {
            return;
        }
        for (said, status, body) in WHOLE {
            let (port, thread) = that_says(said, 1);
            let address = format!("http://127.0.0.1:{port}/health");
            let options = ["-q", "-sS", "--noproxy", "*", "-m", "60", "-w", "|%{http_code}"];
            let curl = Program::new("curl", &here).args(options).args([address]);
            let heard = curl.run_with_timeout(LONG).unwrap();
            thread.join().unwrap();
            let heard = heard.stdout;
            assert_eq!(heard, format!("{body}|{status}"), "{said}");
        }
    }

    #[test]
    fn what_is_no_answer_says_why() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let of = |rest: &str| format!("{chunked}{rest}");
        for (said, why) in [
            (String::new(), "connection closed without a response"),
            ("-ERR unknown command\r\n".into(), "not HTTP: invalid HTTP version"),
            ("SSH-2.0-OpenSSH_9.2\r\n".into(), "not HTTP: invalid HTTP version"),
            ("\x15\x03\x01\x00\x02\x02\x50".into(), "not HTTP: invalid HTTP version"),
            ("HTTP/1.1 2x0 OK\r\n\r\n".into(), "not HTTP: invalid response status"),
            (
                "HTTP/1.1 200 OK\r\nContent".into(),
                "connection closed before the response was complete",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".into(),
                "connection closed before the response was complete",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok".into(),
                "not HTTP: invalid Content-Length `1, 2`",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok".into(),
                "not HTTP: invalid Content-Length `+2`",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".into(),
                "not HTTP: invalid Content-Length `99999999999999999999`",
            ),
            (of("5\r\nhel"), "connection closed before the response was complete"),
            (of("5\r\nhello\r\n"), "connection closed before the response was complete"),
            (of("0\r\nA: b\r\n"), "connection closed before the response was complete"),
            (of("3\r\nhello\r\n0\r\n\r\n"), "not HTTP: a chunk is longer than its size"),
            (of("\r\n\r\n"), "not HTTP: invalid chunk size"),
            (of("ffffffffffffffffff\r\n"), "not HTTP: invalid chunk size"),
            (
                of(&format!("5;{}", "x".repeat(MAX_CHUNK_LINE_BYTES))),
                "not HTTP: invalid chunk size",
            ),
            (of("0\r\nno header\r\n\r\n"), "not HTTP: invalid header name"),
            (
                format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101)),
                "the response has more than 100 headers",
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\n".repeat(5000) + "HTTP/1.1 200 OK\r\nA: ",
                "the response headers exceed 64 KiB",
            ),
        ] {
            assert_eq!(asked(said.as_str()), Err(http_failure(why)), "{said:.200}");
        }
    }

    #[test]
    fn what_never_ends_is_left() {
        for (begin, again, why) in [
            ("HTTP/1.1 200 OK\r\nA: ", "a", "the response headers exceed 64 KiB"),
            ("HTTP/1.1 200 OK\r\n", "A: b\r\n", "the response has more than 100 headers"),
        ] {
            let (port, thread) = server(on_first_address(), 1, move |mut stream, _| {
                stream.write_all(begin.as_bytes()).unwrap();
                while stream.write_all(again.repeat(1000).as_bytes()).is_ok() {}
            });
            assert_eq!(get(port, "/", LONG), Err(http_failure(why)));
            thread.join().unwrap();
        }
        for begin in [
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n",
        ] {
            let (port, thread) = server(on_first_address(), 1, move |mut stream, _| {
                stream.write_all(begin.as_bytes()).unwrap();
                while stream.write_all(&[b'x'; 1000]).is_ok() {}
            });
            let answer = get(port, "/", LONG).unwrap();
            assert!(
                answer.is_truncated && answer.body.len() == MAX_BODY_BYTES,
                "{}",
                answer.body.len()
            );
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_body_is_cut_only_where_there_is_more() {
        for (more, is_cut) in [(0, false), (1, true)] {
            let body = "x".repeat(MAX_BODY_BYTES + more);
            let length = body.len();
            let half = body.len() / 2;
            for said in [
                format!("HTTP/1.1 200 OK\r\n\r\n{body}"),
                format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"),
                format!(
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                     {half:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n",
                    &body[..half],
                    length - half,
                    &body[half..]
                ),
            ] {
                let answer = asked(said.as_str()).unwrap();
                assert_eq!(
                    (answer.body.len(), answer.is_truncated),
                    (MAX_BODY_BYTES, is_cut),
                    "{said:.60}"
                );
            }
        }
    }

    #[test]
    fn who_trickles_is_given_up() {
        for (begin, why) in [
            ("", "incomplete response within 300ms"),
            ("HTTP/1.1 200 OK\r\n\r\n", "incomplete response within 300ms"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n",
                "incomplete response within 300ms",
            ),
        ] {
            let (port, thread) = server(on_first_address(), 1, move |mut stream, _| {
                let (_tell, pace) = channel::<()>();
                // It would end by itself, as an answer that is complete.
                let slowly = "HTTP/1.1 200 OK\r\n\r\n".bytes().chain([b'x'; 1500]);
                stream.write_all(begin.as_bytes()).unwrap();
                for byte in slowly {
                    pace.recv_timeout(Duration::from_millis(10)).unwrap_err();
                    if stream.write_all(&[byte]).is_err() {
                        break;
                    }
                }
            });
            let asked = get(port, "/", Duration::from_millis(300));
            assert_eq!(asked, Err(http_failure(why)), "{begin}");
            thread.join().unwrap();
        }
    }

    #[test]
    fn who_says_nothing_is_given_up() {
        let listener = on_first_address();
        let port = listener.local_addr().unwrap().port();
        let asked = get(port, "/", Duration::from_millis(50));
        assert_eq!(asked, Err(http_failure("no response within 50ms")));
        assert_eq!(check_connect(port, LONG), Ok(()));
        let asked = get(port, "/", Duration::ZERO);
        assert_eq!(asked, Err(http_failure("connection timed out after 0ns")));
    }

    #[test]
    fn the_question_is_as_it_should_be() {
        let (tell, told) = channel();
        let (port, thread) = server(on_first_address(), 1, move |mut stream, request| {
            tell.send(request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        });
        get(port, "/a?b=c", LONG).unwrap();
        thread.join().unwrap();
        assert_eq!(
            told.recv().unwrap(),
            format!(
                "GET /a?b=c HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\
                 Accept: */*\r\nUser-Agent: xtask-probe\r\n\r\n"
            )
        );
        for path in ["", "health", "/a b", "/a\r\nX: y", "/ä"] {
            let HttpError::Failed(why) = get(port, path, LONG).unwrap_err() else {
                panic!("`{path}` was asked for")
            };
            assert!(why.contains("invalid path"), "{why}");
        }
    }

    #[test]
    fn nobody_is_told_apart_from_somebody() {
        let (_sockets, port) = held_on_both();
        assert_eq!(get(port, "/", LONG), Err(HttpError::Refused));
        assert_eq!(check_connect(port, LONG), Err(HttpError::Refused));
    }

    #[test]
    fn who_listens_on_the_second_address_only_is_found() {
        let (mut sockets, port) = held_on_both();
        let Some(second) = sockets.drain(1..).next() else { return };
        listen(&second, 8).unwrap();
        let (_, thread) = server(TcpListener::from(second), 1, |mut stream, _| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n6").unwrap();
        });
        assert_eq!(get(port, "/", LONG).map(|answer| answer.body), Ok(b"6".to_vec()));
        thread.join().unwrap();
        let (mut sockets, port) = held_on_both();
        let second = sockets.remove(1);
        listen(&second, 8).unwrap();
        assert_eq!(check_connect(port, LONG), Ok(()));
    }

    #[test]
    fn who_is_connected_to_itself_is_nobody() {
        let (socket, port) = held(Ipv4Addr::LOCALHOST.into(), 0).unwrap();
        connect(&socket, &SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)).unwrap();
        assert!(is_self_connection(&TcpStream::from(socket)));
        let listener = on_first_address();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!is_self_connection(&other));
    }

    #[test]
    fn a_port_that_was_asked_is_free_when_its_server_is_gone() {
        let (port, thread) = that_says("HTTP/1.0 200 OK\r\n\r\nto the end", 3);
        for _ in 0..3 {
            get(port, "/", LONG).unwrap();
        }
        thread.join().unwrap();
        // Bound as a port is tried: without leave to take over what is still closing. What another test has
        // just forked holds it until it becomes another program.
        let is_free = || held(Ipv4Addr::LOCALHOST.into(), port).is_ok();
        let tries = std::iter::repeat_with(|| std::thread::sleep(Duration::from_millis(5)));
        assert!(tries.take(400).any(|()| is_free()));
    }
}
