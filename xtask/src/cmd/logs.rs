//! `logs`: what the services have written, merged by time.

#[cfg(feature = "deploy")]
use super::far::Far;
#[cfg(feature = "deploy")]
use super::outside::Foreign;
use super::session::Session;
use super::stack as shared;
use super::{DONE, Exit, tail};
use crate::cli::Logs;
use xtask_base::error::{Context, Error};
use xtask_config::nearest;
#[cfg(feature = "deploy")]
use xtask_deploy::passed_on::Asked;
use xtask_services::logs::Log;
use xtask_services::stack::Stack;

pub(super) fn run(session: &Session, args: &Logs) -> Exit {
    let repo = session.repo()?;
    #[cfg(feature = "deploy")]
    if let Some(foreign) = Foreign::named(session, &repo, args.layer.as_deref())? {
        let (follow, lines, since) = (args.follow, args.lines, args.since);
        let asked = Asked::Logs { follow, lines, since, timestamps: args.timestamps };
        return foreign.pass_on(session, &repo, &asked, &args.services);
    }
    #[cfg(feature = "deploy")]
    if let Some(far) = Far::named(session, &repo, args.layer.as_deref())? {
        return far.logs(session, args);
    }
    let stack = match &args.layer {
        Some(layer) => shared::named_anywhere(session, &repo, layer)?,
        None => shared::meant(session, &repo, None)?,
    };
    of(session, &stack, args)
}

/// Those of a stack.
pub(super) fn of(session: &Session, stack: &Stack, args: &Logs) -> Exit {
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
    let ends: Vec<u64> = names.iter().map(|name| tail::log(stack, name).length()).collect();
    let mut lines = Vec::new();
    for (number, (name, end)) in names.iter().zip(&ends).enumerate() {
        let log = tail::log(stack, name);
        let runs = log.runs();
        let shows_all = args.all || args.since.is_some();
        let from = runs.iter().rfind(|run| !run.is_again).filter(|_| !shows_all);
        let last = log.last_lines(args.lines, from.map_or(0, |run| run.at), *end);
        let last = last.unable(|| format!("the log of {name} cannot be read"))?;
        let last = tail::with_runs(last, &runs);
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
    let is_read = tail::print(&names, args.timestamps, &lines[over..])?;
    if args.follow && is_read {
        tail::follow_from(stack, &names, ends, args.timestamps, &|| false)?;
    }
    Ok(DONE)
}
