//! What went wrong, why, and what to type next.
//!
//! An error has a kind (which decides the exit code), a text in lower case that says what failed
//! with its values in backticks, an optional cause, and hints. It is worded here and printed only
//! by `report`.

use std::error::Error as StdError;
use std::fmt;

/// The result of everything that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command did not succeed. The numbers are the program's exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The answer is no: drift under `--check`, a conflict. Exit code 1.
    No,
    /// Wrong usage or wrong configuration. Exit code 2.
    Usage,
    /// It could not be done: git, disk, lock, permission. Exit code 3.
    Unable,
    /// A deploy was taken back: the release before serves. Exit code 4.
    RolledBack,
    /// A deploy could not be taken back. Exit code 5.
    RollbackFailed,
    /// The user interrupted it. Exit code 130.
    Interrupted,
}

impl Kind {
    /// The exit code of the process.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Kind::No => 1,
            Kind::Usage => 2,
            Kind::Unable => 3,
            Kind::RolledBack => 4,
            Kind::RollbackFailed => 5,
            Kind::Interrupted => 130,
        }
    }
}

/// A failure with its cause and its hints.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    what: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl Error {
    /// An error of the given kind. `what` says what failed, in lower case, without a full stop.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Error { kind, what: what.into(), cause: None, details: Vec::new(), hints: Vec::new() }
    }

    /// The answer is no.
    pub fn no(what: impl Into<String>) -> Self {
        Error::new(Kind::No, what)
    }

    /// Wrong usage or configuration.
    pub fn usage(what: impl Into<String>) -> Self {
        Error::new(Kind::Usage, what)
    }

    /// It could not be done.
    pub fn unable(what: impl Into<String>) -> Self {
        Error::new(Kind::Unable, what)
    }

    /// Adds one of several things that are wrong, for errors that report all of them.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Adds what the reader can type or do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the underlying failure.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What failed, without cause and hints.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The single faults, in the order in which they were added.
    #[must_use]
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// What to do next, in the order in which it was added.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The texts of the causes, outermost first, each once.
    #[must_use]
    pub fn causes(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        let mut next: Option<&(dyn StdError + 'static)> = self.cause.as_deref().map(|c| c as _);
        while let Some(cause) = next {
            let text = cause.to_string();
            if texts.last() != Some(&text) {
                texts.push(text);
            }
            next = cause.source();
        }
        texts
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        for cause in self.causes() {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl StdError for Error {}

/// Turns the error of a library into ours, with what failed.
pub trait Context<T> {
    /// It could not be done (exit code 3). `what` is only worded when there is an error.
    fn unable<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> Context<T> for std::result::Result<T, E> {
    fn unable<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::unable(what()).because(cause))
    }
}
