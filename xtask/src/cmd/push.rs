//! `push`: `git push`, and then the pull requests of what it pushed.
//!
//! Where our hook fires, it judges the push, as it does every other. Where it does not, git is asked
//! first what it would push.

use std::ffi::OsString;

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Push;
use xtask_base::error::{Error, Kind, Result};
use xtask_git::{Id, PushTo, Repo};
use xtask_hooks::before_push::{PushedRef, changed_since, judge};
use xtask_hooks::health::health;
use xtask_hooks::program::Care;
use xtask_hooks::{Hook, gates};
use xtask_report::{self as report, Loudness};
use xtask_review::finish::{about, has_arrived, make, places};
use xtask_review::queue::{self, Request, State};
use xtask_sync::context::{self, Context};

pub(super) fn run(session: &Session, args: &Push) -> Exit {
    let repo = session.repo()?;
    let mut arguments = args.arguments.clone();
    match session.loudness {
        Loudness::Quiet => arguments.insert(0, "--quiet".into()),
        Loudness::Verbose => arguments.insert(0, "--verbose".into()),
        Loudness::Usual => {}
    }
    let Some(context) = context::find(&repo, &context::names(&repo)?)? else {
        return Ok(code(repo.push_attached(&arguments, PushTo::Quietly)?.success()));
    };
    let health = health(&repo, &session.world, Some(&context), Care::Look)?;
    let fires = |hook: &xtask_hooks::health::HookHealth| hook.hook == Hook::PrePush;
    let is_guarded = health.hooks.iter().any(|hook| fires(hook) && health.fires(hook));
    let mut branches = Vec::new();
    if !is_guarded && gates::shut_by_environment(&session.world).is_none() {
        branches = check(session, &repo, &context, &arguments)?;
    }
    let how = if is_guarded { PushTo::Guarded } else { PushTo::Quietly };
    if !repo.push_attached(&arguments, how)?.success() {
        // Git has said why.
        return Ok(Kind::Unable.code());
    }
    if !is_dry_run(&arguments) {
        // The push has gone through, and that is what was asked for.
        if let Err(failure) = requests(session, &repo, &context, &arguments, branches) {
            report::warn(&format!("no pull request was made: {failure}"));
        }
    }
    Ok(DONE)
}

fn code(success: bool) -> u8 {
    if success { DONE } else { Kind::Unable.code() }
}

fn is_dry_run(arguments: &[OsString]) -> bool {
    arguments.iter().filter_map(|word| word.to_str()).any(|word| {
        let short = word.strip_prefix('-').filter(|rest| !rest.starts_with('-'));
        // Git takes the beginning of a word for the word, and several letters in one.
        word.starts_with("--dry")
            || short.is_some_and(|letters| letters.contains('n') && !letters.starts_with('o'))
    })
}

/// Judges what git says that it would push, and answers with its branches.
fn check(
    session: &Session,
    repo: &Repo,
    context: &Context,
    arguments: &[OsString],
) -> Result<Vec<String>> {
    let mut refs = Vec::new();
    for pushed in repo.would_push(arguments)? {
        let from = pushed.from.unwrap_or(context.canonical.commit);
        refs.push(PushedRef {
            // Which commit the remote has does not matter to what is protected.
            new: (!pushed.is_deleted).then_some(from),
            old: (!pushed.is_new).then_some(context.canonical.commit),
            remote: pushed.to,
        });
    }
    let verdict = judge(repo, context.clone(), &refs, session.world.now_seconds())?;
    verdict.notes.iter().for_each(|note| report::warn(note));
    if verdict.faults.is_empty() {
        let branches =
            refs.iter().filter(|pushed| pushed.new.is_some()).filter_map(PushedRef::branch);
        return Ok(branches.map(str::to_owned).collect());
    }
    let refused = Error::no("nothing was pushed")
        .hint("push a branch of your own and open a pull request: `git push -u origin HEAD`");
    Err(verdict.faults.into_iter().fold(refused, Error::detail))
}

/// Sees to every request that is due: those that the hook has queued for this push, those that could
/// not be made before, and those of the branches that are pushed or checked out.
fn requests(
    session: &Session,
    repo: &Repo,
    context: &Context,
    arguments: &[OsString],
    mut branches: Vec<String>,
) -> Result<()> {
    let now = session.world.now_seconds();
    let mut due: Vec<Request> = queue::all(repo, now)
        .into_iter()
        .filter(|request| !matches!(request.state, State::Done { .. }))
        .collect();
    branches.extend(repo.branch_name());
    let named =
        arguments.iter().filter_map(|word| word.to_str()).find(|word| repo.has_remote(word));
    for branch in branches {
        let remote = named.map(str::to_owned).or_else(|| repo.push_remote(&branch));
        let remote = remote.unwrap_or_else(|| context.config.remote.clone());
        // What is not there has not been pushed, or not to here.
        if let Some(commit) = repo.resolve(&format!("refs/remotes/{remote}/{branch}"))? {
            let commit = commit.to_string();
            let state = State::Waiting;
            due.push(Request { remote, branch, commit, compare_url: None, asked: now, state });
        }
    }
    let order = |one: &Request| (one.remote.clone(), one.branch.clone(), one.commit.clone());
    due.sort_by_key(order);
    due.dedup_by_key(|one| order(one));
    for request in due {
        request_one(session, repo, context, request)?;
    }
    Ok(())
}

fn request_one(session: &Session, repo: &Repo, context: &Context, request: Request) -> Result<()> {
    let Ok(commit) = Id::from_hex(request.commit.as_bytes()) else { return Ok(()) };
    if !has_arrived(repo, &request)? {
        return Ok(());
    }
    let pushed = PushedRef {
        remote: format!("refs/heads/{}", request.branch),
        new: Some(commit),
        old: None,
    };
    let disk = session.tools().disk;
    let Some(changed) = changed_since(repo, context, &[pushed])?.pop() else {
        return queue::forget_branch(repo, disk, &request.remote, &request.branch);
    };
    let places = places(repo, context, &request.remote);
    let about = about(repo, context, &changed.branch, changed.commit, &changed.paths)?;
    session.story(&format!("seeing to the pull request for `{}` …", changed.branch));
    let _alone = queue::enter(repo, queue::LOCK_WAIT)?;
    let state = make(repo, &session.world, places.as_ref(), &about);
    let compare_url = places.map(|places| places.compare_url(context, &changed.branch));
    let request = Request { compare_url, state, ..request };
    match request.state {
        State::Done { .. } => report::answer(&format!("{}\n", request.words(0)))?,
        _ => report::warn(&request.words(0)),
    }
    // The answer has been given: nothing waits for anybody any more.
    queue::forget_branch(repo, disk, &request.remote, &request.branch)
}
