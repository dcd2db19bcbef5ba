//! `push`: push branches by their names, and see to the pull requests of those that change managed
//! files.

use super::session::Session;
use super::{DONE, Exit};
use crate::base::error::{Error, Kind, Result};
use crate::cli::Push;
use crate::hooks::before_push::{Changed, PushedRef, judge};
use crate::repo::{Id, Repo};
use crate::report;
use crate::review::finish::{about, make, places};
use crate::review::queue::{self, Request, State};
use crate::sync::context::{self, Context};

/// A branch to push, and where to.
struct Job {
    branch: String,
    commit: Id,
    remote: String,
}

pub(super) fn run(session: &Session, args: &Push) -> Exit {
    let repo = session.repo()?;
    session.tell_requests(&repo);
    let context = context::find(&repo, &context::names(&repo)?)?;
    let jobs = jobs(&repo, args, context.as_ref())?;
    let mut changed = Vec::new();
    if let Some(context) = &context {
        let refs: Vec<PushedRef> =
            jobs.iter().map(|job| told(&repo, job)).collect::<Result<_>>()?;
        let verdict = judge(&repo, context.clone(), &refs)?;
        if !verdict.faults.is_empty() {
            let refused = Error::no("nothing was pushed").hint(
                "push a branch of your own and open a pull request; `git push` asks the same",
            );
            return Err(verdict.faults.into_iter().fold(refused, Error::detail));
        }
        changed = verdict.changed;
    }
    let mut options = Vec::new();
    if args.force_with_lease {
        options.push("--force-with-lease");
    }
    if args.dry_run {
        options.push("--dry-run");
    }
    let mut code = DONE;
    for job in jobs {
        let pushed = repo.push_attached(&job.remote, &job.branch, &options)?;
        if !pushed.success() {
            // Git has said why.
            code = Kind::Unable.code();
            continue;
        }
        let own = changed.iter().find(|changed| changed.branch == job.branch);
        if let (Some(context), Some(own), false) = (&context, own, args.dry_run || args.no_request)
        {
            let failed = request(session, &repo, context, &job, own);
            // The push has gone through, and that is what was asked for.
            if let Err(failure) = failed {
                report::warn(&format!("no pull request for `{}`: {failure}", job.branch));
            }
        }
    }
    Ok(code)
}

fn jobs(repo: &Repo, args: &Push, context: Option<&Context>) -> Result<Vec<Job>> {
    let mut names = args.branches.clone();
    if names.is_empty() {
        names.push(repo.branch_name().ok_or_else(|| {
            Error::usage("HEAD is detached: there is no branch to push")
                .hint("name one, or `git switch -c NAME` first")
        })?);
    }
    let usual = context.map_or("origin", |context| context.config.remote.as_str());
    let mut jobs = Vec::new();
    for branch in names {
        let Some(commit) = repo.resolve(&format!("refs/heads/{branch}"))? else {
            return Err(Error::usage(format!("there is no branch `{branch}`"))
                .hint("`git branch` lists them"));
        };
        let remote = args.remote.clone().or_else(|| repo.push_remote(&branch));
        let remote = remote.unwrap_or_else(|| usual.to_owned());
        if !repo.has_remote(&remote) {
            return Err(Error::usage(format!("there is no remote `{remote}`"))
                .hint("`git remote -v` lists them"));
        }
        jobs.push(Job { branch, commit, remote });
    }
    Ok(jobs)
}

/// A push as git would tell it to a hook, from what is known of the remote.
fn told(repo: &Repo, job: &Job) -> Result<PushedRef> {
    let tracking = format!("refs/remotes/{}/{}", job.remote, job.branch);
    let remote = format!("refs/heads/{}", job.branch);
    Ok(PushedRef { remote, new: Some(job.commit), old: repo.resolve(&tracking)? })
}

fn request(
    session: &Session,
    repo: &Repo,
    context: &Context,
    job: &Job,
    own: &Changed,
) -> Result<()> {
    let disk = session.tools().disk;
    let places = places(repo, context, &job.remote);
    let about = about(repo, context, &own.branch, own.commit, &own.paths)?;
    session.story(&format!("seeing to the pull request for `{}` …", own.branch));
    let _alone = queue::enter(repo)?;
    let state = make(repo, &session.world, places.as_ref(), &about);
    let request = Request {
        remote: job.remote.clone(),
        branch: job.branch.clone(),
        commit: own.commit.to_string(),
        compare_url: places.map(|places| places.compare_url(context, &own.branch)),
        asked: session.world.now_seconds(),
        state,
    };
    match request.state {
        State::Done { .. } => report::answer(&format!("{}\n", request.words()))?,
        _ => report::warn(&request.words()),
    }
    // The answer has been given: nothing waits for anybody any more.
    queue::forget_branch(repo, disk, &job.remote, &job.branch)
}
