//! One service of a layer: its table, read by itself. What it says about other services is noted, and
//! looked up by `layer.rs` when all of them are read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::command::{CommandLine, command_or_words};
use super::mentions::{Mention, mention, time};
use super::probe::{Live, Probe, live, ready};
use super::reader::Reader;
use super::words::{INSIDE, NAME, inside, is_name, is_variable};
use xtask_base::path::RepoPath;
use xtask_base::process::ACTIVE;
use xtask_base::words::bytes_of;
use xtask_base::world::duration_of;

/// From which part of the allowed memory on there is a warning, in percent, where nothing is said.
const DEFAULT_MEMORY_WARN: u8 = 80;

/// How the variables begin that are ours to set.
const OURS: &str = "XTASK_";

const SIGNALS: [(&str, StopSignal); 7] = [
    ("TERM", StopSignal::Term),
    ("INT", StopSignal::Int),
    ("QUIT", StopSignal::Quit),
    ("HUP", StopSignal::Hup),
    ("KILL", StopSignal::Kill),
    ("USR1", StopSignal::Usr1),
    ("USR2", StopSignal::Usr2),
];

/// A service that is enabled. Its texts hold placeholders, which `fill` fills.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where it first stands: the line, from 1.
    pub line: usize,
    /// Where it first stands: the file.
    pub file: String,
    /// What it is, for people.
    pub description: Option<String>,
    /// How it is started.
    pub run: CommandLine,
    /// The folder in which it runs; the root where there is none.
    pub dir: Option<RepoPath>,
    /// The port on which it listens.
    pub port: Option<u16>,
    /// The variables that it is given.
    pub env: BTreeMap<String, String>,
    /// Files with more of them, from the root. One that begins with `?` need not be there.
    pub env_files: Vec<String>,
    /// The services that must be ready before it starts, as indices.
    pub needs: Vec<usize>,
    /// Whether it does its work and ends: when it has ended with 0, it counts as ready.
    pub once: bool,
    /// Whether the stack is unhealthy without it.
    pub required: bool,
    /// When it is ready; as soon as it runs, where nothing is said.
    pub ready: Option<Probe>,
    /// How it is watched while it runs.
    pub live: Option<Live>,
    /// How often it is started again.
    pub restart: Restart,
    /// How it is stopped.
    pub stop: Stop,
    /// What it may use.
    pub limits: Limits,
    /// How it starts without some that it needs.
    pub fallback: Option<Fallback>,
    /// How much of its log is kept.
    pub log: LogLimits,
    /// The folders in which it keeps what must outlive a release, below the one for that.
    pub state: Vec<RepoPath>,
    /// What stands for it while a release is tried.
    pub candidate: Candidate,
    /// What saves its state before another release takes over.
    pub backup: Option<Backup>,
}

/// What stands for a service while a release is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Candidate {
    /// One that is started for it, on a spare port.
    Start,
    /// The one that serves.
    Serving,
}

const CANDIDATES: [(&str, Candidate); 2] =
    [("start", Candidate::Start), ("serving", Candidate::Serving)];

/// How the state of a service is saved.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// The command. `{backup}` stands for the folder into which it writes.
    pub run: CommandLine,
    /// How long it may take.
    pub timeout: Duration,
}

/// How long a backup may take where nothing is said: ten minutes.
const DEFAULT_BACKUP: Duration = Duration::from_secs(600);

/// How often a service that ended is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// The most restarts within a time; 0 for none at all.
    pub max: u32,
    /// That time.
    pub within: Duration,
    /// How long is waited before a restart: first, and at most.
    pub backoff: (Duration, Duration),
}

impl Default for Restart {
    fn default() -> Self {
        let backoff = (Duration::from_millis(500), Duration::from_secs(30));
        Restart { max: 5, within: Duration::from_secs(60), backoff }
    }
}

/// How a service is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// What it is sent first.
    pub signal: StopSignal,
    /// How long it has before it is killed.
    pub timeout: Duration,
    /// Whom the signal goes to at first.
    pub to: StopTo,
}

/// Whom the signal goes to that asks a service to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopTo {
    /// Its first process, which tells the others; they are asked when it has ended, or half of the time is over.
    Main,
    /// All of its processes at once.
    All,
}

const STOP_TO: [(&str, StopTo); 2] = [("main", StopTo::Main), ("all", StopTo::All)];

impl Default for Stop {
    fn default() -> Self {
        Stop { signal: StopSignal::Term, timeout: Duration::from_secs(10), to: StopTo::Main }
    }
}

/// The signals that can ask a service to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are named as the system names them")]
pub enum StopSignal {
    Term,
    Int,
    Quit,
    Hup,
    Kill,
    Usr1,
    Usr2,
}

/// What a service may use before there is a warning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Its memory, in bytes.
    pub memory: Option<u64>,
    /// From which part of it on there is a warning, in percent.
    pub memory_warn: Option<u8>,
    /// From which use of a processor on there is a warning, in percent of one.
    pub cpu_warn: Option<u16>,
}

/// How a service starts although something that it needs is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// The services that it can do without, as indices.
    pub when: Vec<usize>,
    /// The variables that it is given then, over the others.
    pub env: BTreeMap<String, String>,
}

/// How much of a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLimits {
    /// How long a file may become, in bytes.
    pub size: u64,
    /// How many older files are kept beside it.
    pub keep: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        LogLimits { size: 10_000_000, keep: 3 }
    }
}

/// Names of other services.
pub(super) struct Names {
    pub(super) names: Vec<String>,
    pub(super) span: Range<usize>,
}

/// A service as it was read, before what it says about others was looked up.
pub(super) struct Draft {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) is_enabled: bool,
    /// Nothing where it could not be read. What refers to others is still empty.
    pub(super) service: Option<Service>,
    /// Whether it says a port, right or wrong.
    pub(super) has_port: bool,
    pub(super) port: Option<u16>,
    pub(super) port_span: Range<usize>,
    pub(super) needs: Names,
    pub(super) when: Names,
    pub(super) mentions: Vec<Mention>,
}

/// What is wrong with a variable that is to be set for a service, if anything is.
fn refused_variable(name: &str) -> Option<String> {
    if is_variable(name) {
        reserved_variable(name)
    } else {
        Some(format!("`{name}` is no name of a variable"))
    }
}

/// Why nobody else may set this variable, if it is ours to set.
#[must_use]
pub fn reserved_variable(name: &str) -> Option<String> {
    let is_ours = name.starts_with(OURS) || name == ACTIVE;
    is_ours.then(|| format!("`{name}` cannot be set: it is xtask that sets it"))
}

/// The variable in which services find the port of one of them: `XTASK_PORT_MY_API`.
#[must_use]
pub fn port_variable(service: &str) -> String {
    format!("{OURS}PORT_{}", service.to_ascii_uppercase().replace('-', "_"))
}

/// Reads the table of a service. All of it is read, also where there is a fault already: all faults
/// are told at once.
pub(super) fn draft(name: &str, table: &Reader<'_>) -> Draft {
    if !is_name(name) {
        table.fault_at(table.span(), format!("invalid service name `{name}`: use {NAME}"));
    }
    let mut mentions = Vec::new();
    let shell = table.flag("shell").unwrap_or(false);
    table.required("run");
    let run = command_or_words(table, "run", shell);
    for word in run.iter().flat_map(|run| &run.argv) {
        mention(table, "run", word, &mut mentions);
    }
    let port = table.number("port", 1..=u64::from(u16::MAX)).and_then(|port| port.try_into().ok());
    let (fallback, when) = fallback(table, &mut mentions).unzip();
    let needs = Names {
        names: table.text_or_texts("needs").unwrap_or_default(),
        span: table.span_of("needs", "needs"),
    };
    let once = table.flag("once").unwrap_or(false);
    for key in ["ready", "live"].into_iter().filter(|key| once && table.has(key)) {
        table.fault(key, format!("`{key}` is not for a service that runs `once`: its end tells"));
    }
    let state = state(table);
    let (file, line) = table.place(&table.span());
    let parts = Service {
        name: name.to_owned(),
        line,
        file: file.to_owned(),
        description: table.text("description"),
        run: CommandLine { text: String::new(), argv: Vec::new(), shell },
        dir: table.parsed("dir", INSIDE, inside),
        port,
        env: env(table, &mut mentions),
        env_files: env_files(table),
        needs: Vec::new(),
        once,
        required: table.flag("required").unwrap_or(true),
        ready: ready(table, &mut mentions),
        live: live(table, &mut mentions),
        restart: table.table("restart", restart).unwrap_or_default(),
        stop: table.table("stop", stop).unwrap_or_default(),
        limits: table.table("limits", limits).unwrap_or_default(),
        fallback,
        log: table.table("log", log).unwrap_or_default(),
        candidate: candidate(table, &state),
        backup: backup(table, shell, &state, &mut mentions),
        state,
    };
    Draft {
        name: name.to_owned(),
        span: table.span(),
        is_enabled: table.flag("enabled").unwrap_or(true),
        service: run.map(|run| Service { run, ..parts }),
        has_port: table.has("port"),
        port,
        port_span: table.value_span("port"),
        needs,
        when: when.unwrap_or(Names { names: Vec::new(), span: table.span() }),
        mentions,
    }
}

fn env(table: &Reader<'_>, mentions: &mut Vec<Mention>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    table.table("env", |env| {
        for name in env.names() {
            if let Some(why) = refused_variable(&name) {
                env.fault(&name, why);
            }
            if let Some(value) = env.any_text(&name) {
                mention(env, &name, &value, mentions);
                variables.insert(name, value);
            }
        }
    });
    variables
}

fn env_files(table: &Reader<'_>) -> Vec<String> {
    let files = table.text_or_texts("env-file").unwrap_or_default();
    for file in &files {
        if inside(file.strip_prefix('?').unwrap_or(file)).is_none() {
            table.fault("env-file", format!("`env-file` has `{file}`; it must be {INSIDE}"));
        }
    }
    files
}

fn state(table: &Reader<'_>) -> Vec<RepoPath> {
    let mut state = Vec::new();
    for name in table.text_or_texts("state").unwrap_or_default() {
        match inside(&name) {
            Some(path) => state.push(path),
            None => {
                table.fault("state", format!("`state` has `{name}`; it must be {INSIDE_STATE}"))
            }
        }
    }
    state
}

/// Two of one service with the same state would each take it for its own.
fn candidate(table: &Reader<'_>, state: &[RepoPath]) -> Candidate {
    let default = if state.is_empty() { Candidate::Start } else { Candidate::Serving };
    table.word("candidate", &CANDIDATES).unwrap_or(default)
}

fn backup(
    table: &Reader<'_>,
    shell: bool,
    state: &[RepoPath],
    mentions: &mut Vec<Mention>,
) -> Option<Backup> {
    let timeout = time(table, "backup-timeout");
    if !table.has("backup") {
        if timeout.is_some() {
            table.fault("backup-timeout", "`backup-timeout` is for `backup`, which is not given");
        }
        return None;
    }
    if state.is_empty() && table.is_whole() {
        table.fault("backup", "`backup` saves the `state` of a service, which is not given");
    }
    let run = command_or_words(table, "backup", shell)?;
    for word in &run.argv {
        mention(table, "backup", word, mentions);
    }
    if !run.argv.iter().any(|word| word.contains(BACKUP) || word.contains("XTASK_BACKUP")) {
        table.fault(
            "backup",
            format!("`backup` says nowhere where it writes to: `{BACKUP}`, or `$XTASK_BACKUP` for a shell"),
        );
    }
    Some(Backup { run, timeout: timeout.unwrap_or(DEFAULT_BACKUP) })
}

fn fallback(table: &Reader<'_>, mentions: &mut Vec<Mention>) -> Option<(Fallback, Names)> {
    table.table("fallback", |fallback| {
        fallback.required("when");
        let names = fallback.text_or_texts("when").unwrap_or_default();
        let when = Names { names, span: fallback.span_of("when", "when") };
        (Fallback { when: Vec::new(), env: env(fallback, mentions) }, when)
    })
}

fn restart(table: &Reader<'_>) -> Restart {
    let default = Restart::default();
    let max = table.number("max", 0..=1000).and_then(|max| u32::try_from(max).ok());
    let backoff = table.parsed("backoff", "two times such as `500ms..30s`", |text| {
        let (first, most) = text.split_once("..")?;
        Some((duration_of(first.trim())?, duration_of(most.trim())?))
    });
    if backoff.is_some_and(|(first, most)| first > most) {
        table.fault("backoff", "`backoff` is upside down: the shorter time comes first");
    }
    Restart {
        max: max.unwrap_or(default.max),
        within: time(table, "within").unwrap_or(default.within),
        backoff: backoff.unwrap_or(default.backoff),
    }
}

fn stop(table: &Reader<'_>) -> Stop {
    let default = Stop::default();
    Stop {
        signal: table.word("signal", &SIGNALS).unwrap_or(default.signal),
        timeout: time(table, "timeout").unwrap_or(default.timeout),
        to: table.word("to", &STOP_TO).unwrap_or(default.to),
    }
}

fn limits(table: &Reader<'_>) -> Limits {
    let percent = |key: &str, wanted: &str, most: u16| {
        table.parsed(key, wanted, |text| {
            let number = text.strip_suffix('%')?.trim_end().parse::<u16>().ok()?;
            (1..=most).contains(&number).then_some(number)
        })
    };
    let memory = table.parsed("memory", SIZE, bytes_of);
    let memory_warn = percent("memory-warn", "from `1%` to `100%`", 100);
    let cpu_warn = percent("cpu-warn", "from `1%` to `10000%`", 10_000);
    if table.has("memory-warn") && !table.has("memory") && table.is_whole() {
        table.fault("memory-warn", "`memory-warn` is a part of `memory`, which is not given");
    }
    let default = memory.map(|_| DEFAULT_MEMORY_WARN);
    let memory_warn = memory_warn.and_then(|percent| u8::try_from(percent).ok()).or(default);
    Limits { memory, memory_warn, cpu_warn }
}

fn log(table: &Reader<'_>) -> LogLimits {
    let default = LogLimits::default();
    let keep = table.number("keep", 0..=1000).and_then(|keep| u32::try_from(keep).ok());
    LogLimits {
        size: table.parsed("size", SIZE, bytes_of).unwrap_or(default.size),
        keep: keep.unwrap_or(default.keep),
    }
}

const SIZE: &str = "a size such as `1 GB`";

const INSIDE_STATE: &str =
    "a relative path inside the folder for what services keep, such as `postgres`";

/// What stands for the folder of a backup in its command.
pub const BACKUP: &str = "{backup}";
