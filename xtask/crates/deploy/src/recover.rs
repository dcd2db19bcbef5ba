//! Recovery of an interrupted run by the next command: finished if its release was verified, watched again
//! if it was being watched, and rolled back otherwise.
//!
//! For example, a journal with `"step": "change-over"` leads to a rollback. A recovery that is itself
//! interrupted starts again from its beginning.

use std::time::Duration;

use super::engine::EngineContext;
use super::history::DeployOutcome;
use super::journal::DeployJournal;
use super::pipeline::{StepRecovery, choose_recovery};
use super::release::Release;
use super::run_end::{discard_run, finish_run, roll_back_run};
use xtask_base::error::Result;

/// Recovers the run in the journal, and returns a description of the outcome; `None` if there is no journal.
pub fn recover_run(engine_ctx: &EngineContext<'_>) -> Result<Option<String>> {
    let Some(mut journal) = DeployJournal::read(engine_ctx.target)? else { return Ok(None) };
    let run = format!("{} of {} was interrupted", journal.doing.name(), journal.new);
    let why = || Some("interrupted".to_owned());
    journal.why = journal.why.take().or_else(why);
    let done = match choose_recovery(journal.step) {
        StepRecovery::Discard => {
            discard_run(engine_ctx, &journal)?;
            "it was rolled back; the release before was not touched".to_owned()
        }
        StepRecovery::GoBack => roll_back_and_describe(engine_ctx, &mut journal, false)?,
        StepRecovery::WatchAgain => {
            let release = Release::in_target(engine_ctx.target, &journal.new);
            let longest = Duration::from_millis(journal.watch_ms);
            (engine_ctx.ctx.tell)(&format!("{run}; watching it again for {longest:?}"));
            match engine_ctx.uninterruptible.watch(&release, longest) {
                Ok(()) => {
                    journal.why = None;
                    finish_run(engine_ctx, &journal)?;
                    "it was watched again, and serves, verified".to_owned()
                }
                Err(failure) => {
                    journal.why = Some(failure.to_string());
                    roll_back_and_describe(engine_ctx, &mut journal, true)?
                }
            }
        }
        StepRecovery::Finish => {
            journal.why = None;
            finish_run(engine_ctx, &journal)?;
            "it was finished, and serves, verified".to_owned()
        }
    };
    Ok(Some(format!("{run}; {done}")))
}

fn roll_back_and_describe(
    engine_ctx: &EngineContext<'_>,
    journal: &mut DeployJournal,
    was_judged: bool,
) -> Result<String> {
    let outcome = roll_back_run(engine_ctx, journal, was_judged)?;
    let old = journal.old.as_deref().unwrap_or("nothing");
    Ok(match outcome {
        DeployOutcome::RollbackFailed => {
            format!("{old}, to which `current` points now, is unhealthy")
        }
        _ => format!("{old} serves again"),
    })
}
