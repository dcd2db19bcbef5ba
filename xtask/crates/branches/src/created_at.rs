//! When a branch was made, where we made it: a record for each, so that nobody waits for anybody.
//!
//! A record is believed only as long as it can be about the branch of today: it must begin where the record
//! says, and its reflog must not begin later. One that is not believed is as good as none, and the commits
//! say how old the branch is.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use xtask_base::digest;
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{Id, Repo};

const RECORD_KIND: &str = "xtask.branch/1";

/// How much later than our record git may have written its own, in seconds: what a slow disk needs.
const MAX_CLOCK_SLACK_S: i64 = 60;

/// That a branch was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchCreation {
    /// The branch, without `refs/heads/`.
    pub branch: String,
    /// When, in seconds since the epoch.
    pub at: i64,
    /// The commit at which it began.
    pub from: String,
}

fn creation_record_file(repo: &Repo, branch: &str) -> PathBuf {
    // A name can hold slashes, and two can differ in the case of letters alone.
    let name = digest::to_hex(&digest::hash_bytes(branch.as_bytes()));
    repo.shared_state_folder().join("branches").join(name)
}

/// Writes down that a branch was made.
pub fn write_creation_record(repo: &Repo, disk: &Disk<'_>, made: &BranchCreation) -> Result<()> {
    let file = creation_record_file(repo, &made.branch);
    if let LoadedRecord::Newer = record::read_record::<BranchCreation>(&file, RECORD_KIND) {
        return Err(record::newer_record_error("the note of when the branch was made", &file));
    }
    record::write_record(disk, &file, RECORD_KIND, made)
        .with_context(|| format!("`{}` cannot be written", file.display()))
}

/// Forgets it again; what a newer xtask has written stays.
pub fn remove_creation_record(repo: &Repo, disk: &Disk<'_>, branch: &str) -> Result<()> {
    let file = creation_record_file(repo, branch);
    match record::read_record::<BranchCreation>(&file, RECORD_KIND) {
        LoadedRecord::Missing | LoadedRecord::Newer => Ok(()),
        _ => disk
            .remove_file(&file)
            .with_context(|| format!("`{}` cannot be removed", file.display())),
    }
}

/// When the branch that is at `tip` was made, if that is known.
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
