//! A run that was cut short, ended by the next command: finished if its release was verified, watched again
//! if it was being watched, and taken back otherwise.
//!
//! Each way out can itself be cut short, and is then gone again from its beginning.

use std::time::Duration;

use super::history::Outcome;
use super::journal::Journal;
use super::release::Release;
use super::run::{Site, finish, forget, go_back};
use super::steps::{WayOut, way_out};
use xtask_base::error::Result;

/// Ends what another run has left. Answers with what was done about it.
pub fn recover(site: &Site<'_>) -> Result<Option<String>> {
    let Some(mut journal) = Journal::read(site.target)? else { return Ok(None) };
    let run = format!("a {} of {} was cut short", journal.doing.name(), journal.new);
    let why = || Some("it was cut short".to_owned());
    journal.why = journal.why.take().or_else(why);
    let done = match way_out(journal.step) {
        WayOut::Forget => {
            forget(site, &journal)?;
            "it was taken back; what served before was not touched".to_owned()
        }
        WayOut::GoBack => went_back(site, &mut journal, false)?,
        WayOut::WatchAgain => {
            let release = Release::of(site.target, &journal.new);
            let longest = Duration::from_millis(journal.watch_ms);
            (site.around.tell)(&format!("{run}; watching it again for {longest:?}"));
            match site.calm.watch(&release, longest) {
                Ok(()) => {
                    journal.why = None;
                    finish(site, &journal)?;
                    "it was watched again, and serves, verified".to_owned()
                }
                Err(failure) => {
                    journal.why = Some(failure.to_string());
                    went_back(site, &mut journal, true)?
                }
            }
        }
        WayOut::Finish => {
            journal.why = None;
            finish(site, &journal)?;
            "it was finished, and serves, verified".to_owned()
        }
    };
    Ok(Some(format!("{run}; {done}")))
}

fn went_back(site: &Site<'_>, journal: &mut Journal, was_judged: bool) -> Result<String> {
    let outcome = go_back(site, journal, was_judged)?;
    let old = journal.old.as_deref().unwrap_or("nothing");
    Ok(match outcome {
        Outcome::RollbackFailed => format!("{old}, to which `current` points now, is not well"),
        _ => format!("{old} serves again"),
    })
}
