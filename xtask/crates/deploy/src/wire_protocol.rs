//! What is said between this machine and the program on another host: one order, and lines of JSON in answer.
//!
//! The program over there is the very same one, so both read a layer alike; the order carries the text of its
//! files. Values of variables are in it: it is never printed, and goes nowhere but into the connection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::gates::Gate;
use super::history::DeployEntry;
pub use super::ssh::{DEPLOY_HOST, HELLO, ORDER};
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::Layer;

/// The line by which a run is interrupted.
pub const INTERRUPT: &str = "interrupt";

/// What is to be done over there.
#[derive(Serialize, Deserialize)]
pub struct HostRequest {
    /// The kind.
    pub schema: String,
    /// What.
    pub wanted: HostCommand,
    /// The folder of the target.
    pub root: PathBuf,
    /// The layer.
    pub layer: String,
    /// The texts of the files from which the layer is read, by the name of the layer of each.
    pub files: BTreeMap<String, String>,
    /// Who wants it.
    pub by: String,
    /// Variables for services and commands, over those of the host.
    pub variables: BTreeMap<String, String>,
    /// How long each service may take to get ready.
    pub ready_within_ms: u64,
}

/// What can be wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "doing", rename_all = "kebab-case")]
pub enum HostCommand {
    /// To be told how things are; nothing is changed.
    Look {
        /// The room that is needed, in bytes.
        needed: u64,
        /// The variables that are set nowhere else.
        missing: Vec<String>,
    },
    /// That a run which was cut short is ended.
    Mend,
    /// That a release serves which has arrived.
    Deploy {
        /// Its name.
        release: String,
        /// Its commit, in full.
        commit: String,
        /// How long it is watched.
        watch_ms: u64,
    },
    /// That a release serves which was verified before.
    Rollback {
        /// Its name.
        release: String,
        /// How long it is watched.
        watch_ms: u64,
    },
    /// To be told whether what serves is whole and well; nothing is changed.
    Verify,
}

/// What is said in answer, line by line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostMessage {
    /// Somebody is still at work.
    Beat,
    /// What is going on.
    Tell(String),
    /// What the user should know.
    Warn(String),
    /// The last one.
    Ended(Box<HostResponse>),
}

/// How it ended.
#[derive(Default, Serialize, Deserialize)]
pub struct HostResponse {
    /// Why it failed, if it did.
    pub failure: Option<WireError>,
    /// The run.
    #[serde(default)]
    pub run: Option<DeployEntry>,
    /// The release to which `current` points.
    #[serde(default)]
    pub current: Option<String>,
    /// The release that serves, verified.
    #[serde(default)]
    pub serves: Option<String>,
    /// How things are.
    #[serde(default)]
    pub looked: Option<TargetInspection>,
    /// What was found to be wrong.
    #[serde(default)]
    pub verified: Option<Verification>,
}

/// How things are.
#[derive(Serialize, Deserialize)]
pub struct TargetInspection {
    /// What must be so over there.
    pub gates: Vec<Gate>,
    /// The names of releases that are taken.
    pub taken: Vec<String>,
    /// The releases that are kept and were verified, the newest first.
    pub kept: Vec<String>,
}

/// What was found of what serves.
#[derive(Default, Serialize, Deserialize)]
pub struct Verification {
    /// The release.
    pub release: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// All that is wrong.
    pub faults: Vec<String>,
}

/// A failure on its way.
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
    /// The failure as it was.
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
    /// The layer.
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
