//! A complete validation: lock, log, checks, history and webhook.
//!
//! Only one validation runs at a time in a clone. A dry run takes no lock and writes no file. If the git
//! folder is read-only, the checks still run, with warnings about everything that is not saved.
//!
//! ```text
//! ValidationRequest -> lock -> RunLog -> run_checks -> history + webhook -> ValidateReport
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::builtin_checks::RepoChecks;
use super::check_command::to_millis;
use super::file_scope::FileScope;
use super::fix_backup::{FixRecord, FixStore};
use super::history::{self, PastCheck, PastRun, RunTrigger};
use super::inspector::InputInspector;
use super::load_checks::LoadedChecks;
use super::log::{LogLevel, RunLog, new_run_id};
use super::outcome::{CheckOutcome, CheckResult};
use super::plan::CheckSelection;
use super::report::{REPORT_SCHEMA, ValidateReport};
use super::result_cache::ResultCache;
use super::runner::{CheckResults, RunContext, RunListener, RunOptions, run_checks};
use super::shard::ShardInfo;
use super::shared_results::SharedResults;
use super::staged_tree::fixes_folder_of;
use super::watch::KnownInputs;
use super::webhook::{self, WebhookPayload};
use xtask_base::environment::format_rfc3339;
use xtask_base::error::{Error, Result};
use xtask_base::lock::Lock;
use xtask_base::path::RepoPath;
use xtask_base::words::pluralize;
use xtask_config::ValidateConfig;
use xtask_git::Repo;
use xtask_git::Tools;

/// The folder in which the checks run.
pub enum CheckLocation {
    Worktree,
    /// A folder, and the files of the index that were exported to it.
    Exported(PathBuf, Vec<RepoPath>),
}

pub struct ValidationRequest<'a> {
    pub checks: &'a LoadedChecks,
    /// The selection, by the index of the check.
    pub selection: &'a [CheckSelection],
    pub options: RunOptions,
    pub location: CheckLocation,
    /// The files that the run is about.
    pub scope: FileScope,
    /// The file with the message of a commit, in a hook that has one.
    pub message: Option<PathBuf>,
    /// The results of other machines, if they are used.
    pub share: Option<&'a SharedResults<'a>>,
    /// The watch over the worktree, if there is one.
    pub watched: Option<&'a dyn KnownInputs>,
    /// Which part of a run this is.
    pub shard: Option<ShardInfo>,
    pub started_by: RunTrigger,
    /// Whether the run writes a log.
    pub keeps_log: bool,
    /// Whether the run enters the history and triggers the webhook.
    pub records_history: bool,
    /// Whether the run waits for other validations. A commit does not wait, nor does a run in a folder of its
    /// own.
    pub waits_for_lock: bool,
    /// The command line, shown to others that wait for the lock.
    pub command: String,
}

/// Returns the folder of a worktree's passes, manifests and stat caches.
#[must_use]
pub fn state_folder(repo: &Repo) -> PathBuf {
    repo.state_folder().join("validate")
}

/// Returns the history file of a clone.
#[must_use]
pub fn history_file(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("validate-history")
}

/// Returns the folder of a worktree's fix backups.
#[must_use]
pub fn fixes_folder(repo: &Repo) -> PathBuf {
    repo.state_folder().join("fixes")
}

/// Takes the lock that makes this the only validation in the clone, waiting at most `wait_s` seconds;
/// `waiting` is called with a message that names the holder. Fails if the holder does not finish in time.
/// Returns `None` and a warning if the lock cannot be created, e.g. because the git folder is read-only.
pub fn lock_validation(
    repo: &Repo,
    tools: &Tools<'_>,
    command: &str,
    wait_s: u64,
    waiting: &dyn Fn(&str),
) -> Result<(Option<Lock>, Option<String>)> {
    let path = repo.shared_state_folder().join("validate.lock");
    let since = format_rfc3339(tools.world.now_seconds());
    let who = format!("pid {}, since {since}, `{command}`", std::process::id());
    let held = std::cell::RefCell::new(None);
    let tell = |holder: &str| {
        *held.borrow_mut() = Some(holder.to_owned());
        waiting(&format!("another validation is running ({holder}), waiting…"));
    };
    match Lock::acquire(&path, &who, Duration::from_secs(wait_s), tell) {
        Ok(lock) => Ok((Some(lock), None)),
        Err(failure) => match held.into_inner() {
            Some(holder) => Err(Error::unable(format!(
                "timed out after {wait_s} s: another validation is running ({holder})"
            ))
            .with_hint(
                "wait until it has finished, or raise `lock-wait` in `setup/validate.toml`",
            )),
            None => Ok((
                None,
                Some(format!("running without a lock against other validations: {failure}")),
            )),
        },
    }
}

/// Runs a validation. `waiting` is called with a message before a wait for another one.
pub fn run_validation(
    repo: &Repo,
    tools: &Tools<'_>,
    request: ValidationRequest<'_>,
    repo_checks: &dyn RepoChecks,
    listener: &dyn RunListener,
    waiting: &dyn Fn(&str),
) -> Result<ValidateReport> {
    let world = tools.world;
    let ValidationRequest { checks, options, started_by, .. } = request;
    let (lock, lock_warning) = match request.waits_for_lock && !options.dry_run {
        true => lock_validation(repo, tools, &request.command, checks.config.lock_wait_s, waiting)?,
        false => (None, None),
    };
    let begun = (world.clock)();
    let at = world.now_seconds();
    let mut report = ValidateReport {
        schema: REPORT_SCHEMA.to_owned(),
        run: new_run_id(world),
        worktree: repo.root().display().to_string(),
        branch: None,
        commit: repo.resolve_ref("HEAD")?.map(|commit| commit.to_string()),
        config: checks.file.clone(),
        started: format_rfc3339(at),
        duration_ms: 0,
        fast: options.fast,
        dry_run: options.dry_run,
        ok: false,
        checks: Vec::new(),
        warnings: lock_warning.into_iter().chain(list_interrupted_fixes(repo, tools)).collect(),
        log: None,
        shard: request.shard.clone(),
        is_interrupted: false,
    };
    let is_recorded = request.records_history && !options.dry_run;
    let mut log = open_log(repo, tools, &request, &report.run);
    if lock.is_some() {
        log.write_line(LogLevel::LockAcquired, &format!("pid {}", std::process::id()));
    }
    let share = request.share;
    match run_at_location(repo, tools, request, &report.run, repo_checks, listener, &mut log) {
        Ok(results) => {
            report.ok = results.checks.iter().all(|check| check.outcome.is_good());
            report.checks = results.checks;
            report.warnings.extend(results.warnings);
            let commit = report.commit.as_deref().unwrap_or_default();
            if let Some(Err(failure)) = share.map(|share| share.publish(commit, results.results)) {
                report.warnings.push(describe_failure("the results are not shared", &failure));
            }
            report.is_interrupted = results.is_interrupted;
        }
        Err(failure) => {
            log.write_line(LogLevel::Error, &failure.to_string());
            if is_recorded {
                // A run that ended with an error is recorded as not ok.
                let past = to_past_run(&report, at, started_by);
                drop(history::append_run(tools.disk, &history_file(repo), &past));
            }
            return Err(failure);
        }
    }
    report.duration_ms = to_millis((world.clock)().saturating_sub(begun));
    report.branch = repo.current_branch();
    if is_recorded {
        record_run(repo, tools, &checks.config, started_by, at, &mut report);
    }
    close_log(&mut log, &report, lock.is_some());
    report.warnings.extend(log.failure.take());
    report.log = log.path.take().map(|path| path.display().to_string());
    let phase_of = |check: &CheckResult| {
        checks.config.phases.iter().position(|phase| phase.name == check.phase)
    };
    report.checks.sort_by_key(phase_of);
    Ok(report)
}

fn describe_failure(what: &str, failure: &Error) -> String {
    let more = failure.details().iter().chain(failure.hints());
    let more: String = more.map(|line| format!("; {}", line.trim())).collect();
    format!("{what}: {failure}{more}")
}

/// Returns a warning for each fix that was interrupted.
fn list_interrupted_fixes(repo: &Repo, tools: &Tools<'_>) -> Vec<String> {
    let fixes = FixStore { folder: fixes_folder(repo), root: repo.root(), disk: tools.disk };
    let warning = |record: FixRecord| {
        format!(
            "a fix was interrupted, `{}` for `{}`: `cargo xtask validate --undo {}` restores the files it \
             may have changed",
            record.command, record.check, record.run
        )
    };
    fixes.list_unfinished().into_iter().map(warning).collect()
}

fn open_log<'a>(
    repo: &Repo,
    tools: &Tools<'a>,
    request: &ValidationRequest<'_>,
    run_id: &str,
) -> RunLog<'a> {
    let mut log = if request.options.dry_run || !request.keeps_log {
        RunLog::disabled(tools.world)
    } else {
        let folder = repo.shared_state_folder().join("logs");
        let kept = request.checks.config.logs_kept;
        RunLog::create_log(tools.world, tools.disk, &folder, run_id, kept)
    };
    let text = format!("{} in {}", request.command, repo.root().display());
    log.write_line(LogLevel::Header, &text);
    log
}

/// Runs the checks in the folder of `request.location`.
fn run_at_location(
    repo: &Repo,
    tools: &Tools<'_>,
    request: ValidationRequest<'_>,
    run_id: &str,
    repo_checks: &dyn RepoChecks,
    listener: &dyn RunListener,
    log: &mut RunLog<'_>,
) -> Result<CheckResults> {
    let cache = ResultCache::new(state_folder(repo));
    let mut inspector =
        InputInspector::new(repo, tools, request.location, request.scope, request.watched);
    if request.options.dry_run {
        inspector.use_cached_versions(&cache);
    }
    let root = inspector.root().to_path_buf();
    // In exported files an undo would have nothing to go back to.
    let folder = match inspector.ceiling() {
        Some(_) => fixes_folder_of(&root),
        None => fixes_folder(repo),
    };
    let fixes = FixStore { folder, root: &root, disk: tools.disk };
    let context = RunContext {
        repo,
        checks: request.checks,
        tools,
        cache: &cache,
        fixes: &fixes,
        repo_checks,
        listener,
        run_id,
        message: request.message.as_deref(),
        share: request.share,
    };
    run_checks(&context, request.options, request.selection, &mut inspector, log)
}

/// Adds the run to the history and sends the webhook. Failures become warnings of `report`.
fn record_run(
    repo: &Repo,
    tools: &Tools<'_>,
    config: &ValidateConfig,
    started_by: RunTrigger,
    at: i64,
    report: &mut ValidateReport,
) {
    let past = to_past_run(report, at, started_by);
    if let Err(why) = history::append_run(tools.disk, &history_file(repo), &past) {
        report.warnings.push(format!("the run was not recorded: {why}"));
    }
    if started_by == RunTrigger::Validate
        && let Some(why) = notify_webhook(repo, tools, config, report)
    {
        report.warnings.push(format!("webhook failed: {why}"));
    }
}

fn close_log(log: &mut RunLog<'_>, report: &ValidateReport, is_locked: bool) {
    for warning in &report.warnings {
        log.write_line(LogLevel::Warning, warning);
    }
    let (verdict, text) = match report.ok {
        true => (LogLevel::Success, "all checks passed"),
        false => (LogLevel::Error, "not all checks passed"),
    };
    log.write_line(verdict, &format!("{text} ({} ms)", report.duration_ms));
    if is_locked {
        log.write_line(LogLevel::LockReleased, &format!("pid {}", std::process::id()));
    }
}

/// How much of a cache key the history keeps: enough to tell the states of one check apart.
const STATE_CHARS: usize = 16;

fn shorten_key(key: &str) -> String {
    key.chars().take(STATE_CHARS).collect()
}

fn to_past_run(report: &ValidateReport, at: i64, by: RunTrigger) -> PastRun {
    let is_left_out = |check: &&CheckResult| check.outcome == CheckOutcome::LeftOut;
    let (left_out, took_part): (Vec<_>, Vec<_>) = report.checks.iter().partition(is_left_out);
    let past_check = |check: &CheckResult| PastCheck {
        check: check.name.clone(),
        outcome: check.outcome,
        duration_ms: check.duration_ms,
        state: check
            .state
            .key
            .as_ref()
            .filter(|_| check.state.cacheable)
            .map(|key| shorten_key(key)),
    };
    PastRun {
        run: report.run.clone(),
        at,
        worktree: report.worktree.clone(),
        by,
        ok: report.ok,
        left_out: left_out.len(),
        duration_ms: report.duration_ms,
        checks: took_part.into_iter().map(past_check).collect(),
    }
}

/// Sends the webhook, if one is configured. Returns the cause of a failure.
fn notify_webhook(
    repo: &Repo,
    tools: &Tools<'_>,
    config: &ValidateConfig,
    report: &ValidateReport,
) -> Option<String> {
    let configured = config.webhook.as_ref()?;
    let address = match webhook::resolve_address(tools.world, configured) {
        Ok(address) => address?,
        Err(why) => return Some(why),
    };
    let mut checks = std::collections::BTreeMap::new();
    for check in &report.checks {
        *checks.entry(check.outcome.name()).or_insert(0) += 1;
    }
    let failed = report.checks.iter().filter(|check| check.outcome == CheckOutcome::Failed);
    let payload = WebhookPayload {
        schema: "xtask.validate.webhook/1",
        run: &report.run,
        branch: report.branch.clone(),
        commit: repo.head().ok().map(|head| head.commit.to_string()),
        started: report.started.clone(),
        duration_ms: report.duration_ms,
        ok: report.ok,
        checks,
        failed: failed.map(|check| check.name.as_str()).collect(),
    };
    webhook::post_webhook(tools.world, repo.root(), &address, &payload).err()
}

/// Returns the last validation of the worktree `root` and its summary, e.g. `healthy, 3 checks`.
#[must_use]
pub fn describe_last_run(repo: &Repo, root: &Path) -> Option<(PastRun, String)> {
    let past = history::find_last_run(&history_file(repo), &root.display().to_string())?;
    let is_failed = |entry: &&PastCheck| entry.outcome == CheckOutcome::Failed;
    let checks = pluralize(past.checks.len(), "check");
    let words = match (past.ok, past.checks.iter().filter(is_failed).count()) {
        (true, _) if past.checks.is_empty() => "nothing was checked".to_owned(),
        (true, _) => format!("healthy, {checks}"),
        (false, 0) => "the last run did not finish".to_owned(),
        (false, failed) => format!("{failed} of {checks} failed"),
    };
    let words = match past.left_out {
        0 => words,
        left_out => format!("{words}, {left_out} left out"),
    };
    Some((past, words))
}
