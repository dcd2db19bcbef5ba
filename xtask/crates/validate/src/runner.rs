//! The execution of the selected checks, up to `jobs` in parallel, each as soon as it is ready.
//!
//! A check is skipped only if its present state has passed before. A pass is cached only if no input has
//! changed since before the check started. Checks that passed run again if a fix changes their inputs.
//!
//! ```text
//! Waiting -> (cached pass) Succeeded, outcome `cached`
//! Waiting -> Running -> Succeeded | Failed -> fix -> Running -> …
//! ```

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::builtin_checks::{RepoChecks, describe_check};
use super::check_command::{run_without_terminal, to_millis};
use super::fix_backup::FixStore;
use super::input_snapshot::InputSnapshot;
use super::inspector::InputInspector;
use super::load_checks::LoadedChecks;
use super::log::{LogLevel, RunLog};
use super::outcome::{CheckNote, CheckOutcome, CheckResult, FixResult, FixStatus, Verdict};
use super::plan::{CheckSelection, CheckStage, Readiness, compute_readiness};
use super::result_cache::ResultCache;
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::process_group::GroupOutput;
use xtask_config::{Check, CheckKind, Fix, ValidateConfig};
use xtask_git::Repo;
use xtask_git::Tools;

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
}

#[derive(Debug)]
pub struct CheckResults {
    /// The results, in the order of the configuration.
    pub checks: Vec<CheckResult>,
    pub warnings: Vec<String>,
    pub is_interrupted: bool,
}

pub(super) struct FinishedCommand {
    at: usize,
    result: Result<GroupOutput>,
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
    /// Whether the check was left out, so that its products are unknown.
    pub(super) is_unknown: bool,
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
    finished: (Sender<FinishedCommand>, Receiver<FinishedCommand>),
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
        finished: channel(),
    };
    for (at, chosen) in chosen.iter().enumerate() {
        match chosen {
            CheckSelection::No(why) | CheckSelection::NotHere(why) => {
                run.states[at].stage = CheckStage::LeftOut;
                run.states[at].is_unknown = matches!(chosen, CheckSelection::No(_));
                run.states[at].result =
                    Some(run.build_result(at, Verdict::new(CheckOutcome::LeftOut, why)));
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
                    Readiness::Now if running < self.options.jobs && self.to_fix.is_empty() => {
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
                        running += usize::from(self.start_check(at, scope)?);
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
                    self.inspector.forget_programs();
                    let ended = self.evaluate_command(done.at, done.result, done.duration_ms)?;
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
        let needs = self.resolve_needs(at)?;
        let snapshot = self.inspector.take_snapshot(self.config(), at, needs)?;
        let (pass, why) = self.find_reusable_pass(check, &snapshot);
        self.states[at].run_reasons.extend(why);
        self.states[at].snapshot = Some(snapshot);
        if let Some(pass) = pass {
            let now = self.context.tools.world.now_seconds();
            self.log.write_line(
                LogLevel::CacheHit,
                &format!("{} (passed {})", check.name, format_ago(now, pass.at)),
            );
            let reason = format!("passed {} in this very state", format_ago(now, pass.at));
            let ended =
                Verdict { output: pass.output, ..Verdict::new(CheckOutcome::Cached, &reason) };
            self.finish_check(at, ended);
            return Ok(false);
        }
        if self.options.dry_run {
            self.finish_check(at, Verdict::new(CheckOutcome::Planned, "it would run"));
            return Ok(false);
        }
        self.prepare_check(at);
        self.states[at].stage = CheckStage::Running;
        self.context.listener.on_check_started(check);
        self.log.write_line(LogLevel::Status, &format!("{} started", check.name));
        let CheckKind::Run(command) = &check.kind else {
            let ended = self.run_builtin(at)?;
            self.finish_or_queue_fix(at, ended);
            return Ok(false);
        };
        let program = self.build_program(check, command);
        self.inspector.forget_input_sets();
        match program {
            Err(why) => {
                let ended = self.record_result(at, Verdict::failed(&why))?;
                self.finish_or_queue_fix(at, ended);
                Ok(false)
            }
            Ok(program) => {
                let (sender, tools) = (self.finished.0.clone(), self.context.tools);
                let longest = Duration::from_secs(check.timeout_s);
                scope.spawn(move || {
                    let begun = (tools.world.clock)();
                    let stop = || tools.interrupts.was_interrupted();
                    let result = run_without_terminal(program, longest, &stop);
                    let duration_ms = to_millis((tools.world.clock)().saturating_sub(begun));
                    // The receiver lives until the end of the run.
                    sender.send(FinishedCommand { at, result, duration_ms }).ok();
                });
                Ok(true)
            }
        }
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
            runs_command: matches!(check.kind, CheckKind::Run(_)),
            duration_ms: verdict.duration_ms,
            exit_code: verdict.exit_code,
            output: verdict.output,
            inputs: snapshot.map_or(0, InputSnapshot::file_count),
            key: snapshot.map(|snapshot| snapshot.key.clone()),
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
        Ok(CheckResults { checks, warnings: self.warnings, is_interrupted })
    }
}
