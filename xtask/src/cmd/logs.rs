//! `logs`: what the services have written, merged by time.

use std::time::Duration;

use super::session::Session;
use super::stack as shared;
use super::{DONE, Exit};
use crate::base::error::{Context, Error, Result};
use crate::base::world::rfc3339_ms;
use crate::cli::Logs;
use crate::config::nearest;
use crate::report;
use crate::report::services::log_line;
use crate::services::logs::{Line, Log};
use crate::services::stack::Stack;

/// How often new lines are looked for.
const POLL: Duration = Duration::from_millis(100);

pub(super) fn run(session: &Session, args: &Logs) -> Exit {
    let repo = session.repo()?;
    let stack = match &args.layer {
        Some(layer) => shared::named(&repo, layer)?,
        None => shared::meant(session, &repo, None)?,
    };
    let known = Log::names(&stack.logs());
    let unknown: Vec<&String> = args.services.iter().filter(|n| !known.contains(n)).collect();
    if let Some(name) = unknown.first() {
        let near = nearest(name, known.iter().map(String::as_str));
        let error = Error::usage(format!("there is no log of `{name}`{near}"));
        return Err(match known.len() {
            0 => error.hint(format!("nothing of layer `{}` has run yet", stack.layer)),
            _ => error.hint(format!("there are: {}", known.join(", "))),
        });
    }
    let names = if args.services.is_empty() { known } else { args.services.clone() };
    if names.is_empty() {
        session.story(&format!("nothing of layer `{}` has run yet", stack.layer));
        return Ok(DONE);
    }
    let ends: Vec<u64> = names.iter().map(|name| log(&stack, name).length()).collect();
    let mut lines = Vec::new();
    for (number, (name, end)) in names.iter().zip(&ends).enumerate() {
        let last = log(&stack, name).last_lines(args.lines, *end);
        let last = last.unable(|| format!("the log of {name} cannot be read"))?;
        lines.extend(last.into_iter().map(|line| (number, line)));
    }
    if let Some(since) = args.since {
        let now = (session.world.clock)();
        let from = i64::try_from(now.saturating_sub(since).as_millis()).unwrap_or(0);
        lines.retain(|(_, line)| line.at_ms >= from);
    }
    // Lines of one service stay in their order: the sort keeps that of equals.
    lines.sort_by_key(|(_, line)| line.at_ms);
    let over = lines.len().saturating_sub(args.lines);
    print(&names, args.timestamps, &lines[over..])?;
    if args.follow {
        follow_from(&stack, &names, ends, args.timestamps, &|| false)?;
    }
    Ok(DONE)
}

fn log(stack: &Stack, name: &str) -> Log {
    Log::new(&stack.logs(), name)
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

fn follow_from(
    stack: &Stack,
    names: &[String],
    mut from: Vec<u64>,
    timestamps: bool,
    is_over: &dyn Fn() -> bool,
) -> Result<()> {
    loop {
        let is_last = is_over();
        let mut lines = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let log = log(stack, name);
            let end = log.length();
            if end < from[number] {
                // It was cleared.
                from[number] = 0;
            }
            let read = log.whole_lines(from[number], end);
            let (new, next) = read.unable(|| format!("the log of {name} cannot be read"))?;
            from[number] = next;
            lines.extend(new.into_iter().map(|line| (number, line)));
        }
        lines.sort_by_key(|(_, line)| line.at_ms);
        print(names, timestamps, &lines)?;
        if is_last {
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

fn print(names: &[String], timestamps: bool, lines: &[(usize, Line)]) -> Result<()> {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let width = if names.len() > 1 { longest } else { 0 };
    let mut text = String::new();
    for (number, line) in lines {
        let time = timestamps.then(|| rfc3339_ms(line.at_ms));
        text.push_str(&log_line(&names[*number], *number, width, time.as_deref(), &line.text));
    }
    if text.is_empty() { Ok(()) } else { report::answer(&text) }
}
