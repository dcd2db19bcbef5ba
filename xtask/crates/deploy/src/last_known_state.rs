//! What this clone remembers of a layer on another host: how the last run from here ended. It is a hint for
//! those who only look, and the host knows better.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::history::DeployEntry;
use super::ssh::staging_folder;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::Repo;

/// The kind of the record.
const LAST_KNOWN_KIND: &str = "xtask.deploy-remembered/1";

/// How a layer was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastKnownState {
    /// When that was written down, in seconds since the epoch.
    pub at: i64,
    /// Where it was deployed to.
    pub to: String,
    /// The release to which `current` points.
    pub current: Option<String>,
    /// The release that serves, verified.
    pub serves: Option<String>,
    /// The commit of that to which `current` points.
    pub commit: Option<String>,
    /// The last run.
    pub run: Option<DeployEntry>,
}

fn state_file(repo: &Repo, layer: &str) -> PathBuf {
    staging_folder(repo, layer).join("remembered")
}

/// Reads it; nothing where nothing is known of where the layer is deployed to now.
#[must_use]
pub fn read_last_known(repo: &Repo, layer: &str, to: &str) -> Option<LastKnownState> {
    match record::read_record::<LastKnownState>(&state_file(repo, layer), LAST_KNOWN_KIND) {
        LoadedRecord::Valid(found) if found.to == to => Some(found),
        _ => None,
    }
}

/// Writes it down.
pub fn write_last_known(
    disk: &Disk<'_>,
    repo: &Repo,
    layer: &str,
    remembered: &LastKnownState,
) -> Result<()> {
    let path = state_file(repo, layer);
    record::write_record(disk, &path, LAST_KNOWN_KIND, remembered)
        .with_context(|| format!("`{}` cannot be written", path.display()))
}
