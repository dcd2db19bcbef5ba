//! Shared code of the commands that run checks (`validate`, `setup`, `start`, `recover`, `deploy`, hooks): running
//! them with progress on the terminal, and reporting the result.
//!
//! ```text
//! setup/validate.toml  ->  LoadedChecks  ->  run_checks  ->  ValidateReport  ->  exit code
//! ```

use super::repo_checks::RepoCheckRunner;
use super::session::Session;
use super::{CommandResult, SUCCESS};
use std::cell::RefCell;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_config::{Check, Fix};
use xtask_git::Repo;
use xtask_report::running_checks::RunningChecks;
use xtask_report::{self as report, Verbosity};
use xtask_sync::context;
use xtask_validate::file_scope::FileScope;
use xtask_validate::history::RunTrigger;
use xtask_validate::load_checks::{self, LoadedChecks};
use xtask_validate::outcome::{CheckOutcome, CheckResult, Verdict};
use xtask_validate::plan::{CheckFilter, RunEnvironment, select_checks};
use xtask_validate::report::{ReportDetail, ValidateReport};
use xtask_validate::runner::{FixMode, RunListener, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest, run_validation};
use xtask_validate::undo_run;

/// How many lines of a failed check's output are shown before the prompt for its fix.
const MAX_OUTPUT_LINES: usize = 20;

/// Reads the checks of the worktree, or detects default checks.
pub(super) fn read_worktree_checks(repo: &Repo) -> Result<LoadedChecks> {
    let has_canonical = || Ok(context::find_canonical_context(repo)?.is_some());
    load_checks::read_worktree_checks(repo.root(), &has_canonical)
}

/// Returns this machine, as the selection of checks needs it.
pub(super) fn run_environment(session: &Session) -> RunEnvironment<'static> {
    RunEnvironment { system: std::env::consts::OS, is_ci: session.world.is_truthy("CI") }
}

/// Runs checks and shows their progress; with `has_lines`, also prints a line for each check that has ended.
/// `waiting` is called with a message before a wait for another validation.
pub(super) fn run_checks(
    session: &Session,
    repo: &Repo,
    request: ValidationRequest<'_>,
    has_lines: bool,
    waiting: &dyn Fn(&str),
) -> Result<ValidateReport> {
    let reporter = ProgressReporter::new(request.checks, session.verbosity, has_lines);
    let tools = session.tools();
    let repo_checks = RepoCheckRunner { repo, tools };
    let done = run_validation(repo, &tools, request, &repo_checks, &reporter, waiting)?;
    reporter.into_result()?;
    Ok(done)
}

/// Shows the progress of a run: live lines on a terminal, and, if wanted, a line for each check that has ended.
struct ProgressReporter {
    running: RunningChecks,
    /// The width of the longest name, in characters, or `None` if ended checks are not printed one by one.
    width: Option<usize>,
    is_quiet: bool,
    shows_left_out: bool,
    failure: RefCell<Option<Error>>,
}

impl ProgressReporter {
    fn new(checks: &LoadedChecks, loudness: Verbosity, shows_ends: bool) -> ProgressReporter {
        let width = checks.config.checks.iter().map(|check| check.name.chars().count()).max();
        ProgressReporter {
            running: RunningChecks::new(loudness > Verbosity::Quiet),
            width: shows_ends.then_some(width.unwrap_or(0)),
            is_quiet: loudness == Verbosity::Quiet,
            shows_left_out: loudness == Verbosity::Verbose,
            failure: RefCell::new(None),
        }
    }

    /// Returns the first error of printing an ended check, if any.
    fn into_result(self) -> Result<()> {
        self.failure.into_inner().map_or(Ok(()), Err)
    }
}

impl RunListener for ProgressReporter {
    fn on_check_started(&self, check: &Check) {
        self.running.add_check(&check.name);
    }

    fn on_check_ended(&self, check: &CheckResult) {
        self.running.remove_check(&check.name);
        let Some(width) = self.width else { return };
        let is_hidden = match check.outcome {
            CheckOutcome::LeftOut => !self.shows_left_out,
            outcome => self.is_quiet && outcome.is_good(),
        };
        if is_hidden {
            return;
        }
        let detail = ReportDetail { all: false, quiet: self.is_quiet, why: false };
        let under =
            check.render_notes(detail).into_iter().map(|under| format!("          {under}\n"));
        let text: String = std::iter::once(check.render_line(width) + "\n").chain(under).collect();
        let shown = self.running.suspend_while(|| report::print_output(&text));
        if let Err(failure) = shown {
            self.failure.borrow_mut().get_or_insert(failure);
        }
    }

    fn on_tick(&self) {
        self.running.redraw_clocks();
    }

    fn confirm_fix(&self, check: &Check, fix: &Fix, failed: &Verdict) -> bool {
        let risk = if fix.is_risky { "a risky fix" } else { "a fix" };
        let question = format!("`{}` failed. Run {risk} for it, `{}`?", check.name, fix.text());
        let output: Vec<&str> = failed.output.trim_end().lines().collect();
        self.running.suspend_while(|| {
            for line in &output[output.len().saturating_sub(MAX_OUTPUT_LINES)..] {
                report::print_hook_line(&format!("  {line}"));
            }
            report::print_hook_line(&format!("`{}`: {}", check.name, failed.reason));
            report::prompt_yes(&question)
        }) == Some(true)
    }
}

/// Reverts the fixes of `run`, or lists them if `is_dry_run`. Returns exit code 1 if a file was kept because it was
/// changed since.
pub(super) fn undo_fixes(
    session: &Session,
    repo: &Repo,
    run: &str,
    is_dry_run: bool,
) -> CommandResult {
    let info = |text: &str| session.print_info(text);
    let is_done = undo_run::undo_fixes(repo, &session.tools(), run, is_dry_run, &info)?;
    Ok(if is_done { SUCCESS } else { ErrorKind::Negative.exit_code() })
}

pub(super) fn exit_code(done: &ValidateReport) -> u8 {
    match done {
        ValidateReport { is_interrupted: true, .. } => ErrorKind::Interrupted.exit_code(),
        ValidateReport { ok: true, .. } => SUCCESS,
        _ => ErrorKind::Negative.exit_code(),
    }
}

/// Checks whether the environment is healthy, with safe fixes: runs the gate phases without tests, skipping checks
/// that have passed in the same state. The other phases, which are about the code, do not run.
pub(super) fn run_setup_checks(session: &Session) -> CommandResult {
    let filter = CheckFilter { gates_only: true, skip_tests: true, ..CheckFilter::default() };
    run_chosen_checks(session, RunTrigger::Setup, FixMode::Safe, &filter)
}

#[cfg(feature = "services")]
/// Runs the same checks as `run_setup_checks`, without fixes.
pub(super) fn run_start_checks(session: &Session) -> CommandResult {
    let filter = CheckFilter { gates_only: true, skip_tests: true, ..CheckFilter::default() };
    run_chosen_checks(session, RunTrigger::Start, FixMode::Off, &filter)
}

#[cfg(feature = "deploy")]
/// Runs all checks, tests included, without fixes; checks that have passed in the same state are skipped.
pub(super) fn run_full_validation(session: &Session) -> CommandResult {
    run_chosen_checks(session, RunTrigger::Deploy, FixMode::Off, &CheckFilter::default())
}

#[cfg(feature = "services")]
/// Runs all checks but tests, with safe fixes, and records the result as the last validation of this checkout.
pub(super) fn run_with_fixes(session: &Session) -> CommandResult {
    let filter = CheckFilter { skip_tests: true, ..CheckFilter::default() };
    run_chosen_checks(session, RunTrigger::Recover, FixMode::Safe, &filter)
}

fn run_chosen_checks(
    session: &Session,
    started_by: RunTrigger,
    fix_mode: FixMode,
    filter: &CheckFilter,
) -> CommandResult {
    let repo = session.open_repo()?;
    let checks = read_worktree_checks(&repo)?;
    let here = run_environment(session);
    let selection = select_checks(&checks.config, filter, here)?;
    let fix_mode = if here.is_ci { FixMode::Off } else { fix_mode };
    let request = ValidationRequest {
        checks: &checks,
        selection: &selection,
        options: RunOptions::fast(fix_mode),
        location: CheckLocation::Worktree,
        scope: FileScope::All,
        message: None,
        share: None,
        watched: None,
        shard: None,
        started_by,
        // A command repeated right away changes nothing, so it writes no log.
        keeps_log: false,
        records_history: started_by == RunTrigger::Recover,
        waits_for_lock: true,
        command: started_by.command().to_owned(),
    };
    let done = run_checks(session, &repo, request, false, &|text| report::print_warning(text))?;
    let detail =
        ReportDetail { all: false, quiet: session.verbosity == Verbosity::Quiet, why: false };
    for warning in &done.warnings {
        report::print_warning(warning);
    }
    if done.ok {
        session.print_info(done.render_summary(detail).trim_end());
    } else {
        report::print_output(&done.render_text(detail))?;
    }
    Ok(exit_code(&done))
}
