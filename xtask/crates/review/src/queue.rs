//! The requests that wait for a push to arrive, and what came of them: a record for each pushed
//! commit of a branch, under the common git folder, so that no push can take another's away.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use xtask_base::digest;
use xtask_base::error::{Context, Result};
use xtask_base::files::Disk;
use xtask_base::lock::Lock;
use xtask_base::record::{self, Found};
use xtask_git::Repo;

const KIND: &str = "xtask.request/1";

/// How long a person waits for somebody else who makes requests: longer than all calls of one take
/// together.
pub const LOCK_WAIT: Duration = Duration::from_secs(300);

/// How long a push and its request usually take at most, in seconds: ten minutes.
const USUAL: i64 = 600;

/// How long an answer is kept for somebody to see it, in seconds: a week.
const KEPT: i64 = 7 * 86_400;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The remote, by its name.
    pub remote: String,
    /// The branch, here and there.
    pub branch: String,
    /// The commit that is on its way.
    pub commit: String,
    /// The address at which a person can make it.
    pub compare_url: Option<String>,
    /// When it was asked for, in seconds since the epoch.
    pub asked: i64,
    /// How far it is.
    pub state: State,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// The push is on its way, or `finish` at work.
    Waiting,
    /// It is there.
    Done {
        /// Its address.
        url: String,
        /// Whether it is new.
        is_new: bool,
        /// What could not be done on the way.
        notes: Vec<String>,
    },
    /// It could not be made.
    Failed {
        /// Why.
        why: String,
    },
}

impl Request {
    /// What is known about it at a time, in a line.
    #[must_use]
    pub fn words(&self, now: i64) -> String {
        let branch = &self.branch;
        let by_hand = || {
            let url = self.compare_url.as_ref();
            url.map_or(String::new(), |url| format!("; by hand: {url}"))
        };
        match &self.state {
            State::Waiting if now.saturating_sub(self.asked) < USUAL => {
                format!("the pull request for `{branch}` is being made{}", by_hand())
            }
            State::Waiting => format!(
                "the pull request for `{branch}` was not made (`cargo xtask push` makes it){}",
                by_hand()
            ),
            State::Done { url, is_new, notes } => {
                let what =
                    if *is_new { "draft pull request opened" } else { "pull request updated" };
                let notes: String = notes.iter().map(|note| format!(" ({note})")).collect();
                format!("{what} for `{branch}`{notes}: {url}")
            }
            State::Failed { why } => {
                format!(
                    "the pull request for `{branch}` was neither opened nor updated: {why}{}",
                    by_hand()
                )
            }
        }
    }
}

fn folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("requests")
}

impl Request {
    /// The name under which it is kept.
    #[must_use]
    pub fn key(&self) -> String {
        let Request { remote, branch, commit, .. } = self;
        let digest = digest::of_parts([remote.as_bytes(), branch.as_bytes(), commit.as_bytes()]);
        digest::hex(&digest)[..16].to_owned()
    }
}

fn file(repo: &Repo, key: &str) -> PathBuf {
    folder(repo).join(key)
}

/// Keeps a request, or what came of it.
pub fn put(repo: &Repo, disk: &Disk<'_>, request: &Request) -> Result<()> {
    let file = file(repo, &request.key());
    if let Found::Newer = record::read::<Request>(&file, KIND) {
        return Err(record::newer("a request for this commit", &file));
    }
    record::write(disk, &file, KIND, request)
        .unable(|| format!("`{}` cannot be written", file.display()))
}

/// Reads a request. One that cannot be believed is none, and one that a newer xtask has written waits
/// for that.
#[must_use]
pub fn get(repo: &Repo, key: &str) -> Option<Request> {
    match record::read(&file(repo, key), KIND) {
        Found::Whole(request) => Some(request),
        _ => None,
    }
}

/// Takes a request away.
pub fn drop_request(repo: &Repo, disk: &Disk<'_>, key: &str) -> Result<()> {
    let file = file(repo, key);
    disk.remove(&file).unable(|| format!("`{}` cannot be removed", file.display()))
}

/// All requests that are of interest now, the oldest first.
#[must_use]
pub fn all(repo: &Repo, now: i64) -> Vec<Request> {
    let Ok(files) = fs::read_dir(folder(repo)) else { return Vec::new() };
    let keys = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut found: Vec<Request> = keys.filter_map(|key| get(repo, &key)).collect();
    found.retain(|request| now.saturating_sub(request.asked) < KEPT);
    found.sort_by(|one, two| (one.asked, &one.branch).cmp(&(two.asked, &two.branch)));
    found
}

/// Takes all requests for a branch away.
pub fn forget_branch(repo: &Repo, disk: &Disk<'_>, remote: &str, branch: &str) -> Result<()> {
    for request in all(repo, i64::MIN) {
        if request.remote == remote && request.branch == branch {
            drop_request(repo, disk, &request.key())?;
        }
    }
    Ok(())
}

/// Takes away what a person has now seen, and what is too old to matter.
pub fn forget(repo: &Repo, disk: &Disk<'_>, told: &[String], now: i64) -> Result<()> {
    let Ok(files) = fs::read_dir(folder(repo)) else { return Ok(()) };
    for key in files.filter_map(|file| file.ok()?.file_name().into_string().ok()) {
        let Some(request) = get(repo, &key) else { continue };
        if told.contains(&key) || now.saturating_sub(request.asked) >= KEPT {
            drop_request(repo, disk, &key)?;
        }
    }
    Ok(())
}

/// Keeps others from making requests at the same time.
pub fn enter(repo: &Repo, wait: Duration) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    Lock::acquire(&folder(repo).with_extension("lock"), &who, wait, |_| {})
}
