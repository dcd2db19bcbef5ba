//! Fixes within a run: whether a fix runs, how its changes are kept or reverted, and which checks run again.
//!
//! The fix of a check is tried once, with no other command running. For example:
//!
//! ```text
//! lint fails -> `ruff check --fix src` -> lint passes -> outcome `fixed`; `format`, which reads src/, runs again
//! lint fails -> fix -> lint fails again -> files restored
//! ```

use std::time::Duration;

use super::check_command::run_without_terminal;
use super::fix_backup::{FixPhase, FixRecord, FixRequest, FixUndoReport};
use super::log::LogLevel;
use super::outcome::{CheckOutcome, FixResult, FixStatus, Verdict, judge_exit};
use super::plan::{CheckStage, order_by_needs};
use super::runner::{FixMode, Runner};
use xtask_base::error::Result;
use xtask_base::words::{join_names, pluralize};
use xtask_config::CheckKind;

impl Runner<'_, '_, '_> {
    /// Finishes a check that ran, or queues its fix if `fix_mode` allows it.
    pub(super) fn finish_or_queue_fix(&mut self, at: usize, mut ended: Verdict) {
        let check = self.check(at);
        if ended.outcome == CheckOutcome::Failed
            && let Some(fix) = &check.fix
            && !std::mem::replace(&mut self.states[at].is_fix_tried, true)
            && !self.is_interrupted()
        {
            let advised = |reason: &str| FixResult::advised(fix, reason);
            let advice = match self.options.fix_mode {
                FixMode::Off => Some(advised("fixes are off")),
                FixMode::Safe if fix.is_risky => {
                    Some(advised("it is risky: `--interactive` asks first, `--yes` runs it"))
                }
                FixMode::Ask if !self.context.listener.confirm_fix(check, fix, &ended) => {
                    Some(advised("it was declined"))
                }
                _ => None,
            };
            match advice {
                Some(advice) => ended.fix = Some(advice),
                None => {
                    self.to_fix.push((at, ended));
                    return;
                }
            }
        }
        self.finish_check(at, ended);
    }

    /// Runs the fix of a failed check, then the check again; restores the files if it still fails.
    pub(super) fn run_fix(&mut self, at: usize, failed: Verdict) -> Result<()> {
        let check = self.check(at);
        let Some(fix) = &check.fix else { return Ok(()) };
        self.fix_count += 1;
        let site = self.context;
        let purpose = FixRequest {
            run: site.run_id,
            number: self.fix_count,
            check: &check.name,
            command: &fix.command.text,
            writes: &fix.writes,
            at: site.tools.world.now_seconds(),
            branch: site.repo.current_branch(),
        };
        let mut done = FixResult::advised(fix, "");
        self.log
            .write_line(LogLevel::Status, &format!("{}: fix: {}", check.name, fix.command.text));
        let begun = match site.fixes.begin_fix(&purpose) {
            Ok(begun) => begun,
            Err(failure) => {
                let details = failure.details().iter().map(|detail| format!("; {detail}"));
                done.reason = format!("{failure}{}", details.collect::<String>());
                self.finish_check(at, Verdict { fix: Some(done), ..failed });
                return Ok(());
            }
        };
        let program = self.build_program(check, &fix.command);
        let longest = Duration::from_secs(fix.timeout_s);
        let stop = || site.tools.interrupts.was_interrupted();
        let ran = match program {
            Ok(program) => run_without_terminal(program, longest, &stop).map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        let noted = site.fixes.finish_fix(begun.clone());
        let place = site.fixes.fix_folder(&begun).display().to_string();
        let changed = noted.as_ref().map(FixRecord::changed_paths).unwrap_or_default();
        done.paths = changed.iter().map(ToString::to_string).collect();
        self.inspector.forget_programs();
        let fixed = ran.and_then(|end| {
            let output = end.output.clone();
            match judge_exit(check, end) {
                Verdict { outcome: CheckOutcome::Passed, .. } => Ok(()),
                Verdict { reason, .. } => Err(format!("{reason}\n{output}")),
            }
        });
        let again = match &fixed {
            // A check that cannot run again counts as failed.
            Ok(()) => Some(match self.rerun_check(at) {
                Ok(ended) => ended,
                Err(failure) => Verdict::failed(&failure.to_string()),
            }),
            Err(_) => None,
        };
        match again {
            Some(ended) if ended.outcome == CheckOutcome::Passed => {
                done.status = FixStatus::Applied;
                let can_be_undone = noted.as_ref().is_ok_and(FixRecord::has_changes_to_undo);
                done.undo = can_be_undone.then(|| site.run_id.to_owned());
                done.reason = match &noted {
                    Ok(record) if record.phase == FixPhase::Unknown => format!(
                        "the check passed afterwards; not all changes could be recorded, so an undo keeps \
                         new files (the originals are saved in {place})"
                    ),
                    Ok(_) if done.paths.is_empty() => "the check passed afterwards".to_owned(),
                    Ok(_) => {
                        let changed = pluralize(done.paths.len(), "file");
                        format!("the check passed afterwards; {changed} changed")
                    }
                    Err(failure) => {
                        format!(
                            "the check passed afterwards; {failure} (the originals are saved in {place})"
                        )
                    }
                };
                let reason = format!("fixed by `{}`", fix.command.text);
                let changed = done.paths.clone();
                let ended =
                    Verdict { outcome: CheckOutcome::Fixed, reason, fix: Some(done), ..ended };
                self.finish_check(at, ended);
                self.requeue_affected(at, &changed)
            }
            not_passed => {
                let put_back = noted.and_then(|record| site.fixes.undo_fix(record));
                let what = match &put_back {
                    Err(failure) => {
                        format!("; cannot restore its files ({failure}); copies are in {place}")
                    }
                    Ok(done) if !done.kept.is_empty() => {
                        let names: Vec<String> =
                            done.kept.iter().map(ToString::to_string).collect();
                        let names = join_names(&names, 3);
                        format!("; cannot restore {names}; copies are in {place}")
                    }
                    Ok(FixUndoReport { leaves_new_things: true, .. }) => {
                        "; not all of its changes could be recorded, so new files stay".to_owned()
                    }
                    Ok(FixUndoReport { restored, .. }) if restored.is_empty() => String::new(),
                    Ok(FixUndoReport { restored, .. }) => {
                        let number = pluralize(restored.len(), "file");
                        format!(
                            "; {number} restored (the versions of the fix are saved in {place})"
                        )
                    }
                };
                let is_whole =
                    put_back.is_ok_and(|done| done.kept.is_empty() && !done.leaves_new_things);
                done.status =
                    if is_whole { FixStatus::Restored } else { FixStatus::PartlyRestored };
                done.reason = match &fixed {
                    Ok(()) => format!("it ran, but the check still fails{what}"),
                    Err(why) => {
                        format!("it failed{what}: {}", why.lines().next().unwrap_or_default())
                    }
                };
                let mut ended = not_passed.unwrap_or(failed);
                if let Err(why) = &fixed {
                    ended.output.push_str(&format!("\n[fix failed: {why}]\n"));
                }
                self.finish_check(at, Verdict { fix: Some(done), ..ended });
                Ok(())
            }
        }
    }

    fn rerun_check(&mut self, at: usize) -> Result<Verdict> {
        let check = self.check(at);
        let needs = self.resolve_needs(at)?;
        self.states[at].snapshot = Some(self.inspector.take_snapshot(self.config(), at, needs)?);
        self.prepare_check(at);
        let CheckKind::Run(command) = &check.kind else {
            let (ended, duration_ms) = self.measure_time(|run| run.run_builtin(at));
            return self.record_result(at, Verdict { duration_ms, ..ended });
        };
        let program = match self.build_program(check, command) {
            Ok(program) => program,
            Err(why) => return Ok(Verdict::failed(&why)),
        };
        let longest = Duration::from_secs(check.timeout_s);
        let tools = self.context.tools;
        let (result, duration_ms) = self.measure_time(|_| {
            run_without_terminal(program, longest, &|| tools.interrupts.was_interrupted())
        });
        self.evaluate_command(at, result, duration_ms)
    }

    /// Queues every check that had passed and depends on files `changed` by a fix.
    fn requeue_affected(&mut self, fixed: usize, changed: &[String]) -> Result<()> {
        let what = match changed.len() {
            0 => format!("the fix of `{}` ran", self.check(fixed).name),
            _ => {
                format!(
                    "the fix of `{}` changed {}",
                    self.check(fixed).name,
                    join_names(changed, 3)
                )
            }
        };
        // In order of `needs`, so that each check sees the new state of those before it.
        for at in order_by_needs(self.config()) {
            let is_past = self.states[at].stage == CheckStage::Succeeded && at != fixed;
            let Some(old) = self.states[at].snapshot.as_ref().filter(|_| is_past) else { continue };
            let (key, is_unknown) = (old.key.clone(), old.unknown_reason.is_some());
            let needs = self.resolve_needs(at)?;
            let view = self.inspector.take_snapshot(self.config(), at, needs)?;
            // A fix changes neither disk space, nor the git identity, nor ports.
            let kind = &self.check(at).kind;
            let is_apart = matches!(
                kind,
                CheckKind::Disk(_) | CheckKind::GitIdentity | CheckKind::PortFree(_)
            );
            let is_known = !is_unknown && view.unknown_reason.is_none();
            let is_same = is_apart || view.key == key && is_known;
            self.states[at].snapshot = Some(view);
            if !is_same {
                self.states[at].stage = CheckStage::Waiting;
                let past = self.states[at].result.take();
                self.states[at].past_fix = past.and_then(|ended| ended.fix);
                self.states[at].run_reasons.push(what.clone());
            }
        }
        Ok(())
    }
}
