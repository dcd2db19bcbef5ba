//! The control socket between commands and the supervisor: a Unix socket for this user only, which
//! carries one request and its replies, each as a line of JSON.
//!
//! `show` and `stop` mean the same in every version, so that any version can be inspected and
//! stopped. Other requests from another protocol version are refused without any effect.
//!
//! ```text
//! -> {"protocol":2,"ask":"stop","names":["api"],"within_ms":null}
//! <- {"tell":"done","page":{…},"survivors":[]}
//! ```

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::launch::Env;
use super::spec::{EnvFileStamp, ServiceSpec};
use super::status::StackStatus;
use xtask_base::error::{Error, Result, ResultExt};

/// Version of the protocol.
pub const PROTOCOL_VERSION: u32 = 2;

/// Maximum size of a request: 16 MiB, far above 500 services with all their variables.
const MAX_REQUEST_BYTES: u64 = 16 << 20;

/// Timeout for receiving a request and for sending a reply.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// Request to a supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// Version of the protocol; 1 if the field is missing.
    #[serde(default = "first")]
    pub protocol: u32,
    #[serde(flatten)]
    pub what: ControlCommand,
}

fn first() -> u32 {
    1
}

/// Part of a request that is readable in every version.
#[derive(Deserialize)]
struct RequestHead {
    #[serde(default = "first")]
    protocol: u32,
}

/// Command to a supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum ControlCommand {
    /// Returns the status of the services.
    Show {
        /// Omits resource usage, which requires an inspection of every process.
        #[serde(default)]
        brief: bool,
    },
    /// Starts services, and replies when they are ready.
    Start(StartRequest),
    /// Stops services with their dependants, or all services.
    Stop {
        /// Names of the services; if empty, all.
        names: Vec<String>,
        /// Stop timeout of each, in milliseconds; `None` for the configured one.
        within_ms: Option<u64>,
    },
}

/// Value of an environment variable, which need not be UTF-8.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    /// UTF-8 text.
    Text(String),
    /// Any other bytes.
    Bytes(Vec<u8>),
}

impl std::fmt::Debug for EnvValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It may be a secret.
        f.write_str("…")
    }
}

impl From<&OsStr> for EnvValue {
    fn from(value: &OsStr) -> EnvValue {
        match value.to_str() {
            Some(text) => EnvValue::Text(text.to_owned()),
            None => EnvValue::Bytes(value.as_bytes().to_vec()),
        }
    }
}

impl From<&EnvValue> for OsString {
    fn from(value: &EnvValue) -> OsString {
        match value {
            EnvValue::Text(text) => text.into(),
            EnvValue::Bytes(bytes) => OsString::from_vec(bytes.clone()),
        }
    }
}

/// Encodes variables for the protocol. Names that are not UTF-8 are dropped.
#[must_use]
pub fn encode_env(env: &Env) -> BTreeMap<String, EnvValue> {
    let text = |name: &OsString| name.to_str().map(str::to_owned);
    env.iter().filter_map(|(name, value)| Some((text(name)?, value.as_os_str().into()))).collect()
}

/// Decodes variables from the protocol.
#[must_use]
pub fn decode_env(values: &BTreeMap<String, EnvValue>) -> Env {
    values.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Services to start, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    /// Services to start.
    pub specs: Vec<ServiceSpec>,
    /// All services that the layer has now; others that do not run are forgotten.
    pub layer: Vec<String>,
    /// Running services to stop first and start again.
    pub again: Vec<String>,
    /// Base environment, which `ServiceSpec::env` overrides.
    pub env: BTreeMap<String, EnvValue>,
    /// Variables from env files, by service.
    pub values: BTreeMap<String, BTreeMap<String, EnvValue>>,
    /// Stamps of those env files, by service.
    pub seen: BTreeMap<String, Vec<EnvFileStamp>>,
    /// Time for each service to become ready, in milliseconds.
    pub ready_within_ms: u64,
    /// Dependencies to run without, for services that have a fallback.
    pub without: Vec<String>,
    /// Port of the status page: `None` if it is off, 0 for any free port.
    pub status: Option<u16>,
}

/// Reply of a supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum ControlReply {
    /// Current status; more replies follow a start or stop.
    Now {
        /// Status of the stack.
        page: StackStatus,
    },
    /// The request succeeded.
    Done {
        /// Status of the stack afterwards.
        page: StackStatus,
        /// Descriptions of processes that did not stop.
        survivors: Vec<String>,
    },
    /// The start failed, and was rolled back.
    Failed {
        /// Failed services, with reasons.
        failures: Vec<ServiceFailure>,
        /// Status of the stack afterwards.
        page: StackStatus,
        /// Descriptions of processes that did not stop.
        #[serde(default)]
        survivors: Vec<String>,
    },
    /// The request was refused.
    Refused {
        /// Reason, as a message.
        why: String,
    },
}

/// Service that did not become ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFailure {
    /// Name of the service.
    pub service: String,
    /// Reason, as a message.
    pub why: String,
    /// Last log lines of this run.
    pub lines: Vec<String>,
}

impl ServiceFailure {
    /// Returns reason and log lines, e.g. `api: exited with code 1`.
    #[must_use]
    pub fn describe(&self) -> String {
        let lines = self.lines.iter().map(|line| format!("\n  | {line}"));
        format!("{}: {}{}", self.service, self.why, lines.collect::<String>())
    }
}

/// Connection to a supervisor.
pub struct ControlConnection {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl ControlConnection {
    /// Connects to a socket. Returns `None` if no process listens on it.
    pub fn connect(socket: &Path) -> Result<Option<ControlConnection>> {
        let Ok(stream) = UnixStream::connect(socket) else { return Ok(None) };
        if !is_same_user(&stream) {
            return Err(Error::unable(format!(
                "the process that listens on `{}` belongs to another user",
                socket.display()
            )));
        }
        let other =
            stream.try_clone().with_context(|| "cannot use the connection to the supervisor")?;
        Ok(Some(ControlConnection { stream, reader: BufReader::new(other) }))
    }

    /// Sends a command.
    pub fn send_command(&mut self, what: ControlCommand) -> Result<()> {
        let request = ControlRequest { protocol: PROTOCOL_VERSION, what };
        let mut line = serde_json::to_vec(&request).with_context(|| "cannot encode the request")?;
        line.push(b'\n');
        self.stream
            .write_all(&line)
            .with_context(|| "the supervisor closed the connection before the request")
    }

    /// Returns the next reply; `None` if none arrives within `longest`.
    pub fn receive_reply(&mut self, longest: Duration) -> Result<Option<ControlReply>> {
        let gone = || "the supervisor closed the connection before its reply";
        self.stream.set_read_timeout(Some(longest)).with_context(gone)?;
        let mut line = Vec::new();
        loop {
            match self.reader.read_until(b'\n', &mut line) {
                Ok(0) => return Err(Error::unable(gone())),
                Ok(_) if line.ends_with(b"\n") => break,
                Ok(_) => {}
                Err(cause) if is_timeout(&cause) && line.is_empty() => return Ok(None),
                Err(cause) if is_timeout(&cause) => {}
                Err(cause) => return Err(cause).with_context(gone),
            }
        }
        serde_json::from_slice(&line).map(Some).map_err(|_| {
            Error::unable("unexpected reply from the supervisor (it is of another version)")
                .with_hint("`cargo xtask stop` stops it; then start again")
        })
    }
}

fn is_timeout(cause: &std::io::Error) -> bool {
    matches!(
        cause.kind(),
        std::io::ErrorKind::WouldBlock
            | std::io::ErrorKind::TimedOut
            | std::io::ErrorKind::Interrupted
    )
}

/// Returns whether the peer process runs as this user.
#[cfg(target_os = "linux")]
#[must_use]
pub fn is_same_user(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// Returns true: without peer credentials, the modes of folder and socket must suffice.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn is_same_user(_: &UnixStream) -> bool {
    true
}

/// Reads the request of a new connection. Returns a message if it is invalid or unsupported.
pub fn read_request(stream: &UnixStream) -> Result<ControlRequest, String> {
    stream.set_read_timeout(Some(IO_TIMEOUT)).map_err(|cause| cause.to_string())?;
    stream.set_write_timeout(Some(IO_TIMEOUT)).map_err(|cause| cause.to_string())?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_REQUEST_BYTES));
    reader.read_until(b'\n', &mut line).map_err(|cause| cause.to_string())?;
    if !line.ends_with(b"\n") {
        return Err("incomplete request".to_owned());
    }
    let protocol =
        serde_json::from_slice(&line).map_or(PROTOCOL_VERSION, |head: RequestHead| head.protocol);
    let request = serde_json::from_slice::<ControlRequest>(&line).ok();
    let is_known = |request: &ControlRequest| {
        protocol == PROTOCOL_VERSION
            || matches!(request.what, ControlCommand::Show { .. } | ControlCommand::Stop { .. })
    };
    request.filter(is_known).ok_or_else(|| describe_unsupported(protocol))
}

/// Returns the refusal of a request that this protocol version does not know.
fn describe_unsupported(protocol: u32) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let which = match protocol.cmp(&PROTOCOL_VERSION) {
        Ordering::Greater => "comes from a newer xtask",
        Ordering::Less => "comes from an older xtask",
        Ordering::Equal => "is unknown to it",
    };
    format!(
        "the supervisor is of version {version}, and this request {which}; nothing was done; \
         `cargo xtask stop` stops it, then start again"
    )
}

/// Sends a reply; returns whether the peer was there to receive it.
pub fn write_reply(mut stream: &UnixStream, answer: &ControlReply) -> bool {
    let Ok(mut line) = serde_json::to_vec(answer) else { return false };
    line.push(b'\n');
    stream.write_all(&line).is_ok()
}

/// Returns whether the peer has disconnected. It sends only its request, so that any further byte
/// or an end of file counts as a disconnect.
#[must_use]
pub fn is_disconnected(mut stream: &UnixStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let gone = match stream.read(&mut [0; 1]) {
        Err(cause) => cause.kind() != std::io::ErrorKind::WouldBlock,
        Ok(_) => true,
    };
    gone | stream.set_nonblocking(false).is_err()
}
