//! What is said between this machine and the program on another host: one order, and lines of JSON in answer.
//!
//! The program over there is the very same one, so both read a layer alike; the order carries the text of its
//! files. Values of variables are in it: it is never printed, and goes nowhere but into the connection.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::gates::Gate;
use super::history::Entry;
pub use super::ssh::{DEPLOY_HOST, HELLO, ORDER};
use xtask_base::error::{Error, Kind, Result};
use xtask_config::Layer;

/// The line by which a run is interrupted.
pub const INTERRUPT: &str = "interrupt";

/// What is to be done over there.
#[derive(Serialize, Deserialize)]
pub struct HostOrder {
    /// The kind.
    pub schema: String,
    /// What.
    pub wanted: Wanted,
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
pub enum Wanted {
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
pub enum Line {
    /// Somebody is still at work.
    Beat,
    /// What is going on.
    Tell(String),
    /// What the user should know.
    Warn(String),
    /// The last one.
    Ended(Box<Ended>),
}

/// How it ended.
#[derive(Default, Serialize, Deserialize)]
pub struct Ended {
    /// Why it failed, if it did.
    pub failure: Option<Failure>,
    /// The run.
    #[serde(default)]
    pub run: Option<Entry>,
    /// The release to which `current` points.
    #[serde(default)]
    pub current: Option<String>,
    /// The release that serves, verified.
    #[serde(default)]
    pub serves: Option<String>,
    /// How things are.
    #[serde(default)]
    pub looked: Option<Looked>,
    /// What was found to be wrong.
    #[serde(default)]
    pub verified: Option<Verified>,
}

/// How things are.
#[derive(Serialize, Deserialize)]
pub struct Looked {
    /// What must be so over there.
    pub gates: Vec<Gate>,
    /// The names of releases that are taken.
    pub taken: Vec<String>,
    /// The releases that are kept and were verified, the newest first.
    pub kept: Vec<String>,
}

/// What was found of what serves.
#[derive(Default, Serialize, Deserialize)]
pub struct Verified {
    /// The release.
    pub release: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// All that is wrong.
    pub faults: Vec<String>,
}

/// A failure on its way.
#[derive(Serialize, Deserialize)]
pub struct Failure {
    code: u8,
    what: String,
    causes: Vec<String>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Failure {
        Failure {
            code: error.kind().code(),
            what: error.what().to_owned(),
            causes: error.causes(),
            details: error.details().to_vec(),
            hints: error.hints().to_vec(),
        }
    }
}

impl Failure {
    /// The failure as it was.
    #[must_use]
    pub fn into_error(self) -> Error {
        let failure = self;
        let kinds =
            [Kind::No, Kind::Usage, Kind::RolledBack, Kind::RollbackFailed, Kind::Interrupted];
        let kind = kinds.into_iter().find(|kind| kind.code() == failure.code);
        let mut error = Error::new(kind.unwrap_or(Kind::Unable), failure.what);
        if !failure.causes.is_empty() {
            error = error.because(failure.causes.join(": "));
        }
        let error = failure.details.into_iter().fold(error, Error::detail);
        failure.hints.into_iter().fold(error, Error::hint)
    }
}

impl HostOrder {
    /// The layer.
    pub fn layer(&self) -> Result<Layer> {
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
        let error = Error::new(Kind::RolledBack, "it did not hold")
            .because(cause)
            .detail("api: it ended")
            .hint("look");
        let text = serde_json::to_string(&Failure::from(&error)).unwrap();
        let back = serde_json::from_str::<Failure>(&text).unwrap().into_error();
        assert_eq!(back.to_string(), error.to_string());
        assert_eq!((back.kind(), back.details()), (Kind::RolledBack, error.details()));
        assert_eq!(back.hints(), error.hints());
    }
}
