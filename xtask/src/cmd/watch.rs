//! `validate --watch`: runs the checks that are about what has changed, and shows the state of all, until Ctrl-C.
//!
//! ```text
//! src/a.py is saved  ->  `ruff` and `tests` run, `docs` stays  ->  one screen: passed ruff, FAILED tests, passed docs
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::CommandResult;
use super::checks::{read_worktree_checks, run_checks, run_environment};
use super::session::Session;
use crate::cli::ValidateArgs;
use xtask_base::deadline::Deadline;
use xtask_base::error::{ErrorKind, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize};
use xtask_config::{CheckKind, VALIDATE_FILE};
use xtask_git::{ChangedPaths, Repo};
use xtask_report::{self as report, Verbosity};
use xtask_validate::affected::keep_affected;
use xtask_validate::file_scope::{ChangedFiles, FileScope};
use xtask_validate::history::RunTrigger;
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::outcome::{CheckOutcome, CheckResult};
use xtask_validate::plan::{CheckFilter, CheckSelection, add_needed_checks, select_checks};
use xtask_validate::report::{ReportDetail, ValidateReport};
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest};
use xtask_validate::watch::{FileChanges, WatchedInputs};

/// How often a wait for changes looks whether it is to end.
const TICK: Duration = Duration::from_millis(200);

/// How many paths that have changed are named.
const SHOWN_PATHS: usize = 3;

/// How often in a row a file may be written while checks run before no run follows at once: it may be their own work.
const OWN_WRITES: u32 = 3;

/// How often then a run follows after a pause, as somebody may have saved it during each run.
const LATE_RUNS: u32 = 2;

/// The shortest such pause; the second one is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs until Ctrl-C. `options` are those of each run.
pub(super) fn run(
    session: &Session,
    repo: &Repo,
    args: &ValidateArgs,
    filter: &CheckFilter,
    options: RunOptions,
) -> CommandResult {
    let _held = session.tools().interrupts.defer_signals();
    let watch = WatchedInputs::start(repo)?;
    let mut screen = Screen::new(session, args);
    let mut own_writes = OwnWrites::default();
    let options = RunOptions { fast: true, fix_mode: FixMode::Off, ..options };
    let mut changed = None;
    loop {
        let done = check_changes(session, repo, &watch, filter, options, changed.as_ref(), &screen);
        let has_failed = done.is_err();
        let took_ms = done.as_ref().map_or(0, |run| run.done.duration_ms);
        screen.show(changed.as_ref(), done, watch.count_folders())?;
        // After the result, as nobody waits for it then.
        watch.save_stat_cache(session.tools().disk).ok();
        if is_over(session) {
            break;
        }
        let during = watch.next_changes(Duration::ZERO)?;
        let mut next = own_writes.take_foreign(during);
        let pause = Deadline::after(own_writes.pause_after(Duration::from_millis(took_ms)));
        while next.is_empty() && !is_over(session) {
            next = watch.next_changes(TICK)?;
            own_writes.forget(&next);
            if pause.remaining().is_none() {
                own_writes.add_late(&mut next);
            }
        }
        own_writes.add_late(&mut next);
        if is_over(session) {
            break;
        }
        // What changed before a run that could not be has still to be looked at.
        changed = Some(FileChanges { has_lost: next.has_lost || has_failed, ..next });
    }
    session.print_info("stopped watching");
    Ok(ErrorKind::Interrupted.exit_code())
}

fn is_over(session: &Session) -> bool {
    session.tools().interrupts.was_interrupted()
}

/// A run of the checks that are about a change.
struct RunOfChange {
    checks: LoadedChecks,
    /// The checks that were part of it, also those without a file left.
    ran: BTreeSet<String>,
    done: ValidateReport,
}

/// Runs the checks that are about the changes; all if nothing is known.
fn check_changes(
    session: &Session,
    repo: &Repo,
    watch: &WatchedInputs<'_>,
    filter: &CheckFilter,
    options: RunOptions,
    changed: Option<&FileChanges>,
    screen: &Screen<'_>,
) -> Result<RunOfChange> {
    let checks = read_worktree_checks(repo)?;
    let mut selection = select_checks(&checks.config, filter, run_environment(session))?;
    // Without a path nobody knows what has changed: what git tracks, say.
    let is_known = |changed: &&FileChanges| !changed.has_lost && !changed.paths.is_empty();
    if let Some(changed) = changed.filter(is_known) {
        keep_changed(&checks, &mut selection, repo, &changed.paths)?;
        keep_unfinished(&checks, &mut selection, &screen.results);
    }
    let request = ValidationRequest {
        checks: &checks,
        selection: &selection,
        options,
        location: CheckLocation::Worktree,
        scope: FileScope::All,
        message: None,
        share: None,
        watched: Some(watch),
        shard: None,
        started_by: RunTrigger::Validate,
        keeps_log: false,
        records_history: false,
        waits_for_lock: true,
        command: "validate --watch".to_owned(),
    };
    let done = run_checks(session, repo, request, false, &|text| report::print_warning(text))?;
    let is_in =
        |chosen: &CheckSelection| matches!(chosen, CheckSelection::Yes | CheckSelection::For(_));
    let all = checks.config.checks.iter().zip(&selection);
    let ran =
        all.filter(|(_, chosen)| is_in(chosen)).map(|(check, _)| check.name.clone()).collect();
    Ok(RunOfChange { checks, ran, done })
}

/// Leaves out what the changes do not affect: also checks that only look at the environment, unless one needs them.
fn keep_changed(
    checks: &LoadedChecks,
    selection: &mut [CheckSelection],
    repo: &Repo,
    paths: &BTreeSet<RepoPath>,
) -> Result<()> {
    let is_config = paths.iter().any(|path| path.as_bytes() == VALIDATE_FILE.as_bytes());
    if is_config {
        return Ok(());
    }
    let (present, removed) = paths
        .iter()
        .cloned()
        .partition(|path| path.to_disk_path(repo.root()).symlink_metadata().is_ok());
    let changed = ChangedFiles {
        predicate: "has changed".to_owned(),
        paths: ChangedPaths { present, removed },
        linked_names: repo.list_names_behind_links(paths)?,
        // They are not watched.
        submodules: BTreeSet::new(),
        widens_by_inputs: true,
    };
    for (at, chosen) in selection.iter_mut().enumerate() {
        let is_about_files = match &checks.config.checks[at].kind {
            CheckKind::Run(_) | CheckKind::FileRules { .. } => true,
            CheckKind::File(named) => changed.touches_paths(named),
            _ => false,
        };
        if !is_about_files && matches!(chosen, CheckSelection::Yes | CheckSelection::For(_)) {
            *chosen = CheckSelection::No("nothing that it is about has changed".to_owned());
        }
    }
    keep_affected(&checks.config, selection, &changed);
    Ok(())
}

/// Keeps the checks that could not run last time, and failed ones that look at the environment: no file has to change for
/// another result of these.
fn keep_unfinished(
    checks: &LoadedChecks,
    selection: &mut [CheckSelection],
    last: &BTreeMap<String, CheckResult>,
) {
    for (at, chosen) in selection.iter_mut().enumerate() {
        let check = &checks.config.checks[at];
        let runs = matches!(check.kind, CheckKind::Run(_) | CheckKind::FileRules { .. });
        let is_open = match last.get(&check.name).map(|result| result.outcome) {
            Some(CheckOutcome::Blocked | CheckOutcome::Interrupted) => true,
            Some(CheckOutcome::Failed) => !runs,
            _ => false,
        };
        if is_open {
            *chosen = CheckSelection::Yes;
        }
    }
    add_needed_checks(&checks.config, selection);
}

/// Files that the checks themselves write, so that a run does not follow each run for ever.
#[derive(Default)]
struct OwnWrites {
    /// How often in a row each file was written while checks ran.
    counts: BTreeMap<RepoPath, u32>,
    /// How often in a row events were lost, or folders came and went.
    losses: u32,
    /// What may be their work, or that of somebody who saved while they ran.
    late: FileChanges,
    is_told: bool,
}

impl OwnWrites {
    /// Takes out of what has changed during a run the files that each run writes.
    fn take_foreign(&mut self, during: FileChanges) -> FileChanges {
        let old = std::mem::take(&mut self.counts);
        let is_unclear = during.has_lost || during.has_folders;
        self.losses = if is_unclear { self.losses + 1 } else { 0 };
        let is_late = |count: u32| (OWN_WRITES..OWN_WRITES + LATE_RUNS).contains(&count);
        let is_foreign = self.losses < OWN_WRITES;
        let mut foreign = FileChanges {
            paths: BTreeSet::new(),
            has_lost: during.has_lost && is_foreign,
            has_folders: during.has_folders && is_foreign,
        };
        self.late = FileChanges { has_lost: is_late(self.losses), ..FileChanges::default() };
        let mut own = Vec::new();
        for path in during.paths {
            let count = old.get(&path).copied().unwrap_or(0) + 1;
            if count < OWN_WRITES {
                foreign.paths.insert(path.clone());
            } else if is_late(count) {
                self.late.paths.insert(path.clone());
            } else {
                own.push(path.to_string());
            }
            self.counts.insert(path, count);
        }
        if own.is_empty() && self.losses >= OWN_WRITES + LATE_RUNS {
            own.push("many files".to_owned());
        }
        if !own.is_empty() && !self.is_told {
            self.is_told = true;
            report::print_warning(&format!(
                "the checks write {} each time they run; name it in `.gitignore`, so that no run follows",
                join_names(&own, SHOWN_PATHS)
            ));
        }
        foreign
    }

    /// How long it has to be quiet before a run follows writes that may be those of the checks.
    fn pause_after(&self, last_run: Duration) -> Duration {
        let counts = self.late.paths.iter().filter_map(|path| self.counts.get(path));
        let most = counts.chain([&self.losses]).max().copied().unwrap_or(0);
        SHORTEST_PAUSE.max(last_run) * 2_u32.pow(most.saturating_sub(OWN_WRITES).min(LATE_RUNS))
    }

    /// Adds what is still to be looked at.
    fn add_late(&mut self, next: &mut FileChanges) {
        let late = std::mem::take(&mut self.late);
        next.has_lost |= late.has_lost;
        next.paths.extend(late.paths);
    }

    /// A file that is written while nothing runs is somebody else's.
    fn forget(&mut self, outside: &FileChanges) {
        self.counts.retain(|path, _| !outside.paths.contains(path));
        self.losses = if outside.has_lost { 0 } else { self.losses };
    }
}

/// The one screen, or lines where there is no terminal.
struct Screen<'s> {
    session: &'s Session,
    is_terminal: bool,
    shows_why: bool,
    /// The last result of each check.
    results: BTreeMap<String, CheckResult>,
}

impl<'s> Screen<'s> {
    fn new(session: &'s Session, args: &ValidateArgs) -> Screen<'s> {
        let is_terminal = report::is_stdout_terminal();
        Screen { session, is_terminal, shows_why: args.why, results: BTreeMap::new() }
    }

    fn show(
        &mut self,
        changed: Option<&FileChanges>,
        done: Result<RunOfChange>,
        folders: Option<usize>,
    ) -> Result<()> {
        let cause = describe_changes(changed);
        let RunOfChange { checks, ran, done } = match done {
            Ok(done) => done,
            Err(failure) => {
                if self.is_terminal {
                    report::clear_screen()?;
                }
                report::print_output(&format!("{cause}\n"))?;
                report::print_error(&failure);
                return Ok(());
            }
        };
        let merged = self.merge_results(&checks, &ran, done);
        let detail = ReportDetail {
            all: self.session.verbosity == Verbosity::Verbose,
            quiet: self.session.verbosity == Verbosity::Quiet,
            why: self.shows_why,
        };
        if !self.is_terminal {
            return self.print_lines(&cause, &merged, &ran, detail);
        }
        let watched = match folders {
            Some(count) => format!("watching {}", pluralize(count, "folder")),
            None => "watching".to_owned(),
        };
        let text = format!("{cause}\n\n{}\n{watched}; Ctrl-C ends\n", merged.render_text(detail));
        report::clear_screen()?;
        report::print_output(&text)
    }

    /// Prints a line for each check that was part of the run.
    fn print_lines(
        &self,
        cause: &str,
        merged: &ValidateReport,
        ran: &BTreeSet<String>,
        detail: ReportDetail,
    ) -> Result<()> {
        let width = ran.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut text = format!("{cause}\n");
        for check in merged.checks.iter().filter(|check| ran.contains(&check.name)) {
            text.push_str(&format!("{}\n", check.render_line(width)));
        }
        text.push_str(&merged.render_summary(detail));
        report::print_output(&text)
    }

    /// Completes a run by the last results of the checks that were no part of it.
    fn merge_results(
        &mut self,
        checks: &LoadedChecks,
        ran: &BTreeSet<String>,
        mut done: ValidateReport,
    ) -> ValidateReport {
        let is_there = |name: &String| checks.config.checks.iter().any(|check| check.name == *name);
        self.results.retain(|name, _| is_there(name));
        for check in &mut done.checks {
            match self.results.get(&check.name) {
                Some(last) if !ran.contains(&check.name) => *check = last.clone(),
                _ => drop(self.results.insert(check.name.clone(), check.clone())),
            }
        }
        done.ok = done.checks.iter().all(|check| check.outcome.is_good());
        done
    }
}

fn describe_changes(changed: Option<&FileChanges>) -> String {
    match changed {
        None => "first run".to_owned(),
        Some(changed) if changed.has_lost || changed.paths.is_empty() => {
            "many files have changed".to_owned()
        }
        Some(changed) => {
            let names: Vec<String> = changed.paths.iter().map(ToString::to_string).collect();
            format!("changed: {}", join_names(&names, SHOWN_PATHS))
        }
    }
}
