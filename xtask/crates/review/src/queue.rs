//! The requests that wait for a push to arrive, and what came of them: a record for each pushed
//! commit of a branch, under the common git folder, so that no push can take another's away.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use xtask_base::digest;
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::lock::Lock;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::Repo;

const RECORD_KIND: &str = "xtask.request/1";

/// How long a person waits for somebody else who makes requests: longer than all calls of one take
/// together.
pub const LOCK_WAIT: Duration = Duration::from_secs(300);

/// How long a push and its request usually take at most, in seconds: ten minutes.
const USUAL_SECONDS: i64 = 600;

/// How long an answer is kept for somebody to see it, in seconds: a week.
const RETENTION_SECONDS: i64 = 7 * 86_400;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRequest {
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
    pub state: RequestState,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestState {
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

impl QueuedRequest {
    /// What is known about it at a time, in a line.
    #[must_use]
    pub fn describe(&self, now: i64) -> String {
        let branch = &self.branch;
        let by_hand = || {
            let url = self.compare_url.as_ref();
            url.map_or(String::new(), |url| format!("; by hand: {url}"))
        };
        match &self.state {
            RequestState::Waiting if now.saturating_sub(self.asked) < USUAL_SECONDS => {
                format!("the pull request for `{branch}` is being made{}", by_hand())
            }
            RequestState::Waiting => format!(
                "the pull request for `{branch}` was not made (`cargo xtask push` makes it){}",
                by_hand()
            ),
            RequestState::Done { url, is_new, notes } => {
                let what =
                    if *is_new { "draft pull request opened" } else { "pull request updated" };
                let notes: String = notes.iter().map(|note| format!(" ({note})")).collect();
                format!("{what} for `{branch}`{notes}: {url}")
            }
            RequestState::Failed { why } => {
                format!(
                    "the pull request for `{branch}` was neither opened nor updated: {why}{}",
                    by_hand()
                )
            }
        }
    }
}

fn queue_folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("requests")
}

impl QueuedRequest {
    /// The name under which it is kept.
    #[must_use]
    pub fn key(&self) -> String {
        let QueuedRequest { remote, branch, commit, .. } = self;
        let digest = digest::hash_parts([remote.as_bytes(), branch.as_bytes(), commit.as_bytes()]);
        digest::to_hex(&digest)[..16].to_owned()
    }
}

fn request_file(repo: &Repo, key: &str) -> PathBuf {
    queue_folder(repo).join(key)
}

/// Keeps a request, or what came of it.
pub fn write_request(repo: &Repo, disk: &Disk<'_>, request: &QueuedRequest) -> Result<()> {
    let file = request_file(repo, &request.key());
    if let LoadedRecord::Newer = record::read_record::<QueuedRequest>(&file, RECORD_KIND) {
        return Err(record::newer_record_error("a request for this commit", &file));
    }
    record::write_record(disk, &file, RECORD_KIND, request)
        .with_context(|| format!("`{}` cannot be written", file.display()))
}

/// Reads a request. One that cannot be believed is none, and one that a newer xtask has written waits
/// for that.
#[must_use]
pub fn read_request(repo: &Repo, key: &str) -> Option<QueuedRequest> {
    match record::read_record(&request_file(repo, key), RECORD_KIND) {
        LoadedRecord::Valid(request) => Some(request),
        _ => None,
    }
}

/// Takes a request away.
pub fn remove_request(repo: &Repo, disk: &Disk<'_>, key: &str) -> Result<()> {
    let file = request_file(repo, key);
    disk.remove_file(&file).with_context(|| format!("`{}` cannot be removed", file.display()))
}

/// All requests that are of interest now, the oldest first.
#[must_use]
pub fn list_requests(repo: &Repo, now: i64) -> Vec<QueuedRequest> {
    let Ok(files) = fs::read_dir(queue_folder(repo)) else { return Vec::new() };
    let keys = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut found: Vec<QueuedRequest> = keys.filter_map(|key| read_request(repo, &key)).collect();
    found.retain(|request| now.saturating_sub(request.asked) < RETENTION_SECONDS);
    found.sort_by(|one, two| (one.asked, &one.branch).cmp(&(two.asked, &two.branch)));
    found
}

/// Takes all requests for a branch away.
pub fn remove_branch_requests(
    repo: &Repo,
    disk: &Disk<'_>,
    remote: &str,
    branch: &str,
) -> Result<()> {
    for request in list_requests(repo, i64::MIN) {
        if request.remote == remote && request.branch == branch {
            remove_request(repo, disk, &request.key())?;
        }
    }
    Ok(())
}

/// Takes away what a person has now seen, and what is too old to matter.
pub fn remove_reported(repo: &Repo, disk: &Disk<'_>, told: &[String], now: i64) -> Result<()> {
    let Ok(files) = fs::read_dir(queue_folder(repo)) else { return Ok(()) };
    for key in files.filter_map(|file| file.ok()?.file_name().into_string().ok()) {
        let Some(request) = read_request(repo, &key) else { continue };
        if told.contains(&key) || now.saturating_sub(request.asked) >= RETENTION_SECONDS {
            remove_request(repo, disk, &key)?;
        }
    }
    Ok(())
}

/// Keeps others from making requests at the same time.
pub fn lock_queue(repo: &Repo, wait: Duration) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    Lock::acquire(&queue_folder(repo).with_extension("lock"), &who, wait, |_| {})
}
