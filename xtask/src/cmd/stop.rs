//! `stop`: end services, and prove it.

use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use super::stack::{self as shared, Ended};
use super::{DONE, Exit};
use crate::base::error::{Error, Kind, Result};
use crate::base::lock::Lock;
use crate::cli::Stop;
use crate::repo::Repo;
use crate::report;
use crate::services::client;
use crate::services::control::What;
use crate::services::page::Page;
use crate::services::stack::Stack;

/// How long a command waits for another one that starts or stops the same layer.
const COMMAND_WAIT: Duration = Duration::from_secs(600);

/// What came of a stop.
#[derive(Serialize)]
struct StopReport {
    schema: &'static str,
    ok: bool,
    layers: Vec<LayerLine>,
}

#[derive(Serialize)]
struct LayerLine {
    layer: String,
    stopped: Vec<String>,
    survivors: Vec<String>,
}

pub(super) fn run(session: &Session, args: &Stop) -> Exit {
    let repo = session.repo()?;
    let stacks = chosen(session, &repo, args)?;
    let mut layers = Vec::new();
    for (stack, page) in stacks {
        shared::check_names(&args.services, &page)?;
        let waiting = |holder: &str| {
            report::warn(&format!("waiting for another xtask that starts or stops ({holder})"));
        };
        let who = format!("stop, pid {}", std::process::id());
        let _lock = Lock::acquire(&stack.command_lock(), &who, COMMAND_WAIT, waiting)?;
        layers.push(stop(session, &stack, &args.services, args.timeout)?);
    }
    let survivors: Vec<&String> = layers.iter().flat_map(|layer| &layer.survivors).collect();
    let ok = survivors.is_empty();
    if args.json {
        let report = StopReport { schema: "xtask.stop/1", ok, layers };
        report::answer_json(&report)?;
        return Ok(if ok { DONE } else { Kind::No.code() });
    }
    if !ok {
        let mut error = Error::no("not all is gone");
        for who in survivors {
            error = error.detail(format!("{who} did not end"));
        }
        return Err(error
            .hint("a process that cannot be killed waits for the system, or is another user's"));
    }
    let stopped: Vec<String> = layers.iter().flat_map(|layer| layer.stopped.clone()).collect();
    if stopped.is_empty() {
        session.story("nothing was running");
    } else {
        session.story(&format!("stopped: {}", stopped.join(", ")));
    }
    Ok(DONE)
}

/// The stacks that are meant: the named layer, or all of which something is known.
fn chosen(session: &Session, repo: &Repo, args: &Stop) -> Result<Vec<(Stack, Page)>> {
    let Some(layer) = &args.layer else {
        let mut known = shared::known(session, repo)?;
        if !args.services.is_empty() {
            // Those that have what was named; where none has, the first says what it has.
            let has = |page: &Page| {
                let mut rows = page.services.iter();
                args.services.iter().all(|name| rows.any(|row| row.service == *name))
            };
            if known.iter().any(|(_, page)| has(page)) {
                known.retain(|(_, page)| has(page));
            }
            known.truncate(1);
        }
        return Ok(known);
    };
    let stack = shared::named(repo, layer)?;
    let page = client::look(&stack, &session.world)?;
    Ok(page.map(|page| (stack, page)).into_iter().collect())
}

/// Ends all of a stack; anything that is left is an error.
pub(super) fn stop_all(session: &Session, stack: &Stack) -> Result<()> {
    let done = stop(session, stack, &[], None)?;
    if done.survivors.is_empty() {
        return Ok(());
    }
    let error = Error::no("what was running did not end");
    Err(done.survivors.into_iter().fold(error, Error::detail))
}

fn stop(
    session: &Session,
    stack: &Stack,
    names: &[String],
    within: Option<Duration>,
) -> Result<LayerLine> {
    let before = client::look(stack, &session.world)?;
    let runs = |row: &crate::services::page::Row| {
        row.pid.is_some() || matches!(row.state.as_str(), "waiting" | "starting" | "restarting")
    };
    let was_up: Vec<String> = before
        .iter()
        .flat_map(|page| &page.services)
        .filter(|row| runs(row))
        .map(|row| row.service.clone())
        .collect();
    let mut link = client::connect_or_start(stack, &session.world)?;
    let within_ms = within.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    link.ask(What::Stop { names: names.to_vec(), within_ms })?;
    match shared::follow(session, link, &was_up)? {
        Ended::Done { page, survivors } => {
            let is_up =
                |name: &&String| page.services.iter().any(|row| row.service == **name && runs(row));
            let all_down = !page.services.iter().any(runs);
            if let Some(supervisor) = page.supervisor.filter(|_| all_down && survivors.is_empty())
                && !client::wait_until_gone(stack, supervisor.pid)
            {
                return Err(Error::unable(format!(
                    "the services are gone, but their supervisor (pid {}) is not",
                    supervisor.pid
                )));
            }
            let stopped = was_up.iter().filter(|name| !is_up(name)).cloned().collect();
            Ok(LayerLine { layer: stack.layer.clone(), stopped, survivors })
        }
        Ended::Failed { .. } => Err(Error::unable("the supervisor does not know what a stop is")),
        Ended::Interrupted => Err(Error::new(
            Kind::Interrupted,
            "interrupted; the supervisor goes on to end the services",
        )),
    }
}
