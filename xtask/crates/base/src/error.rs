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
pub enum ErrorKind {
    /// The answer is no: drift under `--check`, a conflict. Exit code 1.
    Negative,
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

impl ErrorKind {
    /// The exit code of the process.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            ErrorKind::Negative => 1,
            ErrorKind::Usage => 2,
            ErrorKind::Unable => 3,
            ErrorKind::RolledBack => 4,
            ErrorKind::RollbackFailed => 5,
            ErrorKind::Interrupted => 130,
        }
    }
}

/// A failure with its cause and its hints.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl Error {
    /// An error of the given kind. `what` says what failed, in lower case, without a full stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Error { kind, message: what.into(), cause: None, details: Vec::new(), hints: Vec::new() }
    }

    /// The answer is no.
    pub fn negative(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Negative, what)
    }

    /// Wrong usage or configuration.
    pub fn usage(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Usage, what)
    }

    /// It could not be done.
    pub fn unable(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unable, what)
    }

    /// Adds one of several things that are wrong, for errors that report all of them.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Adds what the reader can type or do next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the underlying failure.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What failed, without cause and hints.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
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
        f.write_str(&self.message)?;
        for cause in self.causes() {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl StdError for Error {}

/// Turns the error of a library into ours, with what failed.
pub trait ResultExt<T> {
    /// It could not be done (exit code 3). `what` is only worded when there is an error.
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::unable(what()).with_cause(cause))
    }
}
