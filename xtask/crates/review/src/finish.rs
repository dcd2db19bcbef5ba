//! The end of a push: once git has gone and the commit has arrived, the request is made.

use std::time::Duration;

use super::forge::{Project, project};
use super::gh::{Gh, is_installed};
use super::queue::{self, Request, State};
use super::request::About;
use xtask_base::error::Result;
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::process::is_running;
use xtask_base::world::World;
use xtask_git::{Id, Repo};
use xtask_sync::context::Context;
use xtask_sync::message::SOURCE_TRAILER;

/// How often it is asked whether git still runs.
const POLL: Duration = Duration::from_millis(100);

/// How long a push may take until it is given up, in rounds of `POLL`: six hours.
const ROUNDS: u32 = 6 * 36_000;

/// How long others who make requests are waited for: a push of hundreds of branches asks for as many.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// How many commits are looked at to find one that a person made.
const FAR: usize = 100;

/// Where a branch and the canonical branch are, as far as their remotes tell.
#[derive(Clone, Debug)]
pub struct Places {
    /// The project that gets the request.
    pub project: Project,
    /// The project that has the branch, if it is another.
    pub fork: Option<Project>,
}

/// The projects behind a remote that is pushed to and the canonical one; nothing where their
/// addresses do not tell.
#[must_use]
pub fn places(repo: &Repo, context: &Context, remote: &str) -> Option<Places> {
    let forge = context.config.forge;
    let pushed = project(&repo.push_url(remote)?, forge)?;
    let Some(base) = repo.fetch_url(&context.config.remote) else {
        return Some(Places { project: pushed, fork: None });
    };
    let base = project(&base, forge)?;
    if base.path.eq_ignore_ascii_case(&pushed.path) && base.host == pushed.host {
        return Some(Places { project: base, fork: None });
    }
    // A request goes from one project to another only within one service.
    (base.forge == pushed.forge && base.host == pushed.host)
        .then_some(Places { project: base, fork: Some(pushed) })
}

impl Places {
    /// The address at which a person can make the request.
    #[must_use]
    pub fn compare_url(&self, context: &Context, branch: &str) -> String {
        self.project.compare_url(&context.config.branch, branch, self.fork.as_ref())
    }

    /// Whether `gh` can talk to them.
    #[must_use]
    pub fn is_github(&self) -> bool {
        self.project.forge == xtask_config::Forge::GitHub
    }
}

/// What a request is about.
pub fn about(
    repo: &Repo,
    context: &Context,
    branch: &str,
    commit: Id,
    paths: &[RepoPath],
) -> Result<About> {
    let mut subject = repo.commit(commit)?.subject().to_owned();
    let mut at = commit;
    for _ in 0..FAR {
        let found = repo.commit(at)?;
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
    followers.retain(|name| !context.is_apart(name) && ![branch, "HEAD"].contains(&name.as_str()));
    Ok(About {
        branch: branch.to_owned(),
        commit: repo.short(commit),
        subject,
        canonical: config.branch.clone(),
        files: paths.iter().map(ToString::to_string).collect(),
        followers: followers.len(),
    })
}

/// Makes a request now, and says what came of it.
#[must_use]
pub fn make(repo: &Repo, world: &World, places: Option<&Places>, about: &About) -> State {
    let failed = |why: &str| State::Failed { why: why.to_owned() };
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
    let gh = Gh { repo, project: &places.project, fork: places.fork.as_ref() };
    match gh.deliver(about) {
        Ok(done) => State::Done { url: done.url, is_new: done.is_new, notes: done.notes },
        Err(failure) => {
            let hint = failure.hints().first().map_or(String::new(), |hint| format!(" ({hint})"));
            State::Failed { why: format!("{failure}{hint}") }
        }
    }
}

/// Waits for a push of another process to end, makes sure that it has arrived, and makes the
/// request. What comes of it is kept for the next command to tell.
pub fn finish(
    repo: &Repo,
    disk: &Disk<'_>,
    key: &str,
    git: u32,
    make: &dyn Fn(&Request) -> Result<Option<State>>,
) -> Result<()> {
    let Some(request) = queue::get(repo, key) else { return Ok(()) };
    let commit = Id::from_hex(request.commit.as_bytes()).ok();
    let tracking = format!("refs/remotes/{}/{}", request.remote, request.branch);
    let mut rounds = 0;
    while is_running(git) && rounds < ROUNDS && repo.resolve(&tracking)? != commit {
        rounds += 1;
        std::thread::sleep(POLL);
    }
    let _alone = queue::enter(repo, PATIENCE)?;
    // `cargo xtask push` may have been faster.
    if queue::get(repo, key).is_none_or(|request| request.state != State::Waiting) {
        return Ok(());
    }
    let came_of_it = match has_arrived(repo, &request) {
        Ok(true) => make(&request),
        // It was refused, interrupted or a dry run, and the user has seen that; or a later push has
        // come on top, and somebody waits for that one, too.
        Ok(false) => Ok(None),
        Err(failure) => Err(failure),
    };
    let state =
        came_of_it.unwrap_or_else(|failure| Some(State::Failed { why: failure.to_string() }));
    match state {
        Some(state) => queue::put(repo, disk, &Request { state, ..request }),
        None => queue::drop_request(repo, disk, key),
    }
}

/// Whether the remote has the commit of a request at its branch, as far as this clone follows it,
/// and else as the remote says.
pub fn has_arrived(repo: &Repo, request: &Request) -> Result<bool> {
    let commit = Id::from_hex(request.commit.as_bytes()).ok();
    let tracking = format!("refs/remotes/{}/{}", request.remote, request.branch);
    Ok(match repo.resolve(&tracking)? {
        Some(id) => Some(id) == commit,
        // Not every clone keeps track of every branch.
        None => repo.remote_branch(&request.remote, &request.branch)? == commit,
    })
}
