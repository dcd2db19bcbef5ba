//! The reports about services: the table of `ps`, the progress of `start` and `stop`, and merged logs.
//!
//! ```text
//! SERVICE  STATE  HEALTH    PID  PORT  UPTIME  RESTARTS  MEMORY   CPU
//! api      ready  healthy  4711  8100   3m 20s        0   12 MB  0.3%
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IsTerminal;
use xtask_base::words::sanitize_for_terminal;

use anstyle::{AnsiColor, Style};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{BOLD, DIM, GREEN, RED, Verbosity, YELLOW, print_info};
use xtask_base::words::format_size;

/// The status of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceLine {
    /// The name of the service.
    pub service: String,
    /// The state, e.g. `starting`, `ready` or `failed`.
    pub state: String,
    /// `healthy`, `unhealthy` or `unknown`.
    pub health: String,
    /// The ID of its first process.
    pub pid: Option<u32>,
    pub port: Option<u16>,
    /// The URL or `HOST:PORT`.
    pub address: Option<String>,
    /// The time since its start, in milliseconds.
    pub uptime_ms: Option<u64>,
    /// How often the supervisor has restarted it.
    pub restarts: u32,
    /// The resident memory of its processes, in bytes.
    pub memory: Option<u64>,
    /// The CPU usage, in percent of one core.
    pub cpu: Option<f64>,
    /// Whether it runs with a `fallback`, without a service that it needs.
    pub degraded: bool,
    /// Warnings, e.g. about a resource limit or a changed configuration.
    pub warnings: Vec<String>,
    /// The last error.
    pub error: Option<String>,
}

impl ServiceLine {
    fn state_style(&self) -> Style {
        match (self.state.as_str(), self.health.as_str()) {
            ("failed" | "blocked" | "lost", _) => RED,
            ("ready", "unhealthy") => RED,
            ("ready" | "done", _) if !self.degraded && self.warnings.is_empty() => GREEN,
            ("stopped", _) => DIM,
            _ => YELLOW,
        }
    }

    fn join_notes(&self) -> String {
        let mut notes = Vec::new();
        if self.degraded {
            notes.push("degraded".to_owned());
        }
        notes.extend(self.warnings.iter().cloned());
        notes.extend(self.error.clone());
        notes.join("; ")
    }
}

/// Formats a duration in at most two units, e.g. `3m 20s`.
#[must_use]
pub fn format_uptime(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Renders the table of `ps`.
#[must_use]
pub fn render_table(lines: &[ServiceLine]) -> String {
    let dash = || "-".to_owned();
    let cells: Vec<[String; 9]> = lines
        .iter()
        .map(|line| {
            [
                line.service.clone(),
                line.state.clone(),
                line.health.clone(),
                line.pid.map_or_else(dash, |pid| pid.to_string()),
                line.port.map_or_else(dash, |port| port.to_string()),
                line.uptime_ms.map_or_else(dash, format_uptime),
                line.restarts.to_string(),
                line.memory.map_or_else(dash, format_size),
                line.cpu.map_or_else(dash, |cpu| format!("{cpu:.1}%")),
            ]
        })
        .collect();
    let heads =
        ["SERVICE", "STATE", "HEALTH", "PID", "PORT", "UPTIME", "RESTARTS", "MEMORY", "CPU"];
    let width = |at: usize| {
        let longest = cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
        longest.max(heads[at].len())
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let has_notes = lines.iter().any(|line| !line.join_notes().is_empty());
    let mut text = String::new();
    let mut row = |cells: &[String], style: Style, rest: &str| {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let width = widths[at];
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let is_number = at >= 3;
            let (before, after) =
                if is_number { (pad, String::new()) } else { (String::new(), pad) };
            let (open, close) = if at == 1 || at == 2 {
                (style.render().to_string(), style.render_reset().to_string())
            } else {
                (String::new(), String::new())
            };
            let gap = if at == 0 { "" } else { "  " };
            write!(line, "{gap}{before}{open}{cell}{close}{after}")
                .expect("because writing to a string cannot fail");
        }
        if !rest.is_empty() {
            write!(line, "  {rest}").expect("because writing to a string cannot fail");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    };
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    row(&heads, Style::new(), if has_notes { "NOTE" } else { "" });
    for (line, cells) in lines.iter().zip(&cells) {
        row(cells, line.state_style(), &line.join_notes());
    }
    text
}

/// Renders the result of a start: each service and its address.
#[must_use]
pub fn render_addresses(lines: &[ServiceLine], status: Option<u16>) -> String {
    let width = lines.iter().map(|line| line.service.chars().count()).max().unwrap_or(0).max(6);
    let mut text = String::new();
    let mut put = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for line in lines {
        let address = line.address.clone().unwrap_or_default();
        let style = line.state_style();
        let notes = line.join_notes();
        let notes = if notes.is_empty() { notes } else { format!("  {DIM}{notes}{DIM:#}") };
        put(format!(
            "{:<width$}  {style}{:<7}{style:#}  {address}{notes}",
            line.service, line.state
        ));
    }
    if let Some(port) = status {
        put(format!("{DIM}{:<width$}  {:<7}  http://localhost:{port}/status{DIM:#}", "status", ""));
    }
    text
}

/// Clears the terminal and prints `text` at its top.
pub fn redraw_screen(text: &str) -> xtask_base::error::Result<()> {
    super::print_output(&format!("\x1b[H\x1b[2J{text}"))
}

/// How long a service must be starting before its progress says what it waits for, in milliseconds.
const WAIT_NOTICE_MS: u64 = 1000;

/// Shows the progress of services: live lines on a terminal, otherwise a line for each change.
pub struct ServiceProgress {
    verbosity: Verbosity,
    lines: Option<MultiProgress>,
    bars: BTreeMap<String, ProgressBar>,
    last_text: BTreeMap<String, String>,
    is_plain: bool,
}

impl ServiceProgress {
    /// Returns an empty list.
    #[must_use]
    pub fn new(loudness: Verbosity) -> ServiceProgress {
        let is_seen = loudness > Verbosity::Quiet && std::io::stderr().is_terminal();
        let lines = is_seen.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        let choice = anstream::AutoStream::choice(&std::io::stderr());
        let is_plain = choice == anstream::ColorChoice::Never;
        ServiceProgress {
            verbosity: loudness,
            lines,
            bars: BTreeMap::new(),
            last_text: BTreeMap::new(),
            is_plain,
        }
    }

    /// Shows the present states; unchanged ones are not printed again.
    pub fn show_states(&mut self, lines: &[ServiceLine]) {
        for line in lines {
            let tells = ["failed", "blocked", "restarting", "ready"];
            let words = match &line.error {
                Some(error) if tells.contains(&line.state.as_str()) => {
                    format!("{}: {error}", line.state)
                }
                // After a moment of waiting, print the reason.
                Some(error)
                    if line.state == "starting" && line.uptime_ms > Some(WAIT_NOTICE_MS) =>
                {
                    format!("waiting: {error}")
                }
                _ => line.state.clone(),
            };
            let before = self.last_text.insert(line.service.clone(), words.clone());
            if before.as_ref() == Some(&words) {
                continue;
            }
            // The initial state of a service at rest is no news.
            if before.is_none()
                && ["stopped", "ready", "done", "failed"].contains(&line.state.as_str())
            {
                continue;
            }
            match &self.lines {
                None => print_info(self.verbosity, &format!("{}: {words}", line.service)),
                Some(lines) => {
                    let bar = self.bars.entry(line.service.clone()).or_insert_with(|| {
                        let bar = lines.add(ProgressBar::new_spinner());
                        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                            bar.set_style(style);
                        }
                        bar
                    });
                    let style = line.state_style();
                    let is_plain = self.is_plain;
                    let (bold, style) =
                        if is_plain { (Style::new(), Style::new()) } else { (BOLD, style) };
                    bar.set_message(
                        sanitize_for_terminal(&format!(
                            "{bold}{}{bold:#}  {style}{words}{style:#}",
                            line.service
                        ))
                        .into_owned(),
                    );
                }
            }
        }
        self.bars.values().for_each(ProgressBar::tick);
    }

    /// Removes the live lines.
    pub fn clear(&mut self) {
        for bar in std::mem::take(&mut self.bars).into_values() {
            bar.finish_and_clear();
        }
    }
}

/// The colours of service names in merged logs.
const COLOURS: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightRed,
];

/// Formats a line of a log, with the name of its service in front if `width` is not 0; `number` selects the colour.
#[must_use]
pub fn format_log_line(
    name: &str,
    number: usize,
    width: usize,
    time: Option<&str>,
    text: &str,
) -> String {
    let time = time.map_or(String::new(), |time| format!("{DIM}{time}{DIM:#} "));
    if width == 0 {
        return format!("{time}{text}\n");
    }
    let style = COLOURS[number % COLOURS.len()].on_default();
    format!("{time}{style}{name:<width$} |{style:#} {text}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_units_at_most() {
        for (ms, words) in [
            (0, "0s"),
            (59_999, "59s"),
            (200_000, "3m 20s"),
            (7_260_000, "2h 1m"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(format_uptime(ms), words);
        }
    }

    #[test]
    fn the_table_lines_up() {
        let line = ServiceLine {
            service: "api".to_owned(),
            state: "ready".to_owned(),
            health: "healthy".to_owned(),
            pid: Some(4711),
            port: Some(8000),
            uptime_ms: Some(61_000),
            memory: Some(12_000_000),
            cpu: Some(0.25),
            ..ServiceLine::default()
        };
        let failed = ServiceLine {
            service: "a-long-name".to_owned(),
            state: "failed".to_owned(),
            error: Some("it ended with code 1".to_owned()),
            ..line.clone()
        };
        let plain = anstream::adapter::strip_str(&render_table(&[line, failed])).to_string();
        expect_test::expect![[r#"
            SERVICE      STATE   HEALTH    PID  PORT  UPTIME  RESTARTS   MEMORY   CPU  NOTE
            api          ready   healthy  4711  8000   1m 1s         0  12.0 MB  0.2%
            a-long-name  failed  healthy  4711  8000   1m 1s         0  12.0 MB  0.2%  it ended with code 1
        "#]].assert_eq(&plain);
    }
}
