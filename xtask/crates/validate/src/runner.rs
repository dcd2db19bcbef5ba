//! The execution of the selected checks, up to `jobs` in parallel, each as soon as it is ready.
//!
//! A check is skipped only if its present state has passed before. A pass is cached only if no input has
//! changed since before the check started. Checks that passed run again if a fix changes their inputs.
//!
//! ```text
//! Waiting -> (cached pass) Succeeded, outcome `cached`
//! Waiting -> Running -> Succeeded | Failed -> fix -> Running -> …
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::builtin_checks::{RepoChecks, describe_check};
use super::check_command::to_millis;
use super::check_work::WorkResult;
use super::fix_backup::FixStore;
use super::input_snapshot::InputSnapshot;
use super::inspector::InputInspector;
use super::job_slots::JobSlots;
use super::load_checks::LoadedChecks;
use super::log::{LogLevel, RunLog};
use super::outcome::{
    CheckNote, CheckOutcome, CheckResult, CheckedState, FixResult, FixStatus, Verdict,
};
use super::plan::{CheckSelection, CheckStage, Readiness, compute_readiness};
use super::result_cache::ResultCache;
use super::shared_passes::SharedState;
use super::shared_results::{RunResults, SharedResults};
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_config::{Check, Fix, ValidateConfig};
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_share::bundle::ResultIndex;

/// The longest time between checks for an interrupt, and between redraws of the progress display.
const TICK: Duration = Duration::from_millis(50);

/// The receiver of progress events.
pub trait RunListener {
    fn on_check_started(&self, check: &Check);
    fn on_check_ended(&self, ended: &CheckResult);
    /// Called about every `TICK`.
    fn on_tick(&self);
    /// Asks the user whether a fix may run; `false` if there is no terminal.
    fn confirm_fix(&self, check: &Check, fix: &Fix, failed: &Verdict) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FixMode {
    /// No fixes.
    Off,
    /// Fixes with `risk = "safe"`.
    Safe,
    /// All fixes.
    All,
    /// Fixes that the user confirms.
    Ask,
    /// Safe fixes with `restage = true`.
    Restage,
}

#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Whether cached passes are used (`--fast`).
    pub fast: bool,
    /// Whether the run only reports the checks it would run.
    pub dry_run: bool,
    /// Whether to report the reasons for which checks run (`--why`).
    pub why: bool,
    pub fix_mode: FixMode,
    /// The number of commands that run in parallel.
    pub jobs: usize,
}

impl RunOptions {
    /// Uses cached passes and as many parallel commands as this machine has cores.
    #[must_use]
    pub fn fast(fix_mode: FixMode) -> RunOptions {
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        RunOptions { fast: true, dry_run: false, why: false, fix_mode, jobs }
    }
}

/// Everything that a run uses.
pub struct RunContext<'a> {
    pub repo: &'a Repo,
    pub checks: &'a LoadedChecks,
    pub tools: &'a Tools<'a>,
    pub cache: &'a ResultCache,
    pub fixes: &'a FixStore<'a>,
    pub repo_checks: &'a dyn RepoChecks,
    pub listener: &'a dyn RunListener,
    pub run_id: &'a str,
    /// The file with the message of a commit, in a hook that has one.
    pub message: Option<&'a Path>,
    /// The results of other machines, if they are used.
    pub share: Option<&'a SharedResults<'a>>,
}

#[derive(Debug)]
pub struct CheckResults {
    /// The results, in the order of the configuration.
    pub checks: Vec<CheckResult>,
    pub warnings: Vec<String>,
    /// What the run gives to other machines.
    pub results: RunResults,
    pub is_interrupted: bool,
}

pub(super) struct FinishedWork {
    at: usize,
    result: WorkResult,
    duration_ms: u64,
}

/// What is known of a check during the run.
#[derive(Debug, Default)]
pub(super) struct CheckState {
    pub(super) stage: CheckStage,
    pub(super) snapshot: Option<InputSnapshot>,
    pub(super) run_reasons: Vec<String>,
    pub(super) result: Option<CheckResult>,
    /// The fix of a check that has to run again.
    pub(super) past_fix: Option<FixResult>,
    pub(super) is_fix_tried: bool,
    /// The files that it is looking at, or has looked at last.
    pub(super) to_check: Vec<RepoPath>,
    /// Whether the check was left out, so that its products are unknown.
    pub(super) is_unknown: bool,
    pub(super) shared: SharedState,
    /// Whether its pass is not saved: a change of its files might not be seen, or it is not worth it.
    pub(super) is_unsaved: bool,
}

pub(super) struct Runner<'a, 'o, 'l> {
    pub(super) context: &'a RunContext<'a>,
    pub(super) options: RunOptions,
    pub(super) inspector: &'a mut InputInspector<'o>,
    pub(super) log: &'a mut RunLog<'l>,
    /// The states of the checks, in the order of the configuration.
    pub(super) states: Vec<CheckState>,
    /// Failed checks whose fix is queued.
    pub(super) to_fix: Vec<(usize, Verdict)>,
    pub(super) fix_count: usize,
    pub(super) warnings: Vec<String>,
    /// Whether passes are saved; `false` after the first error.
    pub(super) can_save: bool,
    /// The shared passes that count.
    pub(super) shared_index: ResultIndex,
    pub(super) results: RunResults,
    /// The places for processes; a running check has one at least.
    pub(super) slots: Arc<JobSlots>,
    finished: (Sender<FinishedWork>, Receiver<FinishedWork>),
}

/// Runs the selected checks.
pub fn run_checks(
    site: &RunContext<'_>,
    options: RunOptions,
    chosen: &[CheckSelection],
    observer: &mut InputInspector<'_>,
    log: &mut RunLog<'_>,
) -> Result<CheckResults> {
    let checks = &site.checks.config.checks;
    let mut run = Runner {
        context: site,
        options,
        inspector: observer,
        log,
        states: checks.iter().map(|_| CheckState::default()).collect(),
        to_fix: Vec::new(),
        fix_count: 0,
        warnings: Vec::new(),
        can_save: true,
        shared_index: ResultIndex::default(),
        results: RunResults::default(),
        slots: Arc::new(JobSlots::new(options.jobs.max(1))),
        finished: channel(),
    };
    for (at, chosen) in chosen.iter().enumerate() {
        match chosen {
            CheckSelection::No(why) | CheckSelection::NotHere(why) => {
                run.states[at].stage = CheckStage::LeftOut;
                run.states[at].is_unknown = matches!(chosen, CheckSelection::No(_));
                let result = run.build_result(at, Verdict::new(CheckOutcome::LeftOut, why));
                site.listener.on_check_ended(&result);
                run.states[at].result = Some(result);
            }
            CheckSelection::For(name) => {
                run.states[at].run_reasons.push(format!("`{name}` needs it"))
            }
            CheckSelection::Yes => {}
        }
    }
    let wanted: Vec<usize> =
        (0..checks.len()).filter(|at| run.states[*at].stage == CheckStage::Waiting).collect();
    let _held = site.tools.interrupts.defer_signals();
    run.inspector.query_tools(&site.checks.config, &wanted)?;
    run.fetch_shared_passes(&wanted)?;
    std::thread::scope(|scope| run.run_all(scope))?;
    run.finish()
}

impl<'a> Runner<'a, '_, '_> {
    pub(super) fn config(&self) -> &'a ValidateConfig {
        &self.context.checks.config
    }

    pub(super) fn check(&self, at: usize) -> &'a Check {
        &self.config().checks[at]
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.context.tools.interrupts.was_interrupted()
    }

    fn run_all<'scope>(&mut self, scope: &'scope std::thread::Scope<'scope, '_>) -> Result<()>
    where
        'a: 'scope,
    {
        let mut running = 0;
        let mut phase = None;
        loop {
            let mut has_moved = false;
            for at in 0..self.states.len() {
                if self.states[at].stage != CheckStage::Waiting || self.is_interrupted() {
                    continue;
                }
                match compute_readiness(self.config(), &|at| self.states[at].stage, at) {
                    Readiness::NotYet => {}
                    Readiness::Never(why) => {
                        self.finish_check(at, Verdict::new(CheckOutcome::Blocked, &why));
                        has_moved = true;
                    }
                    Readiness::Now if self.to_fix.is_empty() && self.slots.try_take() => {
                        let now = self.check(at).phase;
                        if phase != Some(now) {
                            phase = Some(now);
                            self.log.write_line(
                                LogLevel::Section,
                                &self.config().phases[now].name.clone(),
                            );
                        }
                        if running > 0 {
                            // A running command may be installing another version of a program.
                            self.inspector.forget_programs();
                        }
                        match self.start_check(at, scope)? {
                            true => running += 1,
                            false => self.slots.release(),
                        }
                        has_moved = true;
                    }
                    Readiness::Now => {}
                }
            }
            if running == 0 && !self.to_fix.is_empty() {
                let (at, failed) = self.to_fix.remove(0);
                self.run_fix(at, failed)?;
                has_moved = true;
            }
            if running > 0 {
                if let Ok(done) = self.finished.1.recv_timeout(TICK) {
                    running -= 1;
                    self.slots.release();
                    self.inspector.forget_programs();
                    let ended = self.record_work(done.at, done.result, done.duration_ms)?;
                    self.finish_or_queue_fix(done.at, ended);
                }
                self.context.listener.on_tick();
            } else if !has_moved {
                return Ok(());
            }
        }
    }

    /// Starts a check, or skips it. Returns `true` if a command is running now.
    fn start_check<'scope>(
        &mut self,
        at: usize,
        scope: &'scope std::thread::Scope<'scope, '_>,
    ) -> Result<bool>
    where
        'a: 'scope,
    {
        let check = self.check(at);
        let Some(to_check) = self.find_work(at)? else { return Ok(false) };
        self.states[at].to_check = to_check.clone();
        self.prepare_check(at);
        self.states[at].stage = CheckStage::Running;
        self.context.listener.on_check_started(check);
        self.log.write_line(LogLevel::Status, &format!("{} started", check.name));
        let work = self.prepare_work(at, to_check);
        if check.kind.runs_command() {
            self.inspector.forget_input_sets();
        }
        match work {
            Err(why) => {
                let ended = self.record_result(at, WorkResult::failed(&why))?;
                self.finish_or_queue_fix(at, ended);
                Ok(false)
            }
            Ok(None) => {
                let ended = self.run_builtin(at)?;
                self.finish_or_queue_fix(at, ended);
                Ok(false)
            }
            Ok(Some(work)) => {
                let (sender, tools) = (self.finished.0.clone(), self.context.tools);
                let slots = Arc::clone(&self.slots);
                scope.spawn(move || {
                    let begun = (tools.world.clock)();
                    let result = work.run(&slots, &|| tools.interrupts.was_interrupted());
                    let duration_ms = to_millis((tools.world.clock)().saturating_sub(begun));
                    // The receiver lives until the end of the run.
                    sender.send(FinishedWork { at, result, duration_ms }).ok();
                });
                Ok(true)
            }
        }
    }

    /// Returns the files that a check has to look at, or `None` if it does not run now: it has passed in this state, it
    /// has no files, the run is a dry one, or checks that it needs run first after all.
    fn find_work(&mut self, at: usize) -> Result<Option<Vec<RepoPath>>> {
        let check = self.check(at);
        let snapshot = match self.take_looked_at(at) {
            Some(snapshot) => snapshot,
            None => {
                let needs = self.resolve_needs(at)?;
                self.inspector.take_snapshot(self.config(), at, needs)?
            }
        };
        if snapshot.given.as_ref().is_some_and(|given| given.paths().next().is_none()) {
            self.skip_without_files(at);
            return Ok(None);
        }
        let (pass, mut why) = self.find_reusable_pass(check, &snapshot);
        let to_check = self.find_files_to_check(check, &snapshot);
        why.extend(to_check.describe_rest());
        self.states[at].run_reasons.extend(why);
        self.states[at].snapshot = Some(snapshot);
        let now = self.context.tools.world.now_seconds();
        let reused = match pass {
            Some(pass) => Some((
                format!("passed {} in this very state", format_ago(now, pass.at)),
                pass.output,
            )),
            None if to_check.is_done() => Some((to_check.describe_pass(now), String::new())),
            None => self.find_shared_pass(at).map(|reason| (reason, String::new())),
        };
        if let Some((reason, output)) = reused {
            self.log.write_line(LogLevel::CacheHit, &format!("{} ({reason})", check.name));
            let ended = Verdict { output, ..Verdict::new(CheckOutcome::Cached, &reason) };
            self.finish_check(at, ended);
            return Ok(None);
        }
        if self.options.dry_run {
            let reason = to_check.describe_plan();
            self.finish_check(at, Verdict::new(CheckOutcome::Planned, &reason));
            return Ok(None);
        }
        Ok((!self.rerun_shared_needs(at)).then_some(to_check.paths))
    }

    /// Leaves a check out that is given no file in this run.
    fn skip_without_files(&mut self, at: usize) {
        let reason = self.inspector.scope.describe_absence();
        // What it would do to other files is unknown.
        self.states[at].is_unknown = self.inspector.scope.is_partial();
        self.finish_check(at, Verdict::new(CheckOutcome::LeftOut, &reason));
    }

    /// Records the final result of a check.
    pub(super) fn finish_check(&mut self, at: usize, mut ended: Verdict) {
        let check = self.check(at);
        if let Some(snapshot) = self.states[at].snapshot.as_ref().filter(|_| ended.notes.is_empty())
        {
            ended.notes.extend(snapshot.notes.iter().cloned());
        }
        if ended.fix.is_none()
            && let Some(fix) = self.states[at].past_fix.take()
        {
            let is_applied = fix.status == FixStatus::Applied;
            if is_applied && matches!(ended.outcome, CheckOutcome::Passed | CheckOutcome::Cached) {
                ended.outcome = CheckOutcome::Fixed;
            }
            ended.fix = Some(fix);
        }
        self.states[at].stage =
            if ended.outcome.is_good() { CheckStage::Succeeded } else { CheckStage::Failed };
        let level = match ended.outcome {
            CheckOutcome::Passed | CheckOutcome::Fixed => LogLevel::Success,
            CheckOutcome::Cached | CheckOutcome::Planned => LogLevel::Info,
            CheckOutcome::Failed => LogLevel::Error,
            CheckOutcome::Blocked | CheckOutcome::LeftOut | CheckOutcome::Interrupted => {
                LogLevel::Skip
            }
        };
        if ended.outcome != CheckOutcome::Cached {
            let text = format!("{}: {} ({} ms)", check.name, ended.reason, ended.duration_ms);
            self.log.write_line(level, &text);
        }
        for note in &ended.notes {
            self.log.write_line(LogLevel::Warning, &format!("{}: {note}", check.name));
        }
        if ended.outcome == CheckOutcome::Failed {
            self.log.write_line(LogLevel::Info, &ended.output);
        }
        let result = self.build_result(at, ended);
        self.context.listener.on_check_ended(&result);
        self.states[at].result = Some(result);
    }

    fn build_result(&self, at: usize, verdict: Verdict) -> CheckResult {
        let check = self.check(at);
        let snapshot = self.states[at].snapshot.as_ref();
        // The default checks name files that a project may not have, so a note about unmatched `inputs` is noise.
        let is_told =
            |note: &CheckNote| self.context.checks.file.is_some() || !note.is_about_inputs();
        CheckResult {
            name: check.name.clone(),
            phase: self.config().phases[check.phase].name.clone(),
            outcome: verdict.outcome,
            reason: verdict.reason,
            run_reasons: self.states[at].run_reasons.clone(),
            notes: verdict.notes.into_iter().filter(is_told).collect(),
            command: describe_check(check),
            runs_command: check.kind.runs_command(),
            duration_ms: verdict.duration_ms,
            exit_code: verdict.exit_code,
            output: verdict.output,
            state: CheckedState {
                inputs: snapshot.map_or(0, InputSnapshot::file_count),
                key: snapshot.map(|snapshot| snapshot.key.clone()),
                cacheable: snapshot.is_some_and(|snapshot| snapshot.unknown_reason.is_none()),
            },
            fix: verdict.fix,
            line: self.context.checks.file.as_ref().map(|_| check.line),
        }
    }

    fn finish(mut self) -> Result<CheckResults> {
        for (at, failed) in std::mem::take(&mut self.to_fix) {
            self.finish_check(at, failed);
        }
        for at in 0..self.states.len() {
            if self.states[at].result.is_none() {
                self.finish_check(
                    at,
                    Verdict::new(
                        CheckOutcome::Interrupted,
                        "the run was interrupted before this check",
                    ),
                );
            }
        }
        if !self.options.dry_run && self.can_save {
            let views: Vec<&InputSnapshot> =
                self.states.iter().filter_map(|state| state.snapshot.as_ref()).collect();
            if let Err(cause) = self.inspector.save_stat_cache(self.context.tools.disk, &views) {
                self.disable_saving(&cause.to_string());
            }
        }
        let is_interrupted = self.is_interrupted();
        let checks = self.states.into_iter().filter_map(|state| state.result).collect();
        Ok(CheckResults { checks, warnings: self.warnings, results: self.results, is_interrupted })
    }
}
