//! The staged state, checked out for the checks that run before a commit.
//!
//! If the worktree equals the index, checks run in the worktree. Otherwise the index is exported to a folder
//! of its own, so that unstaged and untracked files have no influence. Worktree and index are never touched.
//!
//! The folder is below `$TMPDIR`, e.g. `/tmp/xtask-staged-1000-9f86d081884c7d65`, readable by its owner
//! alone. Below the git folder, tools that skip any `.git` would skip it, and a git started in it would find
//! this repository and its worktree.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::session::CheckLocation;
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::lock::Lock;
use xtask_git::Repo;
use xtask_git::Tools;

/// The longest wait for the checks of another commit in the same worktree.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Chooses the location of a commit's checks, exporting the index if necessary. The `Lock` must be held while
/// they run: it keeps other commits from exporting to the same folder.
pub fn prepare_location(
    repo: &Repo,
    index: &Path,
    tools: &Tools<'_>,
) -> Result<(CheckLocation, Option<Lock>)> {
    if repo.is_worktree_as_staged(index)? {
        return Ok((CheckLocation::Worktree, None));
    }
    let folder = create_folder(repo, tools)?;
    let who = format!("pid {}", std::process::id());
    let lock =
        Lock::acquire(&folder.join("lock"), &who, LOCK_WAIT, |holder| (tools.on_wait)(holder))?;
    let files = repo.export_staged(tools.disk, index, &folder)?;
    Ok((CheckLocation::Exported(folder.join("tree"), files), Some(lock)))
}

/// Removes the exported files of the worktree at `root`.
pub fn remove_export(root: &Path, tools: &Tools<'_>) -> Result<()> {
    let folder = staged_folder(root, tools);
    if !is_own_folder(&folder) {
        return Ok(());
    }
    tools
        .disk
        .remove_folder(&folder)
        .with_context(|| format!("cannot remove `{}`", folder.display()))
}

/// Whether `folder` is a folder that belongs to this user and is accessible to no other user.
fn is_own_folder(folder: &Path) -> bool {
    let user = rustix::process::getuid().as_raw();
    let meta = std::fs::symlink_metadata(folder);
    meta.is_ok_and(|meta| meta.is_dir() && meta.uid() == user && meta.mode() & 0o077 == 0)
}

fn staged_folder(root: &Path, tools: &Tools<'_>) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let temp = tools.world.variable("TMPDIR").unwrap_or("/tmp");
    let name = digest::to_hex(&digest::hash_parts([root.as_os_str().as_bytes()])[..8]);
    let user = rustix::process::getuid().as_raw();
    PathBuf::from(temp).join(format!("xtask-staged-{user}-{name}"))
}

/// Creates the private temporary folder of this worktree.
fn create_folder(repo: &Repo, tools: &Tools<'_>) -> Result<PathBuf> {
    let folder = staged_folder(repo.root(), tools);
    let failed = || format!("cannot create the folder `{}`", folder.display());
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
            // Any user can create a folder in `$TMPDIR`, so an existing one is used only if this user must
            // have made it.
            if !is_own_folder(&folder) {
                return Err(Error::unable(format!(
                    "`{}` is not a private folder of this user",
                    folder.display()
                ))
                .with_hint("remove it, or set TMPDIR to a folder of your own"));
            }
        }
        Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
    }
    folder.canonicalize().with_context(failed)
}
