//! Shows and follows the logs of services, merged by time. For example, `api | --- started at
//! 2026-01-31T12:00:00.000Z ---` marks the start of a run.

use std::time::Duration;

use super::logs::{LogLine, LogRun, ServiceLog};
use super::report::format_log_line;
use super::stack::Stack;
use xtask_base::environment::{Environment, format_rfc3339_ms};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_config::suggest_nearest;

/// How often the logs are polled for new lines.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Which lines of which logs are shown.
pub struct LogOptions {
    /// Names of the services; if empty, all that have a log.
    pub services: Vec<String>,
    /// Whether new lines are shown as they are written.
    pub follow: bool,
    /// Whether earlier runs are shown as well.
    pub all: bool,
    /// Number of lines, for all services together.
    pub lines: usize,
    /// Age of the oldest line, of any run.
    pub since: Option<Duration>,
    /// Whether each line has its time in front.
    pub timestamps: bool,
}

/// Prints a part of the output; returns whether somebody still reads it.
pub type PrintLines<'a> = &'a mut dyn FnMut(&str) -> Result<bool>;

/// Shows the logs of a stack. Returns false if none of its services has run yet.
pub fn show_logs(
    stack: &Stack,
    options: &LogOptions,
    world: &Environment,
    print: PrintLines<'_>,
) -> Result<bool> {
    let names = choose_logs(stack, &options.services)?;
    if names.is_empty() {
        return Ok(false);
    }
    let mut view = LogView::new(stack, names, options.timestamps);
    let mut lines = Vec::new();
    for (number, (log, end)) in view.logs.iter().zip(&view.ends).enumerate() {
        let last = read_end(log, options, *end);
        let last = last.with_context(|| format!("cannot read the log of {}", log.name()))?;
        lines.extend(last.into_iter().map(|line| (number, line)));
    }
    if let Some(since) = options.since {
        let from = (world.clock)().saturating_sub(since);
        let from = i64::try_from(from.as_millis()).unwrap_or(0);
        lines.retain(|(_, line)| line.at_ms >= from);
    }
    // The sort is stable, so lines of one service stay in their order.
    lines.sort_by_key(|(_, line)| line.at_ms);
    let over = lines.len().saturating_sub(options.lines);
    if view.print_lines(&lines[over..], print)? && options.follow {
        view.follow(&|| false, print)?;
    }
    Ok(true)
}

/// Shows new lines of the services `names` until `is_over` returns true.
pub(super) fn follow_logs(
    stack: &Stack,
    names: Vec<String>,
    is_over: &dyn Fn() -> bool,
    print: PrintLines<'_>,
) -> Result<()> {
    LogView::new(stack, names, false).follow(is_over, print)
}

fn choose_logs(stack: &Stack, named: &[String]) -> Result<Vec<String>> {
    let known = ServiceLog::list_names(&stack.logs_folder());
    if let Some(name) = named.iter().find(|name| !known.contains(name)) {
        let near = suggest_nearest(name, known.iter().map(String::as_str));
        let error = Error::usage(format!("no log of `{name}`{near}"));
        return Err(match known.len() {
            0 => error.with_hint(format!("no service of layer `{}` has run yet", stack.layer)),
            _ => error.with_hint(format!("logs: {}", known.join(", "))),
        });
    }
    Ok(if named.is_empty() { known } else { named.to_vec() })
}

fn read_end(log: &ServiceLog, options: &LogOptions, end: u64) -> std::io::Result<Vec<LogLine>> {
    let runs = log.read_runs();
    let shows_all = options.all || options.since.is_some();
    let from = runs.iter().rfind(|run| !run.is_auto_restart).filter(|_| !shows_all);
    let lines = log.read_last_lines(options.lines, from.map_or(0, |run| run.at), end)?;
    Ok(mark_runs(lines, &runs))
}

/// Inserts a line at the start of each run, except before the first line.
fn mark_runs(lines: Vec<LogLine>, runs: &[LogRun]) -> Vec<LogLine> {
    let mut marked: Vec<LogLine> = Vec::with_capacity(lines.len());
    let first = lines.first().map_or(0, |line| line.at);
    let mut runs = runs.iter().skip_while(|run| run.at <= first).peekable();
    for line in lines {
        while let Some(run) = runs.next_if(|run| run.at <= line.at) {
            let why = if run.is_auto_restart { "started again" } else { "started" };
            let text = format!("--- {why} at {} ---", format_rfc3339_ms(run.at_ms));
            // The merge sorts by time, so the marker must not be older than the line before it.
            let before = marked.last().map_or(i64::MIN, |line| line.at_ms);
            let at_ms = run.at_ms.clamp(before.min(line.at_ms), line.at_ms);
            marked.push(LogLine { at: run.at, at_ms, text });
        }
        marked.push(line);
    }
    marked
}

/// Logs that are shown together.
struct LogView {
    logs: Vec<ServiceLog>,
    /// Offset of each log up to which it was shown, in bytes.
    ends: Vec<u64>,
    /// Width of the names in front of lines; 0 for none.
    width: usize,
    timestamps: bool,
}

impl LogView {
    fn new(stack: &Stack, names: Vec<String>, timestamps: bool) -> LogView {
        let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let width = if names.len() > 1 { longest } else { 0 };
        let folder = stack.logs_folder();
        let logs: Vec<ServiceLog> =
            names.iter().map(|name| ServiceLog::new(&folder, name)).collect();
        let ends = logs.iter().map(ServiceLog::length).collect();
        LogView { logs, ends, width, timestamps }
    }

    /// Shows the lines after `ends` until `is_over` returns true.
    fn follow(&mut self, is_over: &dyn Fn() -> bool, print: PrintLines<'_>) -> Result<()> {
        loop {
            let is_last = is_over();
            let (mut lines, mut has_more) = (Vec::new(), false);
            for (number, (log, from)) in self.logs.iter().zip(&mut self.ends).enumerate() {
                let end = log.length();
                if end < *from {
                    // The log was cleared.
                    *from = 0;
                }
                let read = log.read_whole_lines(*from, end);
                let failed = || format!("cannot read the log of {}", log.name());
                let (new, next) = read.with_context(failed)?;
                has_more |= next > *from && next < end;
                *from = next;
                lines.extend(new.into_iter().map(|line| (number, line)));
            }
            lines.sort_by_key(|(_, line)| line.at_ms);
            let is_read = self.print_lines(&lines, print)?;
            if is_last && !has_more || !is_read {
                return Ok(());
            }
            if !has_more {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
    }

    /// Prints lines, each with the index of its log. Returns whether somebody still reads them.
    fn print_lines(&self, lines: &[(usize, LogLine)], print: PrintLines<'_>) -> Result<bool> {
        let mut text = String::new();
        for (number, line) in lines {
            let time = self.timestamps.then(|| format_rfc3339_ms(line.at_ms));
            let name = self.logs[*number].name();
            let line = format_log_line(name, *number, self.width, time.as_deref(), &line.text);
            text.push_str(&line);
        }
        if text.is_empty() { Ok(true) } else { print(&text) }
    }
}
