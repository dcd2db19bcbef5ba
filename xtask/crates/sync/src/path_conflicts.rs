//! Directory/file conflicts: files that make room for folders, and vice versa.
//!
//! A change may need the path of an item that the same change removes; such an item counts as
//! absent. For example, `setup` (a file) is removed and `setup/a` is created. Any other item blocks
//! the path.

use std::os::unix::ffi::OsStrExt;

use xtask_base::error::{Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_git::{Repo, WorktreeItem};

/// Returns the item at `path` once every path for which `goes` holds is removed.
pub fn predict_after_removal(
    repo: &Repo,
    path: &RepoPath,
    work: WorktreeItem,
    goes: &dyn Fn(&RepoPath) -> bool,
) -> Result<WorktreeItem> {
    match &work {
        WorktreeItem::BelowFile(other) | WorktreeItem::BelowSymlink(other) if goes(other) => {
            Ok(WorktreeItem::Absent)
        }
        WorktreeItem::Folder if has_only_removed_files(repo, path, goes)? => {
            Ok(WorktreeItem::Absent)
        }
        _ => Ok(work),
    }
}

fn has_only_removed_files(
    repo: &Repo,
    folder: &RepoPath,
    goes: &dyn Fn(&RepoPath) -> bool,
) -> Result<bool> {
    let failed = || format!("cannot read folder `{folder}`");
    let mut is_empty = true;
    for found in std::fs::read_dir(folder.to_disk_path(repo.root())).with_context(failed)? {
        let found = found.with_context(failed)?;
        is_empty = false;
        let path = RepoPath::new([folder.as_bytes(), b"/", found.file_name().as_bytes()].concat());
        let is_folder = found.file_type().with_context(failed)?.is_dir();
        let all_go =
            if is_folder { has_only_removed_files(repo, &path, goes)? } else { goes(&path) };
        if !all_go {
            return Ok(false);
        }
    }
    // A folder that already is empty is not removed along with its content.
    Ok(!is_empty)
}
