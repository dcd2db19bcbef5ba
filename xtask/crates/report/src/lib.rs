//! Everything that users and other programs see: values in, text, JSON or XML out. No other crate prints.
//!
//! Results go to stdout, messages and progress to stderr; colours only to a terminal.
//!
//! ```text
//! SyncReport  ->  render_text  ->  print_output  ->  stdout
//! Error       ->  print_error                    ->  stderr: error: … / hint: …
//! ```

// Recompiles this crate if its sources change, even in a target folder that several checkouts share.
const _: Option<&str> = option_env!("XTASK_SOURCES_REPORT");

mod deployed_line;
mod progress;
#[cfg(feature = "checks")]
pub mod running_checks;

use std::borrow::Cow;

use anstyle::AnsiColor;
pub use anstyle::Style;

pub use deployed_line::DeployedLine;
pub use progress::{LiveLines, StderrProgress};

pub use xtask_base::words::pluralize;

use xtask_base::error::{Error, Result};
use xtask_base::words::{is_unsafe_char, sanitize_for_terminal};

/// The styles of texts: `{BOLD}main{BOLD:#}`.
pub const BOLD: Style = Style::new().bold();
pub const DIM: Style = Style::new().dimmed();
pub const GREEN: Style = AnsiColor::Green.on_default();
pub const YELLOW: Style = AnsiColor::Yellow.on_default();
pub const RED: Style = AnsiColor::Red.on_default();

/// Joins lines to a text that ends with a line feed; it is empty without lines.
#[must_use]
pub fn join_lines(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

/// Abbreviates a commit ID to 10 digits.
#[must_use]
pub fn short_id(id: &str) -> &str {
    &id[..id.len().min(10)]
}

/// Returns the name of a ref without `refs/heads/` or `refs/remotes/`.
#[must_use]
pub fn short_ref(name: &str) -> &str {
    name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/remotes/")).unwrap_or(name)
}

/// How much is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Results and errors only.
    Quiet,
    /// Also messages.
    Normal,
    /// Also details, and everything that is in sync.
    Verbose,
}

/// Sets the colours for this process; `None` decides by the terminal and `NO_COLOR`.
pub fn set_color(always: Option<bool>) {
    match always {
        Some(true) => anstream::ColorChoice::Always.write_global(),
        Some(false) => anstream::ColorChoice::Never.write_global(),
        None => anstream::ColorChoice::Auto.write_global(),
    }
}

/// Prints a result to stdout. A closed pipe (`| head`) is no failure; another write error is.
pub fn print_output(text: &str) -> Result<()> {
    print_chunk(text).map(drop)
}

/// Prints a page or another file to stdout, byte for byte. A closed pipe is no failure.
pub fn print_file(content: &[u8]) -> Result<()> {
    write_stdout(content).map(drop)
}

/// Clears the terminal's screen for a picture that replaces the last one. What was scrolled away before stays.
pub fn clear_screen() -> Result<()> {
    // ECMA-48: the cursor to the upper left corner, then erase from there.
    write_stdout(color_for_stdout("\x1b[H\x1b[J").as_bytes()).map(drop)
}

/// Prints a part of a longer output. Returns whether stdout is still open.
pub fn print_chunk(text: &str) -> Result<bool> {
    write_stdout(color_for_stdout(&sanitize_for_terminal(text)).as_bytes())
}

fn color_for_stdout(text: &str) -> Cow<'_, str> {
    keep_colors_if(anstream::AutoStream::choice(&std::io::stdout()), text)
}

/// Removes colours from a text, unless the stream shows them. `anstream::stdout` and `stderr` would write it in pieces,
/// between which other processes write.
fn keep_colors_if(choice: anstream::ColorChoice, text: &str) -> Cow<'_, str> {
    match choice {
        anstream::ColorChoice::Never => anstream::adapter::strip_str(text).to_string().into(),
        _ => text.into(),
    }
}

/// Writes to stdout at once. Returns whether it is still open.
fn write_stdout(content: &[u8]) -> Result<bool> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(content).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(cause) => Err(Error::unable("cannot write to stdout").with_cause(cause)),
    }
}

/// Prints a result to stdout as one JSON object.
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    print_output(&render_json(value))
}

/// Renders a result as one JSON object, with a line feed at the end.
#[must_use]
pub fn render_json<T: serde::Serialize>(value: &T) -> String {
    let text =
        serde_json::to_string_pretty(value).expect("because reports hold nothing that JSON cannot");
    // JSON allows characters that a terminal would interpret; escape them, too.
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
    safe.push('\n');
    safe
}

/// Prints a result to stdout, as JSON or as the text that `render` makes of it.
pub fn print_result<T: serde::Serialize>(
    json: bool,
    value: &T,
    render: impl FnOnce(&T) -> String,
) -> Result<()> {
    if json { print_json(value) } else { print_output(&render(value)) }
}

/// Returns whether stdout is a terminal.
#[must_use]
pub fn is_stdout_terminal() -> bool {
    use std::io::IsTerminal;
    std::io::stdout().is_terminal()
}

/// Returns whether stdin and stderr are terminals, so that a prompt works.
#[must_use]
pub fn can_prompt() -> bool {
    use std::io::IsTerminal;
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks for a typed `yes` on the terminal. Returns `None` if there is no terminal.
pub fn prompt_yes(question: &str) -> Option<bool> {
    let typed = prompt_line(&format!("{question} [type yes]"))?;
    Some(typed.eq_ignore_ascii_case("yes"))
}

/// Asks for a line on the terminal. Returns `None` if there is no terminal.
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

/// Prints a message to stderr, unless `loudness` is `Quiet`.
pub fn print_info(loudness: Verbosity, text: &str) {
    if loudness > Verbosity::Quiet {
        write_stderr(text);
    }
}

/// Prints a warning to stderr.
pub fn print_warning(text: &str) {
    write_stderr(&format!("{YELLOW}warning{YELLOW:#}: {text}"));
}

/// Prints a line of a hook to stderr, between the output of git.
pub fn print_hook_line(text: &str) {
    // Names and messages may hold line feeds, but this stays one line.
    write_stderr(&text.replace('\n', "\\n"));
}

/// Prints an error with its causes, details and hints.
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

/// Writes a line to stderr. An error is ignored, because there is no other place to report it.
fn write_stderr(text: &str) {
    use std::io::Write;
    let line = format!("{}\n", sanitize_for_terminal(text));
    let choice = anstream::AutoStream::choice(&std::io::stderr());
    drop(std::io::stderr().lock().write_all(keep_colors_if(choice, &line).as_bytes()));
}

fn indent_lines(text: &str) -> String {
    text.trim_end().replace('\n', "\n  ")
}
