//! `validate`: runs the checks of this checkout and reports them as text, JSON, JUnit, SARIF or GitHub annotations,
//! e.g. `healthy: 12 checks (8 skipped as unchanged, 3.1 s)`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::check_reports::{Output, check_outputs, write_reports};
use super::checks::{exit_code, read_worktree_checks, run_checks, run_environment, undo_fixes};
use super::session::Session;
use super::shards::{merge_folder, read_check_times, save_check_times};
use super::watch;
use super::{CommandResult, SUCCESS};
use crate::canonical_checks::read_canonical_checks;
use crate::cli::ValidateArgs;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_git::{Repo, Revision};
use xtask_report as report;
use xtask_sync::context;
use xtask_validate::affected::{keep_affected, keep_given};
use xtask_validate::file_scope::FileScope;
use xtask_validate::history::{self, RunTrigger};
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::plan::{CheckFilter, select_checks};
use xtask_validate::report::ValidateReport;
use xtask_validate::report::check_history::CheckHistoryReport;
use xtask_validate::report::check_list::CheckListReport;
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest, history_file};
use xtask_validate::shard::keep_shard;
use xtask_validate::shared_results::{SharedResults, parse_signers};

/// The section of git's configuration that `--persist` writes.
const SETTINGS: &str = "xtask.validate.";

/// The effective flags of this run: from the command line, else variables, else persisted defaults.
struct EffectiveFlags {
    fast: bool,
    skip_tests: bool,
    dry_run: bool,
    interactive: bool,
    no_fix: bool,
    no_log: bool,
    persist: bool,
}

impl EffectiveFlags {
    fn new(session: &Session, repo: &Repo, args: &ValidateArgs) -> EffectiveFlags {
        let world = &session.world;
        let variable = |name: &str| world.variable(name).map(|_| world.is_truthy(name));
        let flag = |said: Option<bool>, variable: Option<bool>, setting: &str, otherwise: bool| {
            let kept = || repo.config_bool(&format!("{SETTINGS}{setting}"), otherwise);
            said.or(variable).unwrap_or_else(kept)
        };
        let not = |said: Option<bool>| said.map(|said| !said);
        let is_ci = world.is_truthy("CI");
        EffectiveFlags {
            fast: flag(args.fast, variable("FAST_MODE"), "fast", false),
            skip_tests: flag(args.skip_tests, variable("SKIP_TESTS"), "skipTests", false),
            dry_run: flag(args.dry_run, variable("DRY_RUN"), "dryRun", false),
            interactive: flag(args.interactive, variable("INTERACTIVE"), "interactive", false),
            no_fix: flag(args.no_fix, not(variable("AUTO_REMEDIATE")), "noFix", is_ci),
            no_log: flag(args.no_log, not(variable("LOG_REMEDIATION")), "noLog", false),
            persist: args.persist.or(variable("PERSIST_CONFIG")).unwrap_or(false),
        }
    }

    fn run_options(&self, args: &ValidateArgs) -> RunOptions {
        let fix_mode = match self {
            _ if args.yes => FixMode::All,
            EffectiveFlags { no_fix: true, .. } => FixMode::Off,
            EffectiveFlags { interactive: true, .. } => FixMode::Ask,
            _ => FixMode::Safe,
        };
        let options = RunOptions::fast(fix_mode);
        RunOptions {
            fast: self.fast,
            dry_run: self.dry_run,
            why: args.why,
            jobs: args.jobs.map_or(options.jobs, usize::from),
            ..options
        }
    }

    /// Saves the flags as defaults of this clone. `--dry-run` is not saved, as it would disable all later runs.
    fn save_defaults(&self, repo: &Repo) -> Result<()> {
        let flags = [
            ("fast", self.fast),
            ("skipTests", self.skip_tests),
            ("interactive", self.interactive),
            ("noFix", self.no_fix),
            ("noLog", self.no_log),
        ];
        flags.into_iter().try_for_each(|(name, value)| {
            repo.set_config(&format!("{SETTINGS}{name}"), &value.to_string())
        })
    }
}

pub(super) fn run(session: &Session, args: &ValidateArgs) -> CommandResult {
    let repo = session.open_repo()?;
    check_outputs(session, args)?;
    if args.history {
        return show_history(session, &repo, args);
    }
    let flags = EffectiveFlags::new(session, &repo, args);
    if let Some(run) = &args.undo {
        return undo_fixes(session, &repo, run, flags.dry_run);
    }
    let checks = read_worktree_checks(&repo)?;
    if args.list {
        return show_list(session, &checks, args);
    }
    if let Some(folder) = &args.merge_reports {
        let done = merge_folder(session, &repo, &checks.config, folder)?;
        return report_run(session, &repo, &checks, args, &flags, &done);
    }
    check_can_run(&repo, args, &flags)?;
    let filter = CheckFilter {
        only: args.only.clone(),
        skip: args.skip.clone(),
        skip_tests: flags.skip_tests,
        ..CheckFilter::default()
    };
    if args.watch {
        return watch::run(session, &repo, args, &filter, flags.run_options(args));
    }
    let mut selection = select_checks(&checks.config, &filter, run_environment(session))?;
    let scope = choose_scope(session, &repo, args)?;
    if let (FileScope::Changed(changed), true) = (&scope, args.since.is_some()) {
        keep_affected(&checks.config, &mut selection, changed);
    }
    if !args.files.is_empty() {
        keep_given(&checks.config, &mut selection);
    }
    let shard = match args.shard {
        Some(shard) => {
            let times = read_check_times(&repo)?;
            Some(keep_shard(&checks.config, &mut selection, &times, shard))
        }
        None => None,
    };
    if flags.persist && !flags.dry_run {
        flags.save_defaults(&repo)?;
    }
    if checks.file.is_none() {
        session.print_info(
            "no `setup/validate.toml`: running the default checks (`--list` shows them)",
        );
    }
    let share = find_shared_results(session, &repo, &checks, args)?;
    let request = ValidationRequest {
        checks: &checks,
        selection: &selection,
        options: flags.run_options(args),
        location: CheckLocation::Worktree,
        scope,
        message: None,
        share: share.as_ref(),
        watched: None,
        shard,
        started_by: RunTrigger::Validate,
        keeps_log: !flags.no_log,
        records_history: true,
        waits_for_lock: true,
        command: render_command(session, args, &flags),
    };
    let output = Output::new(session, args, flags.dry_run);
    let waiting = |text: &str| report::print_warning(text);
    let done = run_checks(session, &repo, request, output.has_lines, &waiting)?;
    report_run(session, &repo, &checks, args, &flags, &done)
}

/// Returns the access to the results of other machines, if the canonical commit says where they are and a check shares
/// its own. What is wrong there is a warning, as this checkout cannot mend it.
fn find_shared_results<'a>(
    session: &'a Session,
    repo: &'a Repo,
    checks: &LoadedChecks,
    args: &ValidateArgs,
) -> Result<Option<SharedResults<'a>>> {
    if let Some(share) = &checks.config.share {
        parse_signers(share)?;
    }
    if args.no_share || !checks.config.checks.iter().any(|check| check.share) {
        return Ok(None);
    }
    let open = || -> Result<Option<SharedResults<'a>>> {
        let Some(context) = context::find_canonical_context(repo)? else { return Ok(None) };
        let canonical = read_canonical_checks(repo, &context)?;
        let Some(share) = canonical.and_then(|checks| checks.config.share) else { return Ok(None) };
        SharedResults::new(repo, &session.tools(), &share, &context.config.remote).map(Some)
    };
    match open() {
        Ok(Some(results)) => return Ok(Some(results)),
        Ok(None) if checks.config.share.is_some() => report::print_warning(
            "results are not shared: this clone has no canonical branch with `[share]` (is it fetched?)",
        ),
        Ok(None) => {}
        Err(failure) => {
            let detail = failure.details().first();
            let detail = detail.map(|text| format!(" ({text})")).unwrap_or_default();
            report::print_warning(&format!(
                "results are not shared, because of the canonical branch: {failure}{detail}"
            ));
        }
    }
    Ok(None)
}

/// Prints a report, and writes those for other programs.
fn report_run(
    session: &Session,
    repo: &Repo,
    checks: &LoadedChecks,
    args: &ValidateArgs,
    flags: &EffectiveFlags,
    done: &ValidateReport,
) -> CommandResult {
    Output::new(session, args, flags.dry_run).print_report(session, args, done)?;
    print_warnings(session, done);
    let is_wanted = |file: &Option<PathBuf>| file.is_some();
    if !flags.dry_run || args.merge_reports.is_some() {
        write_reports(session, repo, checks, args, done)?;
        if args.save_times {
            save_check_times(session, repo, &checks.config, done)?;
        }
    } else if [&args.junit, &args.sarif, &args.report].into_iter().any(is_wanted) || args.github {
        report::print_warning("a dry run writes no reports");
    }
    Ok(exit_code(done))
}

/// Returns the files that `--files` names, those in folders that it names, or those that have changed since `--since`; all by default.
fn choose_scope(session: &Session, repo: &Repo, args: &ValidateArgs) -> Result<FileScope> {
    if let Some(revision) = &args.since {
        let Revision::Commit(commit) = repo.parse_revision(revision)? else {
            return Err(Error::usage(format!(
                "`--since` has `{revision}`, which is not one commit"
            )));
        };
        let paths = repo.list_paths_since(commit)?;
        let linked = repo.list_names_behind_links(paths.present.iter().chain(&paths.removed))?;
        let is_folder = |path: &&RepoPath| path.to_disk_path(repo.root()).is_dir();
        let is_link = |path: &&RepoPath| path.to_disk_path(repo.root()).is_symlink();
        let folders = paths.present.iter().filter(is_folder).filter(|path| !is_link(path));
        let submodules = folders.cloned().collect();
        return Ok(FileScope::since(revision, paths, linked, submodules));
    }
    if args.files.is_empty() {
        return Ok(FileScope::All);
    }
    let (mut paths, mut folders) = (BTreeSet::new(), Vec::new());
    let mut unknown = Error::usage("`--files` has paths that do not exist");
    for file in &args.files {
        if session.world.cwd.join(file).canonicalize().is_ok_and(|path| path == repo.root()) {
            folders.push(RepoPath::new(""));
            continue;
        }
        let path = session.repo_path(repo, file.as_os_str())?;
        match path.to_disk_path(repo.root()).symlink_metadata() {
            Ok(meta) if meta.is_dir() => folders.push(path),
            Ok(_) => drop(paths.insert(path)),
            Err(_) => unknown = unknown.with_detail(format!("`{path}` not found")),
        }
    }
    if !unknown.details().is_empty() {
        return Err(unknown);
    }
    if !folders.is_empty() {
        paths.extend(repo.list_files_below(&folders)?);
    }
    Ok(FileScope::named(paths))
}

/// Returns an error if no terminal can confirm fixes, or if files are in conflict.
fn check_can_run(repo: &Repo, args: &ValidateArgs, flags: &EffectiveFlags) -> Result<()> {
    if flags.interactive && !report::can_prompt() && !args.yes {
        return Err(Error::usage("`--interactive` asks before each fix, and there is no terminal")
            .with_hint("`--no-fix` runs none; `--yes` runs risky ones, too"));
    }
    // Files with conflict markers would fail checks for a reason that is no mistake of anybody.
    if let Some(operation) = repo.current_operation().filter(|_| !flags.dry_run)
        && repo.read_index()?.has_conflicts()
    {
        return Err(Error::negative(format!(
            "not healthy: {} is in progress, and files are in conflict; nothing was checked",
            operation.name
        ))
        .with_hint("`git status` names them"));
    }
    Ok(())
}

/// Returns the command, for the log and for processes that wait for the lock.
fn render_command(session: &Session, args: &ValidateArgs, flags: &EffectiveFlags) -> String {
    let mut words = vec!["validate".to_owned()];
    let mut add = |is_said: bool, word: &str| {
        if is_said {
            words.push(word.to_owned());
        }
    };
    add(flags.fast, "--fast");
    add(flags.skip_tests, "--skip-tests");
    add(flags.dry_run, "--dry-run");
    add(flags.interactive, "--interactive");
    add(flags.no_fix, "--no-fix");
    add(args.yes, "--yes");
    if let Some(revision) = &args.since {
        words.extend(["--since".to_owned(), quote_for_shell(revision)]);
    }
    if let Some(shard) = args.shard {
        words.extend(["--shard".to_owned(), shard.to_string()]);
    }
    if !args.files.is_empty() {
        words.push(format!("--files ({})", pluralize(args.files.len(), "path")));
    }
    for (flag, names) in [("--only", &args.only), ("--skip", &args.skip)] {
        if !names.is_empty() {
            words.push(flag.to_owned());
            words.extend(names.iter().map(|name| quote_for_shell(name)));
        }
    }
    if session.world.is_truthy("CI") {
        words.push("(CI)".to_owned());
    }
    words.join(" ")
}

/// Prints the warnings of the run, and the path of its log if it failed.
fn print_warnings(session: &Session, done: &ValidateReport) {
    for warning in &done.warnings {
        report::print_warning(warning);
    }
    if let Some(log) = &done.log
        && !done.ok
    {
        session.print_info(&format!("log: {log}"));
    }
}

fn show_history(session: &Session, repo: &Repo, args: &ValidateArgs) -> CommandResult {
    let report = CheckHistoryReport::new(&history::read_history(&history_file(repo)));
    if args.json {
        report::print_json(&report)?;
        return Ok(SUCCESS);
    }
    if report.runs == 0 {
        session.print_info("no validation has been run in this clone");
    }
    report::print_output(&report.render_text())?;
    Ok(SUCCESS)
}

fn show_list(session: &Session, checks: &LoadedChecks, args: &ValidateArgs) -> CommandResult {
    let report = CheckListReport::new(&checks.config, checks.file.as_deref());
    if args.json {
        report::print_json(&report)?;
        return Ok(SUCCESS);
    }
    if checks.file.is_none() {
        session.print_info("no `setup/validate.toml`; these are the default checks");
    }
    report::print_output(&report.render_text())?;
    Ok(SUCCESS)
}
