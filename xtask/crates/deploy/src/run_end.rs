//! The end of a run, whatever way it takes: finished, discarded, or rolled back to the release before.
//!
//! Each of them can be interrupted and is then begun again by the next command, as the journal stays until it is done.
//!
//! ```text
//! Watch fails -> roll_back_run: `current` -> OLD, OLD serves and is watched -> history "rolled-back"
//! ```

use std::time::Duration;

use super::current_link;
use super::engine::EngineContext;
use super::history::{self, DeployOutcome};
use super::journal::DeployJournal;
use super::pipeline::{PipelineStep, StepRecovery, choose_recovery};
use super::release::Release;
use xtask_base::error::{Error, ErrorKind, Result};

/// Concludes a run: after a failure, performs the recovery for the last step and returns the error.
pub(super) fn conclude_run(
    engine_ctx: &EngineContext<'_>,
    journal: &mut DeployJournal,
    pipeline_result: Result<()>,
) -> Result<()> {
    let Err(failure) = pipeline_result else { return Ok(()) };
    let written = DeployJournal::read(engine_ctx.target)?;
    if written.is_none_or(|written| written.id != journal.id) {
        // Without a journal of this run no step has begun.
        return Err(failure);
    }
    journal.why = Some(summarize_failure(&failure));
    journal.printed = failure.output_lines().map(str::to_owned).collect();
    match choose_recovery(journal.step) {
        StepRecovery::Discard => {
            discard_run(engine_ctx, journal)
                .map_err(|next| recovery_failed_error(next, &failure))?;
            let serves = journal.served.as_deref();
            let left = match serves {
                None => "no release is serving (unchanged)".to_owned(),
                Some(name)
                    if engine_ctx
                        .uninterruptible
                        .check_health(&Release::in_target(engine_ctx.target, name))
                        .is_ok() =>
                {
                    format!("{name} serves, as before")
                }
                // For example, after a reboot of the machine.
                Some(name) => format!(
                    "{name} should be serving but is unhealthy: `cargo xtask rollback {} {name}` starts it again",
                    engine_ctx.target.layer
                ),
            };
            let error = Error::new(failure.kind(), failure.message());
            let error = failure.causes().into_iter().fold(error, Error::with_detail);
            let error = failure.details().iter().fold(error, Error::with_detail);
            Err(failure.hints().iter().fold(error, Error::with_hint).with_detail(left))
        }
        StepRecovery::GoBack | StepRecovery::WatchAgain => {
            let is_interrupted = failure.kind() == ErrorKind::Interrupted;
            let outcome = roll_back_run(engine_ctx, journal, !is_interrupted)
                .map_err(|next| recovery_failed_error(next, &failure))?;
            Err(rolled_back_error(engine_ctx, journal, outcome, is_interrupted))
        }
        StepRecovery::Finish => finish_run(engine_ctx, journal).map_err(|next| {
            recovery_failed_error(next, &failure)
                .with_detail(format!("{} serves, verified", journal.new))
        }),
    }
}

/// Returns the error for a failed recovery (`next`) after the failure `first`.
fn recovery_failed_error(next: Error, first: &Error) -> Error {
    let error = Error::unable(format!("{}; recovery also failed", first.message()));
    error
        .with_detail(summarize_failure(first))
        .with_detail(summarize_failure(&next))
        .with_hint("the next `deploy` or `rollback` of this layer retries the recovery")
}

/// Returns an error as one line for the history, without program output, as that may contain secrets.
fn summarize_failure(failure: &Error) -> String {
    let mut text = failure.to_string();
    for detail in failure.own_details() {
        text.push_str(&format!("; {}", detail.lines().next().unwrap_or_default()));
    }
    text
}

/// Discards a run that has not touched the running release, and records it as `Failed`.
pub(super) fn discard_run(engine_ctx: &EngineContext<'_>, journal: &DeployJournal) -> Result<()> {
    let release = Release::in_target(engine_ctx.target, &journal.new);
    engine_ctx.uninterruptible.discard_release(&release)?;
    // A leftover does not block other runs, as it was never sealed or never served.
    if let Err(failure) = release.remove(&engine_ctx.ctx) {
        (engine_ctx.ctx.tell)(&failure.to_string());
    }
    let entry = journal.to_history_entry(DeployOutcome::Failed);
    history::append_entry(engine_ctx.ctx.disk, &engine_ctx.target.history_file(), &entry)?;
    journal.remove(engine_ctx.target, &engine_ctx.ctx)
}

/// Rolls back to the release before, with its own configuration, and checks its health.
///
/// `was_judged` tells whether the new release was found unhealthy (the old one is then watched as long as the new
/// one, outcome `RolledBack`) or the run was interrupted (a single check, outcome `Interrupted`).
pub(super) fn roll_back_run(
    engine_ctx: &EngineContext<'_>,
    journal: &mut DeployJournal,
    was_judged: bool,
) -> Result<DeployOutcome> {
    journal.begin_step(PipelineStep::GoBack, engine_ctx.target, &engine_ctx.ctx)?;
    let to = journal.old.clone().or_else(|| journal.pointed.clone());
    let expected = [journal.pointed.as_deref(), Some(&journal.new), journal.old.as_deref()];
    current_link::point_current(engine_ctx.target, to.as_deref(), &expected, &engine_ctx.ctx)?;
    let outcome = match &journal.old {
        None => {
            engine_ctx.uninterruptible.stop_others(None)?;
            DeployOutcome::Failed
        }
        Some(old) => {
            (engine_ctx.ctx.tell)(&format!("rolling back to {old}"));
            let old = Release::in_target(engine_ctx.target, old);
            let served = old
                .verify_manifest()
                .map(drop)
                .and_then(|()| engine_ctx.uninterruptible.serve(&old));
            // It was healthy before; a watch shows whether it still is.
            let longest = Duration::from_millis(journal.watch_ms);
            let is_well = |()| match was_judged {
                true => engine_ctx.uninterruptible.watch(&old, longest),
                // Only the run was interrupted, so there is no reason to doubt the old release.
                false => engine_ctx.uninterruptible.check_health(&old),
            };
            match served.and_then(is_well) {
                Ok(()) if was_judged => DeployOutcome::RolledBack,
                Ok(()) => DeployOutcome::Interrupted,
                Err(failure) if failure.kind() == ErrorKind::Negative => {
                    let why = journal.why.take().unwrap_or_default();
                    journal.why =
                        Some(format!("{why}; then {}: {}", old.name, summarize_failure(&failure)));
                    journal.printed.extend(failure.output_lines().map(str::to_owned));
                    // Services of the new release must not keep running alongside the old one.
                    engine_ctx.uninterruptible.stop_others(Some(&old))?;
                    DeployOutcome::RollbackFailed
                }
                Err(failure) => return Err(failure),
            }
        }
    };
    history::append_entry(
        engine_ctx.ctx.disk,
        &engine_ctx.target.history_file(),
        &journal.to_history_entry(outcome),
    )?;
    journal.remove(engine_ctx.target, &engine_ctx.ctx)?;
    Ok(outcome)
}

/// Returns the error for a run that was rolled back, by `outcome`.
fn rolled_back_error(
    engine_ctx: &EngineContext<'_>,
    journal: &DeployJournal,
    outcome: DeployOutcome,
    is_interrupted: bool,
) -> Error {
    let new = &journal.new;
    let old = journal.old.as_deref().unwrap_or("nothing");
    let (kind, what) = match outcome {
        DeployOutcome::Interrupted => (
            ErrorKind::Interrupted,
            format!("{new} was interrupted, and {old} serves again, verified"),
        ),
        DeployOutcome::RolledBack => {
            (ErrorKind::RolledBack, format!("{new} failed, and {old} serves again, verified"))
        }
        DeployOutcome::RollbackFailed => (
            ErrorKind::RollbackFailed,
            format!(
                "{new} failed, and the rollback failed: {old}, to which `current` points, is unhealthy"
            ),
        ),
        _ if journal.served.is_some() => {
            (ErrorKind::Negative, format!("{new} failed; no release is serving"))
        }
        _ => (ErrorKind::Negative, format!("{new} failed; no release is serving (unchanged)")),
    };
    let is_bad = kind == ErrorKind::RollbackFailed;
    let kind = if is_interrupted && !is_bad { ErrorKind::Interrupted } else { kind };
    let error = Error::new(kind, what).with_detail(journal.why.clone().unwrap_or_default());
    let printed = journal.printed.iter().map(|line| line.trim_start());
    let error = printed.fold(error, Error::with_output_line);
    let layer = &engine_ctx.target.layer;
    let error = match kind {
        ErrorKind::RollbackFailed => error
            .with_hint(format!(
                "`cargo xtask deploy {layer} --verify` shows the faults of the current release"
            ))
            .with_hint(format!(
                "`cargo xtask rollback {layer} RELEASE` switches to another verified release"
            )),
        _ => error,
    };
    error.with_hint(format!("`cargo xtask history {layer}` lists all runs with their outcomes"))
}

/// Finishes a run with a verified release: records it and removes the journal.
pub(super) fn finish_run(engine_ctx: &EngineContext<'_>, journal: &DeployJournal) -> Result<()> {
    record_verified(engine_ctx, journal)?;
    journal.remove(engine_ctx.target, &engine_ctx.ctx)
}

/// Records that the release of a run was verified.
pub(super) fn record_verified(
    engine_ctx: &EngineContext<'_>,
    journal: &DeployJournal,
) -> Result<()> {
    let entry = journal.to_history_entry(DeployOutcome::Verified);
    history::append_entry(engine_ctx.ctx.disk, &engine_ctx.target.history_file(), &entry)
}
