//! A run from beginning to end: alone in this clone, with its log, its history and its webhook.
//!
//! A look (`--dry-run`) takes no lock and writes nothing. Where the git folder cannot be written, the
//! checks run all the same, and it is said what is not kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fix::Fixes;
use super::history::{self, Entry, PastRun};
use super::kinds::Surroundings;
use super::log::{Level, Log, run_id};
use super::outcome::Outcome;
use super::plan::Chosen;
use super::run::{Options, Outcomes, Site, Watcher, run};
use super::store::Store;
use super::view::Observer;
use super::webhook::{self, Told};
use xtask_base::error::{Error, Result};
use xtask_base::lock::Lock;
use xtask_base::path::RepoPath;
use xtask_base::words::count;
use xtask_base::world::rfc3339;
use xtask_config::ValidateConfig;
use xtask_git::Repo;
use xtask_git::Tools;

/// Where the checks run.
pub enum Place {
    /// In the worktree.
    Worktree,
    /// In a folder in which these files were laid out.
    Laid(PathBuf, Vec<RepoPath>),
}

/// What is to be done.
pub struct Order<'a> {
    /// The checks.
    pub config: &'a ValidateConfig,
    /// Which of them.
    pub chosen: &'a [Chosen],
    /// How.
    pub options: Options,
    /// Where.
    pub place: Place,
    /// What started it: `validate`, `setup` or `pre-commit`.
    pub by: &'static str,
    /// Whether a log is kept.
    pub keeps_log: bool,
    /// Whether it goes into the history, and the webhook is told.
    pub is_remembered: bool,
    /// Whether it waits for other validations: not where it has a place of its own, or a commit waits.
    pub waits: bool,
    /// The words that were typed, for whoever waits.
    pub command: String,
}

/// What was done.
#[derive(Debug)]
pub struct Performed {
    /// The name of the run.
    pub run: String,
    /// When it began, in seconds since the epoch.
    pub at: i64,
    /// How long it took.
    pub duration_ms: u64,
    /// What came of it.
    pub outcomes: Outcomes,
    /// Its log.
    pub log: Option<PathBuf>,
}

impl Performed {
    /// Whether every check is good.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.outcomes.checks.iter().all(|check| check.outcome.is_good())
    }
}

/// Where passes, looks and manifests of a worktree are kept.
#[must_use]
pub fn state_folder(repo: &Repo) -> PathBuf {
    repo.state_folder().join("validate")
}

/// Where the history of a clone is kept.
#[must_use]
pub fn history_file(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("validate-history")
}

/// Where the fixes of a worktree are kept.
#[must_use]
pub fn fixes_folder(repo: &Repo) -> PathBuf {
    repo.state_folder().join("fixes")
}

/// Begins to be the only validation in this clone, for at most so long. `waiting` is told for whom it
/// waits. Nothing, with the reason, where there can be no lock: the git folder cannot be written.
pub fn enter(
    repo: &Repo,
    tools: &Tools<'_>,
    command: &str,
    wait_s: u64,
    waiting: &dyn Fn(&str),
) -> Result<(Option<Lock>, Option<String>)> {
    let path = repo.shared_state_folder().join("validate.lock");
    let since = rfc3339(tools.world.now_seconds());
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
                "another validation is running ({holder}), and did not end within {wait_s} s"
            ))
            .hint("wait until it has ended; `lock-wait` in `setup/validate.toml` says how long")),
            None => Ok((None, Some(format!("another run is not kept out: {failure}")))),
        },
    }
}

/// Runs what was ordered.
pub fn perform(
    repo: &Repo,
    tools: &Tools<'_>,
    order: Order<'_>,
    around: &dyn Surroundings,
    watcher: &dyn Watcher,
    waiting: &dyn Fn(&str),
) -> Result<Performed> {
    let world = tools.world;
    let is_look = order.options.dry_run;
    let mut warnings = Vec::new();
    let lock = if !is_look && order.waits {
        let (lock, warning) =
            enter(repo, tools, &order.command, order.config.lock_wait_s, waiting)?;
        warnings.extend(warning);
        lock
    } else {
        None
    };
    let begun = (world.clock)();
    let at = world.now_seconds();
    let run_name = run_id(world);
    let mut log = if is_look || !order.keeps_log {
        Log::none(world)
    } else {
        let folder = repo.shared_state_folder().join("logs");
        Log::begin(world, tools.disk, &folder, &run_name, order.config.logs_kept)
    };
    log.line(Level::Header, &format!("{} in {}", order.command, repo.root().display()));
    if lock.is_some() {
        log.line(Level::LockAcquired, &format!("pid {}", std::process::id()));
    }
    let state = state_folder(repo);
    let store = Store::new(state.clone());
    let mut observer = match order.place {
        Place::Worktree => Observer::of_worktree(repo, tools, state.join("looks")),
        Place::Laid(root, files) => {
            Observer::of_folder(repo, tools, root, files, state.join("looks-staged"))
        }
    };
    if is_look {
        observer.only_look(&store);
    }
    let root = observer.root().to_path_buf();
    let fixes = Fixes { folder: fixes_folder(repo), root: &root, disk: tools.disk };
    for record in fixes.cut_short() {
        warnings.push(format!(
            "a fix was cut short, `{}` for `{}`: `cargo xtask validate --undo {}` puts back what it \
             may have changed",
            record.command, record.check, record.run
        ));
    }
    let site = Site {
        repo,
        config: order.config,
        tools,
        store: &store,
        fixes: &fixes,
        around,
        watcher,
        run: &run_name,
    };
    let ran = run(&site, order.options, order.chosen, &mut observer, &mut log);
    let mut outcomes = match ran {
        Ok(outcomes) => outcomes,
        Err(failure) => {
            log.line(Level::Error, &failure.to_string());
            if !is_look && order.is_remembered {
                // A run that did not come to its end is no good one.
                let past = PastRun {
                    run: run_name,
                    at,
                    worktree: repo.root().display().to_string(),
                    by: order.by.to_owned(),
                    ok: false,
                    left_out: 0,
                    duration_ms: 0,
                    checks: Vec::new(),
                };
                drop(history::append(tools.disk, &history_file(repo), &past));
            }
            return Err(failure);
        }
    };
    outcomes.warnings.splice(0..0, warnings);
    let duration_ms = (world.clock)().saturating_sub(begun).as_millis();
    let duration_ms = u64::try_from(duration_ms).unwrap_or(u64::MAX);
    let mut done = Performed { run: run_name, at, duration_ms, outcomes, log: None };
    if !is_look && order.is_remembered {
        let past = past_run(repo, order.config, &done, order.by);
        if let Err(why) = history::append(tools.disk, &history_file(repo), &past) {
            done.outcomes.warnings.push(format!("this run is not remembered: {why}"));
        }
        if order.by == "validate"
            && let Some(why) = tell_webhook(repo, tools, order.config, &done)
        {
            done.outcomes.warnings.push(format!("the webhook was not told: {why}"));
        }
    }
    for warning in &done.outcomes.warnings {
        log.line(Level::Warning, warning);
    }
    let verdict = if done.is_ok() { Level::Success } else { Level::Error };
    let text = if done.is_ok() { "all checks passed" } else { "not all checks passed" };
    log.line(verdict, &format!("{text} ({duration_ms} ms)"));
    if lock.is_some() {
        log.line(Level::LockReleased, &format!("pid {}", std::process::id()));
    }
    done.outcomes.warnings.extend(log.failure.take());
    done.log = log.path.take();
    Ok(done)
}

fn past_run(repo: &Repo, config: &ValidateConfig, done: &Performed, by: &str) -> PastRun {
    let entries = config.checks.iter().zip(&done.outcomes.checks);
    PastRun {
        run: done.run.clone(),
        at: done.at,
        worktree: repo.root().display().to_string(),
        by: by.to_owned(),
        ok: done.is_ok(),
        left_out: done.outcomes.checks.iter().filter(|c| c.outcome == Outcome::LeftOut).count(),
        duration_ms: done.duration_ms,
        checks: entries
            .filter(|(_, ended)| ended.outcome != Outcome::LeftOut)
            .map(|(check, ended)| Entry {
                check: check.name.clone(),
                outcome: ended.outcome.name().to_owned(),
                duration_ms: ended.duration_ms,
            })
            .collect(),
    }
}

/// Tells the webhook, if there is one. The answer is why it was not told.
fn tell_webhook(
    repo: &Repo,
    tools: &Tools<'_>,
    config: &ValidateConfig,
    done: &Performed,
) -> Option<String> {
    let configured = config.webhook.as_ref()?;
    let address = match webhook::address(tools.world, configured) {
        Ok(address) => address?,
        Err(why) => return Some(why),
    };
    let mut checks = std::collections::BTreeMap::new();
    for ended in &done.outcomes.checks {
        *checks.entry(ended.outcome.name()).or_insert(0) += 1;
    }
    let named = config.checks.iter().zip(&done.outcomes.checks);
    let told = Told {
        schema: "xtask.validate.webhook/1",
        run: &done.run,
        branch: repo.branch_name(),
        commit: repo.head().ok().map(|head| head.commit.to_string()),
        started: rfc3339(done.at),
        duration_ms: done.duration_ms,
        ok: done.is_ok(),
        checks,
        failed: named
            .filter(|(_, ended)| ended.outcome == Outcome::Failed)
            .map(|(check, _)| check.name.as_str())
            .collect(),
    };
    webhook::tell(tools.world, repo.root(), &address, &told).err()
}

/// The last validation of a worktree, in a few words; nothing where there was none.
#[must_use]
pub fn last_words(repo: &Repo, root: &Path) -> Option<(PastRun, String)> {
    let past = history::last(&history_file(repo), &root.display().to_string())?;
    let is = |name: &str| past.checks.iter().filter(|entry| entry.outcome == name).count();
    let checks = count(past.checks.len(), "check");
    let words = match (past.ok, is("failed")) {
        (true, _) if past.checks.is_empty() => "nothing was checked".to_owned(),
        (true, _) => format!("healthy, {checks}"),
        (false, 0) => "the last run did not come to its end".to_owned(),
        (false, failed) => format!("{failed} of {checks} failed"),
    };
    let words = match past.left_out {
        0 => words,
        left_out => format!("{words}, {left_out} left out"),
    };
    Some((past, words))
}
