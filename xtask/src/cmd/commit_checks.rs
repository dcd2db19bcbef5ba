//! The checks of the `pre-commit` hook: those with `before_commit = true`, run on the staged state.

use std::path::Path;

use super::checks::{run_checks, run_environment};
use super::session::{Session, print_hook_message};
use super::{CommandResult, SUCCESS};
use xtask_base::error::{ErrorKind, Result};
use xtask_base::path::RepoPath;
use xtask_config::VALIDATE_FILE;
use xtask_git::{OperationKind, Repo};
use xtask_hooks::pause;
use xtask_report as report;
use xtask_sync::context;
use xtask_validate::history::RunTrigger;
use xtask_validate::load_checks::LoadedChecks;
use xtask_validate::plan::{CheckFilter, CheckSelection, RunEnvironment, select_checks};
use xtask_validate::report::{ReportDetail, ValidateReport};
use xtask_validate::runner::{FixMode, RunOptions};
use xtask_validate::session::{CheckLocation, ValidationRequest};
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
    let checks = LoadedChecks::parse(&text)?;
    if !checks.config.checks.iter().any(|check| check.conditions.before_commit) {
        return Ok(SUCCESS);
    }
    let here = RunEnvironment { is_ci: false, ..run_environment(session) };
    let filter = CheckFilter { before_commit: true, ..CheckFilter::default() };
    let selection = select_checks(&checks.config, &filter, here)?;
    let done = check_staged_state(session, repo, index, &checks, &selection)?;
    if done.ok && !done.is_interrupted {
        return Ok(SUCCESS);
    }
    let detail = ReportDetail { all: false, quiet: true, why: false };
    print_hook_message("commit refused: checks failed on the staged state");
    for line in done.render_summary(detail).trim_end().lines() {
        report::print_hook_line(line);
    }
    print_hook_message("`git commit --no-verify` commits anyway");
    Ok(ErrorKind::Negative.exit_code())
}

/// Runs the checks on the staged state, again if it was edited in the worktree during the run.
fn check_staged_state(
    session: &Session,
    repo: &Repo,
    index: &Path,
    checks: &LoadedChecks,
    selection: &[CheckSelection],
) -> Result<ValidateReport> {
    let tools = session.tools();
    let (mut location, mut _lock) = staged_tree::prepare_location(repo, index, &tools)?;
    loop {
        let is_worktree = matches!(location, CheckLocation::Worktree);
        let request = ValidationRequest {
            checks,
            selection,
            options: RunOptions::fast(FixMode::Off),
            location,
            started_by: RunTrigger::PreCommit,
            keeps_log: true,
            records_history: true,
            waits_for_lock: false,
            command: RunTrigger::PreCommit.command().to_owned(),
        };
        let done = run_checks(session, repo, request, false, &|text| print_hook_message(text))?;
        if !is_worktree || !done.ok {
            return Ok(done);
        }
        // If the worktree was edited during the run, the checked state is not the one that is committed.
        (location, _lock) = staged_tree::prepare_location(repo, index, &tools)?;
        if matches!(location, CheckLocation::Worktree) {
            return Ok(done);
        }
    }
}
