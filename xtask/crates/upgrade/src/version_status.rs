//! What `status` says of a vendored toolkit: its version, which of its files were changed here, and
//! whether the canonical branch has a newer one.

use super::manifest::{MANIFEST, VendorManifest, compute_checksum};
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{FileMode, Id, Repo, TreeEntry};

/// How a branch stands to what was vendored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionStatus {
    /// What is vendored here.
    pub manifest: VendorManifest,
    /// The files of it that are not as they came, or are gone.
    pub changed: Vec<String>,
    /// What is vendored on the canonical branch, where that is something else.
    pub canonical: Option<VendorManifest>,
}

/// Looks at a branch by its tree, beside the canonical one. Nothing where nothing was vendored.
pub fn read_version_status(
    repo: &Repo,
    tree: Id,
    canonical: Option<Id>,
) -> Result<Option<VersionStatus>> {
    let Some(manifest) = find_manifest(repo, tree)? else { return Ok(None) };
    let mut changed = Vec::new();
    for (name, came) in &manifest.files {
        let entry = repo.entry_at(tree, &RepoPath::new(name.as_str()))?;
        let is_same = match entry {
            Some(TreeEntry { mode: mode @ (FileMode::File | FileMode::Executable), id }) => {
                compute_checksum(&repo.read_blob(id)?, mode == FileMode::Executable) == *came
            }
            _ => false,
        };
        if !is_same {
            changed.push(name.clone());
        }
    }
    let canonical = match canonical {
        // One that cannot be read there is told about by whoever goes by it.
        Some(canonical) => find_manifest(repo, canonical).ok().flatten(),
        None => None,
    };
    let canonical = canonical.filter(|other| other.commit != manifest.commit);
    Ok(Some(VersionStatus { manifest, changed, canonical }))
}

fn find_manifest(repo: &Repo, tree: Id) -> Result<Option<VendorManifest>> {
    let entry = repo.entry_at(tree, &RepoPath::new(MANIFEST))?;
    entry.map(|entry| VendorManifest::parse(&repo.read_blob(entry.id)?)).transpose()
}
