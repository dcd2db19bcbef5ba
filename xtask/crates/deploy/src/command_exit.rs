//! How the commands of a deploy end, in words.

use std::time::Duration;

use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::process_group::ExitReason;

/// How much is told of what a command has printed: the last lines.
const LAST_LINES: usize = 20;

/// Whether a command ended well, and how not.
pub(super) fn check_exit(what: &str, end: ExitReason, longest: Duration) -> Result<()> {
    Err(Error::negative(match end {
        ExitReason::Code(0) => return Ok(()),
        ExitReason::Stopped => {
            return Err(Error::new(ErrorKind::Interrupted, format!("{what} was stopped")));
        }
        ExitReason::Code(code) => format!("{what} ended with {code}"),
        ExitReason::Signal(signal) => format!("{what} was ended by signal {signal}"),
        ExitReason::TimedOut => format!("{what} took longer than {longest:?}"),
    }))
}

/// A failure, with the last lines of what was printed.
pub(super) fn with_last_lines(failure: Error, printed: &str) -> Error {
    let lines: Vec<&str> = printed.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].iter();
    last.fold(failure, |error, line| error.with_detail(format!("| {line}")))
}
