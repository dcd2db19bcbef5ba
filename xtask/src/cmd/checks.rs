//! Shared code of the commands that run checks (`validate`, `setup`, `start`, `recover`, `deploy`, hooks): loading
//! the checks, showing progress, and building the report.
//!
//! ```text
//! setup/validate.toml  ->  LoadedChecks  ->  run_validation  ->  CompletedRun  ->  ValidateReport
//! ```

use super::session::Session;
use std::cell::RefCell;
use std::os::unix::ffi::OsStrExt as _;
use xtask_base::environment::{format_ago, format_rfc3339};
use xtask_base::error::{Error, ErrorKind, Result, ResultExt as _};
use xtask_base::name::NAME;
use xtask_base::path::RepoPath;
use xtask_base::words::{join_names, pluralize, quote_for_shell};
use xtask_branches::check::{check_branch, is_shared, needs_check};
use xtask_branches::facts::BranchInspector as BranchLook;
use xtask_branches::rules::Severity;
use xtask_config::{BranchesConfig, Check, CheckKind, Fix, VALIDATE_FILE, ValidateConfig};
use xtask_detect::default_checks;
use xtask_detect::repo_facts::{DetectionInput, detect_repo};
use xtask_git::Tools;
use xtask_git::{BranchPattern, Repo};
use xtask_hooks::health::inspect_hooks;
use xtask_hooks::program::VerifyDepth;
use xtask_report::running_checks::RunningChecks;
use xtask_report::validate::{
    CheckLine, CheckStatus as Shown, FixLine, FixOutcome, ReportDetail, ValidateReport,
};
use xtask_report::{self as report, Verbosity};
use xtask_sync::classify::PathClass;
use xtask_sync::context::{self, SyncContext};
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;
use xtask_sync::write_rules::{is_blocked_only_by_protection, protected_branch_hint};
use xtask_validate::builtin_checks::{CheckFinding, RepoChecks};
use xtask_validate::fix_backup::{FixPhase, FixStore};
use xtask_validate::outcome::{CheckOutcome, CheckResult, FixStatus};
use xtask_validate::plan::{CheckFilter, RunEnvironment, select_checks};
use xtask_validate::runner::{FixMode, RunListener, RunOptions};
use xtask_validate::session::{
    CheckLocation, CompletedRun, ValidationRequest, fixes_folder, lock_validation, run_validation,
};

/// How many lines of a failed check's output are shown before the prompt for its fix.
const MAX_OUTPUT_LINES: usize = 20;

/// The size limit of the configuration, in bytes.
const MAX_CONFIG_BYTES: u64 = 4_000_000;

/// How long to wait for the lock of another run if the configuration cannot be read, in seconds.
const LOCK_WAIT_S: u64 = 30;

/// The checks of a worktree.
pub(super) struct LoadedChecks {
    pub(super) config: ValidateConfig,
    /// `setup/validate.toml`, or `None` if it does not exist and the default checks are used.
    pub(super) file: Option<String>,
}

/// Reads the checks of the worktree, or detects default checks if there is no `setup/validate.toml`.
pub(super) fn read_worktree_checks(repo: &Repo) -> Result<LoadedChecks> {
    let root = repo.root();
    let path = root.join(VALIDATE_FILE);
    let failed = || format!("cannot read `{VALIDATE_FILE}`");
    match std::fs::metadata(&path) {
        Err(cause)
            if cause.kind() == std::io::ErrorKind::NotFound && path.symlink_metadata().is_err() =>
        {
            return detect_checks(repo);
        }
        Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
        Ok(meta) if !meta.is_file() => {
            return Err(Error::usage(format!("{}: not a file", failed())));
        }
        Ok(meta) if meta.len() > MAX_CONFIG_BYTES => {
            return Err(Error::usage(format!("{}: larger than 4 MB", failed())));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(&path).with_context(failed)?;
    let text =
        String::from_utf8(bytes).map_err(|_| Error::usage(format!("{}: not UTF-8", failed())))?;
    parse_checks(&text)
}

/// Parses the text of `setup/validate.toml`.
pub(super) fn parse_checks(text: &str) -> Result<LoadedChecks> {
    let config = ValidateConfig::parse(VALIDATE_FILE, text)?;
    Ok(LoadedChecks { config, file: Some(VALIDATE_FILE.to_owned()) })
}

fn detect_checks(repo: &Repo) -> Result<LoadedChecks> {
    let root = repo.root();
    let has_canonical = context::find_canonical_context(repo)?.is_some();
    let entries =
        std::fs::read_dir(root).with_context(|| format!("cannot list `{}`", root.display()))?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let paths: Vec<RepoPath> =
        files.map(|entry| RepoPath::new(entry.file_name().as_bytes())).collect();
    let read = |path: &str| {
        let path = root.join(path);
        let is_small = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= MAX_CONFIG_BYTES);
        if is_small { std::fs::read(path).ok() } else { None }
    };
    // The default checks do not depend on the branch or the remote.
    let look =
        DetectionInput { name: NAME, paths: &paths, read: &read, default_branch: "", remote: None };
    let facts = detect_repo(&look);
    let text = default_checks::render_checks(&|word| match word {
        "canonical" => has_canonical,
        // Default checks should be fast, so they run no tests.
        "tests" => false,
        word => facts.meets_condition(word),
    });
    let text = default_checks::with_versions(&text, &facts.versions);
    let config = ValidateConfig::parse("the usual checks", &text)?;
    Ok(LoadedChecks { config, file: None })
}

/// Runs the built-in checks `hooks`, `sync` and `branches` on a repository.
pub(super) struct RepoCheckRunner<'a> {
    pub(super) repo: &'a Repo,
    pub(super) tools: Tools<'a>,
}

fn describe_error(failure: &Error) -> String {
    let hints = failure.hints().iter().map(|hint| format!("; {hint}"));
    std::iter::once(failure.to_string()).chain(hints).collect()
}

impl RepoCheckRunner<'_> {
    /// Checks the current commit against the rule for `branch`.
    fn check_branch_rule(&self, context: &SyncContext, branch: &str) -> Result<CheckFinding> {
        let look = BranchLook::new(self.repo, context, self.tools.world.now_seconds())?;
        let checked = check_branch(&look, branch, Ok(self.repo.head()?.commit));
        let lines = checked.render_findings().join("\n");
        Ok(match checked.worst_severity() {
            None => Ok(checked.describe()),
            Some(Severity::Note) => Ok(lines),
            Some(Severity::Unknown | Severity::Broken) => Err(lines),
        })
    }
}

impl RepoChecks for RepoCheckRunner<'_> {
    fn check_hooks(&self) -> CheckFinding {
        let find = || {
            let context = context::find_canonical_context(self.repo)?;
            inspect_hooks(self.repo, self.tools.world, context.as_ref(), VerifyDepth::Metadata)
        };
        let health = find().map_err(|failure| describe_error(&failure))?;
        let all_fire = health.hooks.iter().all(|hook| health.will_run(hook));
        if all_fire { Ok(health.summary()) } else { Err(health.summary()) }
    }

    fn check_sync(&self) -> CheckFinding {
        let find = || {
            let Some(context) = context::find_canonical_context(self.repo)? else {
                return Ok(None);
            };
            let looked = inspect_checkout(
                self.repo,
                context,
                &SyncOptions::plain(),
                ScanDepth::Everything,
                &self.tools,
            )?;
            Ok(Some(looked))
        };
        let looked = find().map_err(|failure: Error| describe_error(&failure))?;
        let decided = match looked {
            None => return Ok("no canonical branch to compare with".to_owned()),
            Some(SyncInspection::OnCanonical(context)) => {
                return Ok(format!("`{}` is the canonical branch", context.config.branch));
            }
            Some(SyncInspection::Planned(decided)) => decided,
        };
        let behind = decided.plan.count(PathClass::Behind) + decided.plan.count(PathClass::Sparse);
        let unknown = decided.plan.count(PathClass::Unknown);
        let own = decided.plan.count(PathClass::Customised);
        if behind + unknown > 0 {
            if unknown == 0 && is_blocked_only_by_protection(self.repo, &decided) {
                let branch = decided.head.branch.as_deref().unwrap_or_default();
                return Ok(format!(
                    "{} behind, and `{branch}` is protected: {}",
                    pluralize(behind, "managed file"),
                    protected_branch_hint(self.repo, &decided.context, branch)
                ));
            }
            let unknown = if unknown > 0 { format!(", {unknown} unknown") } else { String::new() };
            return Err(format!(
                "{} behind{unknown}: `cargo xtask sync` updates them",
                pluralize(behind, "managed file")
            ));
        }
        Ok(if own > 0 { format!("in sync, {own} customised") } else { "in sync".to_owned() })
    }

    /// Checks the branch against its rule. Without a rule, checks that it has a protected branch as its base, and
    /// reports the distance. An unknown result is a failure.
    fn check_branches(&self) -> CheckFinding {
        let find = || -> Result<CheckFinding> {
            let Some(branch) = self.repo.current_branch() else {
                return Ok(Err("HEAD is detached: no branch is known".to_owned()));
            };
            let context = context::find_canonical_context(self.repo)?;
            let protected = context.as_ref().map_or_else(
                || BranchesConfig::default().protected,
                |context| context.branches.protected.clone(),
            );
            let is_protected =
                |name: &str| protected.iter().any(|p| BranchPattern::new(p).matches(name));
            if is_protected(&branch) || context.as_ref().is_some_and(|c| is_shared(c, &branch)) {
                return Ok(Ok(format!("`{branch}` is shared")));
            }
            if let Some(context) = context.filter(|context| needs_check(context, &branch)) {
                return self.check_branch_rule(&context, &branch);
            }
            if self.repo.is_shallow() {
                return Ok(Err("shallow clone: cannot determine its base".to_owned()));
            }
            let head = self.repo.head()?.commit;
            let remote = context::configured_names(self.repo).remote;
            let prefixes = ["refs/heads/".to_owned(), format!("refs/remotes/{remote}/")];
            for prefix in &prefixes {
                for (name, id) in self.repo.refs_below(prefix)? {
                    let short = name.strip_prefix(prefix.as_str()).unwrap_or(&name);
                    if !is_protected(short) {
                        continue;
                    }
                    let Some(base) = self.repo.merge_base(head, id)? else {
                        return Ok(Err(format!("`{branch}` has no common history with `{short}`")));
                    };
                    let behind = self.repo.count_commits_between(base, id)?;
                    let own = self.repo.count_commits_between(base, head)?;
                    return Ok(Ok(format!(
                        "{} on `{short}`, which is {} ahead",
                        pluralize(own, "commit"),
                        pluralize(behind, "commit")
                    )));
                }
            }
            Ok(Err(format!(
                "no protected branch exists here (looked for {})",
                protected.join(", ")
            )))
        };
        find().unwrap_or_else(|failure| Err(describe_error(&failure)))
    }
}

/// Shows the progress of a run: live lines on a terminal, and, if wanted, a line for each check that has ended.
pub(super) struct ProgressReporter {
    running: RunningChecks,
    /// The width of the longest name, in characters, or `None` if ended checks are not printed one by one.
    width: Option<usize>,
    phases: Vec<String>,
    is_quiet: bool,
    file: Option<String>,
    failure: RefCell<Option<Error>>,
}

impl ProgressReporter {
    pub(super) fn new(
        checks: &LoadedChecks,
        loudness: Verbosity,
        shows_ends: bool,
    ) -> ProgressReporter {
        let config = &checks.config;
        let width = config.checks.iter().map(|check| check.name.chars().count()).max();
        ProgressReporter {
            running: RunningChecks::new(loudness > Verbosity::Quiet),
            width: shows_ends.then_some(width.unwrap_or(0)),
            phases: config.phases.iter().map(|phase| phase.name.clone()).collect(),
            is_quiet: loudness == Verbosity::Quiet,
            file: checks.file.clone(),
            failure: RefCell::new(None),
        }
    }

    /// Returns the first error of printing an ended check, if any.
    pub(super) fn into_result(self) -> Result<()> {
        self.failure.into_inner().map_or(Ok(()), Err)
    }
}

impl RunListener for ProgressReporter {
    fn on_check_started(&self, check: &Check) {
        self.running.add_check(&check.name);
    }

    fn on_check_ended(&self, check: &Check, ended: &CheckResult) {
        self.running.remove_check(&check.name);
        let Some(width) = self.width else { return };
        let is_hidden = match ended.outcome {
            CheckOutcome::LeftOut => true,
            outcome => self.is_quiet && outcome.is_good(),
        };
        if is_hidden {
            return;
        }
        let line = build_check_line(check, &self.phases[check.phase], ended, &self.file, "");
        let detail = ReportDetail { all: false, quiet: self.is_quiet, why: false };
        let under =
            line.render_notes(detail).into_iter().map(|under| format!("          {under}\n"));
        let text: String = std::iter::once(line.render_line(width) + "\n").chain(under).collect();
        let shown = self.running.suspend_while(|| report::print_output(&text));
        if let Err(failure) = shown {
            self.failure.borrow_mut().get_or_insert(failure);
        }
    }

    fn on_tick(&self) {
        self.running.redraw_clocks();
    }

    fn confirm_fix(&self, check: &Check, fix: &Fix, failed: &CheckResult) -> bool {
        let risk = if fix.is_risky { "a risky fix" } else { "a fix" };
        let question =
            format!("`{}` failed. Run {risk} for it, `{}`?", check.name, fix.command.text);
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

/// Describes a check in one line, e.g. `cargo test` or `ports 8080 free`.
pub(super) fn describe_check(check: &Check) -> String {
    let list = |names: &[String]| names.join(", ");
    match &check.kind {
        CheckKind::Run(command) => command.text.clone(),
        CheckKind::Tool { tool, version: Some(version), .. } => format!("{tool} {version} on PATH"),
        CheckKind::Tool { tool, version: None, .. } => format!("{tool} on PATH"),
        CheckKind::File(paths) => {
            list(&paths.iter().map(ToString::to_string).collect::<Vec<_>>()) + " there"
        }
        CheckKind::EnvVar(names) => list(names) + " set",
        CheckKind::Disk(bytes) => {
            format!("{} free on disk", xtask_base::words::format_size(*bytes))
        }
        CheckKind::PortFree(ports) => {
            format!("ports {} free", list(&ports.iter().map(u16::to_string).collect::<Vec<_>>()))
        }
        CheckKind::GitIdentity => "git knows who commits".to_owned(),
        CheckKind::Hooks => "the hooks will fire here".to_owned(),
        CheckKind::Sync => "no managed file is behind".to_owned(),
        CheckKind::Branches => "the branch keeps to its rule".to_owned(),
    }
}

fn build_check_line(
    check: &Check,
    phase: &str,
    ended: &CheckResult,
    file: &Option<String>,
    run: &str,
) -> CheckLine {
    let outcome = match ended.outcome {
        CheckOutcome::Passed => Shown::Passed,
        CheckOutcome::Cached => Shown::Cached,
        CheckOutcome::Fixed => Shown::Fixed,
        CheckOutcome::Failed => Shown::Failed,
        CheckOutcome::Blocked => Shown::Blocked,
        CheckOutcome::LeftOut => Shown::LeftOut,
        CheckOutcome::Interrupted => Shown::Interrupted,
        CheckOutcome::Planned => Shown::Planned,
    };
    let fix = check.fix.as_ref().zip(ended.fix.as_ref()).map(|(fix, done)| FixLine {
        command: fix.command.text.clone(),
        risk: fix_risk(fix),
        outcome: match done.status {
            FixStatus::Advised => FixOutcome::Advised,
            FixStatus::Applied => FixOutcome::Applied,
            FixStatus::Restored => FixOutcome::Restored,
            FixStatus::PartlyRestored => FixOutcome::Left,
        },
        reason: done.reason.clone(),
        undo: (done.can_be_undone && !run.is_empty()).then(|| run.to_owned()),
        paths: done.paths.iter().map(ToString::to_string).collect(),
    });
    // The default checks name files that a project may not have, so a note about unmatched `inputs` is noise.
    let is_told = |note: &&String| file.is_some() || !note.starts_with("`inputs` ");
    CheckLine {
        name: check.name.clone(),
        phase: phase.to_owned(),
        outcome,
        reason: ended.reason.clone(),
        why: ended.run_reasons.clone(),
        notes: ended.notes.iter().filter(is_told).cloned().collect(),
        command: describe_check(check),
        runs_command: matches!(check.kind, CheckKind::Run(_)),
        duration_ms: ended.duration_ms,
        exit_code: ended.exit_code,
        output: ended.output.clone(),
        inputs: ended.inputs,
        key: ended.key.clone(),
        fix,
        line: file.as_ref().map(|_| check.line),
    }
}

pub(super) fn fix_risk(fix: &Fix) -> &'static str {
    if fix.is_risky { "risky" } else { "safe" }
}

/// Builds the report of a run, its checks sorted by phase.
pub(super) fn build_report(
    repo: &Repo,
    checks: &LoadedChecks,
    done: &CompletedRun,
    is_fast: bool,
    is_look: bool,
) -> ValidateReport {
    let config = &checks.config;
    let ends = config.checks.iter().zip(&done.results.checks);
    let mut lines: Vec<(usize, CheckLine)> = ends
        .map(|(check, ended)| {
            let phase = &config.phases[check.phase].name;
            (check.phase, build_check_line(check, phase, ended, &checks.file, &done.run_id))
        })
        .collect();
    lines.sort_by_key(|(phase, _)| *phase);
    ValidateReport {
        schema: "xtask.validate/1",
        run: done.run_id.clone(),
        worktree: repo.root().display().to_string(),
        branch: repo.current_branch(),
        config: checks.file.clone(),
        started: format_rfc3339(done.at),
        duration_ms: done.duration_ms,
        fast: is_fast,
        dry_run: is_look,
        ok: done.is_ok(),
        checks: lines.into_iter().map(|(_, line)| line).collect(),
        warnings: done.results.warnings.clone(),
        log: done.log.as_ref().map(|path| path.display().to_string()),
    }
}

/// Reverts the fixes of `run`, or lists them if `is_look` (a dry run). Returns exit code 1 if a file was kept
/// because it was changed since.
pub(super) fn undo_fixes(
    session: &Session,
    repo: &Repo,
    run: &str,
    is_look: bool,
) -> super::CommandResult {
    let tools = session.tools();
    let _lock = if is_look {
        None
    } else {
        // Fixes can be reverted even if the configuration is invalid.
        let wait_s =
            read_worktree_checks(repo).map_or(LOCK_WAIT_S, |checks| checks.config.lock_wait_s);
        let command = format!("undo {}", quote_for_shell(run));
        let (lock, warning) =
            lock_validation(repo, &tools, &command, wait_s, &|text| report::print_warning(text))?;
        warning.iter().for_each(|text| report::print_warning(text));
        lock
    };
    let fixes = FixStore { folder: fixes_folder(repo), root: repo.root(), disk: tools.disk };
    let records = fixes.list_run_fixes(run)?;
    if records.is_empty() {
        session.print_info("the fixes of this run are already reverted");
        return Ok(super::SUCCESS);
    }
    let mut kept = Vec::new();
    let mut has_failed = false;
    for record in records {
        let what = format!("`{}` for `{}`", record.command, record.check);
        let paths: Vec<String> = record.changed_paths().iter().map(ToString::to_string).collect();
        if is_look {
            session.print_info(&format!("{what} changed {}", join_names(&paths, 5)));
            continue;
        }
        if !record.has_changes_to_undo() {
            session
                .print_info(&format!("{what} changed no file in its `writes`: nothing to revert"));
            continue;
        }
        let when = format_ago(session.world.now_seconds(), record.at);
        let was_cut_short = record.phase == FixPhase::Open;
        let done = fixes.undo_fix(record)?;
        session.print_info(&format!(
            "{what}, {when}: {} restored",
            pluralize(done.restored.len(), "file")
        ));
        if let Some(folder) = done.saved {
            let why = if was_cut_short { "the fix was interrupted; " } else { "" };
            session
                .print_info(&format!("{why}the replaced content is kept in {}", folder.display()));
        }
        done.failures.iter().for_each(|failure| report::print_warning(failure));
        if done.leaves_new_things {
            session.print_info("it created too many files to check: new files are kept");
        }
        has_failed |= !done.failures.is_empty();
        kept.extend(done.kept.iter().map(ToString::to_string));
    }
    for path in &kept {
        report::print_warning(&format!("`{path}` was changed since, and is kept"));
    }
    if kept.is_empty() && !has_failed {
        return Ok(super::SUCCESS);
    }
    session.print_info(&format!(
        "the content before the fix is kept below {}",
        fixes.folder.display()
    ));
    Ok(ErrorKind::Negative.exit_code())
}

pub(super) fn exit_code(done: &CompletedRun) -> u8 {
    if done.results.is_interrupted {
        ErrorKind::Interrupted.exit_code()
    } else if done.is_ok() {
        super::SUCCESS
    } else {
        ErrorKind::Negative.exit_code()
    }
}

/// Checks whether the environment is healthy: runs the gate phases without tests, skipping checks that have passed
/// in the same state. The other phases, which are about the code, do not run.
pub(super) fn run_gate_checks(
    session: &Session,
    by: &'static str,
    fixes: bool,
) -> super::CommandResult {
    let wish = CheckFilter { gates_only: true, skip_tests: true, ..CheckFilter::default() };
    run_chosen_checks(session, by, fixes, false, &wish)
}

#[cfg(feature = "deploy")]
/// Runs all checks, tests included, without fixes; checks that have passed in the same state are skipped.
pub(super) fn run_full_validation(session: &Session, by: &'static str) -> super::CommandResult {
    run_chosen_checks(session, by, false, false, &CheckFilter::default())
}

#[cfg(feature = "services")]
/// Runs all checks but tests, with safe fixes, and records the result as the last validation of this checkout.
pub(super) fn run_with_fixes(session: &Session, by: &'static str) -> super::CommandResult {
    run_chosen_checks(
        session,
        by,
        true,
        true,
        &CheckFilter { skip_tests: true, ..CheckFilter::default() },
    )
}

fn run_chosen_checks(
    session: &Session,
    by: &'static str,
    fixes: bool,
    is_remembered: bool,
    wish: &CheckFilter,
) -> super::CommandResult {
    let repo = session.open_repo()?;
    let checks = read_worktree_checks(&repo)?;
    let is_ci = session.world.is_truthy("CI");
    let here = RunEnvironment { system: std::env::consts::OS, is_ci };
    let chosen = select_checks(&checks.config, wish, here)?;
    let fixes = if is_ci || !fixes { FixMode::Off } else { FixMode::Safe };
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let order = ValidationRequest {
        config: &checks.config,
        selection: &chosen,
        options: RunOptions { fast: true, dry_run: false, why: false, fix_mode: fixes, jobs },
        location: CheckLocation::Worktree,
        started_by: by,
        // A command repeated right away changes nothing, so it writes no log.
        keeps_log: false,
        records_history: is_remembered,
        waits_for_lock: true,
        command: by.to_owned(),
    };
    let shower = ProgressReporter::new(&checks, session.verbosity, false);
    let tools = session.tools();
    let around = RepoCheckRunner { repo: &repo, tools };
    let done = run_validation(&repo, &tools, order, &around, &shower, &|text| {
        report::print_warning(text)
    })?;
    let report = build_report(&repo, &checks, &done, true, false);
    let detail =
        ReportDetail { all: false, quiet: session.verbosity == Verbosity::Quiet, why: false };
    for warning in &done.results.warnings {
        report::print_warning(warning);
    }
    if done.is_ok() {
        session.print_info(report.render_summary(detail).trim_end());
    } else {
        report::print_output(&format!(
            "{}{}",
            report.render_table(detail),
            report.render_summary(detail)
        ))?;
    }
    Ok(exit_code(&done))
}
