//! Export of the canonical managed files to a folder under the common git folder, e.g.
//! `.git/xtask/run/3f0a…/setup/a`.
//!
//! The folder name is a digest of the canonical tree and the rules. A folder gets its name only
//! when complete and is not changed afterwards. The newest few are kept.

use std::path::{Path, PathBuf};

use super::context::SyncContext;
use super::managed::ManagedPaths;
use xtask_base::digest;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_git::Repo;

/// Number of kept folders: the present one and two that may still be in use.
const KEPT_COUNT: usize = 3;

/// Exports the files unless that is already done, and returns the folder.
pub fn export_canonical_files(
    repo: &Repo,
    context: &SyncContext,
    managed: &ManagedPaths,
    disk: &Disk<'_>,
) -> Result<PathBuf> {
    let tree = context.canonical.tree;
    let key = digest::hash_parts([tree.as_slice(), &managed.rules_digest()[..]]);
    let above = repo.shared_state_folder().join("run");
    let folder = above.join(&digest::to_hex(&key)[..32]);
    if folder.is_dir() {
        return Ok(folder);
    }
    let failed = || format!("cannot export the canonical files to `{}`", above.display());
    std::fs::create_dir_all(&above).with_context(failed)?;
    let making = above.join(format!("making-{}", std::process::id()));
    disk.remove_folder(&making).with_context(failed)?;
    repo.export_tree(tree, managed, &making, disk)?;
    match disk.rename_noreplace(&making, &folder) {
        Ok(()) => {}
        // Another process was faster, with the same content.
        Err(_) if folder.is_dir() => disk.remove_folder(&making).with_context(failed)?,
        Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
    }
    prune_exports(&above, &folder, disk).with_context(failed)?;
    Ok(folder)
}

fn prune_exports(above: &Path, newest: &Path, disk: &Disk<'_>) -> std::io::Result<()> {
    let mut old = Vec::new();
    for found in std::fs::read_dir(above)? {
        let found = found?;
        let is_made = !found.file_name().to_string_lossy().starts_with("making-");
        if is_made && found.path() != newest {
            old.push((found.metadata()?.modified()?, found.path()));
        }
    }
    old.sort();
    let surplus = (old.len() + 1).saturating_sub(KEPT_COUNT);
    for (_, folder) in old.into_iter().take(surplus) {
        disk.remove_folder(&folder)?;
    }
    Ok(())
}
