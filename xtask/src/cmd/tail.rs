//! Prints and follows the logs of services, merged by time. For example, `api | --- started at
//! 2026-01-31T12:00:00.000Z
//! ---` marks the start of a run.

use std::time::Duration;

use xtask_base::environment::format_rfc3339_ms;
use xtask_base::error::{Result, ResultExt};
use xtask_report as report;
use xtask_services::logs::{LogLine, LogRun, ServiceLog};
use xtask_services::report::format_log_line;
use xtask_services::stack::Stack;

/// How often the logs are polled for new lines.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Returns the log of the service `name`.
pub(super) fn service_log(stack: &Stack, name: &str) -> ServiceLog {
    ServiceLog::new(&stack.logs_folder(), name)
}

/// Inserts a line at the start of each run, except before the first line.
pub(super) fn mark_runs(lines: Vec<LogLine>, runs: &[LogRun]) -> Vec<LogLine> {
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

/// Prints new lines, or with `from_now == false` all lines, until `is_over` returns true.
pub(super) fn follow_logs(
    stack: &Stack,
    names: &[String],
    from_now: bool,
    timestamps: bool,
    is_over: &dyn Fn() -> bool,
) -> Result<()> {
    let ends =
        names.iter().map(|name| if from_now { service_log(stack, name).length() } else { 0 });
    follow_logs_from(stack, names, ends.collect(), timestamps, is_over)
}

/// Prints the lines after the byte offsets `from`, one per service, until `is_over` returns true.
pub(super) fn follow_logs_from(
    stack: &Stack,
    names: &[String],
    mut from: Vec<u64>,
    timestamps: bool,
    is_over: &dyn Fn() -> bool,
) -> Result<()> {
    loop {
        let is_last = is_over();
        let (mut lines, mut has_more) = (Vec::new(), false);
        for (number, name) in names.iter().enumerate() {
            let log = service_log(stack, name);
            let end = log.length();
            if end < from[number] {
                // The log was cleared.
                from[number] = 0;
            }
            let read = log.read_whole_lines(from[number], end);
            let (new, next) = read.with_context(|| format!("cannot read the log of {name}"))?;
            has_more |= next > from[number] && next < end;
            from[number] = next;
            lines.extend(new.into_iter().map(|line| (number, line)));
        }
        lines.sort_by_key(|(_, line)| line.at_ms);
        let is_read = print_lines(names, timestamps, &lines)?;
        if is_last && !has_more || !is_read {
            return Ok(());
        }
        if !has_more {
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}

/// Prints lines, each with the index of its service. Returns whether stdout is still open.
pub(super) fn print_lines(
    names: &[String],
    timestamps: bool,
    lines: &[(usize, LogLine)],
) -> Result<bool> {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = if names.len() > 1 { longest } else { 0 };
    let mut text = String::new();
    for (number, line) in lines {
        let time = timestamps.then(|| format_rfc3339_ms(line.at_ms));
        text.push_str(&format_log_line(
            &names[*number],
            *number,
            width,
            time.as_deref(),
            &line.text,
        ));
    }
    if text.is_empty() { Ok(true) } else { report::print_chunk(&text) }
}
