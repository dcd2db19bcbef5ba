//! The line between a command and the supervisor: a socket that only this user can reach, a request
//! in one line of JSON, and answers in lines of JSON.
//!
//! `show` and `stop` mean the same in every version, so that any version can be looked at and ended. What
//! else is asked in another version than the supervisor's is refused, and nothing is done.

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

/// The version of what is said on the line.
pub const PROTOCOL_VERSION: u32 = 2;

/// The longest request: 16 MiB, far above 500 services with all their variables.
const MAX_REQUEST_BYTES: u64 = 16 << 20;

/// How long a request may take to arrive, and an answer to be taken.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// What is asked of a supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ControlRequest {
    /// The version of the line; 1 where none is said.
    #[serde(default = "first")]
    pub protocol: u32,
    /// What is asked.
    #[serde(flatten)]
    pub what: ControlCommand,
}

fn first() -> u32 {
    1
}

/// What can be read of a request of whatever version.
#[derive(Deserialize)]
struct RequestHead {
    #[serde(default = "first")]
    protocol: u32,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum ControlCommand {
    /// How the services are.
    Show {
        /// Without what they use, which takes a look at every process.
        #[serde(default)]
        brief: bool,
    },
    /// Start some, and say when they are ready.
    Start(StartRequest),
    /// End some with all that need them, or all.
    Stop {
        /// Which; all where none is named.
        names: Vec<String>,
        /// How long each may take, in milliseconds; what its configuration says, where it is not given.
        within_ms: Option<u64>,
    },
}

/// The value of a variable, which need not be text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EnvValue {
    /// Text.
    Text(String),
    /// Something else.
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

/// Variables, for the line. A name that is no text is not passed on.
#[must_use]
pub fn encode_env(env: &Env) -> BTreeMap<String, EnvValue> {
    let text = |name: &OsString| name.to_str().map(str::to_owned);
    env.iter().filter_map(|(name, value)| Some((text(name)?, value.as_os_str().into()))).collect()
}

/// Variables, from the line.
#[must_use]
pub fn decode_env(values: &BTreeMap<String, EnvValue>) -> Env {
    values.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Which services to start, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    /// What they are.
    pub specs: Vec<ServiceSpec>,
    /// Every service that the layer has now; what else is known and does not run is forgotten.
    pub layer: Vec<String>,
    /// Which of those that run are ended first and started again.
    pub again: Vec<String>,
    /// The variables with which they are started, under their own.
    pub env: BTreeMap<String, EnvValue>,
    /// What their files of variables gave to each of those that are to be started.
    pub values: BTreeMap<String, BTreeMap<String, EnvValue>>,
    /// How those files looked.
    pub seen: BTreeMap<String, Vec<EnvFileStamp>>,
    /// How long each may take to get ready, in milliseconds.
    pub ready_within_ms: u64,
    /// What the others are to do without, where they have a rule for it.
    pub without: Vec<String>,
    /// The port of the status page: nothing where it is off, 0 where any will do.
    pub status: Option<u16>,
}

/// What a supervisor answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "tell", rename_all = "kebab-case")]
pub enum ControlReply {
    /// How the services are; more will follow where more was asked.
    Now {
        /// The stack.
        page: StackStatus,
    },
    /// It is done.
    Done {
        /// The stack afterwards.
        page: StackStatus,
        /// What did not end, in words.
        survivors: Vec<String>,
    },
    /// It was not done.
    Failed {
        /// Which services failed, and why.
        failures: Vec<ServiceFailure>,
        /// The stack afterwards.
        page: StackStatus,
        /// What of it did not end, in words.
        #[serde(default)]
        survivors: Vec<String>,
    },
    /// It cannot be done.
    Refused {
        /// Why.
        why: String,
    },
}

/// A service that did not get ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFailure {
    /// Its name.
    pub service: String,
    /// Why.
    pub why: String,
    /// The last lines of its log in this run.
    pub lines: Vec<String>,
}

/// A line to a supervisor.
pub struct ControlConnection {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
}

impl ControlConnection {
    /// Connects; nothing where nobody listens.
    pub fn connect(socket: &Path) -> Result<Option<ControlConnection>> {
        let Ok(stream) = UnixStream::connect(socket) else { return Ok(None) };
        if !is_same_user(&stream) {
            return Err(Error::unable(format!(
                "who listens at `{}` is another user",
                socket.display()
            )));
        }
        let other =
            stream.try_clone().with_context(|| "the line to the supervisor cannot be used")?;
        Ok(Some(ControlConnection { stream, reader: BufReader::new(other) }))
    }

    /// Asks.
    pub fn send_command(&mut self, what: ControlCommand) -> Result<()> {
        let request = ControlRequest { protocol: PROTOCOL_VERSION, what };
        let mut line =
            serde_json::to_vec(&request).with_context(|| "the request cannot be written")?;
        line.push(b'\n');
        self.stream.write_all(&line).with_context(|| "the supervisor does not listen any more")
    }

    /// The next answer; nothing where none has come within `longest`.
    pub fn receive_reply(&mut self, longest: Duration) -> Result<Option<ControlReply>> {
        let gone = || "the supervisor has gone away in the middle of its answer";
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
            Error::unable("the supervisor is of another version, and cannot be understood")
                .with_hint("`cargo xtask stop` ends it; then start again")
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

/// Whether the process at the other end is ours.
#[cfg(target_os = "linux")]
#[must_use]
pub fn is_same_user(stream: &UnixStream) -> bool {
    let peer = rustix::net::sockopt::socket_peercred(stream);
    peer.is_ok_and(|peer| peer.uid == rustix::process::geteuid())
}

/// Where the system does not tell, the modes of the folder and of the socket must do.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn is_same_user(_: &UnixStream) -> bool {
    true
}

/// Reads the request of somebody who has connected.
pub fn read_request(stream: &UnixStream) -> Result<ControlRequest, String> {
    stream.set_read_timeout(Some(IO_TIMEOUT)).map_err(|cause| cause.to_string())?;
    stream.set_write_timeout(Some(IO_TIMEOUT)).map_err(|cause| cause.to_string())?;
    let mut line = Vec::new();
    let mut reader = BufReader::new(stream.take(MAX_REQUEST_BYTES));
    reader.read_until(b'\n', &mut line).map_err(|cause| cause.to_string())?;
    if !line.ends_with(b"\n") {
        return Err("the request did not arrive whole".to_owned());
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

/// Why a request is refused that this version of the line does not have.
fn describe_unsupported(protocol: u32) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let which = match protocol.cmp(&PROTOCOL_VERSION) {
        Ordering::Greater => "comes from a newer xtask",
        Ordering::Less => "comes from an older xtask",
        Ordering::Equal => "is not one that it knows",
    };
    format!(
        "the supervisor is of version {version}, and this request {which}; nothing was done; \
         `cargo xtask stop` ends it, then start again"
    )
}

/// Writes an answer; whether somebody was there to take it.
pub fn write_reply(mut stream: &UnixStream, answer: &ControlReply) -> bool {
    let Ok(mut line) = serde_json::to_vec(answer) else { return false };
    line.push(b'\n');
    stream.write_all(&line).is_ok()
}

/// Whether the other end has gone. It says nothing more once it has asked, so that a byte or an end
/// is its going.
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
