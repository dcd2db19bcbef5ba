//! Error messages for commands that fail during a deploy.
//!
//! For example, exit code 7 of a build step becomes ``the build step `make` exited with code 7``, with the last
//! lines of its output as details.

use std::time::Duration;

use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::process_group::ExitReason;

/// Number of output lines that an error shows.
const LAST_LINES: usize = 20;

/// Returns an error that names `what` unless its command exited with code 0: of kind `Interrupted` if the run
/// was interrupted, else `Negative`.
pub(super) fn check_exit(what: &str, end: ExitReason, longest: Duration) -> Result<()> {
    Err(Error::negative(match end {
        ExitReason::Code(0) => return Ok(()),
        ExitReason::Stopped => {
            return Err(Error::new(ErrorKind::Interrupted, format!("{what} was interrupted")));
        }
        ExitReason::Code(code) => format!("{what} exited with code {code}"),
        ExitReason::Signal(signal) => format!("{what} was killed by signal {signal}"),
        ExitReason::TimedOut => format!("{what} timed out after {longest:?}"),
    }))
}

/// Adds the last `LAST_LINES` lines of `printed` to an error, each prefixed with `| `.
pub(super) fn with_last_lines(failure: Error, printed: &str) -> Error {
    let lines: Vec<&str> = printed.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].iter();
    last.fold(failure, |error, line| error.with_output_line(format!("| {line}")))
}
