//! `ServiceSpec`: a service as the supervisor receives it, with every placeholder filled, every
//! folder absolute and every number in milliseconds or bytes.
//!
//! It travels over the control socket and is stored in `StackRecord`, so fields are added and never
//! renamed. It holds no secret from outside the repository: `env_files` only names the files, which
//! are read when the service is started.
//!
//! ```text
//! {"name": "api", "argv": ["node", "api.js"], "folder": "/repo", "port": 8100, "needs": ["db"], …}
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Complete description of a service, ready to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    pub name: String,
    /// Program and arguments. `{xtask}` is replaced by the path of the toolkit when the service starts.
    pub argv: Vec<String>,
    /// Working directory.
    pub folder: PathBuf,
    /// Port that the service listens on.
    pub port: Option<u16>,
    /// Whether `port` comes from `--port NAME=N` instead of the configuration.
    #[serde(default)]
    pub is_moved: bool,
    /// Environment variables, set over those of the command that started the stack.
    pub env: BTreeMap<String, String>,
    /// Env files, read by `start` and `restart`.
    pub env_files: Vec<EnvFile>,
    /// Services that must be ready before this one starts.
    pub needs: Vec<String>,
    /// Whether the service runs to completion; exit code 0 counts as ready.
    pub once: bool,
    /// Whether the stack is unhealthy without this service.
    pub required: bool,
    /// Readiness probe; if `None`, a running process counts as ready.
    pub ready: Option<ProbeSpec>,
    /// Liveness probe.
    pub live: Option<LivenessSpec>,
    pub restart: RestartSpec,
    pub stop: StopSpec,
    /// Thresholds for warnings.
    pub limits: LimitsSpec,
    /// How to start while some of `needs` are missing.
    pub fallback: Option<FallbackSpec>,
    pub log: LogSpec,
    /// Folders for persistent data, created before the start.
    #[serde(default)]
    pub state: Vec<PathBuf>,
    /// Whether the serving instance stands in for this service while a release is tried.
    #[serde(default)]
    pub tries_serving: bool,
    /// Command that saves the contents of `state`.
    #[serde(default)]
    pub backup: Option<BackupSpec>,
}

impl ServiceSpec {
    /// Returns its probes.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeSpec> {
        self.ready.iter().chain(self.live.iter().map(|live| &live.probe))
    }
}

/// Command that saves the persistent data of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSpec {
    /// Program and arguments. `{backup}` is replaced by the folder to write into.
    pub argv: Vec<String>,
    /// Timeout, in milliseconds.
    pub timeout_ms: u64,
}

/// Env file of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFile {
    pub path: PathBuf,
    /// Whether the file may be missing (`env-file = "?NAME"`).
    pub is_optional: bool,
}

/// Identity of an env file at the time it was read, for detecting changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFileStamp {
    pub path: PathBuf,
    /// `None` if the file was missing, or is not a regular file (e.g. a pipe).
    pub look: Option<FileStamp>,
}

/// Values that differ between two states of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// In bytes.
    pub size: u64,
    /// Modification time, in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    pub inode: u64,
}

/// Conditions of a probe; each one that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// HTTP request and its expected response.
    pub http: Option<HttpProbeSpec>,
    /// Port that must accept connections.
    pub tcp: Option<u16>,
    /// Command that must exit with code 0.
    pub run: Option<Vec<String>>,
    /// Text that must appear in the log of the current run.
    pub log: Option<String>,
    /// Timeout of one attempt, in milliseconds.
    pub timeout_ms: u64,
}

/// HTTP request and its expected response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpProbeSpec {
    pub port: u16,
    /// Path that begins with a slash, e.g. `/health`.
    pub path: String,
    /// Accepted status codes; if empty, 200 to 299.
    pub status: Vec<u16>,
    /// JSON that the body must contain; additional keys are allowed.
    pub json: Option<serde_json::Value>,
}

/// Probe that is repeated while the service runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LivenessSpec {
    pub probe: ProbeSpec,
    /// Interval, in milliseconds.
    pub every_ms: u64,
    /// Consecutive failures after which the service is restarted.
    pub failures: u32,
}

/// Limits and backoff of automatic restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartSpec {
    /// Maximum number of restarts within `within_ms`.
    pub max: u32,
    /// Window for `max`, in milliseconds.
    pub within_ms: u64,
    /// First backoff, in milliseconds; each further one doubles, up to `longest_ms`.
    pub first_ms: u64,
    /// Longest backoff, in milliseconds.
    pub longest_ms: u64,
}

/// Signal and timeout of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSpec {
    /// Signal number, e.g. 15 (SIGTERM).
    pub signal: i32,
    /// Time before SIGKILL, in milliseconds.
    pub timeout_ms: u64,
    /// Whether all processes are signalled at once, instead of the first process before the others.
    #[serde(default)]
    pub to_all: bool,
}

/// Thresholds for warnings. Exceeding one never stops a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsSpec {
    /// Resident memory, in bytes.
    pub memory_warn: Option<u64>,
    /// CPU time, in percent of one CPU.
    pub cpu_warn: Option<u32>,
}

/// How to start a service while some of its dependencies are missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackSpec {
    /// Dependencies that the service can run without.
    pub when: Vec<String>,
    /// Environment variables set in that case.
    pub env: BTreeMap<String, String>,
}

/// Size limits of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Size of one piece, in bytes.
    pub size: u64,
    /// Number of full pieces to keep.
    pub keep: u32,
}
