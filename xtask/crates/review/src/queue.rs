//! Requests for pull requests that wait for a push to arrive, and their results: one record per
//! pushed commit of a branch, in the common git folder, so that no push overwrites the request of
//! another. For example:
//!
//! ```text
//! .git/xtask/requests/0123456789abcdef: QueuedRequest { branch: "fix", state: Waiting, … }
//! ```

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

/// The maximum wait of a person for another process that opens pull requests: longer than all calls
/// for one take together.
pub const LOCK_WAIT: Duration = Duration::from_secs(300);

/// The usual maximum duration of a push and its pull request, in seconds: ten minutes.
const USUAL_SECONDS: i64 = 600;

/// The time for which a result is kept for somebody to see, in seconds: a week.
const RETENTION_SECONDS: i64 = 7 * 86_400;

/// A request for a pull request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedRequest {
    /// The name of the remote.
    pub remote: String,
    /// The branch, with the same name here and at the remote.
    pub branch: String,
    /// The pushed commit, as a hexadecimal id.
    pub commit: String,
    /// The URL of the page on which a person can open the pull request.
    pub compare_url: Option<String>,
    /// The time of the request, in seconds since the Unix epoch.
    pub asked: i64,
    pub state: RequestState,
}

/// The progress of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestState {
    /// The push is in progress, or `finish_push` is running.
    Waiting,
    /// The pull request is open.
    Done {
        url: String,
        /// Whether the pull request was opened, not updated.
        is_new: bool,
        /// The steps that failed.
        notes: Vec<String>,
    },
    /// The pull request could not be opened.
    Failed { why: String },
}

impl QueuedRequest {
    /// Returns a line about the state of the request at the time `now`, in seconds since the Unix
    /// epoch.
    #[must_use]
    pub fn describe(&self, now: i64) -> String {
        let branch = &self.branch;
        let by_hand = || {
            let url = self.compare_url.as_ref();
            url.map_or(String::new(), |url| format!("; open it manually: {url}"))
        };
        match &self.state {
            RequestState::Waiting if now.saturating_sub(self.asked) < USUAL_SECONDS => {
                format!("the pull request for `{branch}` is being opened{}", by_hand())
            }
            RequestState::Waiting => format!(
                "the pull request for `{branch}` was not opened (`cargo xtask push` opens it){}",
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
    /// Returns the file name of the record: 16 hexadecimal digits from a digest of `remote`,
    /// `branch` and `commit`.
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

/// Writes the record of a request. Returns an error if a newer xtask has written one.
pub fn write_request(repo: &Repo, disk: &Disk<'_>, request: &QueuedRequest) -> Result<()> {
    let file = request_file(repo, &request.key());
    if let LoadedRecord::Newer = record::read_record::<QueuedRequest>(&file, RECORD_KIND) {
        return Err(record::newer_record_error("the pull request record of this commit", &file));
    }
    record::write_record(disk, &file, RECORD_KIND, request)
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Reads a request. Returns `None` if the record is missing or corrupt, or was written by a newer
/// xtask, which will handle it.
#[must_use]
pub fn read_request(repo: &Repo, key: &str) -> Option<QueuedRequest> {
    match record::read_record(&request_file(repo, key), RECORD_KIND) {
        LoadedRecord::Valid(request) => Some(request),
        _ => None,
    }
}

/// Deletes the record of a request.
pub fn remove_request(repo: &Repo, disk: &Disk<'_>, key: &str) -> Result<()> {
    let file = request_file(repo, key);
    disk.remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display()))
}

/// Returns all requests that are younger than `RETENTION_SECONDS`, the oldest first.
#[must_use]
pub fn list_requests(repo: &Repo, now: i64) -> Vec<QueuedRequest> {
    let Ok(files) = fs::read_dir(queue_folder(repo)) else { return Vec::new() };
    let keys = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut found: Vec<QueuedRequest> = keys.filter_map(|key| read_request(repo, &key)).collect();
    found.retain(|request| now.saturating_sub(request.asked) < RETENTION_SECONDS);
    found.sort_by(|one, two| (one.asked, &one.branch).cmp(&(two.asked, &two.branch)));
    found
}

/// Deletes all requests for a branch.
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

/// Deletes the requests that a person has seen, given by their keys, and those older than
/// `RETENTION_SECONDS`.
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

/// Prevents other processes from opening pull requests at the same time.
pub fn lock_queue(repo: &Repo, wait: Duration) -> Result<Lock> {
    let who = format!("pid {}", std::process::id());
    Lock::acquire(&queue_folder(repo).with_extension("lock"), &who, wait, |_| {})
}
