//! The status of a vendored toolkit for `status`: its version, the files with local changes, and whether the
//! canonical branch has another version. For example: `0.1.0 (1a2b3c4d5e); xtask/src/cli.rs was changed here`.

use super::base_finder::matches_checksum;
use super::manifest::{MANIFEST, VendorManifest};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{Id, Repo};

/// The status of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// The manifest on this branch.
    pub manifest: VendorManifest,
    /// The files that were changed or removed locally.
    pub changed: Vec<String>,
    /// The manifest on the canonical branch, if it is of another commit.
    pub canonical: Option<VendorManifest>,
}

/// Returns the status of the copy in `tree`, compared with the tree `canonical`; `None` if there is no copy.
pub fn read_version_status(
    repo: &Repo,
    tree: Id,
    canonical: Option<Id>,
) -> Result<Option<VersionStatus>> {
    let Some(manifest) = find_manifest(repo, tree)? else { return Ok(None) };
    let mut changed = Vec::new();
    for (name, came) in &manifest.files {
        let entry = repo.entry_at(tree, &RepoPath::new(name.as_str()))?;
        if !entry.is_some_and(|entry| matches_checksum(repo, entry, Some(came))) {
            changed.push(name.clone());
        }
    }
    let canonical = match canonical {
        // An invalid manifest there is reported by the commands that use it.
        Some(canonical) => find_manifest(repo, canonical).ok().flatten(),
        None => None,
    };
    let canonical = canonical.filter(|other| other.commit != manifest.commit);
    Ok(Some(VersionStatus { manifest, changed, canonical }))
}

/// Reads the manifest in `tree`; `None` if there is no copy.
pub(super) fn find_manifest(repo: &Repo, tree: Id) -> Result<Option<VendorManifest>> {
    let entry = repo.entry_at(tree, &RepoPath::new(MANIFEST))?;
    entry.map(|entry| VendorManifest::parse(&repo.read_blob(entry.id)?)).transpose()
}
