//! How the commands of a deploy end, in words.

use std::time::Duration;

use xtask_base::error::{Error, Kind, Result};
use xtask_base::group::End;

/// How much is told of what a command has printed: the last lines.
const LAST_LINES: usize = 20;

/// Whether a command ended well, and how not.
pub(super) fn end(what: &str, end: End, longest: Duration) -> Result<()> {
    Err(Error::no(match end {
        End::Code(0) => return Ok(()),
        End::Stopped => return Err(Error::new(Kind::Interrupted, format!("{what} was stopped"))),
        End::Code(code) => format!("{what} ended with {code}"),
        End::Signal(signal) => format!("{what} was ended by signal {signal}"),
        End::TimedOut => format!("{what} took longer than {longest:?}"),
    }))
}

/// A failure, with the last lines of what was printed.
pub(super) fn last_lines(failure: Error, printed: &str) -> Error {
    let lines: Vec<&str> = printed.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].iter();
    last.fold(failure, |error, line| error.detail(format!("| {line}")))
}
