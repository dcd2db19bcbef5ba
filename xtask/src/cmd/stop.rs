//! `stop`: stops services and verifies that no process of theirs is left, e.g. `stopped: api, web`.

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS};
use crate::cli::StopArgs;
use xtask_base::error::{Error, ErrorKind};
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_report as report;
use xtask_services::client;
use xtask_services::observe::list_known_stacks;
use xtask_services::report::ServiceProgress;
use xtask_services::stack::Stack;
use xtask_services::status::StackStatus;
use xtask_services::stop::{StopReport, choose_stacks, stop_services};

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
    let (stacks, unreadable) = match &args.layer {
        Some(layer) => {
            let stack = shared::find_stack_anywhere(session, &repo, layer)?;
            let page = client::read_brief_status(&stack, &session.world)?;
            (page.map(|page| (stack, page)).into_iter().collect(), None)
        }
        None => {
            let (known, unreadable) = list_known_stacks(&repo.folders(), &session.world);
            (choose_stacks(known, &args.services, repo.root())?, unreadable)
        }
    };
    let deployed = stacks.iter().filter(|(stack, _)| !shared::is_own(&repo, stack));
    let deployed: Vec<String> = deployed.map(|(stack, _)| stack.layer.clone()).collect();
    stop_stacks(session, stacks, &deployed, unreadable, args)
}

#[cfg(feature = "deploy")]
/// Stops the services of a layer that is deployed on this machine, for a client on another one.
pub(super) fn stop_deployed(session: &Session, stack: Stack, args: &StopArgs) -> CommandResult {
    let page = client::read_brief_status(&stack, &session.world)?;
    let layer = stack.layer.clone();
    let stacks = page.map(|page| (stack, page)).into_iter().collect();
    stop_stacks(session, stacks, &[layer], None, args)
}

fn stop_stacks(
    session: &Session,
    stacks: Vec<(Stack, StackStatus)>,
    deployed: &[String],
    unreadable: Option<Error>,
    args: &StopArgs,
) -> CommandResult {
    let context = shared::stack_context(session);
    let mut layers = Vec::new();
    for (stack, page) in stacks {
        let mut listener = ServiceProgress::new(session.verbosity);
        let (names, within) = (&args.services, args.timeout);
        layers.push(stop_services(&context, &mut listener, &stack, &page, names, within)?);
    }
    if let Some(failure) = unreadable {
        return Err(failure);
    }
    let report = StopReport::new(layers);
    if args.json {
        report::print_json(&report)?;
        return Ok(if report.ok { SUCCESS } else { ErrorKind::Negative.exit_code() });
    }
    for killed in report.layers.iter().flat_map(|layer| &layer.killed) {
        report::print_warning(killed);
    }
    report.check_survivors()?;
    let stopped: Vec<String> =
        report.layers.iter().flat_map(|layer| layer.stopped.clone()).collect();
    if stopped.is_empty() {
        session.print_info("no services were running");
        return Ok(SUCCESS);
    }
    session.print_info(&format!("stopped: {}", stopped.join(", ")));
    for layer in deployed {
        session.print_info(&format!(
            "layer {layer} was deployed; `cargo xtask rollback {layer} RELEASE` starts a release again (`cargo xtask history {layer}` lists them)"
        ));
    }
    Ok(SUCCESS)
}
