//! One service of a layer: its table, read by itself. What it says about other services is noted, and
//! looked up by `layer.rs` when all of them are read.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use super::command::{CommandLine, read_command_or_list};
use super::port_references::{PortReference, collect_port_references, read_duration};
use super::probe::{LivenessConfig, ProbeConfig, read_liveness, read_readiness};
use super::reader::TableReader;
use super::value_syntax::{INSIDE, NAME, is_valid_name, is_variable_name, parse_inner_path};
use xtask_base::environment::parse_duration;
use xtask_base::path::RepoPath;
use xtask_base::process::ACTIVE_VAR;
use xtask_base::words::parse_size;

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
    pub ready: Option<ProbeConfig>,
    /// How it is watched while it runs.
    pub live: Option<LivenessConfig>,
    /// How often it is started again.
    pub restart: RestartConfig,
    /// How it is stopped.
    pub stop: StopConfig,
    /// What it may use.
    pub limits: LimitsConfig,
    /// How it starts without some that it needs.
    pub fallback: Option<FallbackConfig>,
    /// How much of its log is kept.
    pub log: LogConfig,
    /// The folders in which it keeps what must outlive a release, below the one for that.
    pub state: Vec<RepoPath>,
    /// What stands for it while a release is tried.
    pub candidate: CandidateMode,
    /// What saves its state before another release takes over.
    pub backup: Option<BackupConfig>,
}

/// What stands for a service while a release is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateMode {
    /// One that is started for it, on a spare port.
    Start,
    /// The one that serves.
    Serving,
}

const CANDIDATES: [(&str, CandidateMode); 2] =
    [("start", CandidateMode::Start), ("serving", CandidateMode::Serving)];

/// How the state of a service is saved.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupConfig {
    /// The command. `{backup}` stands for the folder into which it writes.
    pub run: CommandLine,
    /// How long it may take.
    pub timeout: Duration,
}

/// How long a backup may take where nothing is said: ten minutes.
const DEFAULT_BACKUP_TIMEOUT: Duration = Duration::from_secs(600);

/// How often a service that ended is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    /// The most restarts within a time; 0 for none at all.
    pub max: u32,
    /// That time.
    pub within: Duration,
    /// How long is waited before a restart: first, and at most.
    pub backoff: (Duration, Duration),
}

impl Default for RestartConfig {
    fn default() -> Self {
        let backoff = (Duration::from_millis(500), Duration::from_secs(30));
        RestartConfig { max: 5, within: Duration::from_secs(60), backoff }
    }
}

/// How a service is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopConfig {
    /// What it is sent first.
    pub signal: StopSignal,
    /// How long it has before it is killed.
    pub timeout: Duration,
    /// Whom the signal goes to at first.
    pub to: StopScope,
}

/// Whom the signal goes to that asks a service to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopScope {
    /// Its first process, which tells the others; they are asked when it has ended, or half of the time is over.
    Main,
    /// All of its processes at once.
    All,
}

const STOP_TO: [(&str, StopScope); 2] = [("main", StopScope::Main), ("all", StopScope::All)];

impl Default for StopConfig {
    fn default() -> Self {
        StopConfig {
            signal: StopSignal::Term,
            timeout: Duration::from_secs(10),
            to: StopScope::Main,
        }
    }
}

/// The signals that can ask a service to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
pub struct LimitsConfig {
    /// Its memory, in bytes.
    pub memory: Option<u64>,
    /// From which part of it on there is a warning, in percent.
    pub memory_warn: Option<u8>,
    /// From which use of a processor on there is a warning, in percent of one.
    pub cpu_warn: Option<u16>,
}

/// How a service starts although something that it needs is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallbackConfig {
    /// The services that it can do without, as indices.
    pub when: Vec<usize>,
    /// The variables that it is given then, over the others.
    pub env: BTreeMap<String, String>,
}

/// How much of a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How long a file may become, in bytes.
    pub size: u64,
    /// How many older files are kept beside it.
    pub keep: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { size: 10_000_000, keep: 3 }
    }
}

/// Names of other services.
pub(super) struct ServiceNames {
    pub(super) names: Vec<String>,
    pub(super) span: Range<usize>,
}

/// A service as it was read, before what it says about others was looked up.
pub(super) struct ServiceDraft {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) is_enabled: bool,
    /// Nothing where it could not be read. What refers to others is still empty.
    pub(super) service: Option<Service>,
    /// Whether it says a port, right or wrong.
    pub(super) has_port: bool,
    pub(super) port: Option<u16>,
    pub(super) port_span: Range<usize>,
    pub(super) needs: ServiceNames,
    pub(super) fallback_when: ServiceNames,
    pub(super) port_references: Vec<PortReference>,
}

/// What is wrong with a variable that is to be set for a service, if anything is.
fn find_variable_fault(name: &str) -> Option<String> {
    if is_variable_name(name) {
        find_reserved_fault(name)
    } else {
        Some(format!("`{name}` is no name of a variable"))
    }
}

/// Why nobody else may set this variable, if it is ours to set.
#[must_use]
pub fn find_reserved_fault(name: &str) -> Option<String> {
    let is_ours = name.starts_with(OURS) || name == ACTIVE_VAR;
    is_ours.then(|| format!("`{name}` cannot be set: it is xtask that sets it"))
}

/// The variable in which services find the port of one of them: `XTASK_PORT_MY_API`.
#[must_use]
pub fn port_variable(service: &str) -> String {
    format!("{OURS}PORT_{}", service.to_ascii_uppercase().replace('-', "_"))
}

/// Reads the table of a service. All of it is read, also where there is a fault already: all faults
/// are told at once.
pub(super) fn read_service(name: &str, table: &TableReader<'_>) -> ServiceDraft {
    if !is_valid_name(name) {
        table.add_fault_at(table.span(), format!("invalid service name `{name}`: use {NAME}"));
    }
    let mut mentions = Vec::new();
    let shell = table.read_bool("shell").unwrap_or(false);
    table.require_key("run");
    let run = read_command_or_list(table, "run", shell);
    for word in run.iter().flat_map(|run| &run.argv) {
        collect_port_references(table, "run", word, &mut mentions);
    }
    let port =
        table.read_number("port", 1..=u64::from(u16::MAX)).and_then(|port| port.try_into().ok());
    let (fallback, when) = read_fallback(table, &mut mentions).unzip();
    let needs = ServiceNames {
        names: table.read_text_or_list("needs").unwrap_or_default(),
        span: table.key_span("needs", "needs"),
    };
    let once = table.read_bool("once").unwrap_or(false);
    for key in ["ready", "live"].into_iter().filter(|key| once && table.has_key(key)) {
        table.add_fault(
            key,
            format!("`{key}` is not for a service that runs `once`: its end tells"),
        );
    }
    let state = read_state(table);
    let (file, line) = table.locate(&table.span());
    let parts = Service {
        name: name.to_owned(),
        line,
        file: file.to_owned(),
        description: table.read_text("description"),
        run: CommandLine { text: String::new(), argv: Vec::new(), shell },
        dir: table.read_parsed("dir", INSIDE, parse_inner_path),
        port,
        env: read_env(table, &mut mentions),
        env_files: read_env_files(table),
        needs: Vec::new(),
        once,
        required: table.read_bool("required").unwrap_or(true),
        ready: read_readiness(table, &mut mentions),
        live: read_liveness(table, &mut mentions),
        restart: table.read_table("restart", read_restart).unwrap_or_default(),
        stop: table.read_table("stop", read_stop).unwrap_or_default(),
        limits: table.read_table("limits", read_limits).unwrap_or_default(),
        fallback,
        log: table.read_table("log", read_log).unwrap_or_default(),
        candidate: read_candidate(table, &state),
        backup: read_backup(table, shell, &state, &mut mentions),
        state,
    };
    ServiceDraft {
        name: name.to_owned(),
        span: table.span(),
        is_enabled: table.read_bool("enabled").unwrap_or(true),
        service: run.map(|run| Service { run, ..parts }),
        has_port: table.has_key("port"),
        port,
        port_span: table.value_span("port"),
        needs,
        fallback_when: when.unwrap_or(ServiceNames { names: Vec::new(), span: table.span() }),
        port_references: mentions,
    }
}

fn read_env(
    table: &TableReader<'_>,
    mentions: &mut Vec<PortReference>,
) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    table.read_table("env", |env| {
        for name in env.key_names() {
            if let Some(why) = find_variable_fault(&name) {
                env.add_fault(&name, why);
            }
            if let Some(value) = env.read_any_text(&name) {
                collect_port_references(env, &name, &value, mentions);
                variables.insert(name, value);
            }
        }
    });
    variables
}

fn read_env_files(table: &TableReader<'_>) -> Vec<String> {
    let files = table.read_text_or_list("env-file").unwrap_or_default();
    for file in &files {
        if parse_inner_path(file.strip_prefix('?').unwrap_or(file)).is_none() {
            table.add_fault("env-file", format!("`env-file` has `{file}`; it must be {INSIDE}"));
        }
    }
    files
}

fn read_state(table: &TableReader<'_>) -> Vec<RepoPath> {
    let mut state = Vec::new();
    for name in table.read_text_or_list("state").unwrap_or_default() {
        match parse_inner_path(&name) {
            Some(path) => state.push(path),
            None => {
                table.add_fault("state", format!("`state` has `{name}`; it must be {INSIDE_STATE}"))
            }
        }
    }
    state
}

/// Two of one service with the same state would each take it for its own.
fn read_candidate(table: &TableReader<'_>, state: &[RepoPath]) -> CandidateMode {
    let default = if state.is_empty() { CandidateMode::Start } else { CandidateMode::Serving };
    table.read_choice("candidate", &CANDIDATES).unwrap_or(default)
}

fn read_backup(
    table: &TableReader<'_>,
    shell: bool,
    state: &[RepoPath],
    mentions: &mut Vec<PortReference>,
) -> Option<BackupConfig> {
    let timeout = read_duration(table, "backup-timeout");
    if !table.has_key("backup") {
        if timeout.is_some() {
            table.add_fault(
                "backup-timeout",
                "`backup-timeout` is for `backup`, which is not given",
            );
        }
        return None;
    }
    if state.is_empty() && table.is_complete() {
        table.add_fault("backup", "`backup` saves the `state` of a service, which is not given");
    }
    let run = read_command_or_list(table, "backup", shell)?;
    for word in &run.argv {
        collect_port_references(table, "backup", word, mentions);
    }
    if !run.argv.iter().any(|word| word.contains(BACKUP) || word.contains("XTASK_BACKUP")) {
        table.add_fault(
            "backup",
            format!("`backup` says nowhere where it writes to: `{BACKUP}`, or `$XTASK_BACKUP` for a shell"),
        );
    }
    Some(BackupConfig { run, timeout: timeout.unwrap_or(DEFAULT_BACKUP_TIMEOUT) })
}

fn read_fallback(
    table: &TableReader<'_>,
    mentions: &mut Vec<PortReference>,
) -> Option<(FallbackConfig, ServiceNames)> {
    table.read_table("fallback", |fallback| {
        fallback.require_key("when");
        let names = fallback.read_text_or_list("when").unwrap_or_default();
        let when = ServiceNames { names, span: fallback.key_span("when", "when") };
        (FallbackConfig { when: Vec::new(), env: read_env(fallback, mentions) }, when)
    })
}

fn read_restart(table: &TableReader<'_>) -> RestartConfig {
    let default = RestartConfig::default();
    let max = table.read_number("max", 0..=1000).and_then(|max| u32::try_from(max).ok());
    let backoff = table.read_parsed("backoff", "two times such as `500ms..30s`", |text| {
        let (first, most) = text.split_once("..")?;
        Some((parse_duration(first.trim())?, parse_duration(most.trim())?))
    });
    if backoff.is_some_and(|(first, most)| first > most) {
        table.add_fault("backoff", "`backoff` is upside down: the shorter time comes first");
    }
    RestartConfig {
        max: max.unwrap_or(default.max),
        within: read_duration(table, "within").unwrap_or(default.within),
        backoff: backoff.unwrap_or(default.backoff),
    }
}

fn read_stop(table: &TableReader<'_>) -> StopConfig {
    let default = StopConfig::default();
    StopConfig {
        signal: table.read_choice("signal", &SIGNALS).unwrap_or(default.signal),
        timeout: read_duration(table, "timeout").unwrap_or(default.timeout),
        to: table.read_choice("to", &STOP_TO).unwrap_or(default.to),
    }
}

fn read_limits(table: &TableReader<'_>) -> LimitsConfig {
    let percent = |key: &str, wanted: &str, most: u16| {
        table.read_parsed(key, wanted, |text| {
            let number = text.strip_suffix('%')?.trim_end().parse::<u16>().ok()?;
            (1..=most).contains(&number).then_some(number)
        })
    };
    let memory = table.read_parsed("memory", SIZE_WANTED, parse_size);
    let memory_warn = percent("memory-warn", "from `1%` to `100%`", 100);
    let cpu_warn = percent("cpu-warn", "from `1%` to `10000%`", 10_000);
    if table.has_key("memory-warn") && !table.has_key("memory") && table.is_complete() {
        table.add_fault("memory-warn", "`memory-warn` is a part of `memory`, which is not given");
    }
    let default = memory.map(|_| DEFAULT_MEMORY_WARN);
    let memory_warn = memory_warn.and_then(|percent| u8::try_from(percent).ok()).or(default);
    LimitsConfig { memory, memory_warn, cpu_warn }
}

fn read_log(table: &TableReader<'_>) -> LogConfig {
    let default = LogConfig::default();
    let keep = table.read_number("keep", 0..=1000).and_then(|keep| u32::try_from(keep).ok());
    LogConfig {
        size: table.read_parsed("size", SIZE_WANTED, parse_size).unwrap_or(default.size),
        keep: keep.unwrap_or(default.keep),
    }
}

const SIZE_WANTED: &str = "a size such as `1 GB`";

const INSIDE_STATE: &str =
    "a relative path inside the folder for what services keep, such as `postgres`";

/// What stands for the folder of a backup in its command.
pub const BACKUP: &str = "{backup}";
