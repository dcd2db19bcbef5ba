//! The input files of a check as values: `InputSpec` names them, `InputSet` has them with their contents as digests.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::cache_key::ManifestFile;
use xtask_base::digest::Digest;
use xtask_base::path::RepoPath;
use xtask_git::{FileStat, FoundFiles};

/// The patterns and paths that a check depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct InputSpec {
    pub(super) patterns: Vec<String>,
    pub(super) paths: Vec<RepoPath>,
    pub(super) command_paths: Vec<RepoPath>,
    pub(super) first_argument: Option<RepoPath>,
}

/// The input sets found so far in this run.
#[derive(Default)]
pub(super) struct InputSetCache {
    pub(super) known: HashMap<InputSpec, Arc<InputSet>>,
    pub(super) has_command_started: bool,
}

/// The input files of a check, with their contents as digests.
#[derive(Debug)]
pub(super) struct InputSet {
    pub found: FoundFiles,
    /// The reason files may be missing from `found`, if so.
    pub outside: Option<String>,
    /// The entries of the manifest.
    pub files: Arc<Vec<ManifestFile>>,
    /// The reason contents may be missing from `files`, if so.
    pub unreadable: Option<String>,
    /// The stat data of the files at which symlinks end.
    pub link_targets: BTreeMap<RepoPath, Option<FileStat>>,
    /// The digest of `files`.
    pub digest: Digest,
}
