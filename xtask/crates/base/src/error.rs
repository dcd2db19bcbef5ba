//! The error type of all crates: a message, its cause, and hints for the user.
//!
//! An [`Error`] has an [`ErrorKind`], which decides the exit code, a lowercase message with values
//! in backticks, an optional cause, and hints. Only the `report` crate prints it. For example:
//!
//! ```text
//! error: cannot start `gh`: No such file or directory (os error 2)
//! hint: is `gh` installed and on PATH?
//! ```

use std::error::Error as StdError;
use std::fmt;

/// A `Result` with [`Error`] as the default error type.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The category of a failure, which decides the exit code of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// A negative answer, such as drift under `--check` or a conflict. Exit code 1.
    Negative,
    /// Invalid usage or configuration. Exit code 2.
    Usage,
    /// A failed operation: git, disk, lock or permission. Exit code 3.
    Unable,
    /// A failed deploy that was rolled back to the previous release. Exit code 4.
    RolledBack,
    /// A failed deploy whose rollback failed as well. Exit code 5.
    RollbackFailed,
    /// An interruption by the user (Ctrl-C). Exit code 130.
    Interrupted,
}

impl ErrorKind {
    /// Returns the exit code of the process.
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

/// A failure with its cause, details and hints.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    cause: Option<Box<dyn StdError + Send + Sync>>,
    details: Vec<String>,
    /// The positions in `details` of lines that a program printed.
    output: Vec<usize>,
    hints: Vec<String>,
}

impl Error {
    /// Creates an error of the given `kind`. `what` is the message: lowercase, without a full stop.
    pub fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        let message = what.into();
        let (details, output, hints) = (Vec::new(), Vec::new(), Vec::new());
        Error { kind, message, cause: None, details, output, hints }
    }

    /// Creates an [`ErrorKind::Negative`] error.
    pub fn negative(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Negative, what)
    }

    /// Creates an [`ErrorKind::Usage`] error.
    pub fn usage(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Usage, what)
    }

    /// Creates an [`ErrorKind::Unable`] error.
    pub fn unable(what: impl Into<String>) -> Self {
        Error::new(ErrorKind::Unable, what)
    }

    /// Adds one of several faults, for errors that report all of them at once.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    /// Adds a line that a program printed. It is shown like a detail, but may contain secrets: see
    /// [`Error::own_details`].
    #[must_use]
    pub fn with_output_line(mut self, line: impl Into<String>) -> Self {
        self.output.push(self.details.len());
        self.with_detail(line)
    }

    /// Replaces the message and drops the cause; details and hints stay.
    #[must_use]
    pub fn with_message(mut self, what: impl Into<String>) -> Self {
        self.message = what.into();
        self.cause = None;
        self
    }

    /// Adds a hint: a command or step for the user to try next.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the underlying error.
    #[must_use]
    pub fn with_cause(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns the message, without cause and hints.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the individual faults, in the order in which they were added.
    #[must_use]
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// Returns the details without the lines that a program printed.
    pub fn own_details(&self) -> impl Iterator<Item = &str> {
        let all = self.details.iter().enumerate();
        all.filter(|(at, _)| !self.output.contains(at)).map(|(_, detail)| detail.as_str())
    }

    /// Returns the lines that a program printed, in the order in which they were added.
    pub fn output_lines(&self) -> impl Iterator<Item = &str> {
        self.output.iter().map(|at| self.details[*at].as_str())
    }

    /// Returns the hints, in the order in which they were added.
    #[must_use]
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the kind of the I/O error among the causes, if there is one.
    #[must_use]
    pub fn io_kind(&self) -> Option<std::io::ErrorKind> {
        let mut next: Option<&(dyn StdError + 'static)> = self.cause.as_deref().map(|c| c as _);
        while let Some(cause) = next {
            if let Some(cause) = cause.downcast_ref::<std::io::Error>() {
                return Some(cause.kind());
            }
            next = cause.source();
        }
        None
    }

    /// Returns the messages of the causes, outermost first, without consecutive duplicates.
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

/// Conversion of foreign errors into [`Error`], with a message about the failed operation.
pub trait ResultExt<T> {
    /// Wraps the error in an [`ErrorKind::Unable`] error (exit code 3) with the message `what()`,
    /// which is evaluated only on failure. For example: `fs::read(path).with_context(|| "cannot
    /// read the config")`.
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<Box<dyn StdError + Send + Sync>>> ResultExt<T> for std::result::Result<T, E> {
    fn with_context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|cause| Error::unable(what()).with_cause(cause))
    }
}
