//! What people and programs get to see: values in, text or JSON out. The only place that prints.
//!
//! The answer goes to stdout, the story to stderr. Colours are used on a terminal alone.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_REPORT");

pub mod backups;
pub mod branches;
#[cfg(feature = "checks")]
pub mod findings;
#[cfg(feature = "checks")]
pub mod github;
pub mod hooks;
pub mod intake;
#[cfg(feature = "checks")]
pub mod junit;
#[cfg(feature = "checks")]
pub mod live;
#[cfg(feature = "checks")]
pub mod plain;
mod progress;
pub mod propagate;
#[cfg(feature = "services")]
pub mod recovery;
#[cfg(feature = "checks")]
pub mod sarif;
#[cfg(feature = "services")]
pub mod services;
pub mod status;
pub mod sync;
#[cfg(feature = "checks")]
pub mod validate;
pub mod why;

use anstyle::{AnsiColor, Style};

pub use progress::Bar;

pub use xtask_base::words::count;

use xtask_base::error::{Error, Result};
use xtask_base::words::{is_harmful, printable};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();

/// How much a person wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loudness {
    /// The answer and failures.
    Quiet,
    /// What is worth knowing.
    Usual,
    /// Everything.
    Verbose,
}

/// Sets the colours for this process: `None` decides by the terminal and `NO_COLOR`.
pub fn set_color(always: Option<bool>) {
    match always {
        Some(true) => anstream::ColorChoice::Always.write_global(),
        Some(false) => anstream::ColorChoice::Never.write_global(),
        None => anstream::ColorChoice::Auto.write_global(),
    }
}

/// Prints the answer. A reader that has gone away (`| head`) is no failure; an answer that could
/// not be written is.
pub fn answer(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::unable("the answer cannot be written").because(cause))
        }
        _ => Ok(()),
    }
}

/// Prints a part of an answer that goes on; whether somebody still reads it.
pub fn answer_on(text: &str) -> Result<bool> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(printable(text).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(cause) => Err(Error::unable("the answer cannot be written").because(cause)),
    }
}

/// Prints the answer as one JSON object.
pub fn answer_json<T: serde::Serialize>(value: &T) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).expect("because reports hold nothing that JSON cannot");
    // What JSON lets stand as it is, a terminal may still obey.
    let mut safe = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            c if c != '\n' && is_harmful(c) => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                units.for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
            }
            c => safe.push(c),
        }
    }
    answer(&format!("{safe}\n"))
}

/// Whether the answer is read by a person.
#[must_use]
pub fn is_seen() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal()
}

/// Whether there is somebody to ask.
#[must_use]
pub fn can_ask() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a typed `yes` on the terminal. Nothing where there is nobody to ask.
pub fn ask(question: &str) -> Option<bool> {
    let typed = ask_for(&format!("{question} [type yes]"))?;
    Some(typed.eq_ignore_ascii_case("yes"))
}

/// Asks for a line on the terminal. Nothing where there is nobody to ask.
pub fn ask_for(question: &str) -> Option<String> {
    use std::io::{BufRead, Write};
    if !can_ask() {
        return None;
    }
    let input = std::io::stdin();
    let mut err = anstream::stderr().lock();
    let question = printable(question);
    let asked = write!(err, "{BOLD}{question}{BOLD:#} ").and_then(|()| err.flush());
    asked.ok()?;
    let mut line = String::new();
    input.lock().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

/// Tells what is going on.
pub fn story(loudness: Loudness, text: &str) {
    if loudness > Loudness::Quiet {
        complain(text);
    }
}

/// Tells something that the user should know.
pub fn warn(text: &str) {
    complain(&format!("{YELLOW}warning{YELLOW:#}: {text}"));
}

/// Tells something from within a hook, where git speaks, too.
pub fn hook_line(text: &str) {
    // One line, whatever a name or a message holds.
    complain(&text.replace('\n', "\\n"));
}

/// Tells what failed, why, and what to do.
pub fn failure(error: &Error) {
    complain(&format!("{RED}error{RED:#}: {}", error.what()));
    for cause in error.causes() {
        complain(&format!("  {DIM}because{DIM:#} {}", indent(&cause)));
    }
    for detail in error.details() {
        complain(&format!("  {}", indent(detail)));
    }
    for hint in error.hints() {
        complain(&format!("{BOLD}hint{BOLD:#}: {}", indent(hint)));
    }
}

/// A line on stderr. Where nobody can be told, there is nobody to tell that either.
fn complain(text: &str) {
    use std::io::Write;
    drop(writeln!(anstream::stderr().lock(), "{}", printable(text)));
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}
