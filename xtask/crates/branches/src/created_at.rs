//! Creation times of branches made by us, one record per branch, so that no lock is needed.
//!
//! A record counts only if it can be about the present branch: `from` must be an ancestor of the
//! branch, and the reflog must not begin later than `at`. Otherwise the age follows from the
//! commits.
//!
//! ```text
//! BranchCreation { branch: "feature/a", at: 1700000000, from: "1a2b…" }
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use xtask_base::digest;
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{Id, Repo};

const RECORD_KIND: &str = "xtask.branch/1";

/// The most that git's reflog may be later than our record, in seconds: the delay of a slow disk.
const MAX_CLOCK_SLACK_S: i64 = 60;

/// The creation of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchCreation {
    /// The branch without `refs/heads/`.
    pub branch: String,
    /// Seconds since the epoch.
    pub at: i64,
    /// The first commit.
    pub from: String,
}

fn creation_record_file(repo: &Repo, branch: &str) -> PathBuf {
    // A hash, since names may contain slashes or differ only in case.
    let name = digest::to_hex(&digest::hash_bytes(branch.as_bytes()));
    repo.shared_state_folder().join("branches").join(name)
}

/// Writes the record of a new branch.
pub fn write_creation_record(repo: &Repo, disk: &Disk<'_>, made: &BranchCreation) -> Result<()> {
    let file = creation_record_file(repo, &made.branch);
    if let LoadedRecord::Newer = record::read_record::<BranchCreation>(&file, RECORD_KIND) {
        return Err(record::newer_record_error("the creation record of the branch", &file));
    }
    record::write_record(disk, &file, RECORD_KIND, made)
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Removes the record, unless a newer xtask has written it.
pub fn remove_creation_record(repo: &Repo, disk: &Disk<'_>, branch: &str) -> Result<()> {
    let file = creation_record_file(repo, branch);
    match record::read_record::<BranchCreation>(&file, RECORD_KIND) {
        LoadedRecord::Missing | LoadedRecord::Newer => Ok(()),
        _ => disk.remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display())),
    }
}

/// Returns the record of the branch at `tip`, if it counts.
pub fn find_creation_record(repo: &Repo, branch: &str, tip: Id) -> Result<Option<BranchCreation>> {
    let LoadedRecord::Valid(made) =
        record::read_record::<BranchCreation>(&creation_record_file(repo, branch), RECORD_KIND)
    else {
        return Ok(None);
    };
    let Ok(from) = Id::from_hex(made.from.as_bytes()) else { return Ok(None) };
    if made.branch != branch || !repo.has_object(from) || !repo.is_ancestor(from, tip)? {
        return Ok(None);
    }
    let log = repo.reflog(&format!("refs/heads/{branch}"));
    let is_of_another = log.first().is_some_and(|(_, began)| *began > made.at + MAX_CLOCK_SLACK_S);
    Ok((!is_of_another).then_some(made))
}
