//! `status`: shows the state of this branch: sync, hooks, validation, services; with `--all`, of every worktree and
//! branch. A line looks like `sync      2 behind, 1 customised`.

use super::session::Session;
#[cfg(feature = "deploy")]
use super::stack;
use super::{CommandResult, SUCCESS};
use crate::cli::StatusArgs;
use crate::status::read_status;
#[cfg(feature = "services")]
use crate::status::services::read_service_lines;
#[cfg(feature = "deploy")]
use xtask_deploy::status::list_deployed_lines;
use xtask_report::{self as report, Verbosity};

pub(super) fn run(session: &Session, args: &StatusArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let status = read_status(&repo, args.all, &session.tools())?;
    #[cfg(feature = "services")]
    let status = status.with_services(read_service_lines(&repo, &session.world));
    #[cfg(feature = "deploy")]
    let status = status.with_deployed(list_deployed_lines(
        &repo,
        &stack::list_layers(&repo),
        &|layer| stack::read_layer(&repo, layer),
        &session.world,
    ));
    if args.json {
        report::print_json(&status)?;
    } else {
        let is_verbose = session.verbosity == Verbosity::Verbose;
        let text = status.render_text(is_verbose, report::is_stdout_terminal());
        report::print_output(&text)?;
    }
    Ok(SUCCESS)
}
