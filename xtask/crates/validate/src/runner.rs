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

use super::builtin_checks::{self, CheckFinding, RepoChecks, describe_check};
use super::cache_key::describe_differences;
use super::fix_backup::FixStore;
use super::input_snapshot::{InputSnapshot, NeededCheck};
use super::inspector::InputInspector;
use super::load_checks::LoadedChecks;
use super::log::{LogLevel, RunLog};
use super::outcome::{
    CheckNote, CheckOutcome, CheckResult, FixResult, FixStatus, Verdict, judge_exit,
};
use super::plan::{CheckSelection, CheckStage, Readiness, compute_readiness};
use super::programs;
use super::result_cache::{CachedPass, ResultCache};
use xtask_base::environment::format_ago;
use xtask_base::error::Result;
use xtask_base::process::{BECOME_SERVICE_ARG, Program};
use xtask_base::process_group::GroupOutput;
use xtask_base::words::pluralize;
use xtask_config::{Check, CheckKind, CommandLine, Fix, ValidateConfig};
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

struct FinishedCommand {
    at: usize,
    result: Result<GroupOutput>,
    duration_ms: u64,
}

pub(super) struct Runner<'a, 'o, 'l> {
    pub(super) context: &'a RunContext<'a>,
    pub(super) options: RunOptions,
    pub(super) inspector: &'a mut InputInspector<'o>,
    pub(super) log: &'a mut RunLog<'l>,
    pub(super) stages: Vec<CheckStage>,
    pub(super) snapshots: Vec<Option<InputSnapshot>>,
    pub(super) run_reasons: Vec<Vec<String>>,
    pub(super) results: Vec<Option<CheckResult>>,
    /// The fixes of checks that have to run again.
    pub(super) past_fixes: Vec<Option<FixResult>>,
    /// Checks that were left out, so that their products are unknown.
    is_unknown: Vec<bool>,
    /// Failed checks whose fix is queued.
    pub(super) to_fix: Vec<(usize, Verdict)>,
    pub(super) is_fix_tried: Vec<bool>,
    pub(super) fix_count: usize,
    warnings: Vec<String>,
    /// Whether passes are saved; `false` after the first error.
    can_save: bool,
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
        stages: vec![CheckStage::Waiting; checks.len()],
        snapshots: checks.iter().map(|_| None).collect(),
        run_reasons: vec![Vec::new(); checks.len()],
        past_fixes: vec![None; checks.len()],
        is_unknown: vec![false; checks.len()],
        results: vec![None; checks.len()],
        to_fix: Vec::new(),
        is_fix_tried: vec![false; checks.len()],
        fix_count: 0,
        warnings: Vec::new(),
        can_save: true,
        finished: channel(),
    };
    for (at, chosen) in chosen.iter().enumerate() {
        match chosen {
            CheckSelection::No(why) | CheckSelection::NotHere(why) => {
                run.stages[at] = CheckStage::LeftOut;
                run.is_unknown[at] = matches!(chosen, CheckSelection::No(_));
                run.results[at] =
                    Some(run.build_result(at, Verdict::new(CheckOutcome::LeftOut, why)));
            }
            CheckSelection::For(name) => run.run_reasons[at].push(format!("`{name}` needs it")),
            CheckSelection::Yes => {}
        }
    }
    let wanted: Vec<usize> =
        (0..checks.len()).filter(|at| run.stages[*at] == CheckStage::Waiting).collect();
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
            for at in 0..self.stages.len() {
                if self.stages[at] != CheckStage::Waiting || self.is_interrupted() {
                    continue;
                }
                match compute_readiness(self.config(), &self.stages, at) {
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

    /// Returns the present states of the checks in `needs`.
    pub(super) fn resolve_needs(&mut self, at: usize) -> Result<Vec<NeededCheck>> {
        let mut needs = Vec::new();
        for need in &self.check(at).needs {
            if self.snapshots[*need].is_none() {
                // A check that is not part of the run still has a state.
                let below = self.resolve_needs(*need)?;
                self.snapshots[*need] =
                    Some(self.inspector.take_snapshot(self.config(), *need, below)?);
            }
            let name = self.check(*need).name.clone();
            let unknown = self.find_unknown_need(*need);
            let view = self.snapshots[*need].as_ref();
            let key = view.map(|view| view.key.clone()).unwrap_or_default();
            needs.push(NeededCheck { name, key, unknown_reason: unknown });
        }
        Ok(needs)
    }

    /// Returns the reason the products of a check, or of its needs, are unknown, if so.
    fn find_unknown_need(&self, start: usize) -> Option<String> {
        let mut open = vec![start];
        let mut seen = vec![false; self.snapshots.len()];
        while let Some(at) = open.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            let check = self.check(at);
            if self.is_unknown[at] {
                return Some(format!("`{}`, which it needs, was left out", check.name));
            }
            if !matches!(check.kind, CheckKind::Run(_)) {
                // A built-in check has no products, but its needs may have.
                open.extend(&check.needs);
            } else if self.snapshots[at].as_ref().is_some_and(|view| view.unknown_reason.is_some())
            {
                let name = &check.name;
                return Some(format!("it needs `{name}`, which cannot be cached, so it runs"));
            }
        }
        None
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
        let view = self.inspector.take_snapshot(self.config(), at, needs)?;
        let (pass, why) = self.find_reusable_pass(check, &view);
        self.run_reasons[at].extend(why);
        self.snapshots[at] = Some(view);
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
        self.stages[at] = CheckStage::Running;
        self.context.listener.on_check_started(check);
        self.log.write_line(LogLevel::Status, &format!("{} started", check.name));
        let CheckKind::Run(command) = &check.kind else {
            let (ended, duration_ms) = self.measure_time(|run| run.run_builtin(at));
            let ended = self.record_result(at, Verdict { duration_ms, ..ended })?;
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

    /// Returns a cached pass that is still valid, and the reasons for or against it.
    fn find_reusable_pass(
        &self,
        check: &Check,
        view: &InputSnapshot,
    ) -> (Option<CachedPass>, Vec<String>) {
        let wants_why = self.options.fast || self.options.why || self.options.dry_run;
        if !wants_why {
            return (None, Vec::new());
        }
        let mut why = Vec::new();
        if !self.options.fast {
            why.push("without `--fast` every check runs".to_owned());
        }
        if let Some(unknown) = &view.unknown_reason {
            why.push(unknown.clone());
            return (None, why);
        }
        let Some(pass) = self.context.cache.find_pass(&view.key) else {
            let last = self.context.cache.find_last_manifest(self.inspector.root(), &check.name);
            let changes = last.map(|last| describe_differences(&last, &view.manifest));
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
        let covers = match view.file_count() {
            0 => String::new(),
            files => format!(", {} unchanged", pluralize(files, "file")),
        };
        (Some(pass.clone()), vec![format!("it passed {}{covers}", format_ago(now, pass.at))])
    }

    /// Removes the old pass of a check and waits until changes of its inputs will be visible.
    pub(super) fn prepare_check(&mut self, at: usize) {
        let Some(view) = &self.snapshots[at] else { return };
        if view.unknown_reason.is_some() {
            return;
        }
        let forgotten = self.context.cache.remove_pass(self.context.tools.disk, &view.key);
        self.inspector.wait_until_settled(view);
        if let Err(cause) = forgotten {
            self.disable_saving(&cause.to_string());
        }
    }

    /// Builds the command. Fails if its working folder or program does not exist.
    pub(super) fn build_program(
        &self,
        check: &Check,
        command: &CommandLine,
    ) -> Result<Program, String> {
        let root = self.inspector.root();
        let world = self.context.tools.world;
        let folder = check.cwd.as_ref().map_or(root.to_path_buf(), |cwd| cwd.to_disk_path(root));
        if !folder.is_dir() {
            return Err(format!("folder `{}` not found", folder.display()));
        }
        let name = &command.argv[0];
        let Some(found) = programs::find_program(world, name, &folder) else {
            return Err(if name.contains('/') {
                format!("`{name}` not found")
            } else {
                builtin_checks::describe_not_on_path(name, world)
            });
        };
        // A check must not wait for input: if this process has a terminal, `BECOME_SERVICE_ARG` starts a new
        // session.
        let program = match has_terminal() {
            true => Program::new(&world.program, &folder)
                .args([BECOME_SERVICE_ARG.as_ref(), found.as_os_str()]),
            false => Program::new(found, &folder),
        };
        let program = program.args(&command.argv[1..]);
        let program = program.env("XTASK_ROOT", root);
        Ok(match self.inspector.ceiling() {
            // Keeps a git that the check starts from finding a repository above the exported tree.
            Some(above) => program.env("GIT_CEILING_DIRECTORIES", above),
            None => program,
        })
    }

    pub(super) fn run_builtin(&mut self, at: usize) -> Verdict {
        let check = self.check(at);
        let site = self.context;
        let (root, world) = (self.inspector.root(), site.tools.world);
        let view = self.snapshots[at].as_ref();
        let found: Option<CheckFinding> = view.and_then(|view| {
            builtin_checks::run_builtin_check(check, view, site.repo, world, root, site.repo_checks)
        });
        match found {
            Some(Ok(words)) => Verdict::new(CheckOutcome::Passed, &words),
            Some(Err(words)) => Verdict::failed(&words),
            None => Verdict::failed("not a built-in check"),
        }
    }

    pub(super) fn measure_time<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, u64) {
        let clock = self.context.tools.world.clock;
        let begun = clock();
        let result = work(self);
        (result, to_millis(clock().saturating_sub(begun)))
    }

    /// Converts the exit of a command into a result and records it.
    pub(super) fn evaluate_command(
        &mut self,
        at: usize,
        result: Result<GroupOutput>,
        duration_ms: u64,
    ) -> Result<Verdict> {
        let ended = match result {
            Ok(end) => judge_exit(self.check(at), end),
            Err(failure) => Verdict::failed(&failure.to_string()),
        };
        self.record_result(at, Verdict { duration_ms, ..ended })
    }

    /// Adds the state of the check to its result, and saves a pass if no input has changed.
    pub(super) fn record_result(&mut self, at: usize, mut ended: Verdict) -> Result<Verdict> {
        let Some(view) = &self.snapshots[at] else { return Ok(ended) };
        ended.notes.extend(view.notes.iter().cloned());
        if ended.outcome != CheckOutcome::Passed {
            // A concurrent run may have saved a pass in the meantime, but this result is newer.
            if let Err(cause) = self.context.cache.remove_pass(self.context.tools.disk, &view.key) {
                self.disable_saving(&cause.to_string());
            }
            return Ok(ended);
        }
        if view.unknown_reason.is_some() {
            return Ok(ended);
        }
        let moved = self.find_changes(at)?;
        if !moved.is_empty() {
            ended.notes.push(CheckNote::ChangedInputs(join_first(&moved, 3)));
            return Ok(ended);
        }
        if !self.can_save {
            return Ok(ended);
        }
        let check = self.check(at);
        let Some(view) = &self.snapshots[at] else { return Ok(ended) };
        let pass = CachedPass {
            key: view.key.clone(),
            check: check.name.clone(),
            at: self.context.tools.world.now_seconds(),
            duration_ms: ended.duration_ms,
            reason: ended.reason.clone(),
            output: ended.output.clone(),
        };
        let root = self.inspector.root();
        match self.context.cache.save_pass(self.context.tools.disk, root, &pass, &view.manifest) {
            Ok(()) => self.log.write_line(LogLevel::StateSaved, &check.name),
            Err(cause) => self.disable_saving(&cause.to_string()),
        }
        Ok(ended)
    }

    /// Lists the changes since the check started, in its own inputs and in those of its needs.
    fn find_changes(&mut self, at: usize) -> Result<Vec<String>> {
        let mut open = vec![at];
        let mut seen = vec![false; self.snapshots.len()];
        let mut all = Vec::new();
        while let Some(next) = open.pop() {
            if std::mem::replace(&mut seen[next], true) {
                continue;
            }
            let check = self.check(next);
            open.extend(&check.needs);
            if let Some(view) = &self.snapshots[next] {
                all.extend(self.inspector.find_changes(check, view)?);
            }
        }
        all.sort();
        all.dedup();
        Ok(all)
    }

    fn disable_saving(&mut self, why: &str) {
        if std::mem::replace(&mut self.can_save, false) {
            let text = format!("passes are not cached: {why}");
            self.log.write_line(LogLevel::Warning, &text);
            self.warnings.push(text);
        }
    }

    /// Records the final result of a check.
    pub(super) fn finish_check(&mut self, at: usize, mut ended: Verdict) {
        let check = self.check(at);
        if let Some(view) = self.snapshots[at].as_ref().filter(|_| ended.notes.is_empty()) {
            ended.notes.extend(view.notes.iter().cloned());
        }
        if ended.fix.is_none()
            && let Some(fix) = self.past_fixes[at].take()
        {
            let is_applied = fix.status == FixStatus::Applied;
            if is_applied && matches!(ended.outcome, CheckOutcome::Passed | CheckOutcome::Cached) {
                ended.outcome = CheckOutcome::Fixed;
            }
            ended.fix = Some(fix);
        }
        self.stages[at] =
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
        self.results[at] = Some(result);
    }

    fn build_result(&self, at: usize, verdict: Verdict) -> CheckResult {
        let check = self.check(at);
        let view = self.snapshots[at].as_ref();
        // The default checks name files that a project may not have, so a note about unmatched `inputs` is noise.
        let is_told =
            |note: &CheckNote| self.context.checks.file.is_some() || !note.is_about_inputs();
        CheckResult {
            name: check.name.clone(),
            phase: self.config().phases[check.phase].name.clone(),
            outcome: verdict.outcome,
            reason: verdict.reason,
            run_reasons: self.run_reasons[at].clone(),
            notes: verdict.notes.into_iter().filter(is_told).collect(),
            command: describe_check(check),
            runs_command: matches!(check.kind, CheckKind::Run(_)),
            duration_ms: verdict.duration_ms,
            exit_code: verdict.exit_code,
            output: verdict.output,
            inputs: view.map_or(0, InputSnapshot::file_count),
            key: view.map(|view| view.key.clone()),
            fix: verdict.fix,
            line: self.context.checks.file.as_ref().map(|_| check.line),
        }
    }

    fn finish(mut self) -> Result<CheckResults> {
        for (at, failed) in std::mem::take(&mut self.to_fix) {
            self.finish_check(at, failed);
        }
        for at in 0..self.stages.len() {
            if self.results[at].is_none() {
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
            let views: Vec<&InputSnapshot> = self.snapshots.iter().flatten().collect();
            if let Err(cause) = self.inspector.save_stat_cache(self.context.tools.disk, &views) {
                self.disable_saving(&cause.to_string());
            }
        }
        let is_interrupted = self.is_interrupted();
        let checks = self.results.into_iter().flatten().collect();
        Ok(CheckResults { checks, warnings: self.warnings, is_interrupted })
    }
}

pub(super) fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Joins names that are quoted already.
fn join_first(names: &[String], shown: usize) -> String {
    let list = names.iter().take(shown).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(shown) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// Runs the program from `build_program` without a controlling terminal.
pub(super) fn run_without_terminal(
    program: Program,
    longest: Duration,
    stop: &dyn Fn() -> bool,
) -> Result<GroupOutput> {
    if has_terminal() {
        program.run_in_session(longest, stop)
    } else {
        program.run_in_group(longest, stop)
    }
}

/// Whether this process has a terminal, from which a child process could read a password.
fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}
