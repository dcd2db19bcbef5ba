//! Conflicts of an upgrade, and what people decide about them: each lies as a text with markers in a
//! folder of its own beside the branch, under the git folder. One in which no markers are left counts
//! as decided; what somebody has begun to edit is never written over.

use std::path::PathBuf;

use xtask_base::digest;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_git::{Repo, TreeEntry};

/// The three versions of a path: as it came, as it is here, as it comes now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergeTriple {
    /// The path.
    pub path: RepoPath,
    /// As it came.
    pub base: Option<TreeEntry>,
    /// As it is here.
    pub ours: Option<TreeEntry>,
    /// As it comes now.
    pub theirs: Option<TreeEntry>,
}

impl MergeTriple {
    /// Where its conflict lies: another place for every other conflict.
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

    /// What somebody has made of the conflict; nothing while a marker is in it that was put there, or
    /// while it is empty: that is how an editor leaves a file when the disk is full.
    pub fn read_resolution(&self, repo: &Repo, branch: &str) -> Result<Option<Vec<u8>>> {
        let file = self.conflict_path(repo);
        let begin = format!("<<<<<<< {branch}");
        let is_marker =
            |line: &[u8]| line.starts_with(begin.as_bytes()) || line.starts_with(b">>>>>>> xtask ");
        match std::fs::read(&file) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => {
                Err(cause).with_context(|| format!("`{}` cannot be read", file.display()))
            }
            Ok(text) if text.is_empty() => Ok(None),
            Ok(text) => {
                let is_open = text.split(|byte| *byte == b'\n').any(is_marker);
                Ok((!is_open).then_some(text))
            }
        }
    }

    /// Puts the text with markers there, unless there is one already.
    pub fn write_conflict(&self, repo: &Repo, disk: &Disk<'_>, text: &[u8]) -> Result<PathBuf> {
        let file = self.conflict_path(repo);
        let failed = || format!("`{}` cannot be written", file.display());
        if file.symlink_metadata().is_ok_and(|meta| meta.len() > 0) {
            return Ok(file);
        }
        disk.write_atomically(&file, text).with_context(failed)?;
        Ok(file)
    }

    /// Texts of other conflicts of this path, from before something moved.
    #[must_use]
    pub fn find_earlier_conflicts(&self, repo: &Repo) -> Vec<PathBuf> {
        let own = self.conflict_path(repo);
        let above = std::fs::read_dir(repo.shared_state_folder().join("upgrade"));
        let texts =
            above.into_iter().flatten().flatten().map(|one| self.path.to_disk_path(&one.path()));
        texts.filter(|text| *text != own && text.is_file()).collect()
    }

    /// Takes it away: what was decided is in a commit.
    pub fn remove_conflict(&self, repo: &Repo, disk: &Disk<'_>) {
        // What is left there is under another name than every later conflict.
        drop(disk.remove_folder(&self.conflict_folder(repo)));
    }
}
