//! Asking a service whether it is ready, or still lives. All that a probe holds must hold; the answer
//! is nothing, or why not in words.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstream::adapter::StripBytes;
use serde_json::Value;

use super::launch::Env;
use super::logs::Log;
use super::reach::Reach;
use super::spec::{Page, Probe};
use xtask_base::group::End;
use xtask_base::http::{self, NoAnswer};
use xtask_base::process::Program;

/// How much of what a body or a command says is repeated.
const REPEATED: usize = 120;

/// How much of a log is read at once.
const PART: u64 = 1 << 20;

/// How much of it one attempt searches; the next goes on from there.
const MOST_PARTS: usize = 64;

/// How far the log of a run was searched for the text that says that it is ready.
#[derive(Clone, Debug)]
pub struct LogSearch(Arc<Mutex<Search>>);

#[derive(Debug)]
struct Search {
    at: u64,
    /// What was read last, as it is shown: without colours and without returns of the carriage.
    rest: Vec<u8>,
    strip: StripBytes,
    is_found: bool,
}

impl LogSearch {
    /// A search from this place in the log on.
    #[must_use]
    pub fn from(at: u64) -> LogSearch {
        LogSearch(Arc::new(Mutex::new(Search {
            at,
            rest: Vec::new(),
            strip: StripBytes::new(),
            is_found: false,
        })))
    }

    /// Whether the text has appeared.
    fn finds(&self, text: &str, log: &Log) -> Result<(), String> {
        let mut search = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let read = |search: &mut Search| -> std::io::Result<bool> {
            for _ in 0..MOST_PARTS {
                let length = log.length();
                if length < search.at {
                    // The service has emptied it.
                    (search.at, search.rest) = (0, Vec::new());
                }
                let to = length.min(search.at + PART);
                if to == search.at {
                    return Ok(false);
                }
                // Also what was moved into older pieces meanwhile.
                for (_, bytes) in log.read(search.at, to)? {
                    let Search { rest, strip, .. } = &mut *search;
                    let shown = strip.strip_next(&bytes).flatten();
                    rest.extend(shown.copied().filter(|byte| *byte != b'\r'));
                }
                search.at = to;
                if contains(&search.rest, text.as_bytes()) {
                    return Ok(true);
                }
                // The text may lie across the end of what was read.
                let keep = search.rest.len().min(text.len());
                search.rest.drain(..search.rest.len() - keep);
            }
            Ok(false)
        };
        if !search.is_found {
            let found = read(&mut search);
            search.is_found = found.map_err(|cause| format!("its log cannot be read: {cause}"))?;
        }
        if search.is_found { Ok(()) } else { Err(format!("`{text}` is not in its log yet")) }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

/// What a command of a probe runs with.
pub struct Around<'a> {
    /// Where.
    pub folder: &'a Path,
    /// The variables of the service, in full.
    pub env: &'a Env,
    /// The log of the service.
    pub log: &'a Log,
    /// How far it was searched.
    pub search: &'a LogSearch,
    /// By what its processes are found.
    pub reach: &'a Reach,
    /// Whether nobody wants to know any more.
    pub is_over: &'a dyn Fn() -> bool,
}

/// Asks.
pub fn ask(probe: &Probe, around: &Around<'_>) -> Result<(), String> {
    let longest = Duration::from_millis(probe.timeout_ms);
    // The cheap ones first.
    if let Some(port) = probe.tcp {
        let address = around.reach.address(port);
        let found = http::accepts_at(address, port, longest);
        found.map_err(|none| no_answer(port, &none, around.reach))?;
    }
    if let Some(text) = &probe.log {
        around.search.finds(text, around.log)?;
    }
    if let Some(page) = &probe.http {
        ask_page(page, longest, around.reach)?;
    }
    if let Some(argv) = &probe.run {
        run(argv, longest, around)?;
    }
    Ok(())
}

fn no_answer(port: u16, none: &NoAnswer, reach: &Reach) -> String {
    match none {
        NoAnswer::Refused => {
            let elsewhere = reach.elsewhere(port).map_or_else(String::new, |at| format!("; {at}"));
            format!("nobody listens on port {port}{elsewhere}")
        }
        NoAnswer::Failed(why) => format!("port {port}: {why}"),
    }
}

fn ask_page(page: &Page, longest: Duration, reach: &Reach) -> Result<(), String> {
    let (port, path) = (page.port, &page.path);
    // Where only the status counts the body need not end.
    let ask = if page.json.is_some() { http::get_at } else { http::head_at };
    let answer = ask(reach.address(port), port, path, longest)
        .map_err(|none| no_answer(port, &none, reach))?;
    let status = answer.status;
    let is_wanted = match &page.status[..] {
        [] => (200..300).contains(&status),
        wanted => wanted.contains(&status),
    };
    if !is_wanted {
        return Err(format!("{path} answers {status}{}", beginning(&answer.body)));
    }
    let Some(wanted) = &page.json else { return Ok(()) };
    if answer.is_cut {
        return Err(format!("{path} answers more than 1 MiB, too much to look for JSON in it"));
    }
    let body: Value = serde_json::from_slice(&answer.body)
        .map_err(|_| format!("{path} answers no JSON{}", beginning(&answer.body)))?;
    match differs(wanted, &body, "") {
        None => Ok(()),
        Some(how) => Err(format!("{path} answers {status}, but {how}")),
    }
}

/// How a body differs from what it must hold; nothing where it holds it all.
fn differs(wanted: &Value, found: &Value, at: &str) -> Option<String> {
    let name = if at.is_empty() { "the body" } else { at };
    match (wanted, found) {
        (Value::Object(wanted), Value::Object(found)) => wanted.iter().find_map(|(key, wanted)| {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            match found.get(key) {
                Some(found) => differs(wanted, found, &at),
                None => Some(format!("`{at}` is missing")),
            }
        }),
        _ if is_equal(wanted, found) => None,
        _ => Some(format!("`{name}` is {}, not {wanted}", shortened(&found.to_string()))),
    }
}

/// 1 and 1.0 are the same number.
fn is_equal(one: &Value, two: &Value) -> bool {
    match (one.as_f64(), two.as_f64()) {
        (Some(one), Some(two)) => (one - two).abs() < f64::EPSILON,
        _ => one == two,
    }
}

fn run(argv: &[String], longest: Duration, around: &Around<'_>) -> Result<(), String> {
    let [program, args @ ..] = argv else { return Err("its command is empty".to_owned()) };
    let command = Program::new(program, around.folder).args(args).with_only(around.env);
    let done = command.run_in_group(longest, around.is_over).map_err(|error| error.to_string())?;
    let said = || beginning(done.output.trim().as_bytes());
    match done.end {
        End::Code(0) => Ok(()),
        End::Code(code) => Err(format!("`{program}` says no (code {code}){}", said())),
        End::Signal(signal) => Err(format!("`{program}` was ended by signal {signal}{}", said())),
        End::TimedOut => Err(format!("`{program}` took longer than {} ms", longest.as_millis())),
        End::Stopped => Err(format!("`{program}` was stopped")),
    }
}

/// The beginning of what was said, after a colon; nothing where nothing was.
fn beginning(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(": {}", shortened(text)) }
}

fn shortened(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match line.char_indices().nth(REPEATED) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask_base::files::Disk;
    use xtask_base::scratch::Scratch;
    use xtask_base::world::World;

    #[test]
    fn a_body_must_hold_what_is_wanted_and_may_hold_more() {
        let body =
            serde_json::json!({"status": "unhealthy", "db": {"up": true, "n": 1.0}, "x": [1]});
        let wanted = |value: Value| differs(&value, &body, "");
        assert_eq!(wanted(serde_json::json!({"db": {"up": true, "n": 1}, "x": [1]})), None);
        assert_eq!(
            wanted(serde_json::json!({"status": "healthy"})).unwrap(),
            "`status` is \"unhealthy\", not \"healthy\""
        );
        assert_eq!(wanted(serde_json::json!({"db": {"down": 1}})).unwrap(), "`db.down` is missing");
        assert!(wanted(serde_json::json!([1])).unwrap().starts_with("`the body` is {"));
    }

    #[test]
    fn a_text_is_found_across_parts_as_it_is_shown_and_stays_found() {
        let folder = Scratch::new(&World::real().unwrap(), "search").unwrap();
        let disk = Disk::real();
        let log = Log::new(folder.path(), "a");
        let write = |text: &[u8]| disk.write_into(&log.path(), text).unwrap();
        write(b"ready? no, rea");
        let search = LogSearch::from(6);
        assert!(search.finds("ready", &log).is_err());
        write(b"ready? no, ready now");
        assert_eq!(search.finds("ready", &log), Ok(()));
        disk.remove(&log.path()).unwrap();
        assert_eq!(search.finds("ready", &log), Ok(()));
        // Past colours, also half of one, and past what a bar has drawn.
        write(b"\x1b[1mLocal\x1b[2");
        let search = LogSearch::from(0);
        assert!(search.finds("Local: http://a", &log).is_err());
        write(b"\x1b[1mLocal\x1b[22m: \x1b[36mhttp://\x1b[1ma\r\n");
        assert_eq!(search.finds("Local: http://a", &log), Ok(()));
        // Past what was moved into an older piece, and past one that the service has emptied.
        write(b"0123456789");
        let search = LogSearch::from(0);
        assert!(search.finds("ready", &log).is_err());
        write(b"ready");
        assert_eq!(search.finds("ready", &log), Ok(()));
    }
}
