//! The history of a target, the file `history`: one line of JSON per run, appended and never changed.
//!
//! A line that a crash left incomplete is written again from the journal, identified by its id. For example:
//!
//! ```text
//! {"id": "...", "at": 1741601700, "doing": "deploy", "release": "20250310T101500Z-4cfd10e1a2b3",
//!  "outcome": "verified", "current": "20250310T101500Z-4cfd10e1a2b3", "by": "ada", ...}
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::pipeline::DeployAction;
use super::target::{DeployTarget, TargetOwnership};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;

/// Size limit of the file: 64 MiB, some hundred thousand deploys.
const MAX_HISTORY_BYTES: u64 = 64 << 20;

/// Outcome of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeployOutcome {
    /// The release serves, and was healthy during its watch.
    Verified,
    /// The release did not serve; the one before was not touched.
    Failed,
    /// The release was unhealthy; the one before serves again, verified.
    RolledBack,
    /// The release was unhealthy, and so is the one before.
    RollbackFailed,
    /// The run was interrupted before its verdict; the release before serves again, verified.
    Interrupted,
}

impl DeployOutcome {
    /// Reports whether the outcome is evidence for or against the release.
    fn is_verdict(self) -> bool {
        !matches!(self, DeployOutcome::Failed | DeployOutcome::Interrupted)
    }
}

impl DeployOutcome {
    /// Returns the outcome as text, e.g. `rolled back`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            DeployOutcome::Verified => "verified",
            DeployOutcome::Failed => "failed",
            DeployOutcome::RolledBack => "rolled back",
            DeployOutcome::RollbackFailed => "rollback failed",
            DeployOutcome::Interrupted => "interrupted",
        }
    }
}

/// A run in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployEntry {
    /// Unique id, against duplicate lines.
    pub id: String,
    /// Start of the run, in seconds since the epoch.
    pub at: i64,
    pub doing: DeployAction,
    /// Name of the release that was to serve.
    pub release: String,
    /// Commit of `release`, in full.
    pub commit: String,
    pub outcome: DeployOutcome,
    /// Name of the release to which `current` points after the run.
    pub current: Option<String>,
    /// Name of the verified release that serves after the run.
    pub serves: Option<String>,
    /// The deploying user.
    pub by: String,
    /// Reason for a failure.
    pub why: Option<String>,
}

/// Reads all runs, oldest first, skipping malformed lines. Returns none if `file` does not exist.
///
/// Returns an error if `file` is not a regular file, is larger than 64 MiB, or is unreadable.
pub fn read_history(file: &Path) -> Result<Vec<DeployEntry>> {
    let failed = || format!("cannot read the history `{}`", file.display());
    match std::fs::metadata(file) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(cause).with_context(failed),
        Ok(meta) if !meta.is_file() || meta.len() > MAX_HISTORY_BYTES => {
            return Err(
                Error::unable(failed()).with_detail("not a regular file, or larger than 64 MiB")
            );
        }
        Ok(_) => {}
    }
    Ok(parse_history(&std::fs::read(file).with_context(failed)?))
}

/// Reads all runs of `target`; none if it is free. Returns an error if it belongs to somebody else.
pub fn read_target_history(target: &DeployTarget) -> Result<Vec<DeployEntry>> {
    match target.check_ownership()? {
        TargetOwnership::Ours => read_history(&target.history_file()),
        TargetOwnership::Free => Ok(Vec::new()),
    }
}

/// Parses the content of a history, skipping malformed lines.
#[must_use]
pub fn parse_history(bytes: &[u8]) -> Vec<DeployEntry> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Appends a run, unless one with the same `id` is present.
pub fn append_entry(disk: &Disk<'_>, file: &Path, entry: &DeployEntry) -> Result<()> {
    let failed = || format!("cannot write the history `{}`", file.display());
    if read_history(file)?.iter().any(|known| known.id == entry.id) {
        return Ok(());
    }
    let mut line = serde_json::to_vec(entry).with_context(failed)?;
    line.push(b'\n');
    disk.check_gate("append to the history").with_context(failed)?;
    // Mode 0600, because `why` is meant for the deploying user only.
    let mut options = File::options();
    let mut open = options.create(true).append(true).mode(0o600).open(file).with_context(failed)?;
    let is_torn = std::fs::read(file).is_ok_and(|all| !all.is_empty() && !all.ends_with(b"\n"));
    if is_torn {
        line.insert(0, b'\n');
    }
    open.write_all(&line).and_then(|()| open.sync_all()).with_context(failed)
}

/// Returns the names of the releases with `Verified` as their last verdict, newest first.
#[must_use]
pub fn list_verified(entries: &[DeployEntry]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let newest = entries.iter().rev().filter(|entry| entry.outcome.is_verdict());
    let newest = newest.filter(|entry| seen.insert(entry.release.clone()));
    let good = newest.filter(|entry| entry.outcome == DeployOutcome::Verified);
    good.map(|entry| entry.release.clone()).collect()
}

/// Reports whether the last verdict on `commit` is `Verified`; outcomes such as `Failed` and `Interrupted` do not
/// count as verdicts.
#[must_use]
pub fn is_commit_verified(entries: &[DeployEntry], commit: &str) -> bool {
    let mut served = entries.iter().rev().filter(|entry| entry.outcome.is_verdict());
    let last = served.find(|entry| entry.commit == commit);
    last.is_some_and(|entry| entry.outcome == DeployOutcome::Verified)
}

/// Names of releases, as the last run of a target left them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CurrentReleases<'a> {
    /// The release to which `current` should point.
    pub current: Option<&'a str>,
    /// The verified release that serves.
    pub serving: Option<&'a str>,
}

/// Returns the release to which `current` should point, and the one that serves.
#[must_use]
pub fn current_and_serving(entries: &[DeployEntry]) -> CurrentReleases<'_> {
    let last = entries.last();
    CurrentReleases {
        current: last.and_then(|entry| entry.current.as_deref()),
        serving: last.and_then(|entry| entry.serves.as_deref()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, release: &str, outcome: DeployOutcome) -> DeployEntry {
        DeployEntry {
            id: id.to_owned(),
            at: 1,
            doing: DeployAction::Deploy,
            release: release.to_owned(),
            commit: format!("commit of {release}"),
            outcome,
            current: None,
            serves: None,
            by: "ada".to_owned(),
            why: None,
        }
    }

    #[test]
    fn the_last_word_on_a_release_counts() {
        let all = [
            entry("1", "a", DeployOutcome::Verified),
            entry("2", "b", DeployOutcome::Verified),
            entry("3", "b", DeployOutcome::RolledBack),
            entry("4", "c", DeployOutcome::Verified),
            entry("5", "d", DeployOutcome::Failed),
            entry("6", "a", DeployOutcome::Verified),
        ];
        assert_eq!(list_verified(&all), ["a", "c"]);
        assert!(
            is_commit_verified(&all, "commit of c") && !is_commit_verified(&all, "commit of b")
        );
        assert!(!is_commit_verified(&all, "commit of d") && !is_commit_verified(&all, "another"));
    }

    #[test]
    fn a_torn_line_swallows_nothing_and_an_id_is_there_once() {
        let name = format!("xtask-deploy-history-{}", std::process::id());
        let file = std::env::temp_dir().join(name);
        let disk = Disk::real();
        disk.remove_file(&file).unwrap();
        append_entry(&disk, &file, &entry("1", "a", DeployOutcome::Verified)).unwrap();
        File::options().append(true).open(&file).unwrap().write_all(b"{\"id\": \"to").unwrap();
        for _ in 0..2 {
            append_entry(&disk, &file, &entry("2", "b", DeployOutcome::Verified)).unwrap();
        }
        let ids: Vec<String> =
            read_history(&file).unwrap().into_iter().map(|entry| entry.id).collect();
        assert_eq!(ids, ["1", "2"]);
        disk.remove_file(&file).unwrap();
    }
}
