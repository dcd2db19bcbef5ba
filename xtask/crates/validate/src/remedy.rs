//! Fixes within a run: whether one runs, what is done with what it changed, and what has to pass
//! again because of it.
//!
//! A check's fix is tried once. While it runs nothing else does.

use std::time::Duration;

use super::fix::{Phase, Purpose, PutBack, Record};
use super::log::Level;
use super::outcome::{Ended, FixDone, FixFate, Outcome, judged, plain};
use super::plan::{Stage, in_order};
use super::run::{FixMode, Run, run_without_terminal};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::{count, some_of};
use xtask_config::Kind;

impl Run<'_, '_, '_> {
    /// Ends a check that ran, or lets its fix wait for its turn.
    pub(super) fn settle_end(&mut self, at: usize, mut ended: Ended) {
        let check = self.check(at);
        if ended.outcome == Outcome::Failed
            && let Some(fix) = &check.fix
            && !std::mem::replace(&mut self.is_fix_tried[at], true)
            && !self.is_interrupted()
        {
            let advised = |reason: &str| FixDone {
                fate: FixFate::Advised,
                reason: reason.to_owned(),
                paths: Vec::new(),
                can_be_undone: false,
            };
            let advice = match self.options.fixes {
                FixMode::Off => Some(advised("fixes are off")),
                FixMode::Safe if fix.is_risky => {
                    Some(advised("it is risky: `--interactive` asks, `--yes` says yes"))
                }
                FixMode::Ask if !self.site.watcher.consents(check, fix, &ended) => {
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
        self.end(at, ended);
    }

    /// Runs the fix of a check that failed, and the check again.
    pub(super) fn fix(&mut self, at: usize, failed: Ended) -> Result<()> {
        let check = self.check(at);
        let Some(fix) = &check.fix else { return Ok(()) };
        self.fixes += 1;
        let site = self.site;
        let purpose = Purpose {
            run: site.run,
            number: self.fixes,
            check: &check.name,
            command: &fix.command.text,
            writes: &fix.writes,
            at: site.tools.world.now_seconds(),
            branch: site.repo.branch_name(),
        };
        let mut done = FixDone {
            fate: FixFate::Advised,
            reason: String::new(),
            paths: Vec::new(),
            can_be_undone: false,
        };
        self.log.line(Level::Status, &format!("{}: fix: {}", check.name, fix.command.text));
        let begun = match site.fixes.begin(&purpose) {
            Ok(begun) => begun,
            Err(failure) => {
                let details = failure.details().iter().map(|detail| format!("; {detail}"));
                done.reason = format!("{failure}{}", details.collect::<String>());
                self.end(at, Ended { fix: Some(done), ..failed });
                return Ok(());
            }
        };
        let program = self.program(check, &fix.command);
        let longest = Duration::from_secs(fix.timeout_s);
        let stop = || site.tools.interrupts.arrived();
        let ran = match program {
            Ok(program) => run_without_terminal(program, longest, &stop).map_err(|e| e.to_string()),
            Err(why) => Err(why),
        };
        let noted = site.fixes.ended(begun.clone());
        let place = site.fixes.place(&begun).display().to_string();
        done.paths = noted.as_ref().map(Record::paths).unwrap_or_default();
        self.observer.forget_programs();
        let fixed = ran.and_then(|end| {
            let output = end.output.clone();
            match judged(check, end) {
                Ended { outcome: Outcome::Passed, .. } => Ok(()),
                Ended { reason, .. } => Err(format!("{reason}\n{output}")),
            }
        });
        let again = match &fixed {
            // Where it cannot be told whether it helped, it did not.
            Ok(()) => Some(match self.again(at) {
                Ok(ended) => ended,
                Err(failure) => plain(Outcome::Failed, &failure.to_string()),
            }),
            Err(_) => None,
        };
        match again {
            Some(ended) if ended.outcome == Outcome::Passed => {
                done.fate = FixFate::Applied;
                done.can_be_undone = noted.as_ref().is_ok_and(Record::has_something_to_take_back);
                done.reason = match &noted {
                    Ok(record) if record.phase == Phase::Unknown => format!(
                        "the check passed then; it left more than can be looked at, so what is new stays \
                         when it is taken back (what was there is kept in {place})"
                    ),
                    Ok(_) if done.paths.is_empty() => "the check passed then".to_owned(),
                    Ok(_) => {
                        let changed = count(done.paths.len(), "file");
                        format!("the check passed then; {changed} changed")
                    }
                    Err(failure) => {
                        format!("the check passed then; {failure} (what was there is in {place})")
                    }
                };
                let reason = format!("put right by `{}`", fix.command.text);
                let changed = done.paths.clone();
                let ended = Ended { outcome: Outcome::Fixed, reason, fix: Some(done), ..ended };
                self.end(at, ended);
                self.check_again(at, &changed)
            }
            not_passed => {
                let put_back = noted.and_then(|record| site.fixes.put_back(record));
                let what = match &put_back {
                    Err(failure) => {
                        format!(
                            "; its files could not be put back ({failure}); copies are in {place}"
                        )
                    }
                    Ok(done) if !done.kept.is_empty() => {
                        let names: Vec<String> =
                            done.kept.iter().map(ToString::to_string).collect();
                        let names = some_of(&names, 3);
                        format!("; {names} could not be put back; copies are in {place}")
                    }
                    Ok(PutBack { leaves_new_things: true, .. }) => {
                        "; it left more than can be looked at, and what is new stays".to_owned()
                    }
                    Ok(PutBack { restored, .. }) if restored.is_empty() => String::new(),
                    Ok(PutBack { restored, .. }) => {
                        let number = count(restored.len(), "file");
                        format!("; {number} put back (what it left is kept in {place})")
                    }
                };
                let is_whole =
                    put_back.is_ok_and(|done| done.kept.is_empty() && !done.leaves_new_things);
                done.fate = if is_whole { FixFate::Restored } else { FixFate::Left };
                done.reason = match &fixed {
                    Ok(()) => format!("it ran, and the check fails all the same{what}"),
                    Err(why) => {
                        format!("it failed{what}: {}", why.lines().next().unwrap_or_default())
                    }
                };
                let mut ended = not_passed.unwrap_or(failed);
                if let Err(why) = &fixed {
                    ended.output.push_str(&format!("\n[the fix: {why}]\n"));
                }
                self.end(at, Ended { fix: Some(done), ..ended });
                Ok(())
            }
        }
    }

    /// Runs a check once more, alone.
    fn again(&mut self, at: usize) -> Result<Ended> {
        let check = self.check(at);
        let needs = self.needs(at)?;
        self.views[at] = Some(self.observer.view(self.config(), at, needs)?);
        self.prepare(at);
        let Kind::Run(command) = &check.kind else {
            let (ended, duration_ms) = self.timed(|run| run.look(at));
            return self.with_state(at, Ended { duration_ms, ..ended });
        };
        let program = match self.program(check, command) {
            Ok(program) => program,
            Err(why) => return Ok(plain(Outcome::Failed, &why)),
        };
        let longest = Duration::from_secs(check.timeout_s);
        let tools = self.site.tools;
        let (result, duration_ms) =
            self.timed(|_| run_without_terminal(program, longest, &|| tools.interrupts.arrived()));
        self.judge(at, result, duration_ms)
    }

    /// What had passed and depends on what a fix has changed has to pass again.
    fn check_again(&mut self, fixed: usize, changed: &[RepoPath]) -> Result<()> {
        let names: Vec<String> = changed.iter().map(ToString::to_string).collect();
        let what = match names.len() {
            0 => format!("the fix of `{}` ran", self.check(fixed).name),
            _ => format!("the fix of `{}` changed {}", self.check(fixed).name, some_of(&names, 3)),
        };
        // What is needed comes first, so that what needs it sees its new state.
        for at in in_order(self.config()) {
            let is_past = self.stages[at] == Stage::Good && at != fixed;
            let Some(old) = self.views[at].as_ref().filter(|_| is_past) else { continue };
            let (key, is_unknown) = (old.key.clone(), old.unknown.is_some());
            let needs = self.needs(at)?;
            let view = self.observer.view(self.config(), at, needs)?;
            // A fix gives nobody more room or another name.
            let kind = &self.check(at).kind;
            let is_apart = matches!(kind, Kind::Disk(_) | Kind::GitIdentity | Kind::PortFree(_));
            let is_known = !is_unknown && view.unknown.is_none();
            let is_same = is_apart || view.key == key && is_known;
            self.views[at] = Some(view);
            if !is_same {
                self.stages[at] = Stage::Waiting;
                let past = self.ended[at].take();
                self.past_fixes[at] = past.and_then(|ended| ended.fix);
                self.whys[at].push(what.clone());
            }
        }
        Ok(())
    }
}
