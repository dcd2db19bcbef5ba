//! The protocol between this machine and the program on the host: one request, and lines of JSON in response.
//!
//! Both sides are the same program and parse a layer alike; the request contains the texts of its files. It also
//! contains values of variables, so it is never printed, and only written to the connection. For example:
//!
//! ```text
//! -> {"schema": "xtask.deploy-order/1", "wanted": {"doing": "verify"}, "root": "/srv/app", "layer": "prod", ...}
//! <- "beat"
//! <- {"ended": {"failure": null, "verified": {"release": "20250310T101500Z-4cfd10e1a2b3", "faults": []}}}
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::gates::Gate;
use super::history::DeployEntry;
pub use super::ssh::{DEPLOY_HOST, HELLO, ORDER};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::Layer;

/// Line from the client that interrupts the run.
pub const INTERRUPT: &str = "interrupt";

/// Request to the program on the host.
#[derive(Serialize, Deserialize)]
pub struct HostRequest {
    /// Protocol version, `ORDER`.
    pub schema: String,
    /// Requested command.
    pub wanted: HostCommand,
    /// Folder of the target.
    pub root: PathBuf,
    /// Name of the layer.
    pub layer: String,
    /// Texts of the layer's files, by layer name: the layer itself and those that it extends.
    pub files: BTreeMap<String, String>,
    /// The deploying user.
    pub by: String,
    /// Variables for services and commands; they override those of the host.
    pub variables: BTreeMap<String, String>,
    /// Time limit for each service to become ready, in milliseconds.
    pub ready_within_ms: u64,
}

/// Command of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "kebab-case")]
pub enum HostCommand {
    /// Run the target gates. Read-only.
    Look {
        /// Required free space, in bytes.
        needed: u64,
        /// Names of required variables that are not set on the client.
        missing: Vec<String>,
    },
    /// Recover an interrupted run.
    Mend,
    /// Deploy an uploaded release.
    Deploy {
        /// Name of the release.
        release: String,
        /// Commit, in full.
        commit: String,
        /// Length of the watch, in milliseconds.
        watch_ms: u64,
    },
    /// Serve a release that was verified before.
    Rollback {
        /// Name of the release.
        release: String,
        /// Length of the watch, in milliseconds.
        watch_ms: u64,
    },
    /// Check integrity and health of the current release. Read-only.
    Verify,
}

/// A line of the response.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostMessage {
    /// Sign of life.
    Beat,
    /// Progress message.
    Tell(String),
    /// Warning.
    Warn(String),
    /// Result; the last line.
    Ended(Box<HostResponse>),
}

/// Result of a request.
#[derive(Default, Serialize, Deserialize)]
pub struct HostResponse {
    /// The error, if it failed.
    pub failure: Option<WireError>,
    /// History entry of the run, if it added one.
    #[serde(default)]
    pub run: Option<DeployEntry>,
    /// Name of the release to which `current` points.
    #[serde(default)]
    pub current: Option<String>,
    /// Name of the verified release that serves.
    #[serde(default)]
    pub serves: Option<String>,
    /// Result of `HostCommand::Look`.
    #[serde(default)]
    pub looked: Option<TargetInspection>,
    /// Result of `HostCommand::Verify`.
    #[serde(default)]
    pub verified: Option<Verification>,
}

/// Result of an inspection of the target.
#[derive(Serialize, Deserialize)]
pub struct TargetInspection {
    /// Results of the target gates.
    pub gates: Vec<Gate>,
    /// Names of all existing and uploaded releases.
    pub taken: Vec<String>,
    /// Names of the existing verified releases, newest first.
    pub kept: Vec<String>,
}

/// Result of `deploy --verify`.
#[derive(Default, Serialize, Deserialize)]
pub struct Verification {
    /// Name of the release to which `current` points.
    pub release: Option<String>,
    /// Commit of `release`, in full.
    pub commit: Option<String>,
    /// All faults; empty if the release is intact and healthy.
    pub faults: Vec<String>,
}

/// Serialized form of an `Error`.
#[derive(Serialize, Deserialize)]
pub struct WireError {
    code: u8,
    what: String,
    causes: Vec<String>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl From<&Error> for WireError {
    fn from(error: &Error) -> WireError {
        WireError {
            code: error.kind().exit_code(),
            what: error.message().to_owned(),
            causes: error.causes(),
            details: error.details().to_vec(),
            hints: error.hints().to_vec(),
        }
    }
}

impl WireError {
    /// Restores the error: kind by exit code, causes, details and hints.
    #[must_use]
    pub fn into_error(self) -> Error {
        let failure = self;
        let kinds = [
            ErrorKind::Negative,
            ErrorKind::Usage,
            ErrorKind::RolledBack,
            ErrorKind::RollbackFailed,
            ErrorKind::Interrupted,
        ];
        let kind = kinds.into_iter().find(|kind| kind.exit_code() == failure.code);
        let mut error = Error::new(kind.unwrap_or(ErrorKind::Unable), failure.what);
        if !failure.causes.is_empty() {
            error = error.with_cause(failure.causes.join(": "));
        }
        let error = failure.details.into_iter().fold(error, Error::with_detail);
        failure.hints.into_iter().fold(error, Error::with_hint)
    }
}

impl HostRequest {
    /// Parses the layer from `files`.
    pub fn load_layer(&self) -> Result<Layer> {
        let known: Vec<String> = self.files.keys().cloned().collect();
        Layer::load(&self.layer, &|name| Ok(self.files.get(name).cloned()), &known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_arrives_as_it_was() {
        let cause = std::io::Error::other("no room");
        let error = Error::new(ErrorKind::RolledBack, "it did not hold")
            .with_cause(cause)
            .with_detail("api: it ended")
            .with_hint("look");
        let text = serde_json::to_string(&WireError::from(&error)).unwrap();
        let back = serde_json::from_str::<WireError>(&text).unwrap().into_error();
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!((back.kind(), back.details()), (ErrorKind::RolledBack, error.details()));
        assert_eq!(back.hints(), error.hints());
    }
}
