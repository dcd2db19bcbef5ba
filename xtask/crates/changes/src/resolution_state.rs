//! The progress of a manual resolution, as stored between two commands, and the ref that keeps its
//! commits. For example, after one of two commits was resolved: `tip: 9c4e…, left: [b2]`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::record::{self, LoadedRecord};
use xtask_git::reflog_messages::REVERSE_SYNC;
use xtask_git::{Id, Repo, Tools};

const KIND: &str = "xtask.reverse-sync/1";

/// Ref that keeps the last resolved commit until all have landed.
const KEPT_REF: &str = "refs/xtask/resolving";

/// A commit still to be picked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct RemainingCommit {
    pub(super) commit: String,
    /// Parent to compare with.
    pub(super) parent: Option<String>,
    /// Whether it was already picked onto an earlier canonical commit, trailers included.
    pub(super) is_ready: bool,
}

/// Progress of a reverse-sync with a conflict, as stored in the record `reverse-sync`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ResolutionState {
    /// Source branch of the commits.
    pub(super) source: String,
    /// Canonical commit to build on.
    pub(super) base: String,
    /// Last commit made.
    pub(super) tip: String,
    /// Remaining commits; the first one conflicts.
    pub(super) left: Vec<RemainingCommit>,
    /// Whether the conflict is checked out in the worktree, which from then on has somebody's work.
    pub(super) is_laid_out: bool,
}

fn record_path(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("reverse-sync")
}

/// Returns whether a resolution is in progress.
#[must_use]
pub fn is_resolving(repo: &Repo) -> bool {
    record_path(repo).symlink_metadata().is_ok()
}

pub(super) fn write_record(repo: &Repo, state: &ResolutionState, tools: &Tools<'_>) -> Result<()> {
    let file = record_path(repo);
    update_kept_ref(repo, Some(parse_id(&state.tip)?))?;
    record::write_record(tools.disk, &file, KIND, state)
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Protects the commits resolved so far from `git gc`.
pub(super) fn update_kept_ref(repo: &Repo, tip: Option<Id>) -> Result<()> {
    let old = repo.resolve_ref(KEPT_REF)?;
    if old != tip {
        repo.swap_ref(KEPT_REF, old, tip, REVERSE_SYNC)?;
    }
    Ok(())
}

pub(super) fn remove_record(repo: &Repo, tools: &Tools<'_>) -> Result<()> {
    let file = record_path(repo);
    tools.disk.remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display()))
}

pub(super) fn load_record(repo: &Repo) -> LoadedRecord<ResolutionState> {
    record::read_record(&record_path(repo), KIND)
}

pub(super) fn read_record(repo: &Repo) -> Result<ResolutionState> {
    match load_record(repo) {
        LoadedRecord::Valid(state) => Ok(state),
        LoadedRecord::Missing => {
            Err(Error::usage("no conflict is being resolved, so there is nothing to continue")
                .with_hint("`cargo xtask reverse-sync --resolve BRANCH COMMIT` opens one"))
        }
        LoadedRecord::Newer => Err(newer_record_error(repo)),
        LoadedRecord::Corrupt(why) => Err(damaged_record_error(repo, &why)),
    }
}

pub(super) fn newer_record_error(repo: &Repo) -> Error {
    record::newer_record_error(
        "the record of the conflict that is being resolved",
        &record_path(repo),
    )
}

pub(super) fn damaged_record_error(repo: &Repo, why: &str) -> Error {
    Error::unable(format!("`{}` is damaged: {why}", record_path(repo).display()))
        .with_hint("`cargo xtask reverse-sync --abort`, then start over")
}

pub(super) fn parse_id(text: &str) -> Result<Id> {
    Id::from_hex(text.as_bytes()).with_context(|| format!("invalid object id `{text}`"))
}
