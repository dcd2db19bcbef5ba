//! What the supervisor is told about a service: every placeholder filled, every folder absolute,
//! every number in milliseconds or bytes. It is what goes over the socket and into the saved state,
//! so fields are added and never renamed.
//!
//! It holds no secret that is not in the repository: files of variables are named here and read
//! when the service is started.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A service, ready to be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// The program and its arguments. `{xtask}` stands for the program that supervises.
    pub argv: Vec<String>,
    /// Where it runs.
    pub folder: PathBuf,
    /// The port on which it listens.
    pub port: Option<u16>,
    /// Whether that port was asked for by name, instead of the one that is configured.
    #[serde(default)]
    pub is_moved: bool,
    /// Its variables, over those of the command that started the stack.
    pub env: BTreeMap<String, String>,
    /// Files of variables, which are read at each start.
    pub env_files: Vec<EnvFile>,
    /// What must be ready before it is started.
    pub needs: Vec<String>,
    /// It does its work and ends; ending with 0 is being ready.
    pub once: bool,
    /// Whether the stack is unhealthy without it.
    pub required: bool,
    /// What must hold before it counts as ready; nothing: it is ready once it runs.
    pub ready: Option<ProbeSpec>,
    /// What must go on to hold.
    pub live: Option<LivenessSpec>,
    /// When it is started again.
    pub restart: RestartSpec,
    /// How it is stopped.
    pub stop: StopSpec,
    /// Beyond what a warning is given.
    pub limits: LimitsSpec,
    /// How it is started where something that it needs is missing.
    pub fallback: Option<FallbackSpec>,
    /// How long its log may get.
    pub log: LogSpec,
    /// The folders in which it keeps what outlives it, which are made before it is started.
    #[serde(default)]
    pub state: Vec<PathBuf>,
    /// Whether the one that serves stands for it while a release is tried.
    #[serde(default)]
    pub tries_serving: bool,
    /// What saves its state.
    #[serde(default)]
    pub backup: Option<BackupSpec>,
}

/// How the state of a service is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupSpec {
    /// The program and its arguments. `{backup}` stands for the folder into which it writes.
    pub argv: Vec<String>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
}

/// A file of variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Whether it may be missing.
    pub is_optional: bool,
}

/// How a file of variables looked when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFileStamp {
    /// Where it lies.
    pub path: PathBuf,
    /// Its look; nothing where there was none, or none that could be changed.
    pub look: Option<FileStamp>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStamp {
    /// Its size in bytes.
    pub size: u64,
    /// When it last changed, in nanoseconds since the epoch.
    pub mtime_ns: i64,
    /// Its inode.
    pub inode: u64,
}

/// What is asked of a service. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// A page and what it must say.
    pub http: Option<HttpProbeSpec>,
    /// A port on which somebody accepts connections.
    pub tcp: Option<u16>,
    /// A command that ends with 0.
    pub run: Option<Vec<String>>,
    /// A text that appears in a line of the log.
    pub log: Option<String>,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: u64,
}

/// A page and what it must say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpProbeSpec {
    /// The port.
    pub port: u16,
    /// The path, which begins with a slash.
    pub path: String,
    /// The statuses that will do; where there are none, 200 to 299.
    pub status: Vec<u16>,
    /// What the JSON body must hold, whatever else it holds.
    pub json: Option<serde_json::Value>,
}

/// What must go on to hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LivenessSpec {
    /// What is asked.
    pub probe: ProbeSpec,
    /// How often, in milliseconds.
    pub every_ms: u64,
    /// How many failures in a row are too many.
    pub failures: u32,
}

/// When a service is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartSpec {
    /// How often, at most, …
    pub max: u32,
    /// … within so many milliseconds.
    pub within_ms: u64,
    /// The first pause, in milliseconds; each one after it is twice as long …
    pub first_ms: u64,
    /// … up to this.
    pub longest_ms: u64,
}

/// How a service is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSpec {
    /// The number of the signal that asks it to end.
    pub signal: i32,
    /// How long it may take before it is killed, in milliseconds.
    pub timeout_ms: u64,
    /// Whether all of its processes are asked at once, and not the first one before the others.
    #[serde(default)]
    pub to_all: bool,
}

/// Beyond what a warning is given. Nothing is ended for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsSpec {
    /// Resident memory, in bytes.
    pub memory_warn: Option<u64>,
    /// Processor time, in percent of one processor.
    pub cpu_warn: Option<u32>,
}

/// How a service is started where something that it needs is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FallbackSpec {
    /// Without which of its needs it can do.
    pub when: Vec<String>,
    /// The variables that tell it so.
    pub env: BTreeMap<String, String>,
}

/// How long a log may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// The size of a piece, in bytes.
    pub size: u64,
    /// How many full pieces are kept.
    pub keep: u32,
}
