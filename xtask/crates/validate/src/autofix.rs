//! Fixes within a run: whether a fix runs, how its changes are kept or reverted, and which checks run again.
//!
//! The fix of a check is tried once, with no other command running. For example:
//!
//! ```text
//! lint fails -> `ruff check --fix src` -> lint passes -> outcome `fixed`; `format`, which reads src/, runs again
//! lint fails -> fix -> lint fails again -> files restored
//! ```

use std::sync::Arc;
use std::time::Duration;

use super::check_command::run_without_terminal;
use super::file_rules::{PlannedFix, plan_fixes, write_fixes};
use super::fix_backup::{FixPhase, FixRecord};
use super::fix_undo::FixUndoReport;
use super::log::LogLevel;
use super::outcome::{CheckOutcome, FixResult, FixStatus, Verdict, judge_exit};
use super::plan::{CheckStage, order_by_needs};
use super::runner::{FixMode, Runner};
use xtask_base::deadline::Deadline;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize};
use xtask_config::{Check, CheckKind, CommandLine, Fix, FixAction};

/// Why the command of a fix failed.
struct FixFailure {
    reason: String,
    /// The reason, and the output of the command if it ran.
    text: String,
}

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
                FixMode::Restage if !fix.restages || fix.is_risky => {
                    Some(advised("before a commit only safe fixes with `restage` run"))
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
        let text = format!("{}: fix: {}", check.name, fix.text());
        self.log.write_line(LogLevel::Status, &text);
        let given = self.list_given(at);
        let plan = match (&fix.action, &check.kind) {
            (FixAction::FileRules, CheckKind::FileRules { rules, .. }) => {
                FixPlan::FileRules(plan_fixes(self.inspector.root(), rules, &given))
            }
            (FixAction::Command(command), _) => FixPlan::Command(command),
            (FixAction::FileRules, _) => return Ok(()),
        };
        let begun = match self.begin_fix(check, fix, list_writes(fix, &plan, &given)) {
            Ok(begun) => begun,
            Err(failure) => {
                let details = failure.details().iter().map(|detail| format!("; {detail}"));
                let reason = format!("{failure}{}", details.collect::<String>());
                let fix = Some(FixResult::advised(fix, &reason));
                self.finish_check(at, Verdict { fix, ..failed });
                return Ok(());
            }
        };
        let ran = self.perform_fix(check, fix, &plan, given);
        let recorded = self.context.fixes.finish_fix(begun.clone());
        self.inspector.forget_programs();
        let changed = recorded.as_ref().map(FixRecord::changed_paths).unwrap_or_default();
        let changed: Vec<String> = changed.iter().map(ToString::to_string).collect();
        let written = recorded.as_ref().map(FixRecord::written_contents).unwrap_or_default();
        let done = FixResult { paths: changed.clone(), written, ..FixResult::advised(fix, "") };
        let is_for_commit = self.options.fix_mode == FixMode::Restage;
        let copies = self.context.fixes.fix_folder(&begun).display().to_string();
        // A check that cannot run again counts as failed.
        let again = ran.is_ok().then(|| {
            self.rerun_check(at).unwrap_or_else(|failure| Verdict::failed(&failure.to_string()))
        });
        match again {
            Some(passed) if passed.outcome == CheckOutcome::Passed => {
                // What is staged is not undone by name: the exported files are replaced at the next commit.
                let can_be_undone =
                    !is_for_commit && recorded.as_ref().is_ok_and(FixRecord::has_changes_to_undo);
                let done = FixResult {
                    status: FixStatus::Applied,
                    reason: describe_applied(&recorded, changed.len(), &copies),
                    undo: can_be_undone.then(|| self.context.run_id.to_owned()),
                    ..done
                };
                let reason = match &fix.action {
                    FixAction::Command(command) => format!("fixed by `{}`", command.text),
                    FixAction::FileRules => "fixed".to_owned(),
                };
                let (outcome, fix) = (CheckOutcome::Fixed, Some(done));
                self.finish_check(at, Verdict { outcome, reason, fix, ..passed });
                self.requeue_affected(at, &changed)
            }
            not_passed => {
                let undone = recorded.and_then(|record| self.context.fixes.undo_fix(record));
                let is_whole =
                    undone.as_ref().is_ok_and(|done| done.kept.is_empty() && !done.keeps_new_files);
                // Before a commit no file of the user was changed or restored.
                let what = match is_for_commit && is_whole {
                    true => String::new(),
                    false => describe_undone(&undone, &copies),
                };
                let reason = match &ran {
                    Ok(()) => format!("it ran, but the check still fails{what}"),
                    Err(failure) => format!("it failed{what}: {}", failure.reason),
                };
                let status = if is_whole { FixStatus::Restored } else { FixStatus::PartlyRestored };
                let mut ended = not_passed.unwrap_or(failed);
                if let Err(failure) = &ran {
                    // Linters print the same with and without their fix.
                    let output = ended.output.trim_end();
                    let is_known = !output.is_empty() && failure.text.trim_end().ends_with(output);
                    let shown = if is_known { &failure.reason } else { &failure.text };
                    ended.output.push_str(&format!("\n[fix failed: {shown}]\n"));
                }
                let fix = Some(FixResult { status, reason, ..done });
                self.finish_check(at, Verdict { fix, ..ended });
                Ok(())
            }
        }
    }

    /// Saves the files that the fix may write.
    fn begin_fix(&mut self, check: &Check, fix: &Fix, writes: Vec<RepoPath>) -> Result<FixRecord> {
        self.fix_count += 1;
        let context = self.context;
        // As they are: `Display` escapes control characters.
        let exact = |path: &RepoPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
        context.fixes.begin_fix(FixRecord {
            run: context.run_id.to_owned(),
            number: self.fix_count,
            check: check.name.clone(),
            command: fix.text().to_owned(),
            worktree: self.inspector.root().display().to_string(),
            at: context.tools.world.now_seconds(),
            phase: FixPhase::Open,
            writes: writes.iter().map(exact).collect(),
            changes: Vec::new(),
            folders_before: Vec::new(),
            folders_made: Vec::new(),
            branch: context.repo.current_branch(),
        })
    }

    /// Returns the files that the check at index `at` is given now, with those that have passed before.
    fn list_given(&self, at: usize) -> Vec<RepoPath> {
        let given = self.states[at].snapshot.iter().flat_map(|snapshot| &snapshot.given);
        given.flat_map(|given| given.paths().cloned()).collect()
    }

    /// Runs the command of a fix, or writes what its rules have planned.
    fn perform_fix(
        &self,
        check: &Check,
        fix: &Fix,
        plan: &FixPlan<'_>,
        given: Vec<RepoPath>,
    ) -> Result<(), FixFailure> {
        let not_run = |reason: String| FixFailure { text: reason.clone(), reason };
        let command = match plan {
            FixPlan::FileRules(fixes) => {
                let root = self.inspector.root();
                let written = write_fixes(self.context.tools.disk, root, fixes);
                return written.map_err(|failure| not_run(failure.to_string()));
            }
            FixPlan::Command(command) => command,
        };
        let longest = Duration::from_secs(fix.timeout_s);
        let deadline = Deadline::after(longest);
        for part in self.build_parts(check, command, given).map_err(not_run)? {
            let left = deadline.remaining().unwrap_or_default();
            let end = run_without_terminal(part.program, left, &|| self.is_interrupted())
                .map_err(|failure| not_run(failure.to_string()))?;
            match judge_exit(check, end) {
                Verdict { outcome: CheckOutcome::Passed, .. } => {}
                Verdict { reason, output, .. } => {
                    return Err(FixFailure { text: format!("{reason}\n{output}"), reason });
                }
            }
        }
        Ok(())
    }

    fn rerun_check(&mut self, at: usize) -> Result<Verdict> {
        let needs = self.resolve_needs(at)?;
        self.states[at].snapshot = Some(self.inspector.take_snapshot(self.config(), at, needs)?);
        self.prepare_check(at);
        let given = self.list_given(at);
        if given.is_empty() && self.check(at).files.is_some() {
            // Without arguments many a command would look at everything, or at nothing.
            return Ok(Verdict::failed("the fix has left none of its files"));
        }
        self.states[at].to_check.clone_from(&given);
        let work = match self.prepare_work(at, given) {
            Ok(Some(work)) => work,
            Ok(None) => return self.run_builtin(at),
            Err(why) => return Ok(Verdict::failed(&why)),
        };
        let (tools, slots) = (self.context.tools, Arc::clone(&self.slots));
        let (result, duration_ms) = self.measure_time(|_| {
            // No other work is running while a fix does.
            let is_taken = slots.try_take();
            let result = work.run(&slots, &|| tools.interrupts.was_interrupted());
            if is_taken {
                slots.release();
            }
            result
        });
        self.record_work(at, result, duration_ms)
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
            let snapshot = self.inspector.take_snapshot(self.config(), at, needs)?;
            // A fix changes neither disk space, nor the git identity, nor ports.
            let kind = &self.check(at).kind;
            let is_apart = matches!(
                kind,
                CheckKind::Disk(_) | CheckKind::GitIdentity | CheckKind::PortFree(_)
            );
            let is_known = !is_unknown && snapshot.unknown_reason.is_none();
            let is_same = is_apart || snapshot.key == key && is_known;
            self.states[at].snapshot = Some(snapshot);
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

/// What a fix is about to do.
enum FixPlan<'a> {
    Command(&'a CommandLine),
    FileRules(Vec<PlannedFix>),
}

/// Returns what a fix may write: its `writes`, and the files that its check is given.
fn list_writes(fix: &Fix, plan: &FixPlan<'_>, given: &[RepoPath]) -> Vec<RepoPath> {
    let mut writes = fix.writes.clone();
    match plan {
        FixPlan::FileRules(fixes) => writes.extend(fixes.iter().map(|fix| fix.path.clone())),
        FixPlan::Command(command) if command.takes_files() || fix.restages => {
            writes.extend(given.iter().cloned());
        }
        FixPlan::Command(_) => {}
    }
    writes.sort();
    writes.dedup();
    writes
}

/// Describes a fix that helped; `copies` is the folder with the originals.
fn describe_applied(recorded: &Result<FixRecord>, changed: usize, copies: &str) -> String {
    match recorded {
        Ok(record) if record.phase == FixPhase::Unknown => format!(
            "the check passed afterwards; not all changes could be recorded, so an undo keeps \
             new files (the originals are saved in {copies})"
        ),
        Ok(_) if changed == 0 => "the check passed afterwards".to_owned(),
        Ok(_) => format!("the check passed afterwards; {} changed", pluralize(changed, "file")),
        Err(failure) => {
            format!("the check passed afterwards; {failure} (the originals are saved in {copies})")
        }
    }
}

/// Describes what became of the files of a fix that did not help, to follow other words.
fn describe_undone(undone: &Result<FixUndoReport>, copies: &str) -> String {
    match undone {
        Err(failure) => format!("; cannot restore its files ({failure}); copies are in {copies}"),
        Ok(done) if !done.kept.is_empty() => {
            let names: Vec<String> = done.kept.iter().map(ToString::to_string).collect();
            let names = join_names(&names, 3);
            format!("; cannot restore {names}; copies are in {copies}")
        }
        Ok(FixUndoReport { keeps_new_files: true, .. }) => {
            "; not all of its changes could be recorded, so new files stay".to_owned()
        }
        Ok(FixUndoReport { restored, .. }) if restored.is_empty() => String::new(),
        Ok(FixUndoReport { restored, .. }) => {
            let number = pluralize(restored.len(), "file");
            format!("; {number} restored (the versions of the fix are saved in {copies})")
        }
    }
}
