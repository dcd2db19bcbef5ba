//! `ps`: prints the status of the services, as a table or as JSON (`xtask.ps/1`).

use std::path::Path;
use std::time::Duration;

#[cfg(feature = "deploy")]
use super::deploy_workflow::run_elsewhere;
use super::session::Session;
use super::stack as shared;
use super::{CommandResult, SUCCESS};
use crate::cli::PsArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::DEFAULT_LAYER;
#[cfg(feature = "deploy")]
use xtask_deploy::engine_commands::ServicesCommand;
use xtask_git::Repo;
use xtask_report as report;
use xtask_services::client;
use xtask_services::observe::{add_config_changes, list_status};
use xtask_services::report::{PsReport, redraw_screen, render_status};
#[cfg(feature = "deploy")]
use xtask_services::stack::Stack;
use xtask_services::status::{ReportedState, SCHEMA, ServiceStatus, StackStatus};
use xtask_services::usage_trend::UsageTrend;

/// How often `--watch` redraws.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn run(session: &Session, args: &PsArgs) -> CommandResult {
    let repo = session.open_repo()?;
    #[cfg(feature = "deploy")]
    if let Some(code) = run_elsewhere(
        session,
        &repo,
        args.layer.as_deref(),
        &ServicesCommand::Ps { json: args.json, watch: args.watch },
        &[],
    )? {
        return Ok(code);
    }
    if args.watch {
        if !report::is_stdout_terminal() {
            return Err(Error::usage("`--watch` needs a terminal")
                .with_hint("use `cargo xtask ps --json` in scripts"));
        }
        let mut trend = UsageTrend::default();
        loop {
            let pages = collect_status(session, &repo, args)?.0;
            trend.add_sample(&pages);
            redraw_screen(&render_status(&pages, Some(&trend)))?;
            std::thread::sleep(REDRAW_INTERVAL);
        }
    }
    let (pages, unreadable) = collect_status(session, &repo, args)?;
    let layer = args.layer.as_deref().unwrap_or(DEFAULT_LAYER);
    print_status(session, &pages, unreadable, (layer, repo.root()), args.json)
}

#[cfg(feature = "deploy")]
/// Prints the status of a layer that is deployed on this machine, for a client on another one.
pub(super) fn print_deployed(
    session: &Session,
    stack: Option<&Stack>,
    layer: &str,
    args: &PsArgs,
) -> CommandResult {
    let page = match stack {
        Some(stack) => client::read_status(stack, &session.world)?,
        None => None,
    };
    if page.is_none() && !args.json {
        session.print_info(&format!("no release of layer `{layer}` is running there"));
        return Ok(SUCCESS);
    }
    let root = stack.map_or(Path::new(""), |stack| &stack.root);
    print_status(session, page.as_slice(), None, (layer, root), args.json)
}

fn print_status(
    session: &Session,
    pages: &[StackStatus],
    unreadable: Option<Error>,
    (layer, root): (&str, &Path),
    json: bool,
) -> CommandResult {
    if json {
        let nothing = StackStatus {
            schema: SCHEMA.to_owned(),
            layer: layer.to_owned(),
            worktree: root.display().to_string(),
            supervisor: None,
            services: Vec::new(),
        };
        let (first, others) = pages.split_first().unwrap_or((&nothing, &[]));
        report::print_json(&PsReport { first, others })?;
    } else if pages.is_empty() && unreadable.is_none() {
        session.print_info("no services are running; `cargo xtask start` starts them");
    } else {
        report::print_output(&render_status(pages, None))?;
    }
    let is_lost = |row: &ServiceStatus| {
        row.required && matches!(row.state, ReportedState::Failed | ReportedState::Blocked)
    };
    match unreadable {
        Some(failure) => Err(failure),
        None if pages.iter().flat_map(|page| &page.services).any(is_lost) => {
            Ok(ErrorKind::Negative.exit_code())
        }
        None => Ok(SUCCESS),
    }
}

fn collect_status(
    session: &Session,
    repo: &Repo,
    args: &PsArgs,
) -> Result<(Vec<StackStatus>, Option<Error>)> {
    let Some(layer) = &args.layer else { return list_status(&repo.folders(), &session.world) };
    let stack = shared::find_stack_anywhere(session, repo, layer)?;
    let page = client::read_status(&stack, &session.world)?;
    let page = page.map(|page| add_config_changes(repo.root(), &stack, page));
    Ok((page.into_iter().collect(), None))
}
