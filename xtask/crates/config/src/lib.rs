//! Parsers for the configuration files of a repository: TOML in, checked types out.
//!
//! There is one module per configuration file. All faults of a file are found at once, each with its line and,
//! for an unknown word, the nearest known one. The caller chooses and names the origin of a text, e.g. the
//! canonical commit or the working tree.
//!
//! ```text
//! "[canonical]\nbranch = 'main'"  ->  SyncConfig { branch: "main", .. }
//! ```

// Makes the sources part of the crate's fingerprint: checkouts that share a build folder must not take over what
// another checkout has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_CONFIG");

mod branches;
#[cfg(feature = "checks")]
mod check_files;
#[cfg(feature = "checks")]
mod check_hooks;
#[cfg(feature = "checks")]
mod check_kind;
#[cfg(feature = "checks")]
mod check_share;
#[cfg(feature = "checks")]
mod check_times;
#[cfg(feature = "checks")]
#[cfg_attr(
    not(feature = "services"),
    expect(dead_code, reason = "layers of services are read by more of it")
)]
mod command;
#[cfg(feature = "checks")]
mod cycles;
#[cfg(feature = "services")]
mod deploy;
#[cfg(feature = "services")]
mod durations;
#[cfg_attr(
    not(feature = "services"),
    expect(dead_code, reason = "layers of services are read by more of it")
)]
mod faults;
#[cfg(feature = "checks")]
mod file_rule;
mod globs;
#[cfg(feature = "services")]
mod layer;
#[cfg(feature = "services")]
mod layer_chain;
mod pin;
#[cfg(feature = "services")]
mod placeholders;
#[cfg(feature = "services")]
mod port_references;
#[cfg(feature = "services")]
mod probe;
#[cfg_attr(
    not(feature = "services"),
    expect(dead_code, reason = "layers of services are read by more of it")
)]
mod reader;
#[cfg(feature = "services")]
mod service;
mod sync;
pub mod toolchain;
#[cfg(feature = "checks")]
mod validate;
#[cfg_attr(
    not(feature = "services"),
    expect(dead_code, reason = "layers of services are read by more of it")
)]
mod value_syntax;

pub use branches::{BranchRule, BranchesConfig, Enforcement, NameRule};
#[cfg(feature = "checks")]
pub use check_files::{CheckFiles, FILES_WORD, MESSAGE_WORD};
#[cfg(feature = "checks")]
pub use check_hooks::{CheckHook, HookSettings, SkippedOperation};
#[cfg(feature = "checks")]
pub use check_kind::CheckKind;
#[cfg(feature = "checks")]
pub use check_share::{ShareConfig, SharePlace};
#[cfg(feature = "checks")]
pub use check_times::{CHECK_TIMES_FILE, parse_check_times, render_check_times};
#[cfg(feature = "checks")]
pub use command::CommandLine;
#[cfg(feature = "services")]
pub use deploy::{DeployConfig, DeployEngine, DeployStep, StepMoment};
#[cfg(feature = "checks")]
pub use file_rule::FileRule;
#[cfg(feature = "services")]
pub use layer::{Layer, StatusPort};
#[cfg(feature = "services")]
pub use layer_chain::{LayerValue, layer_file_path};
pub use pin::{MAX_PIN_BYTES, PIN_ENDING, PINS_FOLDER, Pin, PinHome, check_reason, is_pin_file};
#[cfg(feature = "services")]
pub use placeholders::{PlaceholderValues, fill_placeholders};
#[cfg(feature = "services")]
pub use probe::{HttpProbe, LivenessConfig, ProbeConfig, ProbePort};
pub use reader::suggest_nearest;
#[cfg(feature = "services")]
pub use service::{
    BACKUP, BackupConfig, CandidateMode, FallbackConfig, LimitsConfig, LogConfig, RestartConfig,
    Service, StopConfig, StopScope, StopSignal, SupervisionConfig, find_reserved_fault,
    port_variable,
};
pub use sync::{BranchException, CommitIdentity, Forge, HookMode, SyncConfig};
#[cfg(feature = "checks")]
pub use validate::{Check, CheckPhase, Fix, FixAction, RunConditions, ValidateConfig, is_webhook};

/// The path of the sync configuration in the repository.
pub const SYNC_FILE: &str = "setup/sync.toml";

/// The path of the branch rules in the repository.
pub const BRANCHES_FILE: &str = "setup/branches.toml";

/// The path of the checks in the repository.
pub const VALIDATE_FILE: &str = "setup/validate.toml";

/// The folder of the layers of services in the repository, one file each.
pub const DEPLOYMENT_FOLDER: &str = "deployment";

/// The layer that is used if none is named.
pub const DEFAULT_LAYER: &str = "local";

/// Returns the faults in `content` of the rules file `file`, e.g. [`SYNC_FILE`], or of a pin. Empty for other files.
#[must_use]
pub fn find_rule_faults(file: &str, content: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(content) else {
        return vec![format!("{file} is not UTF-8")];
    };
    let read = match file {
        SYNC_FILE => SyncConfig::parse(file, text).map(drop),
        BRANCHES_FILE => BranchesConfig::parse(file, text).map(drop),
        #[cfg(feature = "checks")]
        VALIDATE_FILE => ValidateConfig::parse(file, text).map(drop),
        _ if is_pin_file(file.as_bytes()) => Pin::parse(file, content).map(drop),
        _ => Ok(()),
    };
    match read {
        Ok(()) => Vec::new(),
        Err(faults) if faults.details().is_empty() => vec![faults.message().to_owned()],
        Err(faults) => faults.details().to_vec(),
    }
}
