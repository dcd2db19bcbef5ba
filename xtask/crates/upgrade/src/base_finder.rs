//! The base of a merge: the content of a file as it was vendored, identified by its checksum.
//!
//! ```text
//! VENDORED.toml: "xtask/src/cli.rs" = "9f86d0…"  ->  the blob of that checksum, in the toolkit or in the history here
//! ```

use std::collections::BTreeMap;

use super::manifest::{MANIFEST, VendorManifest, compute_checksum, has_executable_suffix};
use super::toolkit::Toolkit;
use xtask_base::error::Result;
use xtask_base::path::RepoPath;
use xtask_git::{FileMode, Id, Repo, TreeEntry};

/// Returns whether a file has the checksum `came`.
pub(super) fn matches_checksum(repo: &Repo, entry: TreeEntry, came: Option<&str>) -> bool {
    let is_file = matches!(entry.mode, FileMode::File | FileMode::Executable);
    let mark = |content: Vec<u8>| compute_checksum(&content, entry.mode == FileMode::Executable);
    is_file && repo.read_blob(entry.id).is_ok_and(|content| Some(mark(content).as_str()) == came)
}

/// Finds the vendored content of a file, to be the base of a merge.
pub(super) struct BaseFinder<'a> {
    pub(super) repo: &'a Repo,
    pub(super) tip: Id,
    pub(super) old: &'a VendorManifest,
    pub(super) toolkit: &'a Toolkit,
    /// The path of the template, by the path of each file outside of `xtask/`.
    pub(super) placed: &'a BTreeMap<String, String>,
    /// The previous paths of moved files, by their new ones.
    pub(super) old_paths: &'a BTreeMap<RepoPath, RepoPath>,
}

impl BaseFinder<'_> {
    /// Returns a path as it was vendored: from the toolkit at its commit, or from the history of the repository
    /// back to the commit that wrote the manifest. If it is not found, returns an entry with the null ID, which
    /// equals no other, so that changes on both sides conflict.
    pub(super) fn find_base(&self, path: &RepoPath, came: &str) -> Result<TreeEntry> {
        let mode = if has_executable_suffix(came) { FileMode::Executable } else { FileMode::File };
        let path = self.old_paths.get(path).unwrap_or(path);
        let from = self.placed.get(&path.to_string());
        let there = from.map_or(path.clone(), |from| RepoPath::new(from.as_str()));
        if let Ok(commit) = Id::from_hex(self.old.commit.as_bytes()) {
            for (mode, content) in
                self.toolkit.find_earlier_contents(commit, &there, &self.old.parts)?
            {
                if compute_checksum(&content, mode == FileMode::Executable) == came {
                    return Ok(TreeEntry { mode, id: self.repo.write_blob(&content)? });
                }
            }
        }
        let manifest = RepoPath::new(MANIFEST);
        let now = self.repo.entry_at(self.repo.tree_of(self.tip)?, &manifest)?;
        for commit in self.repo.commits_between(None, self.tip, true)? {
            let tree = self.repo.tree_of(commit)?;
            if self.repo.entry_at(tree, &manifest)? != now {
                break;
            }
            let entry = self.repo.entry_at(tree, path)?;
            if let Some(entry) = entry
                && matches_checksum(self.repo, entry, Some(came))
            {
                return Ok(entry);
            }
        }
        Ok(TreeEntry { mode, id: self.repo.null_id() })
    }
}
