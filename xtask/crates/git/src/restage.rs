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
use std::fs;
use std::path::{Path, PathBuf};

use super::{
    FileMode, FileStat, IndexUpdate, MergeDriver, Repo, TextMerge, TreeEntry, merge_three_way,
};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
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
    /// Puts fixed contents into each of `indexes`, and the same changes into the worktree. `indexes` are the index that
    /// is about to be committed and, for `git commit -- PATH`, the one that the repository has afterwards.
    pub fn restage_fixed(
        &self,
        disk: &Disk<'_>,
        indexes: &[PathBuf],
        fixed: &[FixedFile],
    ) -> Result<Vec<(RepoPath, RestagedFile)>> {
        let Some(first) = indexes.first() else { return Ok(Vec::new()) };
        let index = self.read_index_at(first)?;
        let mut filters = self.clean_filters(&index)?;
        let mut updates = BTreeMap::new();
        for file in fixed {
            let stored = filters.clean(&file.path, file.fixed.clone(), &index)?;
            let mode = if file.executable { FileMode::Executable } else { FileMode::File };
            let entry = Some(TreeEntry { mode, id: self.write_blob(&stored)? });
            updates.insert(file.path.clone(), IndexUpdate { entry, meta: None, is_skipped: false });
        }
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
        let Some((before, content)) = read_regular(&on_disk) else { return Ok(RestagedFile::Kept) };
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
        let failed = || format!("cannot write `{}`", on_disk.display());
        let name = format!(".xtask-fix-{}-{}", std::process::id(), before.inode);
        let beside = on_disk.with_file_name(name);
        disk.remove_file(&beside).with_context(failed)?;
        let mode = with_executable_bits(before.mode, file.executable);
        disk.create_file(&beside, &new, CreateMode::Exact(mode)).with_context(failed)?;
        let replaced = disk.exchange(&beside, &on_disk);
        // What was there before is next to it now. If an editor has saved since, that has the last word.
        let is_known = || {
            read_regular(&beside)
                .is_some_and(|(stat, old)| stat.is_same_file(&before) && old == content)
        };
        let outcome = match replaced {
            Ok(()) if is_known() => outcome,
            Ok(()) => {
                disk.exchange(&beside, &on_disk).with_context(failed)?;
                RestagedFile::Kept
            }
            // It was removed concurrently.
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => RestagedFile::Kept,
            Err(cause) => {
                drop(disk.remove_file(&beside));
                return Err(Error::unable(failed()).with_cause(cause));
            }
        };
        disk.remove_file(&beside).with_context(failed)?;
        Ok(outcome)
    }
}

/// Returns permissions with or without the executable bits: who may read may execute.
fn with_executable_bits(mode: u32, executable: bool) -> u32 {
    let plain = mode & 0o666;
    if executable { plain | (plain & 0o444) >> 2 } else { plain }
}

/// Reads a regular file, with how it looked. `None` for anything else, and if it changes while it is read.
fn read_regular(path: &Path) -> Option<(FileStat, Vec<u8>)> {
    let stat = |path: &Path| {
        let meta = fs::symlink_metadata(path).ok()?;
        meta.is_file().then(|| FileStat::from_metadata(&meta))
    };
    let before = stat(path)?;
    let content = fs::read(path).ok()?;
    (stat(path) == Some(before)).then_some((before, content))
}
