//! The reports about services: the table of `ps`, the progress of `start` and `stop`, and merged logs.
//!
//! ```text
//! SERVICE  STATE  HEALTH    PID  PORT  UPTIME  RESTARTS  MEMORY   CPU
//! api      ready  healthy  4711  8100   3m 20s        0   12 MB  0.3%
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::control_socket::ServiceFailure;
use super::follow::StackListener;
use super::port_check::PortCheck;
use super::port_plan::PortPlan;
use super::start::StartOutcome;
use super::status::{ReportedState, ServiceStatus, StackStatus, SupervisorStatus};
use super::usage_trend::UsageTrend;
use xtask_base::words::format_size;
use xtask_config::{DEFAULT_LAYER, Layer, LayerValue};
use xtask_report::{
    BOLD, DIM, GREEN, LiveLines, RED, Verbosity, YELLOW, print_info, print_warning,
};

fn state_style(row: &ServiceStatus) -> Style {
    match row.state {
        _ if row.fault().is_some() => RED,
        ReportedState::Ready | ReportedState::Done if !row.degraded && row.warnings.is_empty() => {
            GREEN
        }
        ReportedState::Stopped => DIM,
        _ => YELLOW,
    }
}

/// Returns what is shown as the last error of a service.
fn last_error(row: &ServiceStatus) -> Option<&String> {
    row.error.as_ref().or(row.killed.as_ref())
}

fn join_notes(row: &ServiceStatus) -> String {
    let degraded = row.degraded.then_some("degraded");
    let notes = row.warnings.iter().chain(last_error(row)).map(String::as_str);
    degraded.into_iter().chain(notes).collect::<Vec<_>>().join("; ")
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

/// Renders the table of `ps`; `bars` are shown behind the CPU time of a service.
fn render_table(rows: &[ServiceStatus], bars: &dyn Fn(&str) -> String) -> String {
    let dash = || "-".to_owned();
    let cells: Vec<[String; 9]> = rows
        .iter()
        .map(|row| {
            [
                row.service.clone(),
                row.state.to_string(),
                row.health.name().to_owned(),
                row.pid.map_or_else(dash, |pid| pid.to_string()),
                row.port.map_or_else(dash, |port| port.to_string()),
                row.uptime_ms.map_or_else(dash, format_uptime),
                row.restarts.to_string(),
                row.memory.map_or_else(dash, format_size),
                row.cpu.map_or_else(dash, |cpu| format!("{cpu:.1}%")),
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
    let bars: Vec<String> = rows.iter().map(|row| bars(&row.service)).collect();
    let bar_width = bars.iter().map(|bars| bars.chars().count()).max().unwrap_or(0);
    let rest = |bars: &str, note: &str| match bar_width {
        0 => note.to_owned(),
        width => format!("{bars:<width$}  {note}").trim_end().to_owned(),
    };
    let has_notes = rows.iter().any(|row| !join_notes(row).is_empty());
    let mut text = String::new();
    let mut put = |cells: &[String], style: Style, rest: &str| {
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
    put(&heads, Style::new(), &rest("", if has_notes { "NOTE" } else { "" }));
    for ((row, cells), bars) in rows.iter().zip(&cells).zip(&bars) {
        put(cells, state_style(row), &rest(bars, &join_notes(row)));
    }
    text
}

/// Renders the result of a start: each service and its address.
#[must_use]
pub fn render_addresses(rows: &[&ServiceStatus], status: Option<u16>) -> String {
    let width = rows.iter().map(|row| row.service.chars().count()).max().unwrap_or(0).max(6);
    let mut text = String::new();
    let mut put = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    for row in rows {
        let address = row.address.as_deref().unwrap_or_default();
        let style = state_style(row);
        let notes = join_notes(row);
        let notes = if notes.is_empty() { notes } else { format!("  {DIM}{notes}{DIM:#}") };
        let (name, state) = (&row.service, row.state.name());
        put(format!("{name:<width$}  {style}{state:<7}{style:#}  {address}{notes}"));
    }
    if let Some(port) = status {
        put(format!("{DIM}{:<width$}  {:<7}  http://localhost:{port}/status{DIM:#}", "status", ""));
    }
    text
}

/// JSON of `start` and `restart`: a `StackStatus` with the failures and without its schema.
#[derive(Serialize)]
pub struct StartReport<'a> {
    schema: &'static str,
    ok: bool,
    failures: &'a [ServiceFailure],
    layer: &'a str,
    worktree: &'a str,
    supervisor: &'a Option<SupervisorStatus>,
    services: &'a [ServiceStatus],
}

impl<'a> StartReport<'a> {
    /// Returns the report in the format `schema`, e.g. `xtask.start/1`.
    #[must_use]
    pub fn new(schema: &'static str, outcome: &'a StartOutcome) -> StartReport<'a> {
        let StartOutcome { page, failures, .. } = outcome;
        StartReport {
            schema,
            ok: failures.is_empty(),
            failures,
            layer: &page.layer,
            worktree: &page.worktree,
            supervisor: &page.supervisor,
            services: &page.services,
        }
    }
}

/// JSON of `ps`: the first stack inline, and those of other layers in `others`.
#[derive(Serialize)]
pub struct PsReport<'a> {
    #[serde(flatten)]
    pub first: &'a StackStatus,
    pub others: &'a [StackStatus],
}

/// Renders the status of stacks for `ps`.
#[must_use]
pub fn render_status(pages: &[StackStatus], trend: Option<&UsageTrend>) -> String {
    let mut text = String::new();
    for (at, page) in pages.iter().enumerate() {
        let is_up = page.is_up();
        if pages.len() > 1 || page.layer != DEFAULT_LAYER || !is_up {
            let gap = if at == 0 { "" } else { "\n" };
            let down = if is_up { "" } else { " (not running)" };
            text.push_str(&format!("{gap}layer {}{down}\n", page.layer));
        }
        let bars = |service: &str| {
            trend.map_or(String::new(), |trend| trend.render_bars(&page.layer, service))
        };
        text.push_str(&render_table(&page.services, &bars));
        if let Some(error) = page.supervisor.as_ref().and_then(|line| line.error.as_ref()) {
            text.push_str(&format!("the supervisor: {error}\n"));
        }
        if page.is_unsupervised() {
            text.push_str(
                "the supervisor of these services is not running. `cargo xtask start` takes them over, \
                 `cargo xtask stop` stops them\n",
            );
        }
    }
    text
}

/// What a start would do, as JSON or as text.
#[derive(Serialize)]
pub struct StartPreview<'a> {
    schema: &'static str,
    layer: &'a str,
    files: &'a [String],
    services: Vec<&'a str>,
    ports: &'a BTreeMap<String, u16>,
    values: &'a [LayerValue],
    #[serde(skip)]
    offset: u16,
}

impl<'a> StartPreview<'a> {
    /// Returns the preview of a start of the `chosen` services (indices into `layer.services`).
    #[must_use]
    pub fn new(layer: &'a Layer, chosen: &[usize], ports: &'a PortPlan) -> StartPreview<'a> {
        StartPreview {
            schema: "xtask.start-dry-run/1",
            layer: &layer.name,
            files: &layer.files,
            services: chosen.iter().map(|at| layer.services[*at].name.as_str()).collect(),
            ports: &ports.services,
            values: &layer.values,
            offset: ports.offset,
        }
    }

    /// Renders services, ports and values, each with its source, e.g.
    /// `api.port = 8100  # deployment/local.toml:4`.
    #[must_use]
    pub fn render_text(&self) -> String {
        let mut text = format!("layer {} ({})\n", self.layer, self.files.join(", "));
        text.push_str(&format!("would start: {}\n", self.services.join(", ")));
        let listed: Vec<String> =
            self.ports.iter().map(|(name, port)| format!("{name} {port}")).collect();
        if !listed.is_empty() {
            let offset = match self.offset {
                0 => String::new(),
                offset => format!(" (here {offset} higher than configured)"),
            };
            text.push_str(&format!("ports: {}{offset}\n", listed.join(", ")));
        }
        let width = self.values.iter().map(|value| value.key.chars().count()).max().unwrap_or(0);
        for LayerValue { key, text: shown, file, line } in self.values {
            text.push_str(&format!("  {key:<width$}  = {shown}  # {file}:{line}\n"));
        }
        text
    }
}

/// Renders whether ports are free, a line for each.
#[must_use]
pub fn render_ports(ports: &[PortCheck]) -> String {
    let line = |one: &PortCheck| format!("{}  {}  {}\n", one.service, one.port, one.words);
    ports.iter().map(line).collect()
}

/// Clears the terminal and prints `text` at its top.
pub fn redraw_screen(text: &str) -> xtask_base::error::Result<()> {
    xtask_report::clear_screen()?;
    xtask_report::print_output(text)
}

/// Shows the progress of services: live lines on a terminal, otherwise a line for each change.
pub struct ServiceProgress {
    verbosity: Verbosity,
    lines: Option<LiveLines>,
    last_text: BTreeMap<String, String>,
}

impl ServiceProgress {
    /// Returns an empty list.
    #[must_use]
    pub fn new(verbosity: Verbosity) -> ServiceProgress {
        let lines = (verbosity > Verbosity::Quiet).then(LiveLines::on_stderr).flatten();
        ServiceProgress { verbosity, lines, last_text: BTreeMap::new() }
    }
}

impl StackListener for ServiceProgress {
    fn on_info(&mut self, text: &str) {
        print_info(self.verbosity, text);
    }

    fn on_warning(&mut self, text: &str) {
        print_warning(text);
    }

    /// Shows the present states; unchanged ones are not printed again.
    fn on_progress(&mut self, rows: &[&ServiceStatus]) {
        use ReportedState::{Blocked, Done, Failed, Ready, Restarting, Stopped};
        for row in rows {
            let state = row.state;
            let words = match last_error(row) {
                Some(error) if matches!(state, Failed | Blocked | Restarting | Ready) => {
                    format!("{state}: {error}")
                }
                // After a moment of waiting, print the reason.
                Some(error) if row.is_slow_start() => format!("waiting: {error}"),
                _ => state.to_string(),
            };
            let before = self.last_text.insert(row.service.clone(), words.clone());
            // The initial state of a service at rest is no news.
            let is_at_rest = matches!(state, Stopped | Ready | Done | Failed);
            if before.as_ref() == Some(&words) || before.is_none() && is_at_rest {
                continue;
            }
            let (name, style) = (&row.service, state_style(row));
            match &mut self.lines {
                None => print_info(self.verbosity, &format!("{name}: {words}")),
                Some(lines) => {
                    lines.set_line(name, &format!("{BOLD}{name}{BOLD:#}  {style}{words}{style:#}"));
                }
            }
        }
        if let Some(lines) = &self.lines {
            lines.redraw();
        }
    }

    /// Removes the live lines.
    fn on_request_end(&mut self) {
        if let Some(lines) = &mut self.lines {
            lines.clear();
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
pub(super) fn format_log_line(
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
        let line: ServiceStatus = serde_json::from_value(serde_json::json!({
            "service": "api", "state": "ready", "health": "healthy", "pid": 4711, "port": 8000,
            "uptime_ms": 61_000, "restarts": 0, "memory": 12_000_000, "cpu": 0.25, "degraded": false,
            "required": true, "warnings": [], "error": null
        }))
        .unwrap();
        let failed = ServiceStatus {
            service: "a-long-name".to_owned(),
            state: ReportedState::Failed,
            error: Some("it ended with code 1".to_owned()),
            ..line.clone()
        };
        let rows = [line, failed];
        let bars =
            |service: &str| if service == "api" { "▁█".to_owned() } else { String::new() };
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        expect_test::expect![[r#"
            SERVICE      STATE   HEALTH    PID  PORT  UPTIME  RESTARTS   MEMORY   CPU      NOTE
            api          ready   healthy  4711  8000   1m 1s         0  12.0 MB  0.2%  ▁█
            a-long-name  failed  healthy  4711  8000   1m 1s         0  12.0 MB  0.2%      it ended with code 1
        "#]].assert_eq(&plain(render_table(&rows, &bars)));
        let plain = plain(render_table(&rows, &|_| String::new()));
        expect_test::expect![[r#"
            SERVICE      STATE   HEALTH    PID  PORT  UPTIME  RESTARTS   MEMORY   CPU  NOTE
            api          ready   healthy  4711  8000   1m 1s         0  12.0 MB  0.2%
            a-long-name  failed  healthy  4711  8000   1m 1s         0  12.0 MB  0.2%  it ended with code 1
        "#]].assert_eq(&plain);
    }
}
