//! `backup`: save what git would not bring back.

use serde::Serialize;

use super::session::Session;
use super::{DONE, Exit, saved};
use crate::cli::Backup;
use xtask_base::error::Kind;
use xtask_recovery::save::{BOUNDS, Saved, Wish, look, save};
use xtask_report as report;
use xtask_sync::enter::Enter as _;

/// What was saved.
#[derive(Serialize)]
struct BackupReport<'a> {
    schema: &'static str,
    id: Option<&'a str>,
    files: usize,
    copies: usize,
    bytes: u64,
    left_out: &'a [String],
    beyond: &'a [String],
}

pub(super) fn run(session: &Session, args: &Backup) -> Exit {
    if args.list {
        return saved::list(session, args.json);
    }
    let repo = session.repo()?;
    let tools = session.tools();
    let (_lock, mended) = tools.enter(&repo)?;
    session.tell_mended(mended);
    let seen = look(&repo, &saved::secrets(&repo))?;
    if seen.is_empty() {
        let beyond = seen.beyond();
        if args.json {
            return answer_json(None, &beyond);
        }
        session.story("there is nothing to save: git has all of it");
        saved::tell_beyond(&beyond);
        return Ok(DONE);
    }
    let label = args.label.as_deref();
    let wish = Wish { purpose: "backup", label, leaves: None, bounds: BOUNDS, touches: &[] };
    let made = save(&repo, &tools, &seen, &wish)?;
    if args.json {
        answer_json(Some(&made), &made.beyond)?;
    } else {
        report::answer(&format!("{}\n", made.id))?;
        let (words, id) = (saved::words(&made), &made.id);
        session.story(&format!("{words}: `cargo xtask restore {id}` brings it back"));
        saved::tell_left_out(&made);
    }
    Ok(if made.left_out.is_empty() { DONE } else { Kind::No.code() })
}

fn answer_json(saved: Option<&Saved>, beyond: &[String]) -> Exit {
    report::answer_json(&BackupReport {
        schema: "xtask.backup/1",
        id: saved.map(|saved| saved.id.as_str()),
        files: saved.map_or(0, |saved| saved.files.len()),
        copies: saved.map_or(0, |saved| saved.copies.len()),
        bytes: saved.map_or(0, |saved| saved.bytes),
        left_out: saved.map_or(&[], |saved| saved.left_out.as_slice()),
        beyond,
    })?;
    Ok(DONE)
}
