//! The shared passes of a run: asked for at its start, used in place of a run, checked again now and then.
//!
//! A shared pass says that a check passed, and brings nothing of what it makes. If a check that needs it has to run, it
//! runs first after all.
//!
//! ```text
//! build: shared pass   unit (needs build): none   ->   build runs, then unit
//! ```

use super::input_snapshot::InputSnapshot;
use super::log::LogLevel;
use super::outcome::{CheckNote, Verdict};
use super::plan::{CheckStage, walk_needs};
use super::runner::Runner;
use super::shared_key::shared_key;
use super::shared_results::describe_pass;
use xtask_base::error::Result;
use xtask_config::{Check, CheckKind};
use xtask_share::bundle::{BundledPass, TrustedPass};

/// What is known of a check's shared pass during the run.
#[derive(Debug, Default)]
pub(super) struct SharedState {
    /// The pass that was taken for a run.
    pub(super) used: Option<TrustedPass>,
    /// The pass that is checked again, and its key.
    rechecked: Option<(TrustedPass, String)>,
    /// Whether the check has to run, as another one needs what it makes.
    must_run: bool,
    /// Whether its snapshot was taken to ask for the pass, and is as good as a new one until a command starts.
    is_looked_at: bool,
}

impl Runner<'_, '_, '_> {
    /// Asks for the shared passes of these checks, in the state that they have now.
    pub(super) fn fetch_shared_passes(&mut self, wanted: &[usize]) -> Result<()> {
        let Some(share) = self.context.share else { return Ok(()) };
        if !self.options.fast || self.options.dry_run {
            return Ok(());
        }
        let mut keys = Vec::new();
        for at in wanted.iter().copied() {
            if !self.check(at).share {
                continue;
            }
            let needs = self.resolve_needs(at)?;
            let snapshot = self.inspector.take_snapshot(self.config(), at, needs)?;
            let is_here = self.find_reusable_pass(self.check(at), &snapshot).0.is_some();
            self.states[at].snapshot = Some(snapshot);
            self.states[at].shared.is_looked_at = true;
            if !is_here {
                keys.extend(self.shared_key_of(at).ok());
            }
        }
        if !keys.is_empty() {
            let (index, warnings) = share.fetch(&keys);
            self.shared_index = index;
            for warning in warnings {
                self.log.write_line(LogLevel::Warning, &warning);
                self.warnings.push(warning);
            }
        }
        Ok(())
    }

    /// Returns the snapshot that was taken to ask for a shared pass, if nothing has been started since.
    pub(super) fn take_looked_at(&mut self, at: usize) -> Option<InputSnapshot> {
        let is_looked_at = std::mem::take(&mut self.states[at].shared.is_looked_at);
        let is_new = is_looked_at && !self.inspector.input_sets.has_command_started;
        self.states[at].snapshot.take().filter(|_| is_new)
    }

    /// Returns the shared key of the present state of a check, or why it has none.
    fn shared_key_of(&self, at: usize) -> Result<String, String> {
        let (Some(share), Some(snapshot)) = (self.context.share, &self.states[at].snapshot) else {
            return Err("its state is not known".to_owned());
        };
        if let Some(why) = &snapshot.unknown_reason {
            return Err(why.clone());
        }
        let config = self.config();
        let needs: Vec<(String, Result<String, String>)> = config.checks[at]
            .needs
            .iter()
            .map(|need| (config.checks[*need].name.clone(), self.shared_key_of(*need)))
            .collect();
        let root = self.inspector.root();
        shared_key(&snapshot.manifest, &needs, self.context.tools.world, root, &share.machine)
    }

    /// Returns the verdict by a shared pass, or `None` if the check has to run. Adds the reasons.
    pub(super) fn find_shared_pass(&mut self, at: usize) -> Option<String> {
        let check = self.check(at);
        let share = self.context.share.filter(|_| check.share && self.options.fast)?;
        if self.options.dry_run || self.states[at].shared.must_run {
            return None;
        }
        let now = self.context.tools.world.now_seconds();
        let key = match self.shared_key_of(at) {
            Ok(key) => key,
            Err(why) => {
                let reason = format!("its results are not shared: {why}");
                self.states[at].run_reasons.push(reason);
                return None;
            }
        };
        let max_age_s = share.max_age_s(check.ttl_s);
        let Some(pass) = self.shared_index.find_pass(&check.name, &key, now, max_age_s) else {
            let is_revoked = self.shared_index.revocations().contains_key(&key);
            let reason = match is_revoked {
                true => "its shared pass was revoked",
                false if share.is_pausing() => "the place of shared results was out of reach",
                false => "no shared pass of it counts",
            };
            self.states[at].run_reasons.push(reason.to_owned());
            return None;
        };
        let (pass, words) = (pass.clone(), describe_pass(pass, now));
        let snapshot = self.states[at].snapshot.as_ref();
        let failed_at = snapshot.and_then(|state| self.context.cache.find_failure(&state.key));
        let state = &mut self.states[at];
        if failed_at.is_some_and(|failed_at| pass.at <= failed_at) {
            state.run_reasons.push(format!("it {words}, but has failed here in this state since"));
            return None;
        }
        if share.is_rechecked(self.context.run_id, &key) {
            state.run_reasons.push(format!("checked again: it {words}"));
            state.shared.rechecked = Some((pass, key));
            return None;
        }
        state.run_reasons.push(format!("it {words}"));
        state.shared.used = Some(pass);
        Some(words)
    }

    /// Lets the needs of a check that has to run also run if shared passes were taken for them. Returns whether there
    /// were any.
    pub(super) fn rerun_shared_needs(&mut self, at: usize) -> bool {
        let is_command = |check: &Check| matches!(check.kind, CheckKind::Run(_));
        let mut has_any = false;
        for need in walk_needs(self.config(), at, |_| false) {
            if need == at
                || !is_command(self.check(need))
                || self.states[need].shared.used.is_none()
            {
                continue;
            }
            let reason = format!("`{}` needs what it makes", self.check(at).name);
            self.log.write_line(LogLevel::Status, &format!("{}: {reason}", self.check(need).name));
            let state = &mut self.states[need];
            state.shared.used = None;
            state.shared.must_run = true;
            state.stage = CheckStage::Waiting;
            state.result = None;
            state.run_reasons = vec![reason];
            has_any = true;
        }
        if has_any {
            self.states[at].run_reasons.clear();
        }
        has_any
    }

    /// Keeps a pass for other machines.
    pub(super) fn keep_for_others(&mut self, at: usize, passed: &Verdict) -> Option<CheckNote> {
        let share = self.context.share.filter(|_| self.check(at).share)?;
        self.states[at].shared.rechecked = None;
        match self.shared_key_of(at) {
            Ok(key) if share.is_signing() => {
                let check = self.check(at).name.clone();
                let duration_ms = passed.duration_ms;
                self.results.passes.push(BundledPass { check, key, duration_ms });
                None
            }
            Ok(_) => None,
            Err(why) => Some(CheckNote::Text(format!("its pass is not shared: {why}"))),
        }
    }

    /// Revokes the shared pass of a check that has failed in the same state.
    pub(super) fn revoke_if_rechecked(&mut self, at: usize) {
        let Some((pass, key)) = self.states[at].shared.rechecked.take() else { return };
        let now = self.context.tools.world.now_seconds();
        let is_signing = self.context.share.is_some_and(|share| share.is_signing());
        let done = match is_signing {
            true => "it is revoked",
            false => "nobody has revoked it, as this machine does not sign (XTASK_SHARE_KEY)",
        };
        let text = format!(
            "`{}` FAILED in a state of which a shared pass says that it {}: {done}",
            self.check(at).name,
            describe_pass(&pass, now)
        );
        self.log.write_line(LogLevel::Error, &text);
        self.warnings.push(text);
        self.results.revoked.push(key);
        self.results.newest_revoked = self.results.newest_revoked.max(pass.at);
    }
}
