//! When a pass of a check counts again, and when a new one is saved.
//!
//! A pass is saved only if no input has changed since before the check started, also no input of the checks that it
//! needs. For example:
//!
//! ```text
//! same key, `ttl` not over, `--fast`  ->  CachedPass, "it passed 2 minutes ago, 31 files unchanged"
//! `src/a.py` edited while it ran      ->  CheckNote::ChangedInputs("`src/a.py`")
//! ```

use std::collections::BTreeSet;

use super::cache_key::describe_differences;
use super::check_work::WorkResult;
use super::input_snapshot::{InputSnapshot, NeededCheck};
use super::log::LogLevel;
use super::outcome::{CheckNote, CheckOutcome, Verdict};
use super::plan::walk_needs;
use super::result_cache::CachedPass;
use super::runner::Runner;
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_base::words::pluralize;
use xtask_config::{Check, CheckKind};

/// Rules over so many files take less time than to save that they have passed, and to wait until a change of just
/// written files can be seen.
const QUICK_FILES: usize = 200;

impl Runner<'_, '_, '_> {
    /// Returns the present states of the checks in `needs`.
    pub(super) fn resolve_needs(&mut self, at: usize) -> Result<Vec<NeededCheck>> {
        let mut needs = Vec::new();
        for need in &self.check(at).needs {
            if self.states[*need].snapshot.is_none() {
                // A check that is not part of the run still has a state.
                let below = self.resolve_needs(*need)?;
                self.states[*need].snapshot =
                    Some(self.inspector.take_snapshot(self.config(), *need, below)?);
            }
            let name = self.check(*need).name.clone();
            let unknown = self.find_unknown_need(*need);
            let snapshot = self.states[*need].snapshot.as_ref();
            let key = snapshot.map(|snapshot| snapshot.key.clone()).unwrap_or_default();
            needs.push(NeededCheck { name, key, unknown_reason: unknown });
        }
        Ok(needs)
    }

    /// Returns the reason the products of a check, or of its needs, are unknown, if so.
    fn find_unknown_need(&self, start: usize) -> Option<String> {
        let is_command = |check: &Check| matches!(check.kind, CheckKind::Run(_));
        // A built-in check has no products, but its needs may have.
        for at in walk_needs(self.config(), start, is_command) {
            let (check, state) = (self.check(at), &self.states[at]);
            let name = &check.name;
            if state.is_unknown {
                return Some(format!("`{name}`, which it needs, was left out"));
            }
            let has_reason = |snapshot: &InputSnapshot| snapshot.unknown_reason.is_some();
            if is_command(check) && state.snapshot.as_ref().is_some_and(has_reason) {
                return Some(format!("it needs `{name}`, which cannot be cached, so it runs"));
            }
        }
        None
    }

    /// Returns a cached pass that is still valid, and the reasons for or against it.
    pub(super) fn find_reusable_pass(
        &self,
        check: &Check,
        snapshot: &InputSnapshot,
    ) -> (Option<CachedPass>, Vec<String>) {
        let wants_why = self.options.fast || self.options.why || self.options.dry_run;
        if !wants_why {
            return (None, Vec::new());
        }
        let mut why = Vec::new();
        if !self.options.fast {
            why.push("without `--fast` every check runs".to_owned());
        }
        if let Some(unknown) = &snapshot.unknown_reason {
            why.push(unknown.clone());
            return (None, why);
        }
        let Some(pass) = self.context.cache.find_pass(&snapshot.key) else {
            let last = self.context.cache.find_last_manifest(self.inspector.root(), &check.name);
            let changes = last.map(|last| describe_differences(&last, &snapshot.manifest));
            why.extend(match changes {
                Some(changes) if !changes.is_empty() => changes,
                // This state passed before; then the check ran again and did not pass.
                Some(_) => vec!["it ran again in this state and did not pass".to_owned()],
                None => vec!["no pass of it is cached".to_owned()],
            });
            return (None, why);
        };
        let now = self.context.tools.world.now_seconds();
        let age = now - pass.at;
        if age < 0 {
            why.push("its pass is dated in the future: the clock was set back".to_owned());
            return (None, why);
        }
        if let Some(ttl) = check.ttl_s
            && u64::try_from(age).is_ok_and(|age| age >= ttl)
        {
            why.push(format!("its pass has expired: it is {age} s old, and `ttl` is {ttl} s"));
            return (None, why);
        }
        if !self.options.fast {
            why.push(format!(
                "with `--fast` it would be skipped: it passed {}",
                format_ago(now, pass.at)
            ));
            return (None, why);
        }
        let covers = match snapshot.file_count() {
            0 => String::new(),
            files => format!(", {} unchanged", pluralize(files, "file")),
        };
        (Some(pass.clone()), vec![format!("it passed {}{covers}", format_ago(now, pass.at))])
    }

    /// Whether to run a check takes less time than to look for its passes: rules over the few files of a commit, say.
    pub(super) fn is_quick(&self, check: &Check, snapshot: &InputSnapshot) -> bool {
        self.inspector.scope.is_partial() && is_few_for_rules(check, snapshot)
    }

    /// Removes the old pass of a check and waits until changes of its inputs will be visible.
    pub(super) fn prepare_check(&mut self, at: usize) {
        let Some(snapshot) = &self.states[at].snapshot else { return };
        if snapshot.unknown_reason.is_some() {
            return;
        }
        let forgotten = self.context.cache.remove_pass(self.context.tools.disk, &snapshot.key);
        let check = self.check(at);
        let is_few = is_few_for_rules(check, snapshot);
        let is_unsaved =
            self.is_quick(check, snapshot) || is_few && self.inspector.settle_time_ms(snapshot) > 0;
        if !is_unsaved {
            self.inspector.wait_until_settled(snapshot);
        }
        self.states[at].is_unsaved = is_unsaved;
        if let Err(cause) = forgotten {
            self.disable_saving(&cause.to_string());
        }
    }

    /// Adds the state of the check to its result, and saves a pass if no input has changed.
    pub(super) fn record_result(&mut self, at: usize, done: WorkResult) -> Result<Verdict> {
        let WorkResult { verdict: mut ended, passed } = done;
        let Some(snapshot) = &self.states[at].snapshot else { return Ok(ended) };
        ended.notes.extend(snapshot.notes.iter().cloned());
        if ended.outcome != CheckOutcome::Passed {
            // A concurrent run may have saved a pass in the meantime, but this result is newer.
            let (cache, tools) = (self.context.cache, self.context.tools);
            let removed = cache.remove_pass(tools.disk, &snapshot.key);
            let is_shared = self.check(at).share && ended.outcome == CheckOutcome::Failed;
            let kept = removed.and_then(|()| match is_shared {
                true => cache.save_failure(tools.disk, &snapshot.key, tools.world.now_seconds()),
                false => Ok(()),
            });
            if let Err(cause) = kept {
                self.disable_saving(&cause.to_string());
            }
            if ended.outcome == CheckOutcome::Failed
                && !self.states[at].is_unsaved
                && self.save_file_passes(at, &passed)?.is_empty()
            {
                self.revoke_if_rechecked(at);
            }
            return Ok(ended);
        }
        if snapshot.unknown_reason.is_some() || self.states[at].is_unsaved {
            return Ok(ended);
        }
        let moved = self.save_file_passes(at, &passed)?;
        if !moved.is_empty() {
            ended.notes.push(CheckNote::ChangedInputs(join_first(&moved, 3)));
            return Ok(ended);
        }
        ended.notes.extend(self.keep_for_others(at, &ended));
        if !self.can_save {
            return Ok(ended);
        }
        let check = self.check(at);
        let Some(snapshot) = &self.states[at].snapshot else { return Ok(ended) };
        let pass = CachedPass {
            key: snapshot.key.clone(),
            check: check.name.clone(),
            at: self.context.tools.world.now_seconds(),
            duration_ms: ended.duration_ms,
            reason: ended.reason.clone(),
            output: ended.output.clone(),
        };
        let root = self.inspector.root();
        match self.context.cache.save_pass(self.context.tools.disk, root, &pass, &snapshot.manifest)
        {
            Ok(()) => self.log.write_line(LogLevel::StateSaved, &check.name),
            Err(cause) => self.disable_saving(&cause.to_string()),
        }
        Ok(ended)
    }

    /// Saves the passes of single files, and lists the changes since the check started. If anything but the files that
    /// it was given has changed, none has passed.
    fn save_file_passes(&mut self, at: usize, passed: &[RepoPath]) -> Result<Vec<String>> {
        let own = self.find_changes(&[at])?;
        let needs = walk_needs(self.config(), at, |_| false);
        let moved_needs = self.find_changes(&needs[1..])?;
        let Some(snapshot) = &self.states[at].snapshot else { return Ok(own) };
        if snapshot.base_key.is_some() {
            let changed: BTreeSet<RepoPath> =
                self.inspector.list_changed_given(snapshot).into_iter().collect();
            let is_base_same = own.len() == changed.len()
                && moved_needs.is_empty()
                && !changed.iter().any(|path| snapshot.has_input(path));
            let passed = if is_base_same { passed } else { &[] };
            let checked = self.states[at].to_check.clone();
            self.record_file_passes(at, &checked, passed, &changed);
        }
        let mut moved = [own, moved_needs].concat();
        moved.sort();
        moved.dedup();
        Ok(moved)
    }

    /// Adds the time that the work of a check has taken to its result, and records it.
    pub(super) fn record_work(
        &mut self,
        at: usize,
        done: WorkResult,
        duration_ms: u64,
    ) -> Result<Verdict> {
        let verdict = Verdict { duration_ms, ..done.verdict };
        self.record_result(at, WorkResult { verdict, ..done })
    }

    /// Lists the changes of the inputs of `checks` since each of them started.
    fn find_changes(&mut self, checks: &[usize]) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for at in checks {
            let check = self.check(*at);
            if let Some(snapshot) = &self.states[*at].snapshot {
                all.extend(self.inspector.find_changes(check, snapshot)?);
            }
        }
        Ok(all)
    }

    pub(super) fn disable_saving(&mut self, why: &str) {
        if std::mem::replace(&mut self.can_save, false) {
            let text = format!("passes are not cached: {why}");
            self.log.write_line(LogLevel::Warning, &text);
            self.warnings.push(text);
        }
    }
}

fn is_few_for_rules(check: &Check, snapshot: &InputSnapshot) -> bool {
    matches!(check.kind, CheckKind::FileRules { .. })
        && snapshot.given.as_ref().is_some_and(|given| given.paths().count() <= QUICK_FILES)
}

/// Joins names that are quoted already.
fn join_first(names: &[String], shown: usize) -> String {
    let list = names.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(shown) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}
