//! `Marker`: the value of `XTASK_SERVICE`, by which every process of a service is known, e.g. `1f0c/api/3`
//! for the third run of `api`.

use std::ffi::OsStr;
use std::fmt;
use std::str::FromStr;

use super::launch::Env;
use xtask_base::processes::{self, ProcessIdentity};

/// Variable that marks our processes.
pub const MARKER_VARIABLE: &str = "XTASK_SERVICE";

/// Variable that marks supervisors.
pub const SUPERVISOR_VARIABLE: &str = "XTASK_SUPERVISOR";

/// Stack, service and run of a process, written as `STACK/SERVICE/RUN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Token of the stack.
    pub stack: String,
    pub service: String,
    pub run: u64,
}

/// Marker of a process, as found in its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProcessMark {
    Service(Marker),
    Supervisor,
    /// Another value than one of ours.
    Invalid,
}

impl Marker {
    /// Returns the marker of a run.
    #[must_use]
    pub fn new(stack: &str, service: &str, run: u64) -> Marker {
        Marker { stack: stack.to_owned(), service: service.to_owned(), run }
    }

    /// Returns the environment of a process that carries this marker. It is unknown (`None`) for one that
    /// has overwritten its variables.
    #[must_use]
    pub fn read_environment(&self, process: &ProcessIdentity) -> Option<Env> {
        let env = processes::read_environment(process.pid)?;
        let mark = env.get(OsStr::new(MARKER_VARIABLE))?.to_str()?;
        (mark.parse().as_ref() == Ok(self)).then_some(env)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stack, self.service, self.run)
    }
}

impl FromStr for Marker {
    type Err = ();

    fn from_str(text: &str) -> Result<Marker, ()> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next().map(str::parse), parts.next()) {
            (Some(stack), Some(service), Some(Ok(run)), None) => {
                Ok(Marker::new(stack, service, run))
            }
            _ => Err(()),
        }
    }
}
