//! `push`: runs `git push`, then opens or updates the pull requests of the pushed branches.
//!
//! If our `pre-push` hook runs, it checks the push like any other. If it does not, the same check is made on the refs
//! that `git push --dry-run` lists.

use std::ffi::OsString;

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::PushArgs;
use xtask_base::error::{Error, ErrorKind, Result};
use xtask_git::{Id, PushHookMode, Repo};
use xtask_hooks::health::inspect_hooks;
use xtask_hooks::pre_push::{PushedRef, check_push, find_changed_branches};
use xtask_hooks::program::VerifyDepth;
use xtask_hooks::{Hook, skip_rules};
use xtask_report::{self as report, Verbosity};
use xtask_review::after_push::{build_pull_request, find_projects, is_pushed, open_pull_request};
use xtask_review::queue::{self, QueuedRequest, RequestState};
use xtask_sync::context::{self, SyncContext};

pub(super) fn run(session: &Session, args: &PushArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let mut arguments = args.arguments.clone();
    match session.verbosity {
        Verbosity::Quiet => arguments.insert(0, "--quiet".into()),
        Verbosity::Verbose => arguments.insert(0, "--verbose".into()),
        Verbosity::Normal => {}
    }
    let Some(context) = context::find_context(&repo, &context::find_canonical_names(&repo)?)?
    else {
        return Ok(exit_code(repo.push_attached(&arguments, PushHookMode::Skip)?.success()));
    };
    let health =
        inspect_hooks(&repo, &session.world, Ok(Some(&context)), VerifyDepth::Metadata, &[])?;
    let fires = |hook: &xtask_hooks::health::HookHealth| hook.hook == Hook::PrePush;
    let is_guarded = health.hooks.iter().any(|hook| fires(hook) && health.will_run(hook));
    let mut branches = Vec::new();
    if !is_guarded && skip_rules::find_disabling_variable(&session.world).is_none() {
        branches = check_unguarded_push(session, &repo, &context, &arguments)?;
    }
    let how = if is_guarded { PushHookMode::CheckOnly } else { PushHookMode::Skip };
    if !repo.push_attached(&arguments, how)?.success() {
        // Git has printed the reason.
        return Ok(ErrorKind::Unable.exit_code());
    }
    if !is_dry_run(&arguments) {
        // The push succeeded, so a missing pull request is only a warning.
        if let Err(failure) = open_due_requests(session, &repo, &context, &arguments, branches) {
            report::print_warning(&format!("no pull request was made: {failure}"));
        }
    }
    Ok(SUCCESS)
}

fn exit_code(success: bool) -> u8 {
    if success { SUCCESS } else { ErrorKind::Unable.exit_code() }
}

fn is_dry_run(arguments: &[OsString]) -> bool {
    arguments.iter().filter_map(|word| word.to_str()).any(|word| {
        let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        // Git accepts abbreviated long options and combined short ones.
        word.starts_with("--dry")
            || short.is_some_and(|letters| letters.contains('n') && !letters.starts_with('o'))
    })
}

/// Checks the refs that git would push, and returns their branches. Returns an error if one is protected.
fn check_unguarded_push(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    arguments: &[OsString],
) -> Result<Vec<String>> {
    let mut refs = Vec::new();
    for pushed in repo.preview_push(arguments)? {
        let from = pushed.from.unwrap_or(context.canonical.commit);
        refs.push(PushedRef {
            // The check compares no commits, so any commit will do for the remote side.
            new: (!pushed.is_deleted).then_some(from),
            old: (!pushed.is_new).then_some(context.canonical.commit),
            remote_ref: pushed.to,
        });
    }
    let verdict = check_push(repo, context.clone(), &refs, session.world.now_seconds())?;
    verdict.notes.iter().for_each(|note| report::print_warning(note));
    if verdict.faults.is_empty() {
        let branches =
            refs.iter().filter(|pushed| pushed.new.is_some()).filter_map(PushedRef::branch);
        return Ok(branches.map(str::to_owned).collect());
    }
    let refused = Error::negative("nothing was pushed")
        .with_hint("push a branch of your own and open a pull request: `git push -u origin HEAD`");
    Err(verdict.faults.into_iter().fold(refused, Error::with_detail))
}

/// Opens or updates all due pull requests: those queued by the hook for this push, those that failed before, and
/// those of the pushed branches and the current one.
fn open_due_requests(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    arguments: &[OsString],
    mut branches: Vec<String>,
) -> Result<()> {
    let now = session.world.now_seconds();
    let mut due: Vec<QueuedRequest> = queue::list_requests(repo, now)
        .into_iter()
        .filter(|request| !matches!(request.state, RequestState::Done { .. }))
        .collect();
    branches.extend(repo.current_branch());
    let named =
        arguments.iter().filter_map(|word| word.to_str()).find(|word| repo.has_remote(word));
    for branch in branches {
        let remote = named.map(str::to_owned).or_else(|| repo.push_remote(&branch));
        let remote = remote.unwrap_or_else(|| context.config.remote.clone());
        // Without a remote-tracking ref the branch was not pushed, or not to this remote.
        if let Some(commit) = repo.resolve_ref(&format!("refs/remotes/{remote}/{branch}"))? {
            let commit = commit.to_string();
            let state = RequestState::Waiting;
            due.push(QueuedRequest {
                remote,
                branch,
                commit,
                compare_url: None,
                asked: now,
                state,
            });
        }
    }
    let order = |one: &QueuedRequest| (one.remote.clone(), one.branch.clone(), one.commit.clone());
    due.sort_by_key(order);
    due.dedup_by_key(|one| order(one));
    for request in due {
        open_due_request(session, repo, context, request)?;
    }
    Ok(())
}

fn open_due_request(
    session: &Session,
    repo: &Repo,
    context: &SyncContext,
    request: QueuedRequest,
) -> Result<()> {
    let Ok(commit) = Id::from_hex(request.commit.as_bytes()) else { return Ok(()) };
    if !is_pushed(repo, &request)? {
        return Ok(());
    }
    let pushed = PushedRef {
        remote_ref: format!("refs/heads/{}", request.branch),
        new: Some(commit),
        old: None,
    };
    let disk = session.tools().disk;
    let now = session.world.now_seconds();
    let Some(changed) = find_changed_branches(repo, context, &[pushed], now)?.pop() else {
        return queue::remove_branch_requests(repo, disk, &request.remote, &request.branch);
    };
    let places = find_projects(repo, context, &request.remote);
    let about =
        build_pull_request(repo, context, &changed.branch, changed.commit, &changed.managed_paths)?;
    session.print_info(&format!("opening or updating the pull request for `{}` …", changed.branch));
    let _alone = queue::lock_queue(repo, queue::LOCK_WAIT)?;
    let state = open_pull_request(repo, &session.world, places.as_ref(), &about);
    let compare_url = places.map(|places| places.compare_url(context, &changed.branch));
    let request = QueuedRequest { compare_url, state, ..request };
    match request.state {
        RequestState::Done { .. } => report::print_output(&format!("{}\n", request.describe(0)))?,
        _ => report::print_warning(&request.describe(0)),
    }
    // The result has been printed, so the request leaves the queue.
    queue::remove_branch_requests(repo, disk, &request.remote, &request.branch)
}
