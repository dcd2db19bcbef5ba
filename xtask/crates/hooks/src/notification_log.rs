//! Log of messages that hooks have printed for each branch, so that each message appears once and not at every
//! checkout. A log that is corrupt or was written by a newer xtask counts as empty and is replaced.
//!
//! ```text
//! { "feature/a": "0f3c…" }    branch -> digest of the canonical commit and the lines that were printed last
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;

use xtask_base::digest;
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{Id, Repo};

const KIND: &str = "xtask.told/1";

/// The maximum number of branches in the log; beyond it the log starts anew.
const MOST_BRANCHES: usize = 200;

fn log_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("told")
}

/// Returns `lines`, or no line if the same lines were already printed for `branch` at the same `canonical` commit. If
/// the log cannot be written, the lines are printed again next time, which is harmless.
#[must_use]
pub fn retain_unreported(
    repo: &Repo,
    disk: &Disk<'_>,
    branch: &str,
    canonical: Id,
    lines: Vec<String>,
) -> Vec<String> {
    let keys = lines.clone();
    retain_unreported_by(repo, disk, branch, canonical, &keys, lines)
}

/// Like [`retain_unreported`], but lines are the same if their `keys` are: for lines whose words change by
/// themselves, e.g. with the number of days that are left.
#[must_use]
pub fn retain_unreported_by(
    repo: &Repo,
    disk: &Disk<'_>,
    branch: &str,
    canonical: Id,
    keys: &[String],
    lines: Vec<String>,
) -> Vec<String> {
    let mut reported = match record::read_record::<BTreeMap<String, String>>(&log_path(repo), KIND)
    {
        LoadedRecord::Valid(reported) if reported.len() < MOST_BRANCHES => reported,
        _ => BTreeMap::new(),
    };
    let parts = keys.iter().map(String::as_bytes).chain([canonical.as_slice()]);
    let now = digest::to_hex(&digest::hash_parts(parts))[..16].to_owned();
    if lines.is_empty() {
        // The problem is solved; if it occurs again, it must be reported again.
        if reported.remove(branch).is_some() {
            drop(record::write_record(disk, &log_path(repo), KIND, &reported));
        }
        return lines;
    }
    if reported.get(branch) == Some(&now) {
        return Vec::new();
    }
    reported.insert(branch.to_owned(), now);
    drop(record::write_record(disk, &log_path(repo), KIND, &reported));
    lines
}
