//! The inputs from the operating system: working directory, path of the executable, variables and
//! clock. A command reads them once at the start and passes them down, so that the code below has
//! no hidden state.
//!
//! Also formats and parses times: for example, `parse_seconds("1d 12h")` is `Some(129_600)`, and
//! `format_ago(now, now - 7200)` is `2 hours ago`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::error::{Result, ResultExt};
use super::files::is_executable;

/// The working directory, variables and clock of a command.
#[derive(Clone)]
pub struct Environment {
    /// The working directory, after `-C` has been applied.
    pub cwd: PathBuf,
    /// The path of the running executable.
    pub program: PathBuf,
    /// The environment variables at the start.
    pub variables: BTreeMap<OsString, OsString>,
    /// Returns the wall-clock time since the Unix epoch.
    pub clock: fn() -> Duration,
}

impl Environment {
    /// Reads the environment of this process. Returns an error if the current directory or the path
    /// of the executable cannot be determined.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads them")]
    pub fn from_process() -> Result<Environment> {
        let cwd = std::env::current_dir().with_context(|| "cannot read the current directory")?;
        let program =
            std::env::current_exe().with_context(|| "cannot find the path of this program")?;
        Ok(Environment {
            cwd,
            program,
            variables: std::env::vars_os().collect(),
            clock: read_wall_clock,
        })
    }

    /// Returns the value of the variable `name`, or `None` if unset, empty or not UTF-8.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(OsStr::new(name))?.to_str().filter(|value| !value.is_empty())
    }

    /// Returns whether the variable `name` has a value other than an empty string, `0`, `false`,
    /// `no` or `off` (case-insensitive).
    #[must_use]
    pub fn is_truthy(&self, name: &str) -> bool {
        let value = self.variable(name).map(str::to_ascii_lowercase);
        value.is_some_and(|value| !["0", "false", "no", "off"].contains(&value.as_str()))
    }

    /// Returns the first executable file named `program` in the folders of `PATH`, or `None` if not
    /// installed.
    #[must_use]
    pub fn find_program(&self, program: &str) -> Option<PathBuf> {
        let path = self.variables.get(OsStr::new("PATH"))?;
        std::env::split_paths(path).map(|folder| folder.join(program)).find(|file| {
            std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && is_executable(&meta))
        })
    }

    /// Returns the wall-clock time in seconds since the Unix epoch.
    #[must_use]
    pub fn now_seconds(&self) -> i64 {
        i64::try_from((self.clock)().as_secs()).unwrap_or(i64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
fn read_wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Returns the time since the first call in this process, on a clock that never goes backwards.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn read_monotonic_clock() -> Duration {
    static BEGINNING: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    BEGINNING.get_or_init(std::time::Instant::now).elapsed()
}

/// Formats `seconds` since the Unix epoch as RFC 3339 in UTC: `2026-01-31T12:00:00Z`.
#[must_use]
pub fn format_rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}

/// Parses a time as [`format_rfc3339`] writes it, with any offset, to seconds since the Unix epoch.
#[must_use]
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// Formats `milliseconds` since the Unix epoch as RFC 3339 in UTC: `2026-01-31T12:00:00.123Z`.
#[must_use]
pub fn format_rfc3339_ms(milliseconds: i64) -> String {
    let moment = jiff::Timestamp::from_millisecond(milliseconds);
    moment.map_or_else(|_| milliseconds.to_string(), |moment| format!("{moment:.3}"))
}

/// Formats `seconds` since the Unix epoch for the name of a backup: `20260131T120000Z`.
#[must_use]
pub fn format_compact_time(seconds: i64) -> String {
    format_rfc3339(seconds).replace(['-', ':'], "")
}

/// Parses a duration such as `90s`, `2h` or `1d 12h` into seconds. A day has 24 hours. Returns
/// `None` if `text` is invalid or shorter than a second.
#[must_use]
pub fn parse_seconds(text: &str) -> Option<i64> {
    let seconds = i64::try_from(parse_duration(text)?.as_secs()).ok()?;
    Some(seconds).filter(|seconds| *seconds > 0)
}

/// Parses a duration such as `500ms` or `1m 30s`, rounded down to milliseconds. A day has 24 hours.
/// Returns `None` if `text` is invalid or shorter than a millisecond.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let span: jiff::Span = text.parse().ok()?;
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let duration = Duration::try_from(span.to_duration(days).ok()?).ok()?;
    let whole = Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000);
    Some(whole).filter(|duration| !duration.is_zero())
}

/// Formats the time from `then` to `now`, both in seconds, for people: `just now`, `3 days ago`.
#[must_use]
pub fn format_ago(now: i64, then: i64) -> String {
    let seconds = now.saturating_sub(then).max(0);
    let (count, unit) = match seconds {
        0..60 => return "just now".to_owned(),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(parse_seconds("2h"), Some(7200));
        assert_eq!(parse_seconds("90s"), Some(90));
        assert_eq!(parse_seconds("1d 12h"), Some(129_600));
        for wrong in ["", "2", "soon", "-2h", "0s", "99999999999999999999h"] {
            assert_eq!(parse_seconds(wrong), None, "{wrong}");
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!((parse_seconds("900ms"), parse_duration("1us")), (None, None));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse_duration("1m 30s"), Some(Duration::from_secs(90)));
    }
}
