//! `ps`: how the services are.

use std::time::Duration;

use serde::Serialize;

use super::session::Session;
use super::stack as shared;
use super::{DONE, Exit};
use crate::base::error::{Error, Result};
use crate::cli::Ps;
use crate::repo::Repo;
use crate::report;
use crate::report::services::{redraw, table};
use crate::services::client;
use crate::services::page::Page;

/// How often `--watch` draws.
const EVERY: Duration = Duration::from_secs(1);

/// Several stacks, where several layers run in one worktree.
#[derive(Serialize)]
struct Several<'a> {
    schema: &'static str,
    stacks: &'a [Page],
}

pub(super) fn run(session: &Session, args: &Ps) -> Exit {
    let repo = session.repo()?;
    if args.watch {
        if !report::is_seen() {
            return Err(Error::usage("`--watch` draws on a terminal, and there is none")
                .hint("`cargo xtask ps --json` is for programs"));
        }
        loop {
            redraw(&text(&pages(session, &repo, args)?))?;
            std::thread::sleep(EVERY);
        }
    }
    let pages = pages(session, &repo, args)?;
    if args.json {
        match &pages[..] {
            [page] => report::answer_json(page)?,
            several => report::answer_json(&Several { schema: "xtask.ps/1", stacks: several })?,
        }
    } else if pages.is_empty() {
        session.story("nothing runs here; `cargo xtask start` starts the services");
    } else {
        report::answer(&text(&pages))?;
    }
    Ok(DONE)
}

fn pages(session: &Session, repo: &Repo, args: &Ps) -> Result<Vec<Page>> {
    match &args.layer {
        Some(layer) => {
            let stack = shared::named(repo, layer)?;
            Ok(client::look(&stack, &session.world)?.into_iter().collect())
        }
        None => Ok(shared::known(session, repo)?.into_iter().map(|(_, page)| page).collect()),
    }
}

fn text(pages: &[Page]) -> String {
    let mut text = String::new();
    for (at, page) in pages.iter().enumerate() {
        if pages.len() > 1 {
            let gap = if at == 0 { "" } else { "\n" };
            text.push_str(&format!("{gap}layer {}\n", page.layer));
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
