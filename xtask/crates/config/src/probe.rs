//! Probes: how a service is asked whether it is ready, and whether it still lives. All that a probe
//! gives must hold, and it gives at least one thing.

use std::time::Duration;

use super::command::{CommandLine, command_or_words};
use super::mentions::{Mention, mention, time};
use super::reader::Reader;

/// How long one attempt may take that sets no `timeout`: a healthy service answers far sooner.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a running service is asked, where nothing else is said.
const DEFAULT_EVERY: Duration = Duration::from_secs(30);

/// After how many failures in a row a service counts as dead, where nothing else is said.
const DEFAULT_FAILURES: u64 = 3;

/// What a probe asks.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// A page that must be there.
    pub http: Option<HttpProbe>,
    /// A port on which somebody must listen.
    pub tcp: Option<PortWord>,
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
pub enum PortWord {
    /// That of the service itself.
    Own,
    /// This one.
    Number(u16),
    /// That of another service, by its name.
    Service(String),
}

/// How a service that runs is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// What it is asked.
    pub probe: Probe,
    /// How often.
    pub every: Duration,
    /// After how many failures in a row it counts as dead.
    pub failures: u32,
}

/// Reads `ready`.
pub(super) fn ready(service: &Reader<'_>, mentions: &mut Vec<Mention>) -> Option<Probe> {
    service.table("ready", |table| {
        let probe = probe(table, mentions);
        let asks = ["http", "tcp", "run", "log"];
        if !asks.iter().any(|key| table.has(key)) {
            let all = asks.join(", ");
            table.fault_at(table.span(), format!("`ready` asks nothing: say one of {all}"));
        }
        Probe { log: table.text("log"), ..probe }
    })
}

/// Reads `live`. A line of the log is no sign of life: it stands there for ever.
pub(super) fn live(service: &Reader<'_>, mentions: &mut Vec<Mention>) -> Option<Live> {
    service.table("live", |table| {
        let probe = probe(table, mentions);
        let asks = ["http", "tcp", "run"];
        if table.has("log") {
            table.fault("log", "`log` is for `ready`: a line that was written tells nothing later");
        } else if !asks.iter().any(|key| table.has(key)) {
            let all = asks.join(", ");
            table.fault_at(table.span(), format!("`live` asks nothing: say one of {all}"));
        }
        let failures = table.number("failures", 1..=1000).unwrap_or(DEFAULT_FAILURES);
        Live {
            probe,
            every: time(table, "every").unwrap_or(DEFAULT_EVERY),
            failures: u32::try_from(failures).unwrap_or(u32::MAX),
        }
    })
}

/// What both have in common.
fn probe(table: &Reader<'_>, mentions: &mut Vec<Mention>) -> Probe {
    let http = http(table, mentions);
    let tcp = tcp(table, mentions);
    let shell = table.flag("shell").unwrap_or(false);
    let run = command_or_words(table, "run", shell);
    for word in run.iter().flat_map(|run| &run.argv) {
        mention(table, "run", word, mentions);
    }
    if !table.has("run") && table.has("shell") {
        table.fault("shell", "`shell` is for a probe that has `run`");
    }
    let timeout = time(table, "timeout").unwrap_or(DEFAULT_TIMEOUT);
    Probe { http, tcp, run, log: None, timeout }
}

fn http(table: &Reader<'_>, mentions: &mut Vec<Mention>) -> Option<HttpProbe> {
    let path = table.parsed("http", "a path such as `/health`", |path| {
        let is_plain = !path.chars().any(|c| c.is_whitespace() || c.is_control());
        (path.starts_with('/') && is_plain).then(|| path.to_owned())
    });
    let port = table.number("port", 1..=u64::from(u16::MAX)).and_then(|port| port.try_into().ok());
    let expected = table.table("expect", |expect| {
        let status = expect.numbers("status", 100..=599).unwrap_or_default();
        let status = status.into_iter().filter_map(|code| u16::try_from(code).ok()).collect();
        (status, expect.json("json"))
    });
    if !table.has("http") {
        for key in ["port", "expect"].into_iter().filter(|key| table.has(key)) {
            table.fault(key, format!("`{key}` is for a probe that has `http`"));
        }
    }
    let path = path?;
    mention(table, "http", &path, mentions);
    if !table.has("port") {
        let span = table.value_span("http");
        mentions.push(Mention { span, written: "`http`".to_owned(), of: None });
    }
    let (status, json) = expected.unwrap_or_default();
    Some(HttpProbe { path, port, status, json })
}

fn tcp(table: &Reader<'_>, mentions: &mut Vec<Mention>) -> Option<PortWord> {
    let mut of = |service: Option<&str>| {
        let (span, of) = (table.value_span("tcp"), service.map(str::to_owned));
        mentions.push(Mention { span, written: "`tcp`".to_owned(), of });
    };
    match table.type_of("tcp")? {
        "integer" => {
            let port = table.number("tcp", 1..=u64::from(u16::MAX))?;
            u16::try_from(port).ok().map(PortWord::Number)
        }
        "string" => {
            let name = table.text("tcp")?;
            of(Some(&name));
            Some(PortWord::Service(name))
        }
        "boolean" if table.flag("tcp") == Some(true) => {
            of(None);
            Some(PortWord::Own)
        }
        _ => {
            table.fault("tcp", "`tcp` must be `true`, a port or the name of a service");
            None
        }
    }
}
