//! What `pre-commit` does with checks: those that are marked for it, on the very state that is about to be committed.

use std::path::Path;

use super::checks::{self, Around, Shower, describe};
use super::session::{Session, tell};
use super::{DONE, Exit};
use xtask_base::error::Kind;
use xtask_base::path::RepoPath;
use xtask_config::VALIDATE_FILE;
use xtask_git::{OperationKind, Repo};
use xtask_hooks::off;
use xtask_report as report;
use xtask_report::validate::Detail;
use xtask_sync::context;
use xtask_validate::perform::{Order, Place, perform};
use xtask_validate::plan::{Here, Wish, choose};
use xtask_validate::run::{FixMode, Options};
use xtask_validate::staged;

/// Runs the checks that are marked for it, as the canonical branch has them, on what is about to be
/// committed.
pub(super) fn run(session: &Session, repo: &Repo, index: &Path) -> Exit {
    let is_made_again = repo.operation().is_some_and(|found| found.kind != OperationKind::Merge);
    if is_made_again || off::is_off(repo, session.world.now_seconds())?.is_some() {
        return Ok(DONE);
    }
    let Some(context) = context::of_canonical(repo)? else { return Ok(DONE) };
    let path = RepoPath::new(VALIDATE_FILE);
    let Some(entry) = repo.entry_at(context.canonical.tree, &path)? else { return Ok(DONE) };
    let text = String::from_utf8_lossy(&repo.blob(entry.id)?).into_owned();
    let checks = checks::read(&text)?;
    if !checks.config.checks.iter().any(|check| check.before_commit) {
        return Ok(DONE);
    }
    let here = Here { system: std::env::consts::OS, is_ci: false };
    let wish = Wish { before_commit: true, ..Wish::default() };
    let chosen = choose(&checks.config, &wish, here)?;
    let tools = session.tools();
    let options = Options {
        fast: true,
        dry_run: false,
        why: false,
        fixes: FixMode::Off,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let shower = Shower::new(&checks, session.loudness, false);
    let around = Around { repo, tools };
    let (mut place, mut _lock) = staged::place(repo, index, &tools)?;
    let done = loop {
        let is_here = matches!(place, Place::Worktree);
        let order = Order {
            config: &checks.config,
            chosen: &chosen,
            options,
            place,
            by: "pre-commit",
            keeps_log: true,
            is_remembered: true,
            waits: false,
            command: "pre-commit".to_owned(),
        };
        let done = perform(repo, &tools, order, &around, &shower, &|text| tell(text))?;
        if !is_here || !done.is_ok() {
            break done;
        }
        // Where somebody went on working meanwhile, what was checked is not what is committed.
        (place, _lock) = staged::place(repo, index, &tools)?;
        if matches!(place, Place::Worktree) {
            break done;
        }
    };
    if done.is_ok() && !done.outcomes.is_interrupted {
        return Ok(DONE);
    }
    let report = describe(repo, &checks, &done, true, false);
    let detail = Detail { all: false, quiet: true, why: false };
    tell("the commit was refused: what it would hold did not pass");
    report::hook_line(report.end(detail).trim_end());
    tell("`git commit --no-verify` does it all the same");
    Ok(Kind::No.code())
}
