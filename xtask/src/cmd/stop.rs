//! `stop`: end services, and prove it.

use serde::Serialize;

#[cfg(feature = "deploy")]
use super::far::Far;
#[cfg(feature = "deploy")]
use super::outside::Foreign;
use super::session::Session;
use super::stack as shared;
use super::{DONE, Exit};
use crate::cli::Stop;
use xtask_base::error::{Error, Kind, Result};
use xtask_config::nearest;
#[cfg(feature = "deploy")]
use xtask_deploy::passed_on::Asked;
use xtask_git::Repo;
use xtask_report as report;
use xtask_services::client;
use xtask_services::page::Page;
use xtask_services::stack::Stack;

/// What came of a stop.
#[derive(Serialize)]
struct StopReport {
    schema: &'static str,
    ok: bool,
    layers: Vec<shared::LayerLine>,
}

pub(super) fn run(session: &Session, args: &Stop) -> Exit {
    let repo = session.repo()?;
    #[cfg(feature = "deploy")]
    if let Some(foreign) = Foreign::named(session, &repo, args.layer.as_deref())? {
        foreign.refuse(&[("--json", args.json)])?;
        let asked = Asked::Stop { within: args.timeout };
        return foreign.pass_on(session, &repo, &asked, &args.services);
    }
    #[cfg(feature = "deploy")]
    if let Some(far) = Far::named(session, &repo, args.layer.as_deref())? {
        return far.stop(session, args);
    }
    let (stacks, unreadable) = chosen(session, &repo, args)?;
    end(session, &|stack| shared::is_own(&repo, stack), stacks, unreadable, args)
}

#[cfg(feature = "deploy")]
/// The same for what is deployed on this machine, asked from another one.
pub(super) fn of_deployed(session: &Session, stack: Stack, args: &Stop) -> Exit {
    let page = client::glance(&stack, &session.world)?;
    let stacks = page.map(|page| (stack, page)).into_iter().collect();
    end(session, &|_| false, stacks, None, args)
}

fn end(
    session: &Session,
    is_own: &dyn Fn(&Stack) -> bool,
    stacks: Vec<(Stack, Page)>,
    unreadable: Option<Error>,
    args: &Stop,
) -> Exit {
    let mut layers = Vec::new();
    let mut deployed = Vec::new();
    for (stack, page) in stacks {
        shared::check_names(&args.services, &page)?;
        if !is_own(&stack) {
            deployed.push(stack.layer.clone());
        }
        layers.push(shared::stop(session, &stack, &args.services, args.timeout)?);
    }
    if let Some(failure) = unreadable {
        return Err(failure);
    }
    let survivors: Vec<&String> = layers.iter().flat_map(|layer| &layer.survivors).collect();
    let ok = survivors.is_empty();
    if args.json {
        let report = StopReport { schema: "xtask.stop/1", ok, layers };
        report::answer_json(&report)?;
        return Ok(if ok { DONE } else { Kind::No.code() });
    }
    for killed in layers.iter().flat_map(|layer| &layer.killed) {
        report::warn(killed);
    }
    if !ok {
        let mut error = Error::no("some processes are still running");
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
        for layer in deployed {
            session.story(&format!(
                "that was deployed; `cargo xtask rollback {layer} RELEASE` has one serve again (`cargo xtask history {layer}`)"
            ));
        }
    }
    Ok(DONE)
}

/// Stacks with how they are, and why another one could not be looked at.
type Chosen = (Vec<(Stack, Page)>, Option<Error>);

/// The stacks that are meant: the named layer, or all of which something is known.
fn chosen(session: &Session, repo: &Repo, args: &Stop) -> Result<Chosen> {
    let Some(layer) = &args.layer else {
        let (mut known, unreadable) = shared::known(session, repo);
        if !args.services.is_empty() {
            known.retain(|(_, page)| shared::is_up(page));
        }
        if known.is_empty() && !args.services.is_empty() {
            check_configured(repo, &args.services)?;
        }
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
        return Ok((known, unreadable));
    };
    let stack = shared::named_anywhere(session, repo, layer)?;
    let page = client::glance(&stack, &session.world)?;
    Ok((page.map(|page| (stack, page)).into_iter().collect(), None))
}

/// Refuses names that no layer has.
fn check_configured(repo: &Repo, names: &[String]) -> Result<()> {
    let layers = shared::layers(repo).into_iter().filter_map(|name| shared::load(repo, &name).ok());
    let known: Vec<String> =
        layers.flat_map(|layer| layer.services).map(|service| service.name).collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => {
            let near = nearest(name, known.iter().map(String::as_str));
            Err(Error::usage(format!("no layer has a service `{name}`{near}")))
        }
        None => Ok(()),
    }
}
