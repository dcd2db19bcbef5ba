//! What the commands about deployed layers pass to the workflows of the crate `deploy`: the layer, the prompt, the
//! checks; e.g. `with_workflow(session, "staging", timeout, |flow| flow.verify())`.

use std::time::Duration;

use super::session::Session;
use super::{CommandResult, SUCCESS, checks, stack};
use xtask_base::error::Result;
use xtask_config::Layer;
use xtask_deploy::DeployContext;
use xtask_deploy::deployment::LayerDeployment;
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_deploy::layer_location::{LayerLocation, LocationAnswer};
use xtask_deploy::report::DeployRunReport;
use xtask_deploy::workflow::{DeployFrontend, DeployWorkflow, deploying_user};
use xtask_git::Repo;
use xtask_report as report;

impl DeployFrontend for Session {
    fn warn(&self, text: &str) {
        report::print_warning(text);
    }

    fn ask_line(&self, question: &str) -> Option<String> {
        report::prompt_line(question)
    }

    fn validate_checkout(&self) -> Result<bool> {
        Ok(checks::run_full_validation(self)? == SUCCESS)
    }
}

/// Reads a layer from the worktree. Returns an error if it has no `[deploy]`.
pub(super) fn read_deployment(repo: &Repo, layer: &str) -> Result<LayerDeployment> {
    LayerDeployment::for_layer(repo, stack::read_layer_with_texts(repo, layer)?)
}

/// Calls `work` with the workflows of a layer.
pub(super) fn with_workflow(
    session: &Session,
    layer: &str,
    ready_within: Duration,
    work: impl FnOnce(&DeployWorkflow<'_>) -> CommandResult,
) -> CommandResult {
    let repo = session.open_repo()?;
    let place = read_deployment(&repo, layer)?;
    let load = |name: &str| -> Result<Layer> { stack::read_layer(&repo, name) };
    with_context(session, ready_within, |ctx| {
        work(&DeployWorkflow { repo: &repo, place: &place, load: &load, frontend: session, ctx })
    })
}

fn with_context<T>(
    session: &Session,
    ready_within: Duration,
    work: impl FnOnce(DeployContext<'_>) -> Result<T>,
) -> Result<T> {
    let tell = |text: &str| session.print_info(text);
    let by = deploying_user(&session.world);
    let tools = session.tools();
    work(DeployContext {
        world: &session.world,
        disk: tools.disk,
        interrupts: tools.interrupts,
        tell: &tell,
        by: &by,
        ready_within,
    })
}

/// Runs a services command of a layer that another program or another host runs. Returns `None` if it is about
/// services of this machine: if no layer is named, or it runs in this worktree or in a folder of this machine.
pub(super) fn run_elsewhere(
    session: &Session,
    repo: &Repo,
    layer: Option<&str>,
    asked: &ServicesCommand,
    services: &[String],
) -> Result<Option<u8>> {
    let Some(layer) = layer else { return Ok(None) };
    let Some(layer) = stack::read_deployed_layer(session, repo, layer)? else { return Ok(None) };
    let location = LayerLocation::for_layer(repo, layer);
    let run = |ctx: DeployContext<'_>| location.run_command(repo, asked, services, &ctx);
    match with_context(session, Duration::ZERO, run)? {
        LocationAnswer::RunHere => Ok(None),
        LocationAnswer::Exited(code) => Ok(Some(code)),
        LocationAnswer::CommandLine(line) => {
            report::print_output(&format!("{line}\n"))?;
            Ok(Some(SUCCESS))
        }
    }
}

/// Prints how a deploy or a rollback ended.
pub(super) fn print_run(
    place: &LayerDeployment,
    done: DeployRunReport,
    json: bool,
) -> CommandResult {
    match json {
        true => report::print_json(&done)?,
        false => report::print_output(&done.render_text(place))?,
    }
    done.failure.map_or(Ok(SUCCESS), Err)
}
