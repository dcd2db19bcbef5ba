//! The end of a push: once git has gone and the commit has arrived, the request is made.

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

/// How often it is asked whether git still runs.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// How long a push may take until it is given up, in rounds of `POLL`: six hours.
const MAX_POLLS: u32 = 6 * 36_000;

/// How long others who make requests are waited for: a push of hundreds of branches asks for as many.
const LOCK_TIMEOUT: Duration = Duration::from_secs(6 * 3600);

/// How many commits are looked at to find one that a person made.
const MAX_COMMITS_SEARCHED: usize = 100;

/// Where a branch and the canonical branch are, as far as their remotes tell.
#[derive(Clone, Debug)]
pub struct RequestProjects {
    /// The project that gets the request.
    pub project: ForgeProject,
    /// The project that has the branch, if it is another.
    pub fork: Option<ForgeProject>,
}

/// The projects behind a remote that is pushed to and the canonical one; nothing where their
/// addresses do not tell.
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
    // A request goes from one project to another only within one service.
    (base.forge == pushed.forge && base.host == pushed.host)
        .then_some(RequestProjects { project: base, fork: Some(pushed) })
}

impl RequestProjects {
    /// The address at which a person can make the request.
    #[must_use]
    pub fn compare_url(&self, context: &SyncContext, branch: &str) -> String {
        self.project.compare_url(&context.config.branch, branch, self.fork.as_ref())
    }

    /// Whether `gh` can talk to them.
    #[must_use]
    pub fn is_github(&self) -> bool {
        self.project.forge == xtask_config::Forge::GitHub
    }
}

/// What a request is about.
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

/// Makes a request now, and says what came of it.
#[must_use]
pub fn open_pull_request(
    repo: &Repo,
    world: &Environment,
    places: Option<&RequestProjects>,
    about: &CanonicalPullRequest,
) -> RequestState {
    let failed = |why: &str| RequestState::Failed { why: why.to_owned() };
    let Some(places) = places else {
        return failed(
            "the address of the remote does not tell which service it is (`forge = \"github\"` in \
             `setup/sync.toml` would; until then, ask for a review of the branch where it lies)",
        );
    };
    if !places.is_github() {
        return failed("it is made on a page of the service");
    }
    if !is_installed(world) {
        return failed("`gh` is not installed");
    }
    let gh = GhClient { repo, project: &places.project, fork: places.fork.as_ref() };
    match gh.create_or_update(about) {
        Ok(done) => RequestState::Done { url: done.url, is_new: done.is_new, notes: done.notes },
        Err(failure) => {
            let hint = failure.hints().first().map_or(String::new(), |hint| format!(" ({hint})"));
            RequestState::Failed { why: format!("{failure}{hint}") }
        }
    }
}

/// Waits for a push of another process to end, makes sure that it has arrived, and makes the
/// request. What comes of it is kept for the next command to tell.
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
        // It was refused, interrupted or a dry run, and the user has seen that; or a later push has
        // come on top, and somebody waits for that one, too.
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

/// Whether the remote has the commit of a request at its branch, as far as this clone follows it,
/// and else as the remote says.
pub fn is_pushed(repo: &Repo, request: &QueuedRequest) -> Result<bool> {
    let commit = Id::from_hex(request.commit.as_bytes()).ok();
    let tracking = format!("refs/remotes/{}/{}", request.remote, request.branch);
    Ok(match repo.resolve_ref(&tracking)? {
        Some(id) => Some(id) == commit,
        // Not every clone keeps track of every branch.
        None => repo.ls_remote_branch(&request.remote, &request.branch)? == commit,
    })
}
