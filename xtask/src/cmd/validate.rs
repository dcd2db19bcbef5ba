//! `validate`: say whether this checkout is healthy.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::checks::{Around, Checks, Shower, code, describe, does, of_worktree, risk, undo_fixes};
use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Validate;
use xtask_base::digest;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::words::typed;
use xtask_base::world::rfc3339;
use xtask_git::Repo;
use xtask_report::findings;
use xtask_report::github::{annotations, step_summary};
use xtask_report::junit::junit;
use xtask_report::sarif::sarif;
use xtask_report::validate::{
    Detail, HistoryLine, HistoryReport, ListLine, ListReport, ValidateReport,
};
use xtask_report::{self as report, Loudness};
use xtask_validate::history;
use xtask_validate::perform::{Order, Performed, Place, history_file, perform};
use xtask_validate::plan::{Here, Wish, choose};
use xtask_validate::run::{FixMode, Options};
use xtask_validate::state::no_state;

/// Where defaults are kept in git's configuration.
const SETTINGS: &str = "xtask.validate.";

/// What counts for this run: flags, or else variables, or else kept defaults.
struct Flags {
    fast: bool,
    skip_tests: bool,
    dry_run: bool,
    interactive: bool,
    no_fix: bool,
    no_log: bool,
    persist: bool,
}

impl Flags {
    fn new(session: &Session, repo: &Repo, args: &Validate) -> Flags {
        let world = &session.world;
        let variable = |name: &str| world.variable(name).map(|_| world.says_yes(name));
        let flag = |said: Option<bool>, variable: Option<bool>, setting: &str, otherwise: bool| {
            let kept = || repo.setting_is(&format!("{SETTINGS}{setting}"), otherwise);
            said.or(variable).unwrap_or_else(kept)
        };
        let not = |said: Option<bool>| said.map(|said| !said);
        let is_ci = world.says_yes("CI");
        Flags {
            fast: flag(args.fast, variable("FAST_MODE"), "fast", false),
            skip_tests: flag(args.skip_tests, variable("SKIP_TESTS"), "skipTests", false),
            dry_run: flag(args.dry_run, variable("DRY_RUN"), "dryRun", false),
            interactive: flag(args.interactive, variable("INTERACTIVE"), "interactive", false),
            no_fix: flag(args.no_fix, not(variable("AUTO_REMEDIATE")), "noFix", is_ci),
            no_log: flag(args.no_log, not(variable("LOG_REMEDIATION")), "noLog", false),
            persist: args.persist.or(variable("PERSIST_CONFIG")).unwrap_or(false),
        }
    }

    /// Keeps them as defaults of this clone. A dry run is not kept: it would hide all that follow.
    fn keep(&self, repo: &Repo) -> Result<()> {
        let flags = [
            ("fast", self.fast),
            ("skipTests", self.skip_tests),
            ("interactive", self.interactive),
            ("noFix", self.no_fix),
            ("noLog", self.no_log),
        ];
        flags.into_iter().try_for_each(|(name, value)| {
            repo.set_setting(&format!("{SETTINGS}{name}"), &value.to_string())
        })
    }
}

pub(super) fn run(session: &Session, args: &Validate) -> Exit {
    let repo = session.repo()?;
    check_outputs(session, args)?;
    if args.history {
        return show_history(session, &repo, args);
    }
    if let Some(run) = &args.undo {
        return undo_fixes(session, &repo, run, Flags::new(session, &repo, args).dry_run);
    }
    let checks = of_worktree(&repo)?;
    if args.list {
        return show_list(session, &checks, args);
    }
    let flags = Flags::new(session, &repo, args);
    if flags.interactive && !report::can_ask() && !args.yes {
        return Err(Error::usage("`--interactive` asks before each fix, and there is no terminal")
            .hint("`--no-fix` runs none; `--yes` runs risky ones, too"));
    }
    // What has markers of conflicts in it would be judged as if somebody had written them.
    if let Some(operation) = repo.operation().filter(|_| !flags.dry_run)
        && repo.index()?.has_conflicts()
    {
        return Err(Error::no(format!(
            "not healthy: {} is in progress, and files are in conflict; nothing was checked",
            operation.name
        ))
        .hint("`git status` names them"));
    }
    let wish = Wish {
        only: args.only.clone(),
        skip: args.skip.clone(),
        skip_tests: flags.skip_tests,
        ..Wish::default()
    };
    let here = Here { system: std::env::consts::OS, is_ci: session.world.says_yes("CI") };
    let chosen = choose(&checks.config, &wish, here)?;
    if flags.persist && !flags.dry_run {
        flags.keep(&repo)?;
    }
    if checks.file.is_none() {
        session
            .story("there is no `setup/validate.toml`: the usual checks run (`--list` shows them)");
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        fast: flags.fast,
        dry_run: flags.dry_run,
        why: args.why,
        fixes: match flags {
            _ if args.yes => FixMode::All,
            Flags { no_fix: true, .. } => FixMode::Off,
            Flags { interactive: true, .. } => FixMode::Ask,
            _ => FixMode::Safe,
        },
        jobs: args.jobs.map_or(cores, usize::from),
    };
    let order = Order {
        config: &checks.config,
        chosen: &chosen,
        options,
        place: Place::Worktree,
        by: "validate",
        keeps_log: !flags.no_log,
        is_remembered: true,
        waits: true,
        command: command(session, args, &flags),
    };
    let detail = Detail {
        all: session.loudness == Loudness::Verbose,
        quiet: session.loudness == Loudness::Quiet,
        why: args.why || flags.dry_run,
    };
    // Into a pipe goes a line for each check when it has ended; a terminal gets the table at the end.
    let is_for_a_program =
        [&args.junit, &args.sarif].into_iter().flatten().any(|file| file == Path::new(STDOUT));
    let has_lines = !args.json && !report::is_seen() && !detail.why && !is_for_a_program;
    let shower = Shower::new(&checks, session.loudness, has_lines);
    let around = Around { repo: &repo, tools: session.tools() };
    let done =
        perform(&repo, &session.tools(), order, &around, &shower, &|text| report::warn(text))?;
    shower.failure()?;
    let report = describe(&repo, &checks, &done, flags.fast, flags.dry_run);
    let token = args.github.then(|| unguessable(session));
    if let Some(token) = &token {
        // What commands have printed is no command to GitHub.
        report::answer(&format!("::stop-commands::{token}\n"))?;
    }
    if !is_for_a_program {
        answer(args, &report, detail, has_lines)?;
    }
    if let Some(token) = &token {
        report::answer(&format!("::{token}::\n"))?;
    }
    tell(session, &done);
    if flags.dry_run {
        if args.junit.is_some() || args.sarif.is_some() || args.github {
            report::warn("a dry run writes no reports");
        }
    } else {
        write_reports(session, &repo, &checks, args, &report)?;
    }
    Ok(code(&done))
}

/// Where a report goes that is named so: to the standard output.
const STDOUT: &str = "-";

/// Refuses two outputs to one place, before anything runs.
fn check_outputs(session: &Session, args: &Validate) -> Result<()> {
    let is_stdout = |file: &Option<PathBuf>| file.as_deref() == Some(Path::new(STDOUT));
    let to_stdout = [
        ("--json", args.json),
        ("--github", args.github),
        ("--junit -", is_stdout(&args.junit)),
        ("--sarif -", is_stdout(&args.sarif)),
    ];
    let to_stdout: Vec<&str> = to_stdout.iter().filter(|one| one.1).map(|one| one.0).collect();
    if let [one, other, ..] = to_stdout[..] {
        return Err(Error::usage(format!(
            "`{one}` and `{other}` both write to the standard output"
        ))
        .hint("give one of them a file"));
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

/// The reports for other programs.
fn write_reports(
    session: &Session,
    repo: &Repo,
    checks: &Checks,
    args: &Validate,
    report: &ValidateReport,
) -> Result<()> {
    let folder = |name: &str| {
        let check = checks.config.checks.iter().find(|check| check.name == name);
        check.and_then(|check| check.cwd.as_ref()).map(ToString::to_string).unwrap_or_default()
    };
    let is_file = |path: &str| repo.root().join(path).is_file();
    let found = findings::of_report(report, &folder, &is_file);
    let write = |file: &Path, text: String| {
        if file == Path::new(STDOUT) {
            return report::answer(&text);
        }
        let path = session.world.cwd.join(file);
        let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        let written = folder.and_then(|()| session.tools().disk.write_into(&path, text.as_bytes()));
        written.unable(|| format!("the report `{}` cannot be written", path.display()))
    };
    let mut failures = Vec::new();
    if let Some(file) = &args.junit {
        failures.extend(write(file, junit(report)).err());
    }
    if let Some(file) = &args.sarif {
        failures.extend(write(file, sarif(report, &found)).err());
    }
    if args.github {
        report::answer(&annotations(report, &found))?;
        if let Some(file) = session.world.variable("GITHUB_STEP_SUMMARY") {
            let append = || {
                let mut file = File::options().create(true).append(true).open(file)?;
                file.write_all(step_summary(report, &found).as_bytes())
            };
            let appended = append();
            failures.extend(appended.unable(|| format!("`{file}` cannot be written")).err());
        }
    }
    match failures.len() {
        0 | 1 => failures.pop().map_or(Ok(()), Err),
        _ => Err(failures
            .iter()
            .fold(Error::unable("reports could not be written"), |error, failure| {
                error.detail(failure.to_string())
            })),
    }
}

/// A word that no check can have printed on purpose.
fn unguessable(session: &Session) -> String {
    use std::hash::{BuildHasher, Hasher};
    // The keys of the standard library's hashes are random in each process.
    let random = || std::hash::RandomState::new().build_hasher().finish().to_be_bytes();
    let now = (session.world.clock)().as_nanos().to_be_bytes();
    digest::hex(&digest::of_parts([&random()[..], &random(), &now]))
}

/// The words of the command, for the log and for whoever waits.
fn command(session: &Session, args: &Validate, flags: &Flags) -> String {
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
            words.extend(names.iter().map(|name| typed(name)));
        }
    }
    if session.world.says_yes("CI") {
        words.push("(CI)".to_owned());
    }
    words.join(" ")
}

fn answer(args: &Validate, report: &ValidateReport, detail: Detail, has_lines: bool) -> Result<()> {
    if args.json {
        return report::answer_json(report);
    }
    if has_lines {
        return report::answer(&report.end(detail));
    }
    report::answer(&format!("{}{}", report.table(detail), report.end(detail)))
}

/// Tells what there is to know besides the answer.
fn tell(session: &Session, done: &Performed) {
    for warning in &done.outcomes.warnings {
        report::warn(warning);
    }
    if let Some(log) = &done.log
        && !done.is_ok()
    {
        session.story(&format!("log: {}", log.display()));
    }
}

fn show_history(session: &Session, repo: &Repo, args: &Validate) -> Exit {
    let runs = history::read(&history_file(repo));
    let lines = history::statistics(&runs).into_iter().map(|one| HistoryLine {
        check: one.check,
        runs: one.runs,
        pass_rate: one.pass_rate,
        hit_rate: one.hit_rate,
        median_ms: one.median_ms,
        p95_ms: one.p95_ms,
        last: one.last,
    });
    let report = HistoryReport {
        schema: "xtask.validate-history/1",
        runs: runs.len(),
        since: runs.first().map(|run| rfc3339(run.at)),
        checks: lines.collect(),
    };
    if args.json {
        report::answer_json(&report)?;
        return Ok(DONE);
    }
    if runs.is_empty() {
        session.story("there was no validation in this clone yet");
    }
    report::answer(&report.text())?;
    Ok(DONE)
}

fn show_list(session: &Session, checks: &Checks, args: &Validate) -> Exit {
    let config = &checks.config;
    let lines = config.checks.iter().enumerate().map(|(at, check)| ListLine {
        name: check.name.clone(),
        phase: config.phases[check.phase].name.clone(),
        command: does(check),
        needs: check.needs.iter().map(|need| config.checks[*need].name.clone()).collect(),
        tags: check.tags.clone(),
        os: check.os.clone(),
        tests: check.tests,
        ci: check.ci,
        before_commit: check.before_commit,
        always: no_state(config, at),
        ttl_ms: check.ttl_s.map(|seconds| seconds.saturating_mul(1000)),
        fix: check.fix.as_ref().map(|fix| fix.command.text.clone()),
        risk: check.fix.as_ref().map(risk),
    });
    let report = ListReport {
        schema: "xtask.validate-list/1",
        config: checks.file.clone(),
        phases: config.phases.iter().map(|phase| (phase.name.clone(), phase.gate)).collect(),
        checks: lines.collect(),
    };
    if args.json {
        report::answer_json(&report)?;
        return Ok(DONE);
    }
    if checks.file.is_none() {
        session.story("there is no `setup/validate.toml`; these are the usual checks");
    }
    report::answer(&report.text())?;
    Ok(DONE)
}
