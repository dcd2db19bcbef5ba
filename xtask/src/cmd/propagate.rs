//! `propagate`: syncs every branch from the canonical one without checking it out.
//!
//! ```text
//! feature/menu  update  1 file, now 1a2b3c4d5e
//! main          beside  1 file, now 5e4d3c2b1a   (on orchestration-sync/main)
//! ```

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::PropagateArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_base::words::join_names;
use xtask_git::Repo;
use xtask_propagate::apply::NO_UPSTREAM;
use xtask_propagate::decide::{BranchRow, PropagateStatus};
use xtask_propagate::rounds::{PropagateOptions, PropagateOutcome, propagate_branches};
use xtask_propagate::targets::BranchSet;
use xtask_report as report;
use xtask_report::propagate::{PropagateBranchLine, PropagatePathLine, PropagateReport};
use xtask_report::sync::CanonicalLine;
use xtask_review::after_push::find_projects;
use xtask_review::gh::{GhClient, is_installed};
use xtask_review::pull_request::ProtectedPullRequest;
use xtask_sync::classify::PathClass;
use xtask_sync::context::{self, SyncContext};

pub(super) fn run(session: &Session, args: &PropagateArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.remote && !args.push && !args.dry_run {
        return Err(Error::usage("--remote needs --push: it changes branches of the remote")
            .with_hint("add --push, or --dry-run to see what would be pushed"));
    }
    let aim = PropagateOptions {
        patterns: args.globs.clone(),
        remote: args.remote,
        push: args.push,
        dry_run: args.dry_run,
        allow_mass_deletion: args.yes,
        lists_paths: args.json,
    };
    if args.pr {
        check_forge(session, &repo)?;
    }
    if args.push && !args.dry_run {
        session.print_info("contacting the remote …");
    }
    let outcome = propagate_branches(&repo, &aim, &session.tools())?;
    let mut code = exit_code(&outcome);
    let is_cut = outcome.rows.values().any(|row| row.status == PropagateStatus::Failed);
    if is_cut && session.tools().interrupts.was_interrupted() {
        code = ErrorKind::Interrupted.exit_code();
    }
    if args.pr && !args.dry_run {
        let is_well =
            open_requests(session, &repo, &outcome) & close_requests(session, &repo, &outcome);
        code = if is_well { code } else { ErrorKind::Unable.exit_code().max(code) };
    }
    let elsewhere = match args.remote || !args.globs.is_empty() {
        true => Vec::new(),
        false => list_remote_only(&repo, &outcome.context)?,
    };
    let report = build_report(outcome, args);
    if args.json {
        report::print_json(&report)?;
        return Ok(code);
    }
    for warning in &report.warnings {
        report::print_warning(warning);
    }
    report::print_output(&report.render_text(session.verbosity))?;
    print_next_steps(session, args, &report);
    if !elsewhere.is_empty() {
        let (branches, them) = match elsewhere.len() {
            1 => ("1 branch is".to_owned(), "it"),
            number => (format!("{number} branches are"), "them"),
        };
        session.print_info(&format!(
            "{branches} only on the remote and not updated: {}; `cargo xtask propagate --remote --push` updates \
             {them}",
            join_names(&elsewhere, 5)
        ));
    }
    Ok(code)
}

/// Returns the branches that would be synced but exist only on the remote, as of the last fetch.
fn list_remote_only(repo: &Repo, context: &SyncContext) -> Result<Vec<String>> {
    let there =
        BranchSet::read_fetched(repo, &context.config.remote)?.select_targets(context, &[])?;
    let here = BranchSet::read_local(repo)?.select_targets(context, &[])?;
    let is_here = |name: &String| here.iter().any(|target| target.branch == *name);
    Ok(there.into_iter().map(|target| target.branch).filter(|name| !is_here(name)).collect())
}

/// Fails if pull requests cannot be made: `gh` is missing or the remote is not on GitHub. Runs before any change.
fn check_forge(session: &Session, repo: &Repo) -> Result<()> {
    let context = context::read_context(repo)?;
    let remote = &context.config.remote;
    if !is_installed(&session.world) {
        return Err(Error::unable("`gh` not found, but --pr needs it; nothing was done")
            .with_hint("install it from https://cli.github.com, or leave out --pr"));
    }
    if !repo.has_remote(remote)
        || !find_projects(repo, &context, remote).is_some_and(|at| at.is_github())
    {
        return Err(Error::unable(format!("`{remote}` is not on GitHub; nothing was done"))
            .with_hint(
                "if it is, set `forge = \"github\"` in `setup/sync.toml`; or leave out --pr",
            ));
    }
    Ok(())
}

/// Closes the pull requests of protected branches that are up to date by now, with a comment, unless the forge closed
/// them when their side branch was deleted. Returns whether all succeeded.
fn close_requests(session: &Session, repo: &Repo, outcome: &PropagateOutcome) -> bool {
    let PropagateOutcome { context, rows } = outcome;
    let Some(places) = find_projects(repo, context, &context.config.remote) else { return false };
    let gh = GhClient { repo, project: &places.project, fork: None };
    let has_gone = |row: &&BranchRow| {
        row.status == PropagateStatus::Updated && row.target != row.branch && row.new.is_none()
    };
    let mut is_well = true;
    for row in rows.values().filter(has_gone) {
        let why = format!(
            "`{}` has all of these changes now; there is nothing left to merge.",
            row.branch
        );
        match gh.close_pull_request(&row.target, &row.branch, &why) {
            Ok(true) => session
                .print_info(&format!("the pull request of `{}` is closed: {why}", row.target)),
            Ok(false) => {}
            Err(failure) => {
                is_well = false;
                report::print_warning(&failure.to_string());
            }
        }
    }
    is_well
}

/// Opens or updates the pull requests of the side branches. Returns whether all succeeded.
fn open_requests(session: &Session, repo: &Repo, outcome: &PropagateOutcome) -> bool {
    let PropagateOutcome { context, rows } = outcome;
    let config = &context.config;
    let Some(places) = find_projects(repo, context, &config.remote) else { return false };
    let gh = GhClient { repo, project: &places.project, fork: None };
    let waits = |row: &&BranchRow| {
        row.target != row.branch
            && matches!(
                row.status,
                PropagateStatus::Updated | PropagateStatus::Pushed | PropagateStatus::UpToDate
            )
            && row.old.or(row.new).is_some()
            && !(row.status == PropagateStatus::Updated && row.new.is_none())
    };
    let mut is_well = true;
    for row in rows.values().filter(waits) {
        let letter = ProtectedPullRequest {
            branch: row.branch.clone(),
            side_branch: row.target.clone(),
            canonical: (config.branch.clone(), repo.short_id(context.canonical.commit)),
            files: row.writes,
        };
        match gh.create_or_update(&letter) {
            Ok(done) => {
                let what = if done.is_new { "opened" } else { "is up to date" };
                session
                    .print_info(&format!("pull request for `{}` {what}: {}", row.branch, done.url));
            }
            Err(failure) => {
                is_well = false;
                report::print_warning(&format!("no pull request for `{}`: {failure}", row.branch));
            }
        }
    }
    is_well
}

/// Returns the highest exit code of the branches' results.
fn exit_code(outcome: &PropagateOutcome) -> u8 {
    let of = |row: &BranchRow| match row.status {
        PropagateStatus::Failed => ErrorKind::Unable.exit_code(),
        _ if row.is_incomplete => ErrorKind::Unable.exit_code(),
        _ if row.counts.contains_key(&PathClass::Unknown) => ErrorKind::Unable.exit_code(),
        PropagateStatus::Refused => ErrorKind::Usage.exit_code(),
        _ => SUCCESS,
    };
    outcome.rows.values().map(of).max().unwrap_or(SUCCESS)
}

fn build_report(outcome: PropagateOutcome, args: &PropagateArgs) -> PropagateReport {
    let PropagateOutcome { context, rows } = outcome;
    PropagateReport {
        schema: "xtask.propagate/1",
        canonical: CanonicalLine {
            reference: context.canonical.reference,
            commit: context.canonical.commit.to_string(),
        },
        remote: args.remote.then_some(context.config.remote),
        dry_run: args.dry_run,
        warnings: context.warnings,
        branches: rows.into_values().map(build_branch_line).collect(),
    }
}

fn build_branch_line(row: BranchRow) -> PropagateBranchLine {
    let count = |class| row.counts.get(&class).copied().unwrap_or(0);
    PropagateBranchLine {
        action: match row.status {
            PropagateStatus::WillUpdate | PropagateStatus::Updated if row.target != row.branch => {
                "beside"
            }
            fate => fate.json_name(),
        },
        target: (row.target != row.branch).then_some(row.target),
        old: row.old.map(|id| id.to_string()),
        new: row.new.map(|id| id.to_string()),
        reason: row.reason,
        written: row.writes,
        short: row.is_incomplete,
        behind: count(PathClass::Behind),
        customised: count(PathClass::Customised),
        edited: count(PathClass::Edited),
        untracked: count(PathClass::Untracked),
        unknown: count(PathClass::Unknown),
        paths: row
            .paths
            .into_iter()
            .map(|path| PropagatePathLine {
                path: path.path,
                class: path.class.name(),
                action: path.action.name(),
            })
            .collect(),
        branch: row.branch,
    }
}

fn print_next_steps(session: &Session, args: &PropagateArgs, report: &PropagateReport) {
    let alone = report
        .branches
        .iter()
        .filter(|line| line.reason.as_ref().is_some_and(|reason| reason.contains(NO_UPSTREAM)));
    match alone.count() {
        0 => {}
        many => session.print_info(&format!(
            "{} not pushed: no upstream (`git branch -u` sets it); `--remote --push` \
             updates the branches of the remote",
            if many == 1 { "1 branch was".to_owned() } else { format!("{many} branches were") }
        )),
    }
    let has_beside =
        report.branches.iter().any(|line| line.action == "beside" && line.new.is_some());
    if has_beside && !args.pr && !args.dry_run {
        session
            .print_info("side branches of protected branches need a pull request; `--remote --push --pr` opens it");
    }
    let has = |action: &str| report.branches.iter().any(|line| line.action == action);
    if has("refused") {
        session
            .print_info("`--yes` allows deleting more than half of the managed files of a branch");
    }
    if report.branches.iter().any(|line| line.unknown > 0) {
        session.print_info(
            "shallow clone: `git fetch --unshallow` gets the history needed to decide the rest",
        );
    }
    if (has("update") || has("worktree") || has_beside) && !args.push && !args.dry_run {
        session.print_info("not pushed; use `cargo xtask propagate --push`");
    }
}
