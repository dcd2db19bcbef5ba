//! Staged files that a fix has changed: their new content into the index, and the same change into the worktree.
//!
//! Guarantee: nothing is put aside. The index gets all fixed contents in one step; then each file of the worktree is
//! replaced in one step, by the fixed content or by a three-way merge with its unstaged changes. A crash leaves the
//! index and every file as before or as planned. A file with a conflict, or one that was saved concurrently, stays; a
//! path that was staged again concurrently is not replaced in the index.
//!
//! ```text
//! index  "import b\nimport a\n"  --fix-->  "import a\nimport b\n"
//! file   "import b\nimport a\nx\n"  ->     "import a\nimport b\nx\n"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::replace_file::{KnownFile, read_regular_file, replace_unchanged};
use super::{
    ChangedPaths, FileMode, IndexStatus, IndexUpdate, MergeDriver, PathCache, Repo, TextMerge,
    TreeEntry, merge_three_way,
};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;

/// A staged file, as it was exported and as a fix has left it.
#[derive(Clone, Debug)]
pub struct FixedFile {
    pub path: RepoPath,
    /// The entry that was exported.
    pub staged: TreeEntry,
    /// The content before the fix, in the form of the worktree.
    pub exported: Vec<u8>,
    /// The content after the fix, in the form of the worktree.
    pub fixed: Vec<u8>,
    /// Whether the fixed file is executable.
    pub executable: bool,
}

impl FixedFile {
    /// Whether the fix has made the file executable, or no longer so.
    fn has_new_mode(&self) -> bool {
        self.executable != (self.staged.mode == FileMode::Executable)
    }
}

/// What became of the file in the worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestagedFile {
    /// It had no unstaged changes, and has the fixed content now.
    Replaced,
    /// The fix was merged with its unstaged changes.
    Merged,
    /// The fix and its unstaged changes overlap: the file was kept.
    Conflict,
    /// It was changed concurrently, is no regular file, is behind a symlink, or does not exist: it was kept.
    Kept,
    /// It could not be written, for this reason, and is as it was.
    Failed(String),
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
        // A merge is never empty.
        let has_other =
            !staged.removed.is_empty() || self.git_folder().join("MERGE_HEAD").is_file();
        let (Some(head), false) = (self.tree_of_head()?, has_other) else {
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
        // By the staged attributes, as it was exported.
        let mut filters = self.smudge_filters(&index)?;
        let has_modes = self.config_bool("core.fileMode", true);
        let mut entries = BTreeMap::new();
        for file in fixed {
            let stored = filters.clean(&file.path, file.fixed.clone(), &index)?;
            let mode = match file.executable {
                true => FileMode::Executable,
                false => FileMode::File,
            };
            let mode = if has_modes { mode } else { file.staged.mode };
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
        let updates = indexes.iter().map(|index| self.plan_updates(index, &entries, fixed));
        let updates = updates.collect::<Result<Vec<_>>>()?;
        for (index, updates) in indexes.iter().zip(&updates) {
            self.update_index_of_commit(disk, index, updates)?;
        }
        let merge = |file: &FixedFile| {
            let merged = self.merge_fix_into_worktree(disk, file);
            // The fix is staged already; the other files get theirs.
            let outcome = merged.unwrap_or_else(|failure| {
                let cause = failure.details().iter().map(|detail| format!(": {detail}"));
                RestagedFile::Failed(format!("{failure}{}", cause.collect::<String>()))
            });
            (file.path.clone(), outcome)
        };
        Ok(fixed.iter().map(merge).collect())
    }

    /// Updates an index in one step. One that git holds itself, such as `index.lock`, is exchanged for an updated copy:
    /// no second lock is left behind, and it is not made anew if git has ended.
    fn update_index_of_commit(
        &self,
        disk: &Disk<'_>,
        index: &Path,
        updates: &BTreeMap<RepoPath, IndexUpdate>,
    ) -> Result<()> {
        let failed = || format!("cannot stage the fixed files in `{}`", index.display());
        disk.check_gate("stage fixed files").with_context(failed)?;
        if index.extension().is_none_or(|extension| extension != "lock") {
            return self.update_index_by_git(index, updates);
        }
        let copy = self.state_folder().join("index-restaged");
        let content = std::fs::read(index).with_context(failed)?;
        // A killed run has left git's lock.
        disk.remove_file(&self.lock_path(&copy)).with_context(failed)?;
        disk.write_atomically_unsynced(&copy, &content).with_context(failed)?;
        self.update_index_by_git(&copy, updates)?;
        let exchanged = disk.exchange(&copy, index).with_context(failed);
        drop(disk.remove_file(&copy));
        exchanged
    }

    /// Returns the updates of `index` by `entries`. Returns an error if a path is not staged as it was exported.
    fn plan_updates(
        &self,
        index: &Path,
        entries: &BTreeMap<RepoPath, TreeEntry>,
        fixed: &[FixedFile],
    ) -> Result<BTreeMap<RepoPath, IndexUpdate>> {
        let index = self.read_index_at(index)?;
        let mut updates = BTreeMap::new();
        for file in fixed {
            let is_skipped = match self.staged_status(&index, &file.path)? {
                IndexStatus::Entry { entry, is_skipped } if entry == file.staged => is_skipped,
                _ => {
                    let what = format!("`{}` was staged again while its fix ran", file.path);
                    return Err(Error::negative(what).with_hint("commit again"));
                }
            };
            let entry = entries.get(&file.path).copied();
            updates.insert(file.path.clone(), IndexUpdate { entry, meta: None, is_skipped });
        }
        Ok(updates)
    }

    fn merge_fix_into_worktree(&self, disk: &Disk<'_>, file: &FixedFile) -> Result<RestagedFile> {
        let on_disk = file.path.to_disk_path(self.root());
        if PathCache::default().find_symlink_above(self.root(), &file.path)?.is_some() {
            return Ok(RestagedFile::Kept);
        }
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
        let mode = if file.has_new_mode() && self.config_bool("core.fileMode", true) {
            with_executable_bits(before.mode, file.executable)
        } else {
            before.mode & 0o7777
        };
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
