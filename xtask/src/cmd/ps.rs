//! `ps`: how the services are.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

#[cfg(feature = "deploy")]
use super::far::Far;
#[cfg(feature = "deploy")]
use super::outside::Foreign;
use super::session::Session;
use super::stack as shared;
use super::{DONE, Exit};
use crate::cli::Ps;
use xtask_base::error::{Error, Kind, Result};
use xtask_config::DEFAULT_LAYER;
#[cfg(feature = "deploy")]
use xtask_deploy::passed_on::Asked;
use xtask_git::Repo;
use xtask_report as report;
use xtask_report::services::{redraw, table};
use xtask_services::client;
use xtask_services::page::{Page, Row};
use xtask_services::stack::Stack;

/// How often `--watch` draws.
const EVERY: Duration = Duration::from_secs(1);

/// The first stack, and the others, where several layers run in one worktree.
#[derive(Serialize)]
struct All<'a> {
    #[serde(flatten)]
    first: &'a Page,
    others: &'a [Page],
}

pub(super) fn run(session: &Session, args: &Ps) -> Exit {
    let repo = session.repo()?;
    #[cfg(feature = "deploy")]
    if let Some(foreign) = Foreign::named(session, &repo, args.layer.as_deref())? {
        foreign.refuse(&[("--watch", args.watch)])?;
        return foreign.pass_on(session, &repo, &Asked::Ps { json: args.json }, &[]);
    }
    #[cfg(feature = "deploy")]
    if let Some(far) = Far::named(session, &repo, args.layer.as_deref())? {
        if args.watch {
            return Err(Error::usage("`--watch` is not for a layer on another host"));
        }
        return far.ps(session, args);
    }
    if args.watch {
        if !report::is_seen() {
            return Err(Error::usage("`--watch` draws on a terminal, and there is none")
                .hint("`cargo xtask ps --json` is for programs"));
        }
        loop {
            redraw(&text(&pages(session, &repo, args)?.0))?;
            std::thread::sleep(EVERY);
        }
    }
    let (pages, unreadable) = pages(session, &repo, args)?;
    let layer = args.layer.as_deref().unwrap_or(DEFAULT_LAYER);
    answer(session, &pages, unreadable, (layer, repo.root()), args.json)
}

#[cfg(feature = "deploy")]
/// The same for what is deployed on this machine, asked from another one.
pub(super) fn of_deployed(
    session: &Session,
    stack: Option<&Stack>,
    layer: &str,
    args: &Ps,
) -> Exit {
    let page = match stack {
        Some(stack) => client::look(stack, &session.world)?,
        None => None,
    };
    if page.is_none() && !args.json {
        session.story(&format!("nothing of layer `{layer}` serves there"));
        return Ok(DONE);
    }
    let root = stack.map_or(Path::new(""), |stack| &stack.root);
    answer(session, page.as_slice(), None, (layer, root), args.json)
}

fn answer(
    session: &Session,
    pages: &[Page],
    unreadable: Option<Error>,
    (layer, root): (&str, &Path),
    json: bool,
) -> Exit {
    if json {
        let nothing = Page {
            schema: "xtask.ps/1".to_owned(),
            layer: layer.to_owned(),
            worktree: root.display().to_string(),
            supervisor: None,
            services: Vec::new(),
        };
        let (first, others) = pages.split_first().unwrap_or((&nothing, &[]));
        report::answer_json(&All { first, others })?;
    } else if pages.is_empty() && unreadable.is_none() {
        session.story("nothing runs here; `cargo xtask start` starts the services");
    } else {
        report::answer(&text(pages))?;
    }
    let is_lost = |row: &Row| row.required && matches!(row.state.as_str(), "failed" | "blocked");
    match unreadable {
        Some(failure) => Err(failure),
        None if pages.iter().flat_map(|page| &page.services).any(is_lost) => Ok(Kind::No.code()),
        None => Ok(DONE),
    }
}

fn pages(session: &Session, repo: &Repo, args: &Ps) -> Result<(Vec<Page>, Option<Error>)> {
    match &args.layer {
        Some(layer) => {
            let stack = shared::named_anywhere(session, repo, layer)?;
            let page = client::look(&stack, &session.world)?;
            Ok((page.map(|page| with_changes(repo, &stack, page)).into_iter().collect(), None))
        }
        None => {
            let (known, unreadable) = shared::known(session, repo);
            let pages = known.into_iter().map(|(_, page)| page);
            let (mut up, down): (Vec<Page>, Vec<Page>) = pages.partition(shared::is_up);
            // What is over is only shown where nothing runs.
            if up.is_empty() {
                up = down;
            }
            // What they use is only asked of those that are shown.
            for page in &mut up {
                let stack = shared::named(repo, &page.layer)?;
                if let Some(whole) = client::look(&stack, &session.world)? {
                    *page = with_changes(repo, &stack, whole);
                }
            }
            up.sort_by_key(|page| page.layer != DEFAULT_LAYER);
            Ok((up, unreadable))
        }
    }
}

/// The same page, with what has changed since services were started among their warnings.
fn with_changes(repo: &Repo, stack: &Stack, mut page: Page) -> Page {
    // What is deployed is configured by its release.
    if !shared::is_own(repo, stack) {
        return page;
    }
    let mut changes = shared::changes(repo, stack);
    for row in page.services.iter_mut().filter(|row| row.pid.is_some()) {
        row.warnings.extend(changes.remove(&row.service));
    }
    page
}

fn text(pages: &[Page]) -> String {
    let mut text = String::new();
    for (at, page) in pages.iter().enumerate() {
        let is_up = shared::is_up(page);
        if pages.len() > 1 || page.layer != DEFAULT_LAYER || !is_up {
            let gap = if at == 0 { "" } else { "\n" };
            let down = if is_up { "" } else { ", which does not run" };
            text.push_str(&format!("{gap}layer {}{down}\n", page.layer));
        }
        text.push_str(&table(&shared::lines(page)));
        if let Some(error) = page.supervisor.as_ref().and_then(|line| line.error.as_ref()) {
            text.push_str(&format!("the supervisor: {error}\n"));
        }
        if page.supervisor.is_none() && page.services.iter().any(|row| row.state == "lost") {
            text.push_str(
                "nobody watches these: their supervisor is gone. `cargo xtask start` takes them over, \
                 `cargo xtask stop` ends them\n",
            );
        }
    }
    text
}
