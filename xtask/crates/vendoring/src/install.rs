//! Installation of the planned changes: git writes them into a clean worktree and stages them.
//!
//! A record in the state folder marks an installation in progress, so that the next run rolls back an interrupted
//! one. The rollback removes only content that was being written; files changed concurrently by somebody else
//! stay and are reported. The record, the file `vendoring`:
//!
//! ```text
//! {"old": "9bd1f0...", "new": "4b825d..."}
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::join_names;
use xtask_git::{AllPaths, EntryPair, Id, Repo, TreeChange};

const PENDING_INSTALL_KIND: &str = "xtask.vendoring/1";

/// An installation in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PendingInstall {
    /// Tree of HEAD; `None` if there is no commit yet.
    old: Option<String>,
    /// Tree that is being staged.
    new: String,
}

fn pending_install_file(repo: &Repo) -> std::path::PathBuf {
    repo.state_folder().join("vendoring")
}

/// Reports whether an earlier run was interrupted.
#[must_use]
pub fn has_pending_install(repo: &Repo) -> bool {
    pending_install_file(repo).symlink_metadata().is_ok()
}

/// Writes and stages `changes` to the tree `old`. The caller holds the lock of the worktree.
///
/// On failure the previous state is restored.
pub fn install_changes(
    repo: &Repo,
    old: Option<Id>,
    changes: &[TreeChange],
    disk: &Disk<'_>,
) -> Result<()> {
    let failed = |cause| Error::unable("cannot write the files").with_cause(cause);
    disk.check_gate("write the tree").map_err(failed)?;
    let new = repo.write_tree(old, changes)?;
    let note = PendingInstall { old: old.map(|id| id.to_string()), new: new.to_string() };
    record::write_record(disk, &pending_install_file(repo), PENDING_INSTALL_KIND, &note)
        .map_err(failed)?;
    let done = repo
        .checkout_tree(old, new)
        .and_then(|()| disk.check_gate("look at what was written").map_err(failed))
        .and_then(|()| match repo.write_staged_tree()? == new {
            true => Ok(()),
            false => {
                Err(Error::unable("verification failed: the staged tree is not the planned one"))
            }
        });
    let Err(failure) = done else {
        // A stale record is harmless: HEAD changes with the commit, and `recover_install` then only removes it.
        drop(disk.remove_file(&pending_install_file(repo)));
        return Ok(());
    };
    Err(match roll_back_install(repo, old, new, disk) {
        Ok(()) => failure.with_hint("nothing was changed"),
        Err(why) => {
            why.hints().iter().fold(failure.with_detail(why.message().to_owned()), |error, hint| {
                error.with_hint(hint.clone())
            })
        }
    })
}

/// Rolls back an interrupted installation. Returns `false` if there was none.
pub fn recover_install(repo: &Repo, disk: &Disk<'_>) -> Result<bool> {
    let note: PendingInstall =
        match record::read_record(&pending_install_file(repo), PENDING_INSTALL_KIND) {
            LoadedRecord::Missing => return Ok(false),
            LoadedRecord::Valid(note) => note,
            LoadedRecord::Newer => {
                return Err(record::newer_record_error(
                    "the record of an earlier `vendor`",
                    &pending_install_file(repo),
                ));
            }
            LoadedRecord::Corrupt(why) => {
                return Err(Error::unable("cannot read the record of an interrupted `vendor`")
                    .with_detail(why)
                    .with_hint("`git status` shows the files that it wrote; then remove the record")
                    .with_hint(format!("rm '{}'", pending_install_file(repo).display())));
            }
        };
    let id = |text: &str| {
        Id::from_hex(text.as_bytes())
            .with_context(|| "invalid tree id in the record of an earlier `vendor`")
    };
    let (old, new) = (note.old.as_deref().map(id).transpose()?, id(&note.new)?);
    // A commit since then has accepted the written files.
    if repo.tree_of_head()? == old {
        roll_back_install(repo, old, new, disk)?;
    } else {
        disk.remove_file(&pending_install_file(repo))
            .with_context(|| "cannot remove the record of an earlier `vendor`")?;
    }
    Ok(true)
}

/// Restores the state before the installation, and reports paths with foreign content as an error.
fn roll_back_install(repo: &Repo, old: Option<Id>, new: Id, disk: &Disk<'_>) -> Result<()> {
    if repo.is_index_locked() {
        return Err(Error::unable("git left its index lock behind; files may be incomplete")
            .with_hint(format!(
                "if no git process is running there: `rm '{}'`",
                repo.index_lock_file().display()
            ))
            .with_hint("then run this again: it rolls back first"));
    }
    if repo.write_staged_tree().ok() == Some(new) {
        // If git refuses, the loop below restores file by file.
        drop(repo.checkout_tree(Some(new), old.unwrap_or_else(|| repo.empty_tree())));
    }
    let root = repo.root();
    let changed = repo.compare_trees(old, Some(new), &AllPaths)?;
    let (restored, foreign) = remove_written_files(repo, &changed, disk)?;
    let mut folders: Vec<RepoPath> = changed
        .iter()
        .filter(|(_, pair)| pair.one.is_none())
        .flat_map(|(path, _)| path.ancestors().collect::<Vec<_>>())
        .collect();
    folders.sort();
    folders.dedup();
    for folder in folders.iter().rev() {
        // A folder with other files stays.
        drop(disk.remove_empty_folder(&folder.to_disk_path(root)));
    }
    if !restored.is_empty() {
        repo.restore_staged(&restored)?;
    }
    disk.remove_file(&pending_install_file(repo))
        .with_context(|| "cannot remove the record of an earlier `vendor`")?;
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(Error::unable(format!(
            "changed by another process, and kept: {}",
            join_names(&foreign, 5)
        ))
        .with_hint("`git status` there shows them; everything else was restored")),
    }
}

/// Removes the new files that hold only what was being written. Returns the paths to restore from HEAD, and those
/// with foreign content.
fn remove_written_files(
    repo: &Repo,
    changed: &BTreeMap<RepoPath, EntryPair>,
    disk: &Disk<'_>,
) -> Result<(Vec<RepoPath>, Vec<String>)> {
    let root = repo.root();
    let (mut restored, mut foreign) = (Vec::new(), Vec::new());
    for (path, EntryPair { one, two }) in changed {
        let file = path.to_disk_path(root);
        let there = match file.symlink_metadata() {
            Ok(meta) if meta.is_file() => std::fs::read(&file).ok(),
            Ok(_) => None,
            Err(_) if one.is_some() => {
                restored.push(path.clone());
                continue;
            }
            Err(_) => continue,
        };
        let before = one.map(|entry| repo.read_blob(entry.id)).transpose()?;
        let comes = two.map_or(Ok(Vec::new()), |entry| repo.read_blob(entry.id))?;
        match there {
            Some(there)
                if before.as_ref().is_some_and(|before| {
                    strip_carriage_returns(before) == strip_carriage_returns(&there)
                }) => {}
            Some(there)
                if strip_carriage_returns(&comes).starts_with(&strip_carriage_returns(&there)) =>
            {
                if before.is_some() {
                    restored.push(path.clone());
                } else {
                    disk.remove_file(&file).with_context(|| format!("cannot remove `{path}`"))?;
                }
            }
            _ => foreign.push(path.to_string()),
        }
    }
    Ok((restored, foreign))
}

/// Removes CR bytes, which a checkout may have added to line endings.
fn strip_carriage_returns(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\r').collect()
}
