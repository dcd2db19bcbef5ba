//! What hooks have told about a branch, so that they tell it once and not at every checkout.
//! Notes that cannot be believed, or that a newer xtask has written, count as none and are replaced.

use std::collections::BTreeMap;
use std::path::PathBuf;

use xtask_base::digest;
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{Id, Repo};

const KIND: &str = "xtask.told/1";

/// How many branches are remembered; beyond that all are told again.
const MOST_BRANCHES: usize = 200;

fn log_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("told")
}

/// Leaves out what has been told about a branch of this worktree the last time, at the same
/// canonical commit. Where that cannot be
/// noted it is told again, which harms nobody.
#[must_use]
pub fn retain_unreported(
    repo: &Repo,
    disk: &Disk<'_>,
    branch: &str,
    canonical: Id,
    lines: Vec<String>,
) -> Vec<String> {
    let mut told = match record::read_record::<BTreeMap<String, String>>(&log_path(repo), KIND) {
        LoadedRecord::Valid(told) if told.len() < MOST_BRANCHES => told,
        _ => BTreeMap::new(),
    };
    let parts = lines.iter().map(String::as_bytes).chain([canonical.as_slice()]);
    let now = digest::to_hex(&digest::hash_parts(parts))[..16].to_owned();
    if lines.is_empty() {
        // The matter is settled; should it come up again, it is news.
        if told.remove(branch).is_some() {
            drop(record::write_record(disk, &log_path(repo), KIND, &told));
        }
        return lines;
    }
    if told.get(branch) == Some(&now) {
        return Vec::new();
    }
    told.insert(branch.to_owned(), now);
    drop(record::write_record(disk, &log_path(repo), KIND, &told));
    lines
}
