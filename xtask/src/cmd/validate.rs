//! `validate`: runs the checks of this checkout and reports them as text, JSON, JUnit, SARIF or GitHub annotations,
//! e.g. `healthy: 12 checks (8 skipped as unchanged, 3.1 s)`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::checks::{
    LoadedChecks, ProgressReporter, RepoCheckRunner, build_report, describe_check, exit_code,
    fix_risk, read_worktree_checks, undo_fixes,
};
use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::ValidateArgs;
use xtask_base::digest;
use xtask_base::environment::format_rfc3339;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::words::quote_for_shell;
use xtask_git::Repo;
use xtask_report::findings;
use xtask_report::github::{render_annotations, render_step_summary};
use xtask_report::junit::render_junit;
use xtask_report::sarif::render_sarif;
use xtask_report::validate::{
    CheckHistoryLine, CheckHistoryReport, CheckListLine, CheckListReport, ReportDetail,
    ValidateReport,
};
use xtask_report::{self as report, Verbosity};
use xtask_validate::cacheability::uncacheable_reason;
use xtask_validate::history;
use xtask_validate::plan::{CheckFilter, RunEnvironment, select_checks};
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{
    CheckLocation, CompletedRun, ValidationRequest, history_file, run_validation,
};

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
    if let Some(run) = &args.undo {
        return undo_fixes(session, &repo, run, EffectiveFlags::new(session, &repo, args).dry_run);
    }
    let checks = read_worktree_checks(&repo)?;
    if args.list {
        return show_list(session, &checks, args);
    }
    let flags = EffectiveFlags::new(session, &repo, args);
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
    let wish = CheckFilter {
        only: args.only.clone(),
        skip: args.skip.clone(),
        skip_tests: flags.skip_tests,
        ..CheckFilter::default()
    };
    let here =
        RunEnvironment { system: std::env::consts::OS, is_ci: session.world.is_truthy("CI") };
    let chosen = select_checks(&checks.config, &wish, here)?;
    if flags.persist && !flags.dry_run {
        flags.save_defaults(&repo)?;
    }
    if checks.file.is_none() {
        session.print_info(
            "no `setup/validate.toml`: running the default checks (`--list` shows them)",
        );
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = RunOptions {
        fast: flags.fast,
        dry_run: flags.dry_run,
        why: args.why,
        fix_mode: match flags {
            _ if args.yes => FixMode::All,
            EffectiveFlags { no_fix: true, .. } => FixMode::Off,
            EffectiveFlags { interactive: true, .. } => FixMode::Ask,
            _ => FixMode::Safe,
        },
        jobs: args.jobs.map_or(cores, usize::from),
    };
    let order = ValidationRequest {
        config: &checks.config,
        selection: &chosen,
        options,
        location: CheckLocation::Worktree,
        started_by: "validate",
        keeps_log: !flags.no_log,
        records_history: true,
        waits_for_lock: true,
        command: render_command(session, args, &flags),
    };
    let detail = ReportDetail {
        all: session.verbosity == Verbosity::Verbose,
        quiet: session.verbosity == Verbosity::Quiet,
        why: args.why || flags.dry_run,
    };
    // A pipe gets a line for each check as it ends; a terminal gets a table at the end.
    let is_for_a_program =
        [&args.junit, &args.sarif].into_iter().flatten().any(|file| file == Path::new(STDOUT));
    let has_lines = !args.json && !report::is_stdout_terminal() && !detail.why && !is_for_a_program;
    let shower = ProgressReporter::new(&checks, session.verbosity, has_lines);
    let around = RepoCheckRunner { repo: &repo, tools: session.tools() };
    let done = run_validation(&repo, &session.tools(), order, &around, &shower, &|text| {
        report::print_warning(text)
    })?;
    shower.into_result()?;
    let report = build_report(&repo, &checks, &done, flags.fast, flags.dry_run);
    let token = args.github.then(|| random_token(session));
    if let Some(token) = &token {
        // Output of checks must not be taken for workflow commands by GitHub.
        report::print_output(&format!("::stop-commands::{token}\n"))?;
    }
    if !is_for_a_program {
        print_report(args, &report, detail, has_lines)?;
    }
    if let Some(token) = &token {
        report::print_output(&format!("::{token}::\n"))?;
    }
    print_warnings(session, &done);
    if flags.dry_run {
        if args.junit.is_some() || args.sarif.is_some() || args.github {
            report::print_warning("a dry run writes no reports");
        }
    } else {
        write_reports(session, &repo, &checks, args, &report)?;
    }
    Ok(exit_code(&done))
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
    match (&args.junit, &args.sarif) {
        (Some(one), Some(other)) if place(one) == place(other) => {
            Err(Error::usage(format!("`--junit` and `--sarif` both write to `{}`", one.display())))
        }
        _ => Ok(()),
    }
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

fn print_report(
    args: &ValidateArgs,
    report: &ValidateReport,
    detail: ReportDetail,
    has_lines: bool,
) -> Result<()> {
    if args.json {
        return report::print_json(report);
    }
    if has_lines {
        return report::print_output(&report.render_summary(detail));
    }
    report::print_output(&format!(
        "{}{}",
        report.render_table(detail),
        report.render_summary(detail)
    ))
}

/// Prints the warnings of the run, and the path of its log if it failed.
fn print_warnings(session: &Session, done: &CompletedRun) {
    for warning in &done.results.warnings {
        report::print_warning(warning);
    }
    if let Some(log) = &done.log
        && !done.is_ok()
    {
        session.print_info(&format!("log: {}", log.display()));
    }
}

fn show_history(session: &Session, repo: &Repo, args: &ValidateArgs) -> CommandResult {
    let runs = history::read_history(&history_file(repo));
    let lines = history::compute_statistics(&runs).into_iter().map(|one| CheckHistoryLine {
        check: one.check,
        runs: one.runs,
        pass_rate: one.pass_rate,
        hit_rate: one.hit_rate,
        median_ms: one.median_ms,
        p95_ms: one.p95_ms,
        last: one.last,
    });
    let report = CheckHistoryReport {
        schema: "xtask.validate-history/1",
        runs: runs.len(),
        since: runs.first().map(|run| format_rfc3339(run.at)),
        checks: lines.collect(),
    };
    if args.json {
        report::print_json(&report)?;
        return Ok(SUCCESS);
    }
    if runs.is_empty() {
        session.print_info("no validation has been run in this clone");
    }
    report::print_output(&report.render_text())?;
    Ok(SUCCESS)
}

fn show_list(session: &Session, checks: &LoadedChecks, args: &ValidateArgs) -> CommandResult {
    let config = &checks.config;
    let lines = config.checks.iter().enumerate().map(|(at, check)| CheckListLine {
        name: check.name.clone(),
        phase: config.phases[check.phase].name.clone(),
        command: describe_check(check),
        needs: check.needs.iter().map(|need| config.checks[*need].name.clone()).collect(),
        tags: check.tags.clone(),
        os: check.os.clone(),
        tests: check.runs_tests,
        ci: check.runs_in_ci,
        before_commit: check.before_commit,
        always: uncacheable_reason(config, at),
        ttl_ms: check.ttl_s.map(|seconds| seconds.saturating_mul(1000)),
        fix: check.fix.as_ref().map(|fix| fix.command.text.clone()),
        risk: check.fix.as_ref().map(fix_risk),
    });
    let report = CheckListReport {
        schema: "xtask.validate-list/1",
        config: checks.file.clone(),
        phases: config.phases.iter().map(|phase| (phase.name.clone(), phase.is_gate)).collect(),
        checks: lines.collect(),
    };
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
