//! Files and symlinks that give way to folders, and folders to them.
//!
//! A change may need the place of something that goes in the same change. What is in the way then
//! is as good as gone; anything else that lies there keeps the place.

use std::os::unix::ffi::OsStrExt;

use xtask_base::error::{Context as _, Result};
use xtask_base::path::RepoPath;
use xtask_git::{Repo, Work};

/// What will be at a path once everything for which `goes` holds is gone.
pub fn once_gone(
    repo: &Repo,
    path: &RepoPath,
    work: Work,
    goes: &dyn Fn(&RepoPath) -> bool,
) -> Result<Work> {
    match &work {
        Work::BelowFile(other) | Work::BelowSymlink(other) if goes(other) => Ok(Work::Absent),
        Work::Folder if holds_only_what_goes(repo, path, goes)? => Ok(Work::Absent),
        _ => Ok(work),
    }
}

fn holds_only_what_goes(
    repo: &Repo,
    folder: &RepoPath,
    goes: &dyn Fn(&RepoPath) -> bool,
) -> Result<bool> {
    let failed = || format!("the folder `{folder}` cannot be read");
    let mut is_empty = true;
    for found in std::fs::read_dir(folder.on_disk(repo.root())).unable(failed)? {
        let found = found.unable(failed)?;
        is_empty = false;
        let path = RepoPath::new([folder.as_bytes(), b"/", found.file_name().as_bytes()].concat());
        let is_folder = found.file_type().unable(failed)?.is_dir();
        let all_go = if is_folder { holds_only_what_goes(repo, &path, goes)? } else { goes(&path) };
        if !all_go {
            return Ok(false);
        }
    }
    // A folder that is empty already does not go by what it holds going.
    Ok(!is_empty)
}
