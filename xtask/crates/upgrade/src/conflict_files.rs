//! The files in which users resolve conflicts of an upgrade.
//!
//! Each conflict is a text with markers in its own folder below the git folder, e.g.
//! `.git/xtask/upgrade/1a2b3c4d/xtask/src/cli.rs`. A file without markers counts as resolved, and a file that
//! exists is never overwritten.

use std::path::PathBuf;

use xtask_base::digest;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::words::pluralize;
use xtask_changes::cherry_pick::{ConflictKind, PathConflict};
use xtask_git::{Repo, Tools, TreeEntry};

/// The three versions of a path in a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeTriple {
    pub path: RepoPath,
    /// The version that was vendored.
    pub base: Option<TreeEntry>,
    /// The version on the canonical branch.
    pub ours: Option<TreeEntry>,
    /// The version of the new toolkit.
    pub theirs: Option<TreeEntry>,
}

/// A conflict of an upgrade.
#[derive(Clone, Debug)]
pub struct UpgradeConflict {
    pub conflict: PathConflict,
    pub versions: MergeTriple,
}

impl MergeTriple {
    /// Returns the file of this conflict. Another triple of versions has another folder.
    #[must_use]
    pub fn conflict_path(&self, repo: &Repo) -> PathBuf {
        self.path.to_disk_path(&self.conflict_folder(repo))
    }

    fn conflict_folder(&self, repo: &Repo) -> PathBuf {
        let id =
            |entry: Option<TreeEntry>| entry.map_or(Vec::new(), |one| one.id.as_slice().to_vec());
        let ids = [id(self.base), id(self.ours), id(self.theirs)];
        let parts = ids.iter().map(Vec::as_slice).chain([self.path.as_bytes()]);
        let key = digest::to_hex(&digest::hash_parts(parts));
        repo.shared_state_folder().join("upgrade").join(&key[..8])
    }

    /// Returns the resolved text, or `None` while the file has one of our markers or is empty: an editor leaves an
    /// empty file when the disk is full.
    pub fn read_resolution(&self, repo: &Repo, branch: &str) -> Result<Option<Vec<u8>>> {
        let file = self.conflict_path(repo);
        let begin = format!("<<<<<<< {branch}");
        let is_marker =
            |line: &[u8]| line.starts_with(begin.as_bytes()) || line.starts_with(b">>>>>>> xtask ");
        match std::fs::read(&file) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause).with_context(|| format!("cannot read `{}`", file.display())),
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => {
                let is_open = text.split(|byte| *byte == b'\n').any(is_marker);
                Ok((!is_open).then_some(text))
            }
        }
    }

    /// Writes the text with markers, unless the file exists and is not empty. Returns its path.
    pub fn write_conflict(&self, repo: &Repo, disk: &Disk<'_>, text: &[u8]) -> Result<PathBuf> {
        let file = self.conflict_path(repo);
        let failed = || format!("cannot write `{}`", file.display());
        if file.symlink_metadata().is_ok_and(|meta| meta.len() > 0) {
            return Ok(file);
        }
        disk.write_atomically(&file, text).with_context(failed)?;
        Ok(file)
    }

    /// Returns the files of earlier conflicts of this path, with other versions.
    #[must_use]
    pub fn find_earlier_conflicts(&self, repo: &Repo) -> Vec<PathBuf> {
        let own = self.conflict_path(repo);
        let above = std::fs::read_dir(repo.shared_state_folder().join("upgrade"));
        let texts =
            above.into_iter().flatten().flatten().map(|one| self.path.to_disk_path(&one.path()));
        texts.filter(|text| *text != own && text.is_file()).collect()
    }

    /// Removes the file after the resolution was committed.
    pub fn remove_conflict(&self, repo: &Repo, disk: &Disk<'_>) {
        // A leftover does no harm: other conflicts have other folders.
        drop(disk.remove_folder(&self.conflict_folder(repo)));
    }
}

/// Writes the files for resolving the conflicts. Returns a line for each conflict, with its file or its cause.
pub fn write_conflict_files(
    repo: &Repo,
    conflicts: &[UpgradeConflict],
    tools: &Tools<'_>,
) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for UpgradeConflict { conflict, versions: three } in conflicts {
        let path = &conflict.path;
        lines.push(match &conflict.kind {
            ConflictKind::Lines { text, line_ranges: at } => {
                let file = three.write_conflict(repo, tools.disk, text)?;
                let places = pluralize(at.len(), "place");
                let mut line =
                    format!("{path}: both changed the same lines, in {places}: {}", file.display());
                for other in three.find_earlier_conflicts(repo) {
                    line.push_str(&format!(" (an earlier conflict of it: {})", other.display()));
                }
                line
            }
            other => format!("{path}: {}", describe_conflict(other)),
        });
    }
    Ok(lines)
}

/// Describes a conflict in one line.
#[must_use]
pub fn describe_conflict(clash: &ConflictKind) -> String {
    match clash {
        ConflictKind::Lines { .. } => "both changed the same lines".to_owned(),
        ConflictKind::DeletedByUs => "removed here, but changed in the new version".to_owned(),
        ConflictKind::DeletedByThem => "changed here, but removed in the new version".to_owned(),
        ConflictKind::NotText => "both changed it, and it is binary".to_owned(),
        ConflictKind::NotMerged(_) => {
            "both changed it, and git's attributes forbid merging it".to_owned()
        }
        ConflictKind::InTheWay(other) => {
            format!("`{other}` is in its place here; move it away on the branch first")
        }
    }
}
