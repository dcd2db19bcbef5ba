//! What people and programs get to see: values in, text or JSON out. The only place that prints.
//!
//! The answer goes to stdout, the story to stderr. Colours are used on a terminal alone.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_REPORT");

pub mod backups;
pub mod branches;
pub mod changes;
#[cfg(feature = "checks")]
pub mod findings;
#[cfg(feature = "checks")]
pub mod github;
pub mod hooks;
#[cfg(feature = "checks")]
pub mod junit;
mod progress;
pub mod propagate;
#[cfg(feature = "services")]
pub mod recovery;
#[cfg(feature = "checks")]
pub mod running_checks;
#[cfg(feature = "checks")]
pub mod sanitize;
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

pub use progress::StderrProgress;

pub use xtask_base::words::pluralize;

use xtask_base::error::{Error, Result};
use xtask_base::words::{is_unsafe_char, sanitize_for_terminal};

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GREEN: Style = AnsiColor::Green.on_default();
pub(crate) const YELLOW: Style = AnsiColor::Yellow.on_default();
pub(crate) const RED: Style = AnsiColor::Red.on_default();

/// How much a person wants to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// The answer and failures.
    Quiet,
    /// What is worth knowing.
    Normal,
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
pub fn print_output(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(sanitize_for_terminal(text).as_bytes()).and_then(|()| out.flush()) {
        Err(cause) if cause.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::unable("the answer cannot be written").with_cause(cause))
        }
        _ => Ok(()),
    }
}

/// Prints a part of an answer that goes on; whether somebody still reads it.
pub fn print_chunk(text: &str) -> Result<bool> {
    use std::io::Write;
    let mut out = anstream::stdout().lock();
    match out.write_all(sanitize_for_terminal(text).as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(cause) => Err(Error::unable("the answer cannot be written").with_cause(cause)),
    }
}

/// Prints the answer as one JSON object.
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    let text =
        serde_json::to_string_pretty(value).expect("because reports hold nothing that JSON cannot");
    // What JSON lets stand as it is, a terminal may still obey.
    let mut safe = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        match c {
            c if c != '\n' && is_unsafe_char(c) => {
                let mut units = [0; 2];
                let units = c.encode_utf16(&mut units).iter();
                units.for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
            }
            c => safe.push(c),
        }
    }
    print_output(&format!("{safe}\n"))
}

/// Whether the answer is read by a person.
#[must_use]
pub fn is_stdout_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal()
}

/// Whether there is somebody to ask.
#[must_use]
pub fn can_prompt() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a typed `yes` on the terminal. Nothing where there is nobody to ask.
pub fn prompt_yes(question: &str) -> Option<bool> {
    let typed = prompt_line(&format!("{question} [type yes]"))?;
    Some(typed.eq_ignore_ascii_case("yes"))
}

/// Asks for a line on the terminal. Nothing where there is nobody to ask.
pub fn prompt_line(question: &str) -> Option<String> {
    use std::io::{BufRead, Write};
    if !can_prompt() {
        return None;
    }
    let input = std::io::stdin();
    let mut err = anstream::stderr().lock();
    let question = sanitize_for_terminal(question);
    let asked = write!(err, "{BOLD}{question}{BOLD:#} ").and_then(|()| err.flush());
    asked.ok()?;
    let mut line = String::new();
    input.lock().read_line(&mut line).ok()?;
    Some(line.trim().to_owned())
}

/// Tells what is going on.
pub fn print_info(loudness: Verbosity, text: &str) {
    if loudness > Verbosity::Quiet {
        write_stderr(text);
    }
}

/// Tells something that the user should know.
pub fn print_warning(text: &str) {
    write_stderr(&format!("{YELLOW}warning{YELLOW:#}: {text}"));
}

/// Tells something from within a hook, where git speaks, too.
pub fn print_hook_line(text: &str) {
    // One line, whatever a name or a message holds.
    write_stderr(&text.replace('\n', "\\n"));
}

/// Tells what failed, why, and what to do.
pub fn print_error(error: &Error) {
    write_stderr(&format!("{RED}error{RED:#}: {}", error.message()));
    for cause in error.causes() {
        write_stderr(&format!("  {DIM}because{DIM:#} {}", indent_lines(&cause)));
    }
    for detail in error.details() {
        write_stderr(&format!("  {}", indent_lines(detail)));
    }
    for hint in error.hints() {
        write_stderr(&format!("{BOLD}hint{BOLD:#}: {}", indent_lines(hint)));
    }
}

/// A line on stderr. Where nobody can be told, there is nobody to tell that either.
fn write_stderr(text: &str) {
    use std::io::Write;
    drop(writeln!(anstream::stderr().lock(), "{}", sanitize_for_terminal(text)));
}

fn indent_lines(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}
