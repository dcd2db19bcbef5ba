//! Where the result of `validate` goes: the terminal, and reports for other programs.
//!
//! ```text
//! validate --junit out/junit.xml --github  ->  table, annotations, and the file
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::session::Session;
use crate::cli::ValidateArgs;
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_git::Repo;
use xtask_report::{self as report, Verbosity};
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::report::findings;
use xtask_validate::report::github::{render_annotations, render_step_summary};
use xtask_validate::report::junit::render_junit;
use xtask_validate::report::sarif::render_sarif;
use xtask_validate::report::{ReportDetail, ValidateReport};

/// How the result is printed.
pub(super) struct Output {
    detail: ReportDetail,
    /// Whether stdout is reserved for a report of another format.
    is_for_a_program: bool,
    /// Whether each check gets a line as it ends, for a pipe; a terminal gets a table at the end.
    pub(super) has_lines: bool,
}

impl Output {
    pub(super) fn new(session: &Session, args: &ValidateArgs, is_dry_run: bool) -> Output {
        let detail = ReportDetail {
            all: session.verbosity == Verbosity::Verbose,
            quiet: session.verbosity == Verbosity::Quiet,
            why: args.why || is_dry_run,
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

    pub(super) fn print_report(
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
pub(super) fn check_outputs(session: &Session, args: &ValidateArgs) -> Result<()> {
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
pub(super) fn write_reports(
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
