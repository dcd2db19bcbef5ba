//! A complete validation: lock, log, checks, history and webhook.
//!
//! Only one validation runs at a time in a clone. A dry run takes no lock and writes no file. If the git
//! folder is read-only, the checks still run, with warnings about everything that is not saved.
//!
//! ```text
//! ValidationRequest -> lock -> RunLog -> run_checks -> history + webhook -> CompletedRun
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::builtin_checks::RepoChecks;
use super::fix_backup::FixStore;
use super::history::{self, PastCheck, PastRun};
use super::inspector::InputInspector;
use super::log::{LogLevel, RunLog, new_run_id};
use super::outcome::CheckOutcome;
use super::plan::CheckSelection;
use super::result_cache::ResultCache;
use super::runner::{CheckResults, RunContext, RunListener, RunOptions, run_checks};
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
    pub config: &'a ValidateConfig,
    /// The selection, by the index of the check.
    pub selection: &'a [CheckSelection],
    pub options: RunOptions,
    pub location: CheckLocation,
    /// The command that started the run: `validate`, `setup` or `pre-commit`.
    pub started_by: &'static str,
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

#[derive(Debug)]
pub struct CompletedRun {
    pub run_id: String,
    /// The start of the run, in seconds since the epoch.
    pub at: i64,
    pub duration_ms: u64,
    pub results: CheckResults,
    /// The log file, if one was written.
    pub log: Option<PathBuf>,
}

impl CompletedRun {
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.results.checks.iter().all(|check| check.outcome.is_good())
    }
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

/// Runs a validation.
pub fn run_validation(
    repo: &Repo,
    tools: &Tools<'_>,
    order: ValidationRequest<'_>,
    around: &dyn RepoChecks,
    watcher: &dyn RunListener,
    waiting: &dyn Fn(&str),
) -> Result<CompletedRun> {
    let world = tools.world;
    let is_look = order.options.dry_run;
    let mut warnings = Vec::new();
    let lock = if !is_look && order.waits_for_lock {
        let (lock, warning) =
            lock_validation(repo, tools, &order.command, order.config.lock_wait_s, waiting)?;
        warnings.extend(warning);
        lock
    } else {
        None
    };
    let begun = (world.clock)();
    let at = world.now_seconds();
    let run_name = new_run_id(world);
    let mut log = if is_look || !order.keeps_log {
        RunLog::disabled(world)
    } else {
        let folder = repo.shared_state_folder().join("logs");
        RunLog::create_log(world, tools.disk, &folder, &run_name, order.config.logs_kept)
    };
    log.write_line(LogLevel::Header, &format!("{} in {}", order.command, repo.root().display()));
    if lock.is_some() {
        log.write_line(LogLevel::LockAcquired, &format!("pid {}", std::process::id()));
    }
    let state = state_folder(repo);
    let store = ResultCache::new(state.clone());
    let mut observer = match order.location {
        CheckLocation::Worktree => InputInspector::of_worktree(repo, tools, state.join("looks")),
        CheckLocation::Exported(root, files) => {
            InputInspector::of_folder(repo, tools, root, files, state.join("looks-staged"))
        }
    };
    if is_look {
        observer.use_cached_versions(&store);
    }
    let root = observer.root().to_path_buf();
    let fixes = FixStore { folder: fixes_folder(repo), root: &root, disk: tools.disk };
    for record in fixes.list_unfinished() {
        warnings.push(format!(
            "a fix was interrupted, `{}` for `{}`: `cargo xtask validate --undo {}` restores the files it \
             may have changed",
            record.command, record.check, record.run
        ));
    }
    let site = RunContext {
        repo,
        config: order.config,
        tools,
        cache: &store,
        fixes: &fixes,
        repo_checks: around,
        listener: watcher,
        run_id: &run_name,
    };
    let ran = run_checks(&site, order.options, order.selection, &mut observer, &mut log);
    let mut outcomes = match ran {
        Ok(outcomes) => outcomes,
        Err(failure) => {
            log.write_line(LogLevel::Error, &failure.to_string());
            if !is_look && order.records_history {
                // A run that ended with an error is recorded as not ok.
                let past = PastRun {
                    run: run_name,
                    at,
                    worktree: repo.root().display().to_string(),
                    by: order.started_by.to_owned(),
                    ok: false,
                    left_out: 0,
                    duration_ms: 0,
                    checks: Vec::new(),
                };
                drop(history::append_run(tools.disk, &history_file(repo), &past));
            }
            return Err(failure);
        }
    };
    outcomes.warnings.splice(0..0, warnings);
    let duration_ms = (world.clock)().saturating_sub(begun).as_millis();
    let duration_ms = u64::try_from(duration_ms).unwrap_or(u64::MAX);
    let mut done = CompletedRun { run_id: run_name, at, duration_ms, results: outcomes, log: None };
    if !is_look && order.records_history {
        let past = to_past_run(repo, order.config, &done, order.started_by);
        if let Err(why) = history::append_run(tools.disk, &history_file(repo), &past) {
            done.results.warnings.push(format!("the run was not recorded: {why}"));
        }
        if order.started_by == "validate"
            && let Some(why) = notify_webhook(repo, tools, order.config, &done)
        {
            done.results.warnings.push(format!("webhook failed: {why}"));
        }
    }
    for warning in &done.results.warnings {
        log.write_line(LogLevel::Warning, warning);
    }
    let verdict = if done.is_ok() { LogLevel::Success } else { LogLevel::Error };
    let text = if done.is_ok() { "all checks passed" } else { "not all checks passed" };
    log.write_line(verdict, &format!("{text} ({duration_ms} ms)"));
    if lock.is_some() {
        log.write_line(LogLevel::LockReleased, &format!("pid {}", std::process::id()));
    }
    done.results.warnings.extend(log.failure.take());
    done.log = log.path.take();
    Ok(done)
}

fn to_past_run(repo: &Repo, config: &ValidateConfig, done: &CompletedRun, by: &str) -> PastRun {
    let entries = config.checks.iter().zip(&done.results.checks);
    PastRun {
        run: done.run_id.clone(),
        at: done.at,
        worktree: repo.root().display().to_string(),
        by: by.to_owned(),
        ok: done.is_ok(),
        left_out: done.results.checks.iter().filter(|c| c.outcome == CheckOutcome::LeftOut).count(),
        duration_ms: done.duration_ms,
        checks: entries
            .filter(|(_, ended)| ended.outcome != CheckOutcome::LeftOut)
            .map(|(check, ended)| PastCheck {
                check: check.name.clone(),
                outcome: ended.outcome.name().to_owned(),
                duration_ms: ended.duration_ms,
            })
            .collect(),
    }
}

/// Sends the webhook, if one is configured. Returns the cause of a failure.
fn notify_webhook(
    repo: &Repo,
    tools: &Tools<'_>,
    config: &ValidateConfig,
    done: &CompletedRun,
) -> Option<String> {
    let configured = config.webhook.as_ref()?;
    let address = match webhook::resolve_address(tools.world, configured) {
        Ok(address) => address?,
        Err(why) => return Some(why),
    };
    let mut checks = std::collections::BTreeMap::new();
    for ended in &done.results.checks {
        *checks.entry(ended.outcome.name()).or_insert(0) += 1;
    }
    let named = config.checks.iter().zip(&done.results.checks);
    let told = WebhookPayload {
        schema: "xtask.validate.webhook/1",
        run: &done.run_id,
        branch: repo.current_branch(),
        commit: repo.head().ok().map(|head| head.commit.to_string()),
        started: format_rfc3339(done.at),
        duration_ms: done.duration_ms,
        ok: done.is_ok(),
        checks,
        failed: named
            .filter(|(_, ended)| ended.outcome == CheckOutcome::Failed)
            .map(|(check, _)| check.name.as_str())
            .collect(),
    };
    webhook::post_webhook(tools.world, repo.root(), &address, &told).err()
}

/// Returns the last validation of the worktree `root` and its summary, e.g. `healthy, 3 checks`.
#[must_use]
pub fn describe_last_run(repo: &Repo, root: &Path) -> Option<(PastRun, String)> {
    let past = history::find_last_run(&history_file(repo), &root.display().to_string())?;
    let is = |name: &str| past.checks.iter().filter(|entry| entry.outcome == name).count();
    let checks = pluralize(past.checks.len(), "check");
    let words = match (past.ok, is("failed")) {
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
