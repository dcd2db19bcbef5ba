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
use xtask_base::words::{join_names, pluralize};
use xtask_git::Repo;
use xtask_propagate::decide::{BranchAction, BranchRow, PropagateStatus};
use xtask_propagate::push::{PushObstacle, PushOutcome};
use xtask_propagate::rounds::{PropagateOptions, PropagateOutcome, propagate_branches};
use xtask_propagate::targets::BranchSet;
use xtask_report as report;
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
    let options = PropagateOptions {
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
    let outcome = propagate_branches(&repo, &options, &session.tools())?;
    let mut code = exit_code(&outcome);
    let is_cut = outcome.rows.values().any(|row| row.status == PropagateStatus::Failed);
    if is_cut && session.tools().interrupts.was_interrupted() {
        code = ErrorKind::Interrupted.exit_code();
    }
    if args.pr && !args.dry_run {
        let is_well = update_requests(session, &repo, &outcome);
        code = if is_well { code } else { ErrorKind::Unable.exit_code().max(code) };
    }
    if args.json {
        report::print_json(&outcome.to_report(&options))?;
        return Ok(code);
    }
    session.warn_about_context(&outcome.context);
    report::print_output(&outcome.render_text(&options, session.verbosity))?;
    print_next_steps(session, args, &outcome);
    if !args.remote && args.globs.is_empty() {
        print_remote_only(session, &list_remote_only(&repo, &outcome.context)?);
    }
    Ok(code)
}

/// Prints the branches that only the remote has.
fn print_remote_only(session: &Session, branches: &[String]) {
    let (count, them) = match branches.len() {
        0 => return,
        1 => ("1 branch is".to_owned(), "it"),
        many => (format!("{} are", pluralize(many, "branch")), "them"),
    };
    session.print_info(&format!(
        "{count} only on the remote and not updated: {}; `cargo xtask propagate --remote --push` updates {them}",
        join_names(branches, 5)
    ));
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

/// Opens or updates the pull requests of the side branches, and closes those of protected branches that are up to date
/// by now. Returns whether all succeeded.
fn update_requests(session: &Session, repo: &Repo, outcome: &PropagateOutcome) -> bool {
    let PropagateOutcome { context, rows } = outcome;
    let Some(projects) = find_projects(repo, context, &context.config.remote) else { return false };
    let gh = GhClient { repo, project: &projects.project, fork: None };
    let side_branches = || rows.values().filter(|row| row.has_side_branch());
    let has_gone = |row: &&BranchRow| row.status == PropagateStatus::Updated && row.new.is_none();
    let is_waiting = |row: &&BranchRow| {
        let has_commit = row.old.or(row.new).is_some() && !has_gone(row);
        let is_done = matches!(
            row.status,
            PropagateStatus::Updated | PropagateStatus::Pushed | PropagateStatus::UpToDate
        );
        has_commit && is_done
    };
    let mut is_well = true;
    let opened = side_branches().filter(is_waiting).map(|row| open_request(&gh, context, row));
    let closed = side_branches().filter(has_gone).map(|row| close_request(&gh, row));
    for done in opened.chain(closed) {
        match done {
            Ok(line) => line.iter().for_each(|line| session.print_info(line)),
            Err(why) => {
                is_well = false;
                report::print_warning(&why);
            }
        }
    }
    is_well
}

/// Opens or updates the pull request of a side branch. Returns what was done, or why it could not be.
fn open_request(
    gh: &GhClient<'_>,
    context: &SyncContext,
    row: &BranchRow,
) -> Result<Option<String>, String> {
    let branch = &row.branch;
    let short_id = gh.repo.short_id(context.canonical.commit);
    let request = ProtectedPullRequest {
        branch: branch.clone(),
        side_branch: row.target.clone(),
        canonical: (context.config.branch.clone(), short_id),
        files: row.writes,
    };
    let done = gh
        .create_or_update(&request)
        .map_err(|failure| format!("no pull request for `{branch}`: {failure}"))?;
    let what = if done.is_new { "opened" } else { "is up to date" };
    Ok(Some(format!("pull request for `{branch}` {what}: {}", done.url)))
}

/// Closes the pull request of a side branch with a comment, unless the forge closed it when that branch was deleted.
fn close_request(gh: &GhClient<'_>, row: &BranchRow) -> Result<Option<String>, String> {
    let BranchRow { branch, target, .. } = row;
    let why = format!("`{branch}` has all of these changes now; there is nothing left to merge.");
    let is_closed = gh.close_pull_request(target, branch, &why);
    let is_closed = is_closed.map_err(|failure| failure.to_string())?;
    Ok(is_closed.then(|| format!("the pull request of `{target}` is closed: {why}")))
}

/// Returns the highest exit code of the branches' results.
fn exit_code(outcome: &PropagateOutcome) -> u8 {
    let of = |row: &BranchRow| match row.status {
        PropagateStatus::Failed => ErrorKind::Unable.exit_code(),
        _ if row.is_incomplete() => ErrorKind::Unable.exit_code(),
        _ if row.count(PathClass::Unknown) > 0 => ErrorKind::Unable.exit_code(),
        PropagateStatus::Refused => ErrorKind::Usage.exit_code(),
        _ => SUCCESS,
    };
    outcome.rows.values().map(of).max().unwrap_or(SUCCESS)
}

fn print_next_steps(session: &Session, args: &PropagateArgs, outcome: &PropagateOutcome) {
    let rows = || outcome.rows.values();
    let no_upstream = Some(PushOutcome::Withheld(PushObstacle::NoUpstream));
    match rows().filter(|row| row.push == no_upstream).count() {
        0 => {}
        many => session.print_info(&format!(
            "{} {} not pushed: no upstream (`git branch -u` sets it); `--remote --push` updates the branches of the \
             remote",
            pluralize(many, "branch"),
            if many == 1 { "was" } else { "were" }
        )),
    }
    let has = |action| rows().any(|row| row.action() == action);
    let has_beside = rows().any(|row| row.action() == BranchAction::Beside && row.new.is_some());
    if has_beside && !args.pr && !args.dry_run {
        session.print_info(
            "side branches of protected branches need a pull request; `--remote --push --pr` opens it",
        );
    }
    if has(BranchAction::Refused) {
        session
            .print_info("`--yes` allows deleting more than half of the managed files of a branch");
    }
    if rows().any(|row| row.count(PathClass::Unknown) > 0) {
        session.print_info(
            "shallow clone: `git fetch --unshallow` gets the history needed to decide the rest",
        );
    }
    let has_update = has(BranchAction::Update) || has(BranchAction::Worktree) || has_beside;
    if has_update && !args.push && !args.dry_run {
        session.print_info("not pushed; use `cargo xtask propagate --push`");
    }
}
