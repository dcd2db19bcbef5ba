//! `restart`: stops services and starts them with the present configuration; services that depend on them keep
//! running.

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS};
use crate::cli::RestartArgs;
use xtask_base::error::Error;
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_services::report::ServiceProgress;
use xtask_services::start;

pub(super) fn run(session: &Session, args: &RestartArgs) -> CommandResult {
    let repo = session.open_repo()?;
    #[cfg(feature = "deploy")]
    if let Some(code) = run_elsewhere(
        session,
        &repo,
        args.layer.as_deref(),
        &ServicesCommand::Restart { json: args.json },
        &args.services,
    )? {
        return Ok(code);
    }
    let stack = shared::choose_stack(session, &repo, args.layer.as_deref())?;
    if !shared::is_own(&repo, &stack) {
        let layer = &stack.layer;
        return Err(Error::usage(format!(
            "layer `{layer}` is deployed, and is configured by its release"
        ))
        .with_hint(format!(
            "`cargo xtask rollback {layer} RELEASE` with the serving release starts it again"
        ))
        .with_hint(format!("`cargo xtask history {layer}` shows it")));
    }
    let layer = shared::read_layer(&repo, &stack.layer)?;
    let outcome = start::restart_services(
        &shared::stack_context(session),
        &mut ServiceProgress::new(session.verbosity),
        &repo.folders(),
        &layer,
        &args.services,
        args.timeout,
    )?;
    shared::print_start("xtask.restart/1", outcome, args.json, false)?;
    Ok(SUCCESS)
}
