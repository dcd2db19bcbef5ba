//! Probes: how a service is asked whether it is ready, and whether it still lives. All that a probe
//! gives must hold, and it gives at least one thing.

use std::time::Duration;

use super::command::{CommandLine, read_command_or_list};
use super::port_references::{PortReference, collect_port_references, read_duration};
use super::reader::TableReader;

/// How long one attempt may take that sets no `timeout`: a healthy service answers far sooner.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a running service is asked, where nothing else is said.
const DEFAULT_EVERY: Duration = Duration::from_secs(30);

/// After how many failures in a row a service counts as dead, where nothing else is said.
const DEFAULT_FAILURES: u64 = 3;

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeConfig {
    /// A page that must be there.
    pub http: Option<HttpProbe>,
    /// A port on which somebody must listen.
    pub tcp: Option<ProbePort>,
    /// A command that must end with 0.
    pub run: Option<CommandLine>,
    /// A text that must have appeared in a line of the log.
    pub log: Option<String>,
    /// How long one attempt may take.
    pub timeout: Duration,
}

/// A page that is asked for, and what is expected of the answer.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// Its path, which begins with `/`; it may hold placeholders.
    pub path: String,
    /// Its port, where it is not that of the service.
    pub port: Option<u16>,
    /// The codes that will do; where there are none, 200 to 299.
    pub status: Vec<u16>,
    /// What the body must hold: every key that is given, with that value, and tables likewise.
    pub json: Option<serde_json::Value>,
}

/// A port, as a probe names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbePort {
    /// That of the service itself.
    Own,
    /// This one.
    Number(u16),
    /// That of another service, by its name.
    Service(String),
}

/// How a service that runs is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct LivenessConfig {
    /// What it is asked.
    pub probe: ProbeConfig,
    /// How often.
    pub interval: Duration,
    /// After how many failures in a row it counts as dead.
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
            table.add_fault_at(table.span(), format!("`ready` asks nothing: say one of {all}"));
        }
        ProbeConfig { log: table.read_text("log"), ..probe }
    })
}

/// Reads `live`. A line of the log is no sign of life: it stands there for ever.
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
                "`log` is for `ready`: a line that was written tells nothing later",
            );
        } else if !asks.iter().any(|key| table.has_key(key)) {
            let all = asks.join(", ");
            table.add_fault_at(table.span(), format!("`live` asks nothing: say one of {all}"));
        }
        let failures = table.read_number("failures", 1..=1000).unwrap_or(DEFAULT_FAILURES);
        LivenessConfig {
            probe,
            interval: read_duration(table, "every").unwrap_or(DEFAULT_EVERY),
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
        }
    })
}

/// What both have in common.
fn read_probe(table: &TableReader<'_>, mentions: &mut Vec<PortReference>) -> ProbeConfig {
    let http = read_http_probe(table, mentions);
    let tcp = read_tcp_port(table, mentions);
    let shell = table.read_bool("shell").unwrap_or(false);
    let run = read_command_or_list(table, "run", shell);
    for word in run.iter().flat_map(|run| &run.argv) {
        collect_port_references(table, "run", word, mentions);
    }
    if !table.has_key("run") && table.has_key("shell") {
        table.add_fault("shell", "`shell` is for a probe that has `run`");
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
            table.add_fault(key, format!("`{key}` is for a probe that has `http`"));
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
