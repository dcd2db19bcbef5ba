//! Probes of a service: `ready` (may dependents start?) and `live` (is the service still healthy?).
//!
//! A probe has at least one of `http`, `tcp`, `run` and `log`, and all that are given must succeed.
//!
//! ```text
//! ready = { http = "/health", expect = { status = 200 }, timeout = "3s" }
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::{CommandLine, read_command_or_list};
use super::durations::read_duration;
use super::port_references::{PortReference, collect_port_references};
use super::reader::TableReader;

/// The default `timeout` of one attempt. A healthy service answers far sooner.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// The default interval between liveness probes (`every`).
const DEFAULT_EVERY: Duration = Duration::from_secs(30);

/// The default number of consecutive failures after which a service counts as dead.
const DEFAULT_FAILURES: u64 = 3;

/// The conditions of a probe.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    /// An HTTP request that must succeed.
    pub http: Option<HttpProbe>,
    /// A port that must accept connections.
    pub tcp: Option<ProbePort>,
    /// A command that must exit with code 0.
    pub run: Option<CommandLine>,
    /// A text that must have appeared in a log line.
    pub log: Option<String>,
    /// The maximum duration of one attempt.
    pub timeout: Duration,
}

/// An HTTP request and its expected response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpProbe {
    /// The port, if it differs from that of the service.
    pub port: Option<u16>,
    /// The path, which begins with `/` and may contain placeholders.
    pub path: String,
    /// The accepted status codes; if empty, 200 to 299.
    pub status: Vec<u16>,
    /// The expected subset of the JSON body: each given key must have the given value, recursively.
    pub json: Option<serde_json::Value>,
}

/// A port in a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbePort {
    /// The port of the service itself.
    Own,
    /// This port.
    Number(u16),
    /// The port of the named service.
    Service(String),
}

/// The liveness probe of a running service.
#[derive(Clone, Debug, PartialEq)]
pub struct LivenessConfig {
    pub probe: ProbeConfig,
    /// The interval between attempts.
    pub interval: Duration,
    /// The number of consecutive failures after which the service counts as dead.
    pub failures: u32,
}

/// Reads `ready`.
pub(super) fn read_readiness(
    service: &TableReader<'_>,
    mentions: &mut Vec<PortReference>,
) -> Option<ProbeConfig> {
    service.read_table("ready", |table| {
        let probe = read_probe(table, mentions);
        let asks = ["http", "tcp", "run", "log"];
        if !asks.iter().any(|key| table.has_key(key)) {
            let all = asks.join(", ");
            table.add_fault_at(
                table.span(),
                format!("`ready` has no condition: set at least one of {all}"),
            );
        }
        ProbeConfig { log: table.read_text("log"), ..probe }
    })
}

/// Reads `live`. `log` is a fault here: an old log line does not show that a service is still alive.
pub(super) fn read_liveness(
    service: &TableReader<'_>,
    mentions: &mut Vec<PortReference>,
) -> Option<LivenessConfig> {
    service.read_table("live", |table| {
        let probe = read_probe(table, mentions);
        let asks = ["http", "tcp", "run"];
        if table.has_key("log") {
            table.add_fault(
                "log",
                "`log` is only for `ready`: an old log line does not show that the service is still alive",
            );
        } else if !asks.iter().any(|key| table.has_key(key)) {
            let all = asks.join(", ");
            table.add_fault_at(table.span(), format!("`live` has no condition: set at least one of {all}"));
        }
        let failures = table.read_number("failures", 1..=1000).unwrap_or(DEFAULT_FAILURES);
        LivenessConfig {
            probe,
            interval: read_duration(table, "every").unwrap_or(DEFAULT_EVERY),
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
        }
    })
}

/// Reads the keys that `ready` and `live` share.
fn read_probe(table: &TableReader<'_>, mentions: &mut Vec<PortReference>) -> ProbeConfig {
    let http = read_http_probe(table, mentions);
    let tcp = read_tcp_port(table, mentions);
    let shell = table.read_bool("shell").unwrap_or(false);
    let run = read_command_or_list(table, "run", shell);
    for word in run.iter().flat_map(|run| &run.argv) {
        collect_port_references(table, "run", word, mentions);
    }
    if !table.has_key("run") && table.has_key("shell") {
        table.add_fault("shell", "`shell` requires `run`");
    }
    let timeout = read_duration(table, "timeout").unwrap_or(DEFAULT_TIMEOUT);
    ProbeConfig { http, tcp, run, log: None, timeout }
}

fn read_http_probe(
    table: &TableReader<'_>,
    mentions: &mut Vec<PortReference>,
) -> Option<HttpProbe> {
    let path = table.read_parsed("http", "a path such as `/health`", |path| {
        let is_plain = !path.chars().any(|c| c.is_whitespace() || c.is_control());
        (path.starts_with('/') && is_plain).then(|| path.to_owned())
    });
    let port =
        table.read_number("port", 1..=u64::from(u16::MAX)).and_then(|port| port.try_into().ok());
    let expected = table.read_table("expect", |expect| {
        let status = expect.read_numbers("status", 100..=599).unwrap_or_default();
        let status = status.into_iter().filter_map(|code| u16::try_from(code).ok()).collect();
        (status, expect.read_json("json"))
    });
    if !table.has_key("http") {
        for key in ["port", "expect"].into_iter().filter(|key| table.has_key(key)) {
            table.add_fault(key, format!("`{key}` requires `http`"));
        }
    }
    let path = path?;
    collect_port_references(table, "http", &path, mentions);
    if !table.has_key("port") {
        let span = table.value_span("http");
        mentions.push(PortReference { span, as_written: "`http`".to_owned(), service: None });
    }
    let (status, json) = expected.unwrap_or_default();
    Some(HttpProbe { path, port, status, json })
}

fn read_tcp_port(table: &TableReader<'_>, mentions: &mut Vec<PortReference>) -> Option<ProbePort> {
    let mut of = |service: Option<&str>| {
        let (span, of) = (table.value_span("tcp"), service.map(str::to_owned));
        mentions.push(PortReference { span, as_written: "`tcp`".to_owned(), service: of });
    };
    match table.type_of("tcp")? {
        "integer" => {
            let port = table.read_number("tcp", 1..=u64::from(u16::MAX))?;
            u16::try_from(port).ok().map(ProbePort::Number)
        }
        "string" => {
            let name = table.read_text("tcp")?;
            of(Some(&name));
            Some(ProbePort::Service(name))
        }
        "boolean" if table.read_bool("tcp") == Some(true) => {
            of(None);
            Some(ProbePort::Own)
        }
        _ => {
            table.add_fault("tcp", "`tcp` must be `true`, a port or the name of a service");
            None
        }
    }
}
