//! `stop`: stops services and verifies that no process of theirs is left, e.g. `stopped: api, web`.

use serde::Serialize;

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS};
use crate::cli::StopArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::suggest_nearest;
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_git::Repo;
use xtask_report as report;
use xtask_services::client;
use xtask_services::stack::Stack;
use xtask_services::status::StackStatus;

/// The JSON output of `stop`.
#[derive(Serialize)]
struct StopReport {
    schema: &'static str,
    ok: bool,
    layers: Vec<shared::StoppedLayerLine>,
}

pub(super) fn run(session: &Session, args: &StopArgs) -> CommandResult {
    let repo = session.open_repo()?;
    #[cfg(feature = "deploy")]
    if let Some(code) = run_elsewhere(
        session,
        &repo,
        args.layer.as_deref(),
        &ServicesCommand::Stop { within: args.timeout, json: args.json },
        &args.services,
    )? {
        return Ok(code);
    }
    let (stacks, unreadable) = choose_stacks(session, &repo, args)?;
    stop_stacks(session, &|stack| shared::is_own(&repo, stack), stacks, unreadable, args)
}

#[cfg(feature = "deploy")]
/// Stops the services of a layer that is deployed on this machine, for a client on another one.
pub(super) fn stop_deployed(session: &Session, stack: Stack, args: &StopArgs) -> CommandResult {
    let page = client::read_brief_status(&stack, &session.world)?;
    let stacks = page.map(|page| (stack, page)).into_iter().collect();
    stop_stacks(session, &|_| false, stacks, None, args)
}

fn stop_stacks(
    session: &Session,
    is_own: &dyn Fn(&Stack) -> bool,
    stacks: Vec<(Stack, StackStatus)>,
    unreadable: Option<Error>,
    args: &StopArgs,
) -> CommandResult {
    let mut layers = Vec::new();
    let mut deployed = Vec::new();
    for (stack, page) in stacks {
        shared::check_names(&args.services, &page)?;
        if !is_own(&stack) {
            deployed.push(stack.layer.clone());
        }
        layers.push(shared::stop_services(session, &stack, &args.services, args.timeout)?);
    }
    if let Some(failure) = unreadable {
        return Err(failure);
    }
    let survivors: Vec<&String> = layers.iter().flat_map(|layer| &layer.survivors).collect();
    let ok = survivors.is_empty();
    if args.json {
        let report = StopReport { schema: "xtask.stop/1", ok, layers };
        report::print_json(&report)?;
        return Ok(if ok { SUCCESS } else { ErrorKind::Negative.exit_code() });
    }
    for killed in layers.iter().flat_map(|layer| &layer.killed) {
        report::print_warning(killed);
    }
    if !ok {
        let mut error = Error::negative("some processes are still running");
        for who in survivors {
            error = error.with_detail(format!("{who} did not exit"));
        }
        return Err(error.with_hint(
            "a process that cannot be killed waits in the kernel, or belongs to another user",
        ));
    }
    let stopped: Vec<String> = layers.iter().flat_map(|layer| layer.stopped.clone()).collect();
    if stopped.is_empty() {
        session.print_info("no services were running");
    } else {
        session.print_info(&format!("stopped: {}", stopped.join(", ")));
        for layer in deployed {
            session.print_info(&format!(
                "layer {layer} was deployed; `cargo xtask rollback {layer} RELEASE` starts a release again (`cargo xtask history {layer}` lists them)"
            ));
        }
    }
    Ok(SUCCESS)
}

/// Stacks with their status, and the last error of one whose status cannot be read.
type ChosenStacks = (Vec<(Stack, StackStatus)>, Option<Error>);

/// Returns the stacks to stop: that of `--layer`, or all with recorded state.
fn choose_stacks(session: &Session, repo: &Repo, args: &StopArgs) -> Result<ChosenStacks> {
    let Some(layer) = &args.layer else {
        let (mut known, unreadable) = shared::list_known_stacks(session, repo);
        if !args.services.is_empty() {
            known.retain(|(_, page)| shared::is_up(page));
        }
        if known.is_empty() && !args.services.is_empty() {
            check_configured(repo, &args.services)?;
        }
        if !args.services.is_empty() {
            // Prefer stacks that have all named services; if none has, the first one is used for the error.
            let has = |page: &StackStatus| {
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
    let stack = shared::find_stack_anywhere(session, repo, layer)?;
    let page = client::read_brief_status(&stack, &session.world)?;
    Ok((page.map(|page| (stack, page)).into_iter().collect(), None))
}

/// Returns an error if no layer has a service of one of these names.
fn check_configured(repo: &Repo, names: &[String]) -> Result<()> {
    let layers = shared::list_layers(repo)
        .into_iter()
        .filter_map(|name| shared::read_layer(repo, &name).ok());
    let known: Vec<String> =
        layers.flat_map(|layer| layer.services).map(|service| service.name).collect();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => {
            let near = suggest_nearest(name, known.iter().map(String::as_str));
            Err(Error::usage(format!("no such service in any layer: `{name}`{near}")))
        }
        None => Ok(()),
    }
}
