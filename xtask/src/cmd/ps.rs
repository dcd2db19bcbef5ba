//! `ps`: prints the status of the services, as a table or as JSON (`xtask.ps/1`).

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

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
use xtask_report::services::{redraw_screen, render_table};
use xtask_services::client;
use xtask_services::stack::Stack;
use xtask_services::status::{ServiceStatus, StackStatus};

/// How often `--watch` redraws.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

/// The JSON output of `ps`: the first stack inline, and those of other layers in `others`.
#[derive(Serialize)]
struct PsReport<'a> {
    #[serde(flatten)]
    first: &'a StackStatus,
    others: &'a [StackStatus],
}

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
        loop {
            redraw_screen(&render_status(&collect_status(session, &repo, args)?.0))?;
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
            schema: "xtask.ps/1".to_owned(),
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
        report::print_output(&render_status(pages))?;
    }
    let is_lost =
        |row: &ServiceStatus| row.required && matches!(row.state.as_str(), "failed" | "blocked");
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
    match &args.layer {
        Some(layer) => {
            let stack = shared::find_stack_anywhere(session, repo, layer)?;
            let page = client::read_status(&stack, &session.world)?;
            Ok((
                page.map(|page| with_config_changes(repo, &stack, page)).into_iter().collect(),
                None,
            ))
        }
        None => {
            let (known, unreadable) = shared::list_known_stacks(session, repo);
            let pages = known.into_iter().map(|(_, page)| page);
            let (mut up, down): (Vec<StackStatus>, Vec<StackStatus>) =
                pages.partition(shared::is_up);
            // Stopped stacks are only shown if no stack runs.
            if up.is_empty() {
                up = down;
            }
            // Measuring CPU and memory costs time, so only for the stacks that are shown.
            for page in &mut up {
                let stack = shared::find_stack(repo, &page.layer)?;
                if let Some(whole) = client::read_status(&stack, &session.world)? {
                    *page = with_config_changes(repo, &stack, whole);
                }
            }
            up.sort_by_key(|page| page.layer != DEFAULT_LAYER);
            Ok((up, unreadable))
        }
    }
}

/// Adds a warning to each running service whose configuration has changed since its start.
fn with_config_changes(repo: &Repo, stack: &Stack, mut page: StackStatus) -> StackStatus {
    // A deployed stack is configured by its release, not by the worktree.
    if !shared::is_own(repo, stack) {
        return page;
    }
    let mut changes = shared::list_config_changes(repo, stack);
    for row in page.services.iter_mut().filter(|row| row.pid.is_some()) {
        row.warnings.extend(changes.remove(&row.service));
    }
    page
}

fn render_status(pages: &[StackStatus]) -> String {
    let mut text = String::new();
    for (at, page) in pages.iter().enumerate() {
        let is_up = shared::is_up(page);
        if pages.len() > 1 || page.layer != DEFAULT_LAYER || !is_up {
            let gap = if at == 0 { "" } else { "\n" };
            let down = if is_up { "" } else { " (not running)" };
            text.push_str(&format!("{gap}layer {}{down}\n", page.layer));
        }
        text.push_str(&render_table(&shared::build_service_lines(page)));
        if let Some(error) = page.supervisor.as_ref().and_then(|line| line.error.as_ref()) {
            text.push_str(&format!("the supervisor: {error}\n"));
        }
        if page.supervisor.is_none() && page.services.iter().any(|row| row.state == "lost") {
            text.push_str(
                "the supervisor of these services is gone. `cargo xtask start` takes them over, \
                 `cargo xtask stop` stops them\n",
            );
        }
    }
    text
}
