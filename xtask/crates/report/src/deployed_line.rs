//! The `deployed` line of `status`, a value of `xtask.status/1`: built by the crate of deploys, and part of the status
//! also in a program without it.

use serde::Serialize;

/// The status of a deployed layer.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DeployedLine {
    pub layer: String,
    /// The target, as in `[deploy] to`.
    pub to: String,
    /// Whether no problem is known.
    pub ok: bool,
    /// A description, e.g. `0123456789, verified 2 hours ago`.
    pub words: String,
    /// The serving release, or `None` if there is none.
    pub release: Option<String>,
    /// The commit of the release.
    pub commit: Option<String>,
    /// Whether it serves and is verified.
    pub verified: bool,
    /// The start of the run that deployed it, RFC 3339 in UTC.
    pub deployed: Option<String>,
    /// The time of this information if it was cached, not read from the target.
    pub as_of: Option<String>,
    /// Whether a run is in progress or was interrupted.
    pub unfinished: bool,
    /// The branch to compare with.
    pub branch: Option<String>,
    /// How many commits of that branch are not deployed, or `None` if that is unknown.
    pub behind: Option<usize>,
}
