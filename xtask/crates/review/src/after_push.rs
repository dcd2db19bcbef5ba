//! The end of a push: once git has exited and the commit has arrived at the remote, the pull
//! request is opened or updated. The steps of a request:
//!
//! ```text
//! pre-push: QueuedRequest (Waiting) -> finish_push -> Done { url, … } or Failed { why }
//! ```

use std::time::Duration;

use super::forge::{ForgeProject, parse_project};
use super::gh::{GhClient, is_installed};
use super::pull_request::CanonicalPullRequest;
use super::queue::{self, QueuedRequest, RequestState};
use xtask_base::environment::Environment;
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::process::is_running;
use xtask_git::{Id, Repo};
use xtask_sync::commit_message::SOURCE_TRAILER;
use xtask_sync::context::SyncContext;

/// The interval between checks whether git still runs.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The maximum duration of a push, in rounds of `POLL_INTERVAL`: six hours.
const MAX_POLLS: u32 = 6 * 36_000;

/// The maximum wait for other processes that open pull requests: a push of hundreds of branches
/// opens as many.
const LOCK_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// The maximum number of commits searched for one that a person made.
const MAX_COMMITS_SEARCHED: usize = 100;

/// The projects of a branch and of the canonical branch, as far as the URLs of their remotes reveal
/// them.
#[derive(Clone, Debug)]
pub struct RequestProjects {
    /// The project that receives the pull request.
    pub project: ForgeProject,
    /// The project that has the branch, if different.
    pub fork: Option<ForgeProject>,
}

/// Returns the projects behind the pushed remote and the canonical one, or `None` if their URLs do
/// not reveal them or name different services.
#[must_use]
pub fn find_projects(repo: &Repo, context: &SyncContext, remote: &str) -> Option<RequestProjects> {
    let forge = context.config.forge;
    let pushed = parse_project(&repo.push_url(remote)?, forge)?;
    let Some(base) = repo.fetch_url(&context.config.remote) else {
        return Some(RequestProjects { project: pushed, fork: None });
    };
    let base = parse_project(&base, forge)?;
    if base.path.eq_ignore_ascii_case(&pushed.path) && base.host == pushed.host {
        return Some(RequestProjects { project: base, fork: None });
    }
    // A pull request between two projects exists only within one service.
    (base.forge == pushed.forge && base.host == pushed.host)
        .then_some(RequestProjects { project: base, fork: Some(pushed) })
}

impl RequestProjects {
    /// Returns the URL of the page on which a person can open the pull request.
    #[must_use]
    pub fn compare_url(&self, context: &SyncContext, branch: &str) -> String {
        self.project.compare_url(&context.config.branch, branch, self.fork.as_ref())
    }

    /// Returns whether `gh` supports the project.
    #[must_use]
    pub fn is_github(&self) -> bool {
        self.project.forge == xtask_config::Forge::GitHub
    }
}

/// Collects the content of the pull request for `branch` at `commit`. Its subject comes from the
/// newest commit without a [`SOURCE_TRAILER`], which a person made.
pub fn build_pull_request(
    repo: &Repo,
    context: &SyncContext,
    branch: &str,
    commit: Id,
    paths: &[RepoPath],
) -> Result<CanonicalPullRequest> {
    let mut subject = repo.read_commit(commit)?.subject().to_owned();
    let mut at = commit;
    for _ in 0..MAX_COMMITS_SEARCHED {
        let found = repo.read_commit(at)?;
        if found.trailer(SOURCE_TRAILER).is_none() {
            found.subject().clone_into(&mut subject);
            break;
        }
        let Some(parent) = found.parents.first() else { break };
        at = *parent;
    }
    let config = &context.config;
    let mut followers: Vec<String> = Vec::new();
    for prefix in ["refs/heads/".to_owned(), format!("refs/remotes/{}/", config.remote)] {
        for (name, _) in repo.refs_below(&prefix)? {
            followers.push(name[prefix.len()..].to_owned());
        }
    }
    followers.sort();
    followers.dedup();
    followers.retain(|name| {
        !context.is_reserved_branch(name) && ![branch, "HEAD"].contains(&name.as_str())
    });
    Ok(CanonicalPullRequest {
        branch: branch.to_owned(),
        commit: repo.short_id(commit),
        subject,
        canonical: config.branch.clone(),
        files: paths.iter().map(ToString::to_string).collect(),
        followers: followers.len(),
    })
}

/// Opens or updates the pull request now. A failure is part of the returned state.
#[must_use]
pub fn open_pull_request(
    repo: &Repo,
    world: &Environment,
    places: Option<&RequestProjects>,
    pull_request: &CanonicalPullRequest,
) -> RequestState {
    let failed = |why: &str| RequestState::Failed { why: why.to_owned() };
    let Some(places) = places else {
        return failed(
            "the URL of the remote does not reveal the service (set `forge = \"github\"` in \
             `setup/sync.toml`; until then, ask for a review of the branch there)",
        );
    };
    if !places.is_github() {
        return failed("xtask opens pull requests on GitHub only");
    }
    if !is_installed(world) {
        return failed("`gh` is not installed");
    }
    let gh = GhClient { repo, project: &places.project, fork: places.fork.as_ref() };
    match gh.create_or_update(pull_request) {
        Ok(done) => RequestState::Done { url: done.url, is_new: done.is_new, notes: done.notes },
        Err(failure) => {
            let hint = failure.hints().first().map_or(String::new(), |hint| format!(" ({hint})"));
            RequestState::Failed { why: format!("{failure}{hint}") }
        }
    }
}

/// Waits for the push of another process, `git`, to end, verifies that the commit has arrived, and
/// calls `make` to open the pull request. The result is stored in the queue for the next command to
/// report.
pub fn finish_push(
    repo: &Repo,
    disk: &Disk<'_>,
    key: &str,
    git: u32,
    make: &dyn Fn(&QueuedRequest) -> Result<Option<RequestState>>,
) -> Result<()> {
    let Some(request) = queue::read_request(repo, key) else { return Ok(()) };
    let commit = Id::from_hex(request.commit.as_bytes()).ok();
    let tracking = format!("refs/remotes/{}/{}", request.remote, request.branch);
    let mut rounds = 0;
    while is_running(git) && rounds < MAX_POLLS && repo.resolve_ref(&tracking)? != commit {
        rounds += 1;
        std::thread::sleep(POLL_INTERVAL);
    }
    let _alone = queue::lock_queue(repo, LOCK_TIMEOUT)?;
    // `cargo xtask push` may have been faster.
    if queue::read_request(repo, key).is_none_or(|request| request.state != RequestState::Waiting) {
        return Ok(());
    }
    let came_of_it = match is_pushed(repo, &request) {
        Ok(true) => make(&request),
        // The push was rejected, interrupted or a dry run, as the user has seen; or a later push
        // followed, which has its own request.
        Ok(false) => Ok(None),
        Err(failure) => Err(failure),
    };
    let state = came_of_it
        .unwrap_or_else(|failure| Some(RequestState::Failed { why: failure.to_string() }));
    match state {
        Some(state) => queue::write_request(repo, disk, &QueuedRequest { state, ..request }),
        None => queue::remove_request(repo, disk, key),
    }
}

/// Returns whether the remote branch is at the commit of `request`, according to the
/// remote-tracking ref or, if there is none, to the remote itself.
pub fn is_pushed(repo: &Repo, request: &QueuedRequest) -> Result<bool> {
    let commit = Id::from_hex(request.commit.as_bytes()).ok();
    let tracking = format!("refs/remotes/{}/{}", request.remote, request.branch);
    Ok(match repo.resolve_ref(&tracking)? {
        Some(id) => Some(id) == commit,
        // Not every clone tracks every branch.
        None => repo.ls_remote_branch(&request.remote, &request.branch)? == commit,
    })
}
