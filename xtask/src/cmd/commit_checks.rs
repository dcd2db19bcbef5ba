//! The checks of the `pre-commit` hook: those with `before_commit = true`, run on the staged state.

use std::path::Path;

use super::checks::{self, ProgressReporter, RepoCheckRunner, build_report};
use super::session::{Session, print_hook_message};
use super::{CommandResult, SUCCESS};
use xtask_base::error::ErrorKind;
use xtask_base::path::RepoPath;
use xtask_config::VALIDATE_FILE;
use xtask_git::{OperationKind, Repo};
use xtask_hooks::pause;
use xtask_report as report;
use xtask_report::validate::ReportDetail;
use xtask_sync::context;
use xtask_validate::plan::{CheckFilter, RunEnvironment, select_checks};
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest, run_validation};
use xtask_validate::staged_tree;

/// Runs the `before_commit` checks of the canonical branch on the staged state of `index`. Returns exit code 1, which
/// refuses the commit, if one fails.
pub(super) fn run(session: &Session, repo: &Repo, index: &Path) -> CommandResult {
    let is_made_again =
        repo.current_operation().is_some_and(|found| found.kind != OperationKind::Merge);
    if is_made_again || pause::find_pause(repo, session.world.now_seconds())?.is_some() {
        return Ok(SUCCESS);
    }
    let Some(context) = context::find_canonical_context(repo)? else { return Ok(SUCCESS) };
    let path = RepoPath::new(VALIDATE_FILE);
    let Some(entry) = repo.entry_at(context.canonical.tree, &path)? else { return Ok(SUCCESS) };
    let text = String::from_utf8_lossy(&repo.read_blob(entry.id)?).into_owned();
    let checks = checks::parse_checks(&text)?;
    if !checks.config.checks.iter().any(|check| check.before_commit) {
        return Ok(SUCCESS);
    }
    let here = RunEnvironment { system: std::env::consts::OS, is_ci: false };
    let wish = CheckFilter { before_commit: true, ..CheckFilter::default() };
    let chosen = select_checks(&checks.config, &wish, here)?;
    let tools = session.tools();
    let options = RunOptions {
        fast: true,
        dry_run: false,
        why: false,
        fix_mode: FixMode::Off,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let shower = ProgressReporter::new(&checks, session.verbosity, false);
    let around = RepoCheckRunner { repo, tools };
    let (mut place, mut _lock) = staged_tree::prepare_location(repo, index, &tools)?;
    let done = loop {
        let is_here = matches!(place, CheckLocation::Worktree);
        let order = ValidationRequest {
            config: &checks.config,
            selection: &chosen,
            options,
            location: place,
            started_by: "pre-commit",
            keeps_log: true,
            records_history: true,
            waits_for_lock: false,
            command: "pre-commit".to_owned(),
        };
        let done = run_validation(repo, &tools, order, &around, &shower, &|text| {
            print_hook_message(text)
        })?;
        if !is_here || !done.is_ok() {
            break done;
        }
        // If the worktree was edited during the run, the checked state is not the one that is committed.
        (place, _lock) = staged_tree::prepare_location(repo, index, &tools)?;
        if matches!(place, CheckLocation::Worktree) {
            break done;
        }
    };
    if done.is_ok() && !done.results.is_interrupted {
        return Ok(SUCCESS);
    }
    let report = build_report(repo, &checks, &done, true, false);
    let detail = ReportDetail { all: false, quiet: true, why: false };
    print_hook_message("commit refused: checks failed on the staged state");
    report::print_hook_line(report.render_summary(detail).trim_end());
    print_hook_message("`git commit --no-verify` commits anyway");
    Ok(ErrorKind::Negative.exit_code())
}
