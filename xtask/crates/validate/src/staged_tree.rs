//! The state that is about to be committed, for the checks that run before a commit.
//!
//! Where the worktree holds just that, they run in it. Otherwise it is laid out in a folder of its own:
//! what is changed and not staged, or not added at all, neither helps nor harms. The worktree and the index
//! are never touched.
//!
//! That folder lies with the temporary files, for its owner alone. Below the git folder it would be passed
//! over by tools that leave out whatever is called `.git`, and a git that is started there would find this
//! repository, and its worktree.

use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::session::CheckLocation;
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::lock::Lock;
use xtask_git::Repo;
use xtask_git::Tools;

/// How long another commit in this worktree may take to be checked: half a minute.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Where the checks of a commit run, and what keeps others from laying out another one there.
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

/// Removes what was laid out for the commits of a worktree.
pub fn remove_export(root: &Path, tools: &Tools<'_>) -> Result<()> {
    let folder = staged_folder(root, tools);
    if !is_own_folder(&folder) {
        return Ok(());
    }
    tools
        .disk
        .remove_folder(&folder)
        .with_context(|| format!("`{}` cannot be removed", folder.display()))
}

/// Whether a folder is there that nobody but us can have made.
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

/// A folder among the temporary ones that is this worktree's and nobody else's.
fn create_folder(repo: &Repo, tools: &Tools<'_>) -> Result<PathBuf> {
    let folder = staged_folder(repo.root(), tools);
    let failed = || format!("the folder `{}` cannot be made", folder.display());
    match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => {}
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
            // Anybody can make a folder there: it counts only if nobody else can have.
            if !is_own_folder(&folder) {
                return Err(Error::unable(format!("`{}` is not ours", folder.display()))
                    .with_hint("remove it, or set TMPDIR to a folder of your own"));
            }
        }
        Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
    }
    folder.canonicalize().with_context(failed)
}
