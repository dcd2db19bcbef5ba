//! Staged files that a fix has changed: their new content into the index, and the same change into the worktree.
//!
//! Guarantee: nothing is put aside. The index gets all fixed contents in one step; then each file of the worktree is
//! replaced in one step, by the fixed content or by a three-way merge with its unstaged changes. A crash leaves the
//! index and every file as before or as planned. A file with a conflict, or one that was saved concurrently, stays.
//!
//! ```text
//! index  "import b\nimport a\n"  --fix-->  "import a\nimport b\n"
//! file   "import b\nimport a\nx\n"  ->     "import a\nimport b\nx\n"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::replace_file::{KnownFile, read_regular_file, replace_unchanged};
use super::{
    ChangedPaths, FileMode, IndexUpdate, MergeDriver, Repo, TextMerge, TreeEntry, merge_three_way,
};
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;

/// A staged file, as it was exported and as a fix has left it.
#[derive(Clone, Debug)]
pub struct FixedFile {
    pub path: RepoPath,
    /// The content before the fix, in the form of the worktree.
    pub exported: Vec<u8>,
    /// The content after the fix, in the form of the worktree.
    pub fixed: Vec<u8>,
    /// Whether the fixed file is executable.
    pub executable: bool,
}

/// What became of the file in the worktree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestagedFile {
    /// It had no unstaged changes, and has the fixed content now.
    Replaced,
    /// The fix was merged with its unstaged changes.
    Merged,
    /// The fix and its unstaged changes overlap: the file was kept.
    Conflict,
    /// It was changed concurrently, is no regular file, or does not exist: it was kept.
    Kept,
}

impl Repo {
    /// Returns the indexes that a commit of `index` makes: for `git commit -- PATH` git has one for the commit alone,
    /// `next-index-PID.lock`, and one for what is staged afterwards, `index.lock`.
    #[must_use]
    pub fn indexes_of_commit(&self, index: &Path) -> Vec<PathBuf> {
        let name = index.file_name().unwrap_or_default().to_string_lossy();
        let mut indexes = vec![index.to_owned()];
        if name.starts_with("next-index-") && self.index_lock_file().is_file() {
            indexes.push(self.index_lock_file());
        }
        indexes
    }

    /// Returns whether nothing would be left of the `staged` changes if the `fixed` contents were staged.
    pub fn would_be_empty(
        &self,
        index: &Path,
        staged: &ChangedPaths,
        fixed: &[FixedFile],
    ) -> Result<bool> {
        let entries = self.store_fixed(index, fixed)?;
        let (Some(head), true) = (self.tree_of_head()?, staged.removed.is_empty()) else {
            return Ok(false);
        };
        for path in &staged.present {
            let Some(entry) = entries.get(path) else { return Ok(false) };
            if self.entry_at(head, path)?.as_ref() != Some(entry) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes fixed contents as blobs, in the form that git stores.
    fn store_fixed(
        &self,
        index: &Path,
        fixed: &[FixedFile],
    ) -> Result<BTreeMap<RepoPath, TreeEntry>> {
        let index = self.read_index_at(index)?;
        let mut filters = self.clean_filters(&index)?;
        let mut entries = BTreeMap::new();
        for file in fixed {
            let stored = filters.clean(&file.path, file.fixed.clone(), &index)?;
            let mode = if file.executable { FileMode::Executable } else { FileMode::File };
            entries.insert(file.path.clone(), TreeEntry { mode, id: self.write_blob(&stored)? });
        }
        Ok(entries)
    }

    /// Puts fixed contents into each of `indexes`, and the same changes into the worktree. `indexes` are the index that
    /// is about to be committed and, for `git commit -- PATH`, the one that the repository has afterwards.
    pub fn restage_fixed(
        &self,
        disk: &Disk<'_>,
        indexes: &[PathBuf],
        fixed: &[FixedFile],
    ) -> Result<Vec<(RepoPath, RestagedFile)>> {
        let Some(first) = indexes.first() else { return Ok(Vec::new()) };
        let entries = self.store_fixed(first, fixed)?;
        let update = |(path, entry)| {
            (path, IndexUpdate { entry: Some(entry), meta: None, is_skipped: false })
        };
        let updates: BTreeMap<RepoPath, IndexUpdate> = entries.into_iter().map(update).collect();
        disk.check_gate("stage fixed files").with_context(|| "cannot stage the fixed files")?;
        for index in indexes {
            self.update_index_by_git(index, &updates)?;
        }
        let merge =
            |file: &FixedFile| Ok((file.path.clone(), self.merge_fix_into_worktree(disk, file)?));
        fixed.iter().map(merge).collect()
    }

    fn merge_fix_into_worktree(&self, disk: &Disk<'_>, file: &FixedFile) -> Result<RestagedFile> {
        let on_disk = file.path.to_disk_path(self.root());
        let Some(KnownFile { stat: before, content }) = read_regular_file(&on_disk) else {
            return Ok(RestagedFile::Kept);
        };
        let (new, outcome) = if content == file.exported {
            (file.fixed.clone(), RestagedFile::Replaced)
        } else {
            let labels = ("unstaged", "fix");
            let merged =
                merge_three_way(&file.exported, &content, &file.fixed, labels, &MergeDriver::Text);
            match merged {
                TextMerge::Clean(merged) => (merged, RestagedFile::Merged),
                TextMerge::Conflict(_) | TextMerge::Binary => return Ok(RestagedFile::Conflict),
            }
        };
        let mode = with_executable_bits(before.mode, file.executable);
        let known = KnownFile { stat: before, content };
        Ok(match replace_unchanged(disk, &on_disk, &known, &new, mode)? {
            true => outcome,
            false => RestagedFile::Kept,
        })
    }
}

/// Returns permissions with or without the executable bits: who may read may execute.
fn with_executable_bits(mode: u32, executable: bool) -> u32 {
    let plain = mode & 0o666;
    if executable { plain | (plain & 0o444) >> 2 } else { plain }
}
