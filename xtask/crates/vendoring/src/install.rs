//! Writing what a repository is given: by git, into a worktree that was clean, with a note beside it until
//! all is there. What was cut short is taken back by the next run, as far as it is what was being written;
//! what somebody else has put there meanwhile stays and is named.

use serde::{Deserialize, Serialize};

use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::join_names;
use xtask_git::{AllPaths, EntryPair, Id, Repo, TreeChange};

const PENDING_INSTALL_KIND: &str = "xtask.vendoring/1";

/// What is being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PendingInstall {
    /// The tree of HEAD; nothing where there is no commit yet.
    old: Option<String>,
    /// The tree that is being staged.
    new: String,
}

fn pending_install_file(repo: &Repo) -> std::path::PathBuf {
    repo.state_folder().join("vendoring")
}

/// Whether an earlier run was cut short.
#[must_use]
pub fn has_pending_install(repo: &Repo) -> bool {
    pending_install_file(repo).symlink_metadata().is_ok()
}

/// Writes and stages the changes of a tree. The caller holds the lock of the worktree. Where it fails,
/// what was there is there and nothing else is.
pub fn install_changes(
    repo: &Repo,
    old: Option<Id>,
    changes: &[TreeChange],
    disk: &Disk<'_>,
) -> Result<()> {
    let failed = |cause| Error::unable("the files cannot be written").with_cause(cause);
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
            false => Err(Error::unable("what was staged is not what was meant to be")),
        });
    let Err(failure) = done else {
        // Left behind it does no harm: HEAD moves on with the commit.
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

/// Takes back what an earlier run has left half done. Says whether there was anything.
pub fn recover_install(repo: &Repo, disk: &Disk<'_>) -> Result<bool> {
    let note: PendingInstall =
        match record::read_record(&pending_install_file(repo), PENDING_INSTALL_KIND) {
            LoadedRecord::Missing => return Ok(false),
            LoadedRecord::Valid(note) => note,
            LoadedRecord::Newer => {
                return Err(record::newer_record_error(
                    "the note of an earlier `vendor`",
                    &pending_install_file(repo),
                ));
            }
            LoadedRecord::Corrupt(why) => {
                return Err(Error::unable(
                    "an earlier `vendor` was cut short, and its note cannot be read",
                )
                .with_detail(why)
                .with_hint("`git status` shows what it left; then remove the note")
                .with_hint(format!("rm '{}'", pending_install_file(repo).display())));
            }
        };
    let id = |text: &str| {
        Id::from_hex(text.as_bytes())
            .with_context(|| "the note of an earlier `vendor` names no tree")
    };
    let (old, new) = (note.old.as_deref().map(id).transpose()?, id(&note.new)?);
    // Who has committed since has taken it as it was.
    if repo.tree_of_head()? == old {
        roll_back_install(repo, old, new, disk)?;
    } else {
        disk.remove_file(&pending_install_file(repo))
            .with_context(|| "the note of an earlier `vendor` cannot be removed")?;
    }
    Ok(true)
}

/// Puts all back as it was before.
fn roll_back_install(repo: &Repo, old: Option<Id>, new: Id, disk: &Disk<'_>) -> Result<()> {
    if repo.is_index_locked() {
        return Err(Error::unable("git has left its lock behind, and files may be half written")
            .with_hint(format!(
                "if no git is at work there: `rm '{}'`",
                repo.index_lock_file().display()
            ))
            .with_hint(
                "then run this again: it takes back what was written before it begins anew",
            ));
    }
    if repo.write_staged_tree().ok() == Some(new) {
        // Where git refuses, what follows does it file by file.
        drop(repo.checkout_tree(Some(new), old.unwrap_or_else(|| repo.empty_tree())));
    }
    let root = repo.root();
    let (mut foreign, mut restored) = (Vec::new(), Vec::new());
    let changed = repo.compare_trees(old, Some(new), &AllPaths)?;
    for (path, EntryPair { one, two }) in &changed {
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
                    disk.remove_file(&file)
                        .with_context(|| format!("`{path}` cannot be removed again"))?;
                }
            }
            _ => foreign.push(path.to_string()),
        }
    }
    let mut folders: Vec<RepoPath> = changed
        .iter()
        .filter(|(_, pair)| pair.one.is_none())
        .flat_map(|(path, _)| path.ancestors().collect::<Vec<_>>())
        .collect();
    folders.sort();
    folders.dedup();
    for folder in folders.iter().rev() {
        // One that holds something else stays.
        drop(disk.remove_empty_folder(&folder.to_disk_path(root)));
    }
    if !restored.is_empty() {
        repo.restore_staged(&restored)?;
    }
    disk.remove_file(&pending_install_file(repo))
        .with_context(|| "the note of what was written cannot be removed")?;
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(Error::unable(format!(
            "not what was being written, and so left as it is: {}",
            join_names(&foreign, 5)
        ))
        .with_hint("`git status` there shows it; all else is as it was before")),
    }
}

/// A text without what a checkout may have done to its line ends.
fn strip_carriage_returns(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\r').collect()
}
