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

use xtask_config::{FallbackConfig, HttpProbe, LogConfig, RestartConfig};

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
    #[serde(flatten)]
    pub supervision: SupervisionSpec,
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

/// How the supervisor watches, restarts and stops a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisionSpec {
    /// Readiness probe; if `None`, a running process counts as ready.
    pub ready: Option<ProbeSpec>,
    /// Liveness probe.
    pub live: Option<LivenessSpec>,
    pub restart: RestartConfig,
    pub stop: StopSpec,
    /// Thresholds for warnings.
    pub limits: LimitsSpec,
    /// How to start while some of `needs` are missing.
    pub fallback: Option<FallbackConfig>,
    pub log: LogConfig,
}

impl ServiceSpec {
    /// Returns its probes.
    pub fn probes(&self) -> impl Iterator<Item = &ProbeSpec> {
        let SupervisionSpec { ready, live, .. } = &self.supervision;
        ready.iter().chain(live.iter().map(|live| &live.probe))
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
    /// HTTP request and its expected response; its port is set.
    pub http: Option<HttpProbe>,
    /// Port that must accept connections.
    pub tcp: Option<u16>,
    /// Command that must exit with code 0.
    pub run: Option<Vec<String>>,
    /// Text that must appear in the log of the current run.
    pub log: Option<String>,
    /// Timeout of one attempt, in milliseconds.
    pub timeout_ms: u64,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keeps_its_format() {
        let text = r#"{"name":"api","argv":["node"],"folder":"/r","port":8100,"is_moved":false,"env":{"A":"b"},"env_files":[{"path":"/r/.env","is_optional":true}],"needs":["db"],"once":false,"required":true,"ready":{"http":{"port":8100,"path":"/health","status":[204],"json":{"a":1}},"tcp":8100,"run":["true"],"log":"up","timeout_ms":3000},"live":{"probe":{"http":null,"tcp":1,"run":null,"log":null,"timeout_ms":1},"every_ms":30000,"failures":3},"restart":{"max":5,"within_ms":60000,"first_ms":500,"longest_ms":30000},"stop":{"signal":15,"timeout_ms":10000,"to_all":false},"limits":{"memory_warn":1,"cpu_warn":2},"fallback":{"when":["db"],"env":{}},"log":{"size":10000000,"keep":3},"state":["/r/.data/a"],"tries_serving":false,"backup":{"argv":["dump"],"timeout_ms":1}}"#;
        let spec: ServiceSpec = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&spec).unwrap(), text);
    }
}
