//! What this clone remembers of a layer on another host: how the last run from here ended. It is a hint for
//! those who only look, and the host knows better.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::history::Entry;
use super::ssh::staging;
use xtask_base::error::{Context as _, Result};
use xtask_base::files::Disk;
use xtask_base::record::{self, Found};
use xtask_git::Repo;

/// The kind of the record.
const REMEMBERED: &str = "xtask.deploy-remembered/1";

/// How a layer was left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
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
    pub run: Option<Entry>,
}

fn path(repo: &Repo, layer: &str) -> PathBuf {
    staging(repo, layer).join("remembered")
}

/// Reads it; nothing where nothing is known of where the layer is deployed to now.
#[must_use]
pub fn read(repo: &Repo, layer: &str, to: &str) -> Option<Remembered> {
    match record::read::<Remembered>(&path(repo, layer), REMEMBERED) {
        Found::Whole(found) if found.to == to => Some(found),
        _ => None,
    }
}

/// Writes it down.
pub fn write(disk: &Disk<'_>, repo: &Repo, layer: &str, remembered: &Remembered) -> Result<()> {
    let path = path(repo, layer);
    record::write(disk, &path, REMEMBERED, remembered)
        .unable(|| format!("`{}` cannot be written", path.display()))
}
