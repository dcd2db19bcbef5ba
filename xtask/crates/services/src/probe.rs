//! Runs readiness and liveness probes.
//!
//! All conditions of a `ProbeSpec` must hold. The result is `Ok(())` or a message, for example
//! ``/health answers 200, but `status` is "starting", expected "healthy"``.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstream::adapter::StripBytes;
use serde_json::Value;

use super::launch::Env;
use super::listeners::ListenerFinder;
use super::logs::ServiceLog;
use super::spec::ProbeSpec;
use xtask_base::http::{self, HttpError};
use xtask_base::process::Program;
use xtask_base::process_group::ExitReason;
use xtask_config::HttpProbe;

/// Maximum length of quoted output, in characters.
const MAX_QUOTED_CHARS: usize = 120;

/// Number of bytes of a log read at once.
const READ_CHUNK: u64 = 1 << 20;

/// Number of chunks that one attempt searches; the next attempt continues after them.
const MAX_CHUNKS: usize = 64;

/// Search position in the log of a run for the readiness text, shared between attempts.
#[derive(Clone, Debug)]
pub struct LogSearch(Arc<Mutex<SearchState>>);

#[derive(Debug)]
struct SearchState {
    at: u64,
    /// End of the searched output, as displayed: without colours and carriage returns.
    rest: Vec<u8>,
    strip: StripBytes,
    is_found: bool,
}

impl LogSearch {
    /// Creates a search that begins at an offset of the log.
    #[must_use]
    pub fn starting_at(at: u64) -> LogSearch {
        LogSearch(Arc::new(Mutex::new(SearchState {
            at,
            rest: Vec::new(),
            strip: StripBytes::new(),
            is_found: false,
        })))
    }

    /// Continues the search for `text`. Returns a message if it has not appeared yet.
    fn find_text(&self, text: &str, log: &ServiceLog) -> Result<(), String> {
        let mut search = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |search: &mut SearchState| -> std::io::Result<bool> {
            for _ in 0..MAX_CHUNKS {
                let length = log.length();
                if length < search.at {
                    // The service has emptied the log.
                    (search.at, search.rest) = (0, Vec::new());
                }
                let to = length.min(search.at + READ_CHUNK);
                if to == search.at {
                    return Ok(false);
                }
                // This includes data that was moved into older pieces concurrently.
                for (_, bytes) in log.read_range(search.at, to)? {
                    let SearchState { rest, strip, .. } = &mut *search;
                    let shown = strip.strip_next(&bytes).flatten();
                    rest.extend(shown.copied().filter(|byte| *byte != b'\r'));
                }
                search.at = to;
                if contains_bytes(&search.rest, text.as_bytes()) {
                    return Ok(true);
                }
                // The text may span two chunks.
                let keep = search.rest.len().min(text.len());
                search.rest.drain(..search.rest.len() - keep);
            }
            Ok(false)
        };
        if !search.is_found {
            let found = read(&mut search);
            search.is_found = found.map_err(|cause| format!("cannot read its log: {cause}"))?;
        }
        if search.is_found { Ok(()) } else { Err(format!("`{text}` is not in its log yet")) }
    }
}

fn contains_bytes(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// Context of a probe.
pub struct ProbeContext<'a> {
    /// Working directory of commands.
    pub folder: &'a Path,
    /// Complete environment of the service.
    pub env: &'a Env,
    /// Log of the service.
    pub log: &'a ServiceLog,
    /// Search position in the log.
    pub search: &'a LogSearch,
    /// Finder of its listening sockets.
    pub listeners: &'a ListenerFinder,
    /// Returns whether the probe should be abandoned.
    pub is_over: &'a dyn Fn() -> bool,
}

/// Runs a probe. Returns a message for the first condition that does not hold.
pub fn run_probe(probe: &ProbeSpec, context: &ProbeContext<'_>) -> Result<(), String> {
    let longest = Duration::from_millis(probe.timeout_ms);
    // The cheap ones first.
    if let Some(port) = probe.tcp {
        let address = context.listeners.find_address(port);
        let found = http::check_connect_at(address, port, longest);
        found.map_err(|none| describe_no_answer(port, &none, context.listeners))?;
    }
    if let Some(text) = &probe.log {
        context.search.find_text(text, context.log)?;
    }
    if let Some(page) = &probe.http {
        check_http(page, longest, context.listeners)?;
    }
    if let Some(argv) = &probe.run {
        run_command(argv, longest, context)?;
    }
    Ok(())
}

fn describe_no_answer(port: u16, none: &HttpError, reach: &ListenerFinder) -> String {
    match none {
        HttpError::Refused => {
            let elsewhere =
                reach.describe_elsewhere(port).map_or_else(String::new, |at| format!("; {at}"));
            format!("nothing is listening on port {port}{elsewhere}")
        }
        HttpError::Failed(why) => format!("port {port}: {why}"),
    }
}

fn check_http(page: &HttpProbe, longest: Duration, reach: &ListenerFinder) -> Result<(), String> {
    let (port, path) = (page.port.unwrap_or(0), &page.path);
    // If only the status code counts, the body need not end, and what has come of it by now is chance.
    let ask = if page.json.is_some() { http::get_at } else { http::get_head_at };
    let answer = ask(reach.find_address(port), port, path, longest)
        .map_err(|none| describe_no_answer(port, &none, reach))?;
    let status = answer.status;
    let is_wanted = match &page.status[..] {
        [] => (200..300).contains(&status),
        wanted => wanted.contains(&status),
    };
    if !is_wanted {
        let body = if page.json.is_some() { describe_output(&answer.body) } else { String::new() };
        return Err(format!("{path} answers {status}{body}"));
    }
    let Some(wanted) = &page.json else { return Ok(()) };
    if answer.is_truncated {
        return Err(format!("{path} answers with a body over 1 MiB, too large to check as JSON"));
    }
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("{path} answers invalid JSON{}", describe_output(&answer.body)))?;
    match find_difference(wanted, &body, "") {
        None => Ok(()),
        Some(how) => Err(format!("{path} answers {status}, but {how}")),
    }
}

/// Returns the first difference between a body and the expected JSON; `None` if it contains that.
fn find_difference(wanted: &Value, found: &Value, at: &str) -> Option<String> {
    let name = if at.is_empty() { "the body" } else { at };
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, wanted)| {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            match found.get(key) {
                Some(found) => find_difference(wanted, found, &at),
                None => Some(format!("`{at}` is missing")),
            }
        }),
        _ if is_equal(wanted, found) => None,
        _ => Some(format!("`{name}` is {}, expected {wanted}", truncate_text(&found.to_string()))),
    }
}

/// Compares two values, with 1 equal to 1.0.
fn is_equal(one: &Value, two: &Value) -> bool {
    match (one.as_f64(), two.as_f64()) {
        (Some(one), Some(two)) => (one - two).abs() < f64::EPSILON,
        _ => one == two,
    }
}

fn run_command(
    argv: &[String],
    longest: Duration,
    context: &ProbeContext<'_>,
) -> Result<(), String> {
    let [program, args @ ..] = argv else { return Err("the probe command is empty".to_owned()) };
    let command = Program::new(program, context.folder).args(args).with_env_only(context.env);
    let done = command.run_in_group(longest, context.is_over).map_err(|error| error.to_string())?;
    let said = || describe_output(done.output.trim().as_bytes());
    match done.exit_reason {
        ExitReason::Code(0) => Ok(()),
        ExitReason::Code(code) => Err(format!("`{program}` exited with code {code}{}", said())),
        ExitReason::Signal(signal) => {
            Err(format!("`{program}` was killed by signal {signal}{}", said()))
        }
        ExitReason::TimedOut => {
            Err(format!("`{program}` timed out after {} ms", longest.as_millis()))
        }
        ExitReason::Stopped => Err(format!("`{program}` was stopped")),
    }
}

/// Returns the beginning of an output after a colon; an empty string for empty output.
fn describe_output(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    // A page for browsers says nothing in its first characters.
    let is_page = words.first().is_some_and(|word| word.starts_with('<'));
    if words.is_empty() || is_page {
        return String::new();
    }
    format!(": {}", truncate_text(&words.join(" ")))
}

fn truncate_text(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_base::environment::Environment;
    use xtask_base::files::Disk;
    use xtask_base::temp_folder::TempFolder;

    #[test]
    fn quoted_output_is_one_line_and_no_page() {
        assert_eq!(describe_output(b"  not\n   yet\t\n"), ": not yet");
        assert_eq!(describe_output(b"<!DOCTYPE html>\n<html>"), "");
        assert_eq!(describe_output(b" \n"), "");
    }

    #[test]
    fn a_body_must_hold_what_is_wanted_and_may_hold_more() {
        let body =
            serde_json::json!({"status": "unhealthy", "db": {"up": true, "n": 1.0}, "x": [1]});
        let wanted = |value: Value| find_difference(&value, &body, "");
        assert_eq!(wanted(serde_json::json!({"db": {"up": true, "n": 1}, "x": [1]})), None);
        assert_eq!(
            wanted(serde_json::json!({"status": "healthy"})).unwrap(),
            "`status` is \"unhealthy\", expected \"healthy\""
        );
        assert_eq!(wanted(serde_json::json!({"db": {"down": 1}})).unwrap(), "`db.down` is missing");
        assert!(wanted(serde_json::json!([1])).unwrap().starts_with("`the body` is {"));
    }

    #[test]
    fn a_text_is_found_across_parts_as_it_is_shown_and_stays_found() {
        let folder = TempFolder::new(&Environment::from_process().unwrap(), "search").unwrap();
        let disk = Disk::real();
        let log = ServiceLog::new(folder.path(), "a");
        let write = |text: &[u8]| disk.write_into(&log.path(), text).unwrap();
        write(b"ready? no, rea");
        let search = LogSearch::starting_at(6);
        assert!(search.find_text("ready", &log).is_err());
        write(b"ready? no, ready now");
        assert_eq!(search.find_text("ready", &log), Ok(()));
        disk.remove_file(&log.path()).unwrap();
        assert_eq!(search.find_text("ready", &log), Ok(()));
        // Past colours, also half of one, and past what a bar has drawn.
        write(b"\x1b[1mLocal\x1b[2");
        let search = LogSearch::starting_at(0);
        assert!(search.find_text("Local: http://a", &log).is_err());
        write(b"\x1b[1mLocal\x1b[22m: \x1b[36mhttp://\x1b[1ma\r\n");
        assert_eq!(search.find_text("Local: http://a", &log), Ok(()));
        // Past what was moved into an older piece, and past one that the service has emptied.
        write(b"0123456789");
        let search = LogSearch::starting_at(0);
        assert!(search.find_text("ready", &log).is_err());
        write(b"ready");
        assert_eq!(search.find_text("ready", &log), Ok(()));
    }
}
