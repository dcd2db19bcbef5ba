//! Showing logs: merged by time, and followed.

use std::time::Duration;

use xtask_base::error::{Context, Result};
use xtask_base::world::rfc3339_ms;
use xtask_report as report;
use xtask_report::services::log_line;
use xtask_services::logs::{Line, Log, Run};
use xtask_services::stack::Stack;

/// How often new lines are looked for.
const POLL: Duration = Duration::from_millis(100);

/// The log of a service.
pub(super) fn log(stack: &Stack, name: &str) -> Log {
    Log::new(&stack.logs(), name)
}

/// The lines of a log with a line where a run begins, but for the first that is shown.
pub(super) fn with_runs(lines: Vec<Line>, runs: &[Run]) -> Vec<Line> {
    let mut marked: Vec<Line> = Vec::with_capacity(lines.len());
    let first = lines.first().map_or(0, |line| line.at);
    let mut runs = runs.iter().skip_while(|run| run.at <= first).peekable();
    for line in lines {
        while let Some(run) = runs.next_if(|run| run.at <= line.at) {
            let why = if run.is_again { "started again" } else { "started" };
            let text = format!("--- {why} at {} ---", rfc3339_ms(run.at_ms));
            // Lines stay in their order when they are merged by time.
            let before = marked.last().map_or(i64::MIN, |line| line.at_ms);
            let at_ms = run.at_ms.clamp(before.min(line.at_ms), line.at_ms);
            marked.push(Line { at: run.at, at_ms, text });
        }
        marked.push(line);
    }
    marked
}

/// Shows what is written from now on, or from the beginning of what is kept, until `is_over`.
pub(super) fn follow(
    stack: &Stack,
    names: &[String],
    from_now: bool,
    timestamps: bool,
    is_over: &dyn Fn() -> bool,
) -> Result<()> {
    let ends = names.iter().map(|name| if from_now { log(stack, name).length() } else { 0 });
    follow_from(stack, names, ends.collect(), timestamps, is_over)
}

/// The same from these places on.
pub(super) fn follow_from(
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
            let log = log(stack, name);
            let end = log.length();
            if end < from[number] {
                // It was cleared.
                from[number] = 0;
            }
            let read = log.whole_lines(from[number], end);
            let (new, next) = read.unable(|| format!("the log of {name} cannot be read"))?;
            has_more |= next > from[number] && next < end;
            from[number] = next;
            lines.extend(new.into_iter().map(|line| (number, line)));
        }
        lines.sort_by_key(|(_, line)| line.at_ms);
        let is_read = print(names, timestamps, &lines)?;
        if is_last && !has_more || !is_read {
            return Ok(());
        }
        if !has_more {
            std::thread::sleep(POLL);
        }
    }
}

/// Prints lines, each with the number of its service; whether somebody still reads.
pub(super) fn print(names: &[String], timestamps: bool, lines: &[(usize, Line)]) -> Result<bool> {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = if names.len() > 1 { longest } else { 0 };
    let mut text = String::new();
    for (number, line) in lines {
        let time = timestamps.then(|| rfc3339_ms(line.at_ms));
        text.push_str(&log_line(&names[*number], *number, width, time.as_deref(), &line.text));
    }
    if text.is_empty() { Ok(true) } else { report::answer_on(&text) }
}
