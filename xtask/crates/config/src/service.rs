//! Parser for one service of a layer (`[service.NAME]`).
//!
//! References to other services are collected here and resolved by `layer.rs` after all services were read.
//!
//! ```text
//! [service.web]
//! run = "npm run dev -- --port {port}"
//! port = 3000
//! needs = ["api"]
//! live = { http = "/" }
//! ```

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::command::{CommandLine, read_command_or_list};
use super::durations::read_duration;
use super::port_references::{PortReference, collect_port_references};
use super::probe::{LivenessConfig, ProbeConfig, read_liveness, read_readiness};
use super::reader::TableReader;
use super::value_syntax::{INSIDE, NAME, is_valid_name, is_variable_name, parse_inner_path};
use xtask_base::environment::parse_duration;
use xtask_base::path::RepoPath;
use xtask_base::process::ACTIVE_VAR;
use xtask_base::words::parse_size;

/// The default of `memory-warn`, in percent of `memory`.
const DEFAULT_MEMORY_WARN: u8 = 80;

/// The prefix of variables that only `xtask` may set.
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

/// An enabled service. Its texts still contain placeholders; see `fill_placeholders`.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: String,
    /// The start command.
    pub run: CommandLine,
    /// The working directory; `None` for the repository root.
    pub dir: Option<RepoPath>,
    /// The port on which the service listens.
    pub port: Option<u16>,
    /// Additional environment variables.
    pub env: BTreeMap<String, String>,
    /// Env files, relative to the repository root. A file with the prefix `?` is optional.
    pub env_files: Vec<String>,
    /// The services that must be ready first, as indices into `Layer::services`.
    pub needs: Vec<usize>,
    /// Whether the service is a one-off task: ready when it has exited with code 0.
    pub once: bool,
    /// Whether the stack is unhealthy without this service.
    pub required: bool,
    pub supervision: SupervisionConfig,
    /// Folders with data that must outlive a release, below the state folder.
    pub state: Vec<RepoPath>,
    /// The stand-in for this service while a new release is tested.
    pub candidate: CandidateMode,
    /// The command that saves `state` before another release takes over.
    pub backup: Option<BackupConfig>,
}

/// How a service is watched, restarted and stopped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SupervisionConfig {
    /// The readiness probe; if `None`, the service is ready as soon as its process runs.
    pub ready: Option<ProbeConfig>,
    /// The liveness probe.
    pub live: Option<LivenessConfig>,
    pub restart: RestartConfig,
    pub stop: StopConfig,
    /// Warning thresholds for memory and CPU.
    pub limits: LimitsConfig,
    /// How to start without some of the services in `needs`.
    pub fallback: Option<FallbackConfig>,
    pub log: LogConfig,
}

impl SupervisionConfig {
    /// Returns the probes.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeConfig> {
        self.ready.iter().chain(self.live.iter().map(|live| &live.probe))
    }
}

/// The stand-in for a service while a new release is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateMode {
    /// A new process on a spare port.
    Start,
    /// The process that currently serves.
    Serving,
}

const CANDIDATES: [(&str, CandidateMode); 2] =
    [("start", CandidateMode::Start), ("serving", CandidateMode::Serving)];

/// The backup of the state of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct BackupConfig {
    /// The command, in which `{backup}` is the target folder.
    pub run: CommandLine,
    /// The maximum duration.
    pub timeout: Duration,
}

/// The default of `backup-timeout`: ten minutes.
const DEFAULT_BACKUP_TIMEOUT: Duration = Duration::from_secs(600);

/// The restart policy of a service that exited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartConfig {
    /// The maximum number of restarts within `within`; 0 disables restarts.
    pub max: u32,
    /// The period for `max`.
    #[serde(rename = "within_ms", with = "crate::durations::millis")]
    pub within: Duration,
    /// The first delay before a restart; each further one doubles, up to `longest`.
    #[serde(rename = "first_ms", with = "crate::durations::millis")]
    pub first: Duration,
    #[serde(rename = "longest_ms", with = "crate::durations::millis")]
    pub longest: Duration,
}

impl Default for RestartConfig {
    fn default() -> Self {
        let (first, longest) = (Duration::from_millis(500), Duration::from_secs(30));
        RestartConfig { max: 5, within: Duration::from_secs(60), first, longest }
    }
}

/// How to stop a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopConfig {
    /// The first signal.
    pub signal: StopSignal,
    /// The time until the service is killed.
    pub timeout: Duration,
    /// The processes that receive the first signal.
    pub to: StopScope,
}

/// The processes that receive the signal to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopScope {
    /// The main process, which informs the others. They get the signal after it has exited, or after half of `timeout`.
    Main,
    /// All processes of the service at once.
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

/// The signals that can stop a service.
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

/// The resource usage above which a warning is printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsConfig {
    /// The allowed memory, in bytes.
    pub memory: Option<u64>,
    /// The warning threshold, in percent of `memory`.
    pub memory_warn: Option<u8>,
    /// The warning threshold, in percent of one CPU.
    pub cpu_warn: Option<u16>,
}

/// How a service starts although a dependency is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackConfig {
    /// The optional dependencies.
    pub when: Vec<String>,
    /// Environment variables for that case, which override `Service::env`.
    pub env: BTreeMap<String, String>,
}

/// The log rotation of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// The maximum size of a log file, in bytes.
    pub size: u64,
    /// The number of older files to keep.
    pub keep: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { size: 10_000_000, keep: 3 }
    }
}

/// References to other services.
pub(super) struct ServiceNames {
    pub(super) names: Vec<String>,
    pub(super) span: Range<usize>,
}

/// A service whose references to other services are not resolved yet.
pub(super) struct ServiceDraft {
    pub(super) name: String,
    pub(super) span: Range<usize>,
    pub(super) is_enabled: bool,
    /// The service without its references; `None` if it could not be read.
    pub(super) service: Option<Service>,
    /// Whether `port` is present, valid or not.
    pub(super) has_port: bool,
    pub(super) port: Option<u16>,
    pub(super) port_span: Range<usize>,
    pub(super) needs: ServiceNames,
    pub(super) fallback_when: ServiceNames,
    pub(super) port_references: Vec<PortReference>,
}

/// Returns the fault message if the variable `name` cannot be set for a service.
fn find_variable_fault(name: &str) -> Option<String> {
    if is_variable_name(name) {
        find_reserved_fault(name)
    } else {
        Some(format!("invalid variable name `{name}`"))
    }
}

/// Returns the fault message if the variable `name` is reserved for `xtask`.
#[must_use]
pub fn find_reserved_fault(name: &str) -> Option<String> {
    let is_ours = name.starts_with(OURS) || name == ACTIVE_VAR;
    is_ours.then(|| format!("`{name}` cannot be set: it is reserved for xtask"))
}

/// Returns the variable with the port of a service, e.g. `XTASK_PORT_MY_API` for `my-api`.
#[must_use]
pub fn port_variable(service: &str) -> String {
    format!("{OURS}PORT_{}", service.to_ascii_uppercase().replace('-', "_"))
}

/// Reads `[service.NAME]`. All keys are read even after a fault, so that all faults are reported at once.
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
            format!("`{key}` cannot be used with `once`: such a service is ready when it exits with code 0"),
        );
    }
    let state = read_state(table);
    // For people alone.
    table.read_text("description");
    let parts = Service {
        name: name.to_owned(),
        run: CommandLine { text: String::new(), argv: Vec::new(), shell },
        dir: table.read_parsed("dir", INSIDE, parse_inner_path),
        port,
        env: read_env(table, &mut mentions),
        env_files: read_env_files(table),
        needs: Vec::new(),
        once,
        required: table.read_bool("required").unwrap_or(true),
        supervision: read_supervision(table, fallback, &mut mentions),
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

fn read_supervision(
    table: &TableReader<'_>,
    fallback: Option<FallbackConfig>,
    mentions: &mut Vec<PortReference>,
) -> SupervisionConfig {
    SupervisionConfig {
        ready: read_readiness(table, mentions),
        live: read_liveness(table, mentions),
        restart: table.read_table("restart", read_restart).unwrap_or_default(),
        stop: table.read_table("stop", read_stop).unwrap_or_default(),
        limits: table.read_table("limits", read_limits).unwrap_or_default(),
        fallback,
        log: table.read_table("log", read_log).unwrap_or_default(),
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

/// Reads `candidate`. The default for a service with `state` is `Serving`, because two instances must not share state.
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
            table.add_fault("backup-timeout", "`backup-timeout` requires `backup`");
        }
        return None;
    }
    if state.is_empty() && table.is_complete() {
        table.add_fault("backup", "`backup` requires `state`, which it saves");
    }
    let run = read_command_or_list(table, "backup", shell)?;
    for word in &run.argv {
        collect_port_references(table, "backup", word, mentions);
    }
    if !run.argv.iter().any(|word| word.contains(BACKUP) || word.contains("XTASK_BACKUP")) {
        table.add_fault(
            "backup",
            format!("`backup` does not use its target folder: pass `{BACKUP}`, or `$XTASK_BACKUP` in a shell"),
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
        table.add_fault("backoff", "`backoff` must begin with the shorter time");
    }
    RestartConfig {
        max: max.unwrap_or(default.max),
        within: read_duration(table, "within").unwrap_or(default.within),
        first: backoff.map_or(default.first, |(first, _)| first),
        longest: backoff.map_or(default.longest, |(_, most)| most),
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
        table.add_fault(
            "memory-warn",
            "`memory-warn` requires `memory`, of which it is a percentage",
        );
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
    "a relative path inside the state folder of the services, such as `postgres`";

/// The placeholder for the target folder in a backup command.
pub const BACKUP: &str = "{backup}";
