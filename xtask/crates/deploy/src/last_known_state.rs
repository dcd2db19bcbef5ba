//! The last known state of a layer on another host, as the last run from this clone left it.
//!
//! `status` shows it without a connection; the history on the host is authoritative. For example:
//!
//! ```text
//! {"at": 1741601760, "to": "box:/srv/app", "current": "20250310T101500Z-4cfd10e1a2b3", ...}
//! ```

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::history::DeployEntry;
use super::ssh::staging_folder;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::Repo;

/// Format identifier in the first line of the file.
const LAST_KNOWN_KIND: &str = "xtask.deploy-remembered/1";

/// State of a layer after a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastKnownState {
    /// Time of writing, in seconds since the epoch.
    pub at: i64,
    /// `deploy.to` at the time of writing.
    pub to: String,
    /// Name of the release to which `current` points.
    pub current: Option<String>,
    /// Name of the verified release that serves.
    pub serves: Option<String>,
    /// Commit of `current`, in full.
    pub commit: Option<String>,
    pub run: Option<DeployEntry>,
}

fn state_file(repo: &Repo, layer: &str) -> PathBuf {
    staging_folder(repo, layer).join("remembered")
}

/// Reads the state of `layer`. Returns `None` if it is unknown, or was written for another `to`.
#[must_use]
pub fn read_last_known(repo: &Repo, layer: &str, to: &str) -> Option<LastKnownState> {
    match record::read_record::<LastKnownState>(&state_file(repo, layer), LAST_KNOWN_KIND) {
        LoadedRecord::Valid(found) if found.to == to => Some(found),
        _ => None,
    }
}

/// Writes the state of `layer`.
pub fn write_last_known(
    disk: &Disk<'_>,
    repo: &Repo,
    layer: &str,
    remembered: &LastKnownState,
) -> Result<()> {
    let path = state_file(repo, layer);
    record::write_record(disk, &path, LAST_KNOWN_KIND, remembered)
        .with_context(|| format!("cannot write `{}`", path.display()))
}
