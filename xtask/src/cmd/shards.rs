//! `validate --shard`, `--report`, `--merge-reports` and `--save-times`: one run on several machines.
//!
//! ```text
//! validate --shard 1/2 --report reports/1.json    validate --shard 2/2 --report reports/2.json
//! validate --merge-reports reports                ->  the table, the reports and the exit code of one run
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::session::Session;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::words::pluralize;
use xtask_config::{CHECK_TIMES_FILE, ValidateConfig, parse_check_times, render_check_times};
use xtask_git::Repo;
use xtask_validate::outcome::CheckOutcome;
use xtask_validate::report::merge::{NamedReport, merge_reports};
use xtask_validate::report::{REPORT_SCHEMA, ValidateReport};

/// The most reports that are merged, as many as there can be shards.
const MAX_REPORTS: usize = 256;

/// The largest report that is read, in bytes: a hundred checks with all the output that is kept of each.
const MAX_REPORT_BYTES: u64 = 64 << 20;

/// How deep reports may lie in the folder: services put each job's files into a folder of its own.
const MAX_DEPTH: usize = 3;

/// Reads the times of checks from the worktree. Without the file all checks count alike.
pub(super) fn read_check_times(repo: &Repo) -> Result<BTreeMap<String, u64>> {
    let path = repo.root().join(CHECK_TIMES_FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse_check_times(&text),
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(cause) => {
            Err(Error::unable(format!("cannot read `{CHECK_TIMES_FILE}`")).with_cause(cause))
        }
    }
}

/// Saves how long the checks of a run took. A check that did not run keeps its time; one that is not configured any more
/// has none.
pub(super) fn save_check_times(
    session: &Session,
    repo: &Repo,
    config: &ValidateConfig,
    done: &ValidateReport,
) -> Result<()> {
    // A file that cannot be read is written anew.
    let mut times = read_check_times(repo).unwrap_or_default();
    times.retain(|name, _| config.checks.iter().any(|check| check.name == *name));
    let mut measured = 0;
    for check in &done.checks {
        if matches!(check.outcome, CheckOutcome::Passed | CheckOutcome::Fixed) {
            times.insert(check.name.clone(), check.duration_ms);
            measured += 1;
        }
    }
    let path = repo.root().join(CHECK_TIMES_FILE);
    let text = render_check_times(&times);
    let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    folder
        .and_then(|()| session.tools().disk.write_into(&path, text.as_bytes()))
        .with_context(|| format!("cannot write `{CHECK_TIMES_FILE}`"))?;
    session.print_info(&format!(
        "saved the times of {} in `{CHECK_TIMES_FILE}`; commit it, so that all machines have it",
        pluralize(measured, "check")
    ));
    Ok(())
}

/// Merges the reports in a folder, which have to be of the commit and the checks of this checkout: those of a run before
/// may still be there.
pub(super) fn merge_folder(
    session: &Session,
    repo: &Repo,
    config: &ValidateConfig,
    folder: &Path,
) -> Result<ValidateReport> {
    let root = session.world.cwd.join(folder);
    let mut files = Vec::new();
    list_reports(&root, MAX_DEPTH, &mut files)?;
    if files.is_empty() {
        return Err(Error::unable(format!("no report in `{}`", folder.display())).with_hint(
            "`validate --shard I/N --report FILE` writes one, with a name that ends in `.json`",
        ));
    }
    if files.len() > MAX_REPORTS {
        return Err(Error::unable(format!(
            "`{}` has more than {MAX_REPORTS} reports",
            folder.display()
        )));
    }
    files.sort();
    let mut reports = Vec::new();
    for file in &files {
        let name = file.strip_prefix(&root).unwrap_or(file).display().to_string();
        let report = read_report(file).map_err(|why| {
            Error::unable(format!("`{name}` is not a report of `validate --report`"))
                .with_detail(why)
        })?;
        reports.push(NamedReport { file: name, report });
    }
    let merged = merge_reports(reports)?;
    check_origin(repo, config, folder, &merged)?;
    Ok(merged)
}

/// Returns an error if a report is not of the commit and the checks of this checkout.
fn check_origin(
    repo: &Repo,
    config: &ValidateConfig,
    folder: &Path,
    merged: &ValidateReport,
) -> Result<()> {
    let refused = |what: &str, detail: String| {
        Error::usage(format!("the reports in `{}` are of {what}", folder.display()))
            .with_detail(detail)
            .with_hint("are they of a run before? merge those of this run, in its commit")
    };
    let commit = repo.resolve_ref("HEAD")?.map(|commit| commit.to_string());
    if merged.commit != commit {
        let name = |commit: &Option<String>| commit.clone().unwrap_or("none".to_owned());
        let detail =
            format!("theirs is {}, checked out is {}", name(&merged.commit), name(&commit));
        return Err(refused("another commit", detail));
    }
    let reported: BTreeSet<&str> = merged.checks.iter().map(|check| check.name.as_str()).collect();
    let configured: BTreeSet<&str> =
        config.checks.iter().map(|check| check.name.as_str()).collect();
    if let Some(name) = reported.symmetric_difference(&configured).next() {
        let where_it_is =
            if configured.contains(name) { "no report has" } else { "only reports have" };
        return Err(refused("other checks", format!("{where_it_is} `{name}`")));
    }
    Ok(())
}

fn list_reports(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = || format!("cannot read the folder `{}`", folder.display());
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let kind = entry.file_type().with_context(failed)?;
        let path = entry.path();
        if kind.is_dir() && depth > 0 {
            list_reports(&path, depth - 1, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "json") {
            files.push(path);
        }
        if files.len() > MAX_REPORTS {
            break;
        }
    }
    Ok(())
}

fn read_report(file: &Path) -> Result<ValidateReport, String> {
    let size = std::fs::metadata(file).map_err(|cause| cause.to_string())?.len();
    if size > MAX_REPORT_BYTES {
        return Err(format!("it is larger than {} MB", MAX_REPORT_BYTES >> 20));
    }
    let bytes = std::fs::read(file).map_err(|cause| cause.to_string())?;
    let report: ValidateReport =
        serde_json::from_slice(&bytes).map_err(|cause| cause.to_string())?;
    if report.schema != REPORT_SCHEMA {
        return Err(format!("its schema is `{}`, not `{REPORT_SCHEMA}`", report.schema));
    }
    Ok(report)
}
