//! `branch prune`: the branches whose work has arrived, listed and cleared away.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::BranchPrune;
use xtask_base::error::{Kind, Result};
use xtask_base::words::count;
use xtask_branches::facts::Look;
use xtask_branches::prune::{Kept, Row, delete, rows};
use xtask_branches::rules::Merged;
use xtask_report::{self as report, Loudness};
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &BranchPrune) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let look = Look::new(&repo, &context, session.world.now_seconds())?;
    let rows = rows(&look, &args.branches)?;
    let is_named = !args.branches.is_empty();
    let mut is_refused = false;
    for row in &rows {
        let Err(kept) = &row.fate else { continue };
        let line = format!("`{}` stays: it {}", row.branch, kept.words());
        if is_named {
            is_refused = true;
            report::warn(&line);
        } else if session.loudness == Loudness::Verbose || matches!(kept, Kept::Unknown(_)) {
            session.story(&line);
        }
    }
    let code = if is_refused { Kind::No.code() } else { DONE };
    let going: Vec<&Row> = rows.iter().filter(|row| row.fate.is_ok()).collect();
    if going.is_empty() {
        session.story("nothing is merged and left over");
        return Ok(code);
    }
    if args.dry_run || !is_named {
        let lines = going.iter().map(|row| format!("{}  {}\n", row.branch, arrived(row)));
        report::answer(&lines.collect::<String>())?;
    }
    if args.dry_run {
        session.story(&format!("{} would be deleted", branches(going.len())));
        return Ok(code);
    }
    if !is_named && !args.yes {
        let question = format!("delete {}?", branches(going.len()));
        match report::ask(&question) {
            Some(true) => {}
            Some(false) => {
                session.story("nothing was deleted");
                return Ok(Kind::No.code());
            }
            None => {
                session.story("nothing was deleted: name those that shall go, or say `--yes`");
                return Ok(code);
            }
        }
    }
    let mut failed = None;
    for row in going {
        // One that cannot go is no reason for the others to stay.
        let done: Result<()> =
            delete(&repo, session.tools().disk, row, session.world.now_seconds());
        if repo.resolve(&format!("refs/heads/{}", row.branch))?.is_none() {
            let way_back = row.way_back();
            report::answer(&format!("deleted `{}`; `{way_back}` brings it back\n", row.branch))?;
        }
        if let Err(failure) = done {
            report::warn(&format!("`{}`: {failure}", row.branch));
            failed.get_or_insert(failure.kind().code());
        }
    }
    Ok(failed.unwrap_or(code))
}

fn branches(number: usize) -> String {
    if number == 1 { count(1, "branch") } else { format!("{number} branches") }
}

/// Where its work has arrived, in words.
fn arrived(row: &Row) -> String {
    match &row.fate {
        Ok((base, Merged::Commits)) => format!("merged into `{base}`"),
        Ok((base, Merged::Content { at: None })) => format!("`{base}` has all of it"),
        Ok((base, Merged::Content { at: Some(commit) })) => {
            format!("came into `{base}` as one commit ({commit})")
        }
        Err(kept) => kept.words(),
    }
}
