//! `validate`: runs the checks of this checkout and reports them as text, JSON, JUnit, SARIF or GitHub annotations,
//! e.g. `healthy: 12 checks (8 skipped as unchanged, 3.1 s)`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::checks::{exit_code, read_worktree_checks, run_checks, run_environment, undo_fixes};
use super::session::Session;
use super::shards::{merge_folder, read_check_times, save_check_times};
use super::{CommandResult, SUCCESS};
use crate::cli::ValidateArgs;
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_base::words::{pluralize, quote_for_shell};
use xtask_git::{Repo, Revision};
use xtask_report::{self as report, Verbosity};
use xtask_validate::affected::keep_affected;
use xtask_validate::file_scope::FileScope;
use xtask_validate::history::{self, RunTrigger};
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::plan::{CheckFilter, select_checks};
use xtask_validate::report::check_history::CheckHistoryReport;
use xtask_validate::report::check_list::CheckListReport;
use xtask_validate::report::findings;
use xtask_validate::report::github::{render_annotations, render_step_summary};
use xtask_validate::report::junit::render_junit;
use xtask_validate::report::sarif::render_sarif;
use xtask_validate::report::{ReportDetail, ValidateReport};
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest, history_file};
use xtask_validate::shard::keep_shard;

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
        let done = merge_folder(session, folder)?;
        return report_run(session, &repo, &checks, args, &flags, &done);
    }
    check_can_run(&repo, args, &flags)?;
    let filter = CheckFilter {
        only: args.only.clone(),
        skip: args.skip.clone(),
        skip_tests: flags.skip_tests,
        ..CheckFilter::default()
    };
    let mut selection = select_checks(&checks.config, &filter, run_environment(session))?;
    let scope = choose_scope(session, &repo, args)?;
    if let (FileScope::Changed(changed), true) = (&scope, args.since.is_some()) {
        keep_affected(&checks.config, &mut selection, changed);
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
    let request = ValidationRequest {
        checks: &checks,
        selection: &selection,
        options: flags.run_options(args),
        location: CheckLocation::Worktree,
        scope,
        message: None,
        shard,
        started_by: RunTrigger::Validate,
        keeps_log: !flags.no_log,
        records_history: true,
        waits_for_lock: true,
        command: render_command(session, args, &flags),
    };
    let output = Output::new(session, args, &flags);
    let waiting = |text: &str| report::print_warning(text);
    let done = run_checks(session, &repo, request, output.has_lines, &waiting)?;
    report_run(session, &repo, &checks, args, &flags, &done)
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
    Output::new(session, args, flags).print_report(session, args, done)?;
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
        return Ok(FileScope::since(revision, repo.list_paths_since(commit)?));
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

/// How the result is printed.
struct Output {
    detail: ReportDetail,
    /// Whether stdout is reserved for a report of another format.
    is_for_a_program: bool,
    /// Whether each check gets a line as it ends, for a pipe; a terminal gets a table at the end.
    has_lines: bool,
}

impl Output {
    fn new(session: &Session, args: &ValidateArgs, flags: &EffectiveFlags) -> Output {
        let detail = ReportDetail {
            all: session.verbosity == Verbosity::Verbose,
            quiet: session.verbosity == Verbosity::Quiet,
            why: args.why || flags.dry_run,
        };
        let is_for_a_program = [&args.junit, &args.sarif, &args.report]
            .into_iter()
            .flatten()
            .any(|file| file == Path::new(STDOUT));
        let has_lines = !args.json
            && !report::is_stdout_terminal()
            && !detail.why
            && !is_for_a_program
            && args.merge_reports.is_none();
        Output { detail, is_for_a_program, has_lines }
    }

    fn print_report(
        &self,
        session: &Session,
        args: &ValidateArgs,
        done: &ValidateReport,
    ) -> Result<()> {
        let token = args.github.then(|| random_token(session));
        if let Some(token) = &token {
            // Output of checks must not be taken for workflow commands by GitHub.
            report::print_output(&format!("::stop-commands::{token}\n"))?;
        }
        match self {
            _ if self.is_for_a_program => {}
            _ if args.json => report::print_json(done)?,
            _ if self.has_lines => report::print_output(&done.render_summary(self.detail))?,
            _ => report::print_output(&done.render_text(self.detail))?,
        }
        token.map_or(Ok(()), |token| report::print_output(&format!("::{token}::\n")))
    }
}

/// The file name that means stdout.
const STDOUT: &str = "-";

/// Returns a usage error if two reports go to the same file or to stdout.
fn check_outputs(session: &Session, args: &ValidateArgs) -> Result<()> {
    let is_stdout = |file: &Option<PathBuf>| file.as_deref() == Some(Path::new(STDOUT));
    let to_stdout = [
        ("--json", args.json),
        ("--github", args.github),
        ("--junit -", is_stdout(&args.junit)),
        ("--sarif -", is_stdout(&args.sarif)),
        ("--report -", is_stdout(&args.report)),
    ];
    let to_stdout: Vec<&str> = to_stdout.iter().filter(|one| one.1).map(|one| one.0).collect();
    if let [one, other, ..] = to_stdout[..] {
        return Err(Error::usage(format!("`{one}` and `{other}` both write to stdout"))
            .with_hint("write one of them to a file"));
    }
    let place = |file: &PathBuf| {
        let path = session.world.cwd.join(file);
        let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
        let name = path.file_name();
        let place =
            folder.zip(name).map(|(folder, name)| folder.join(name)).unwrap_or(path.clone());
        place.canonicalize().unwrap_or(place)
    };
    let files = [("--junit", &args.junit), ("--sarif", &args.sarif), ("--report", &args.report)];
    let files: Vec<(&str, &PathBuf)> =
        files.into_iter().filter_map(|(flag, file)| Some((flag, file.as_ref()?))).collect();
    for (at, (flag, file)) in files.iter().enumerate() {
        if let Some((other, _)) = files[..at].iter().find(|(_, one)| place(one) == place(file)) {
            return Err(Error::usage(format!(
                "`{other}` and `{flag}` both write to `{}`",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Writes the reports for other programs: JUnit, SARIF, annotations and job summary.
fn write_reports(
    session: &Session,
    repo: &Repo,
    checks: &LoadedChecks,
    args: &ValidateArgs,
    report: &ValidateReport,
) -> Result<()> {
    let folder = |name: &str| {
        let check = checks.config.checks.iter().find(|check| check.name == name);
        check.and_then(|check| check.cwd.as_ref()).map(ToString::to_string).unwrap_or_default()
    };
    let is_file = |path: &str| repo.root().join(path).is_file();
    let found = findings::collect_findings(report, &folder, &is_file);
    let write = |file: &Path, text: String| {
        if file == Path::new(STDOUT) {
            return report::print_output(&text);
        }
        let path = session.world.cwd.join(file);
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| session.tools().disk.write_into(&path, text.as_bytes()));
        written.with_context(|| format!("cannot write the report `{}`", path.display()))
    };
    let mut failures = Vec::new();
    if let Some(file) = &args.junit {
        failures.extend(write(file, render_junit(report)).err());
    }
    if let Some(file) = &args.report {
        failures.extend(write(file, report::render_json(report)).err());
    }
    if let Some(file) = &args.sarif {
        failures.extend(write(file, render_sarif(report, &found)).err());
    }
    if args.github {
        report::print_output(&render_annotations(report, &found))?;
        if let Some(file) = session.world.variable("GITHUB_STEP_SUMMARY") {
            let append = || {
                let mut file = File::options().create(true).append(true).open(file)?;
                file.write_all(render_step_summary(report, &found).as_bytes())
            };
            let appended = append();
            failures.extend(appended.with_context(|| format!("cannot write `{file}`")).err());
        }
    }
    match failures.len() {
        0 | 1 => failures.pop().map_or(Ok(()), Err),
        _ => Err(failures
            .iter()
            .fold(Error::unable("cannot write the reports"), |error, failure| {
                error.with_detail(failure.to_string())
            })),
    }
}

/// Returns a random token that no check can have printed on purpose.
fn random_token(session: &Session) -> String {
    use std::hash::{BuildHasher, Hasher};
    // The keys of `RandomState` are random in each process.
    let random = || std::hash::RandomState::new().build_hasher().finish().to_be_bytes();
    let now = (session.world.clock)().as_nanos().to_be_bytes();
    digest::to_hex(&digest::hash_parts([&random()[..], &random(), &now]))
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
