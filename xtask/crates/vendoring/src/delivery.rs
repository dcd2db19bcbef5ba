//! Writing what a repository is given: by git, into a worktree that was clean, with a note beside it until
//! all is there. What was cut short is taken back by the next run, as far as it is what was being written;
//! what somebody else has put there meanwhile stays and is named.

use serde::{Deserialize, Serialize};

use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::record::{self, Found};
use xtask_base::words::some_of;
use xtask_git::{Everything, Id, Pair, Repo, TreeChange};

const KIND: &str = "xtask.vendoring/1";

/// What is being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The tree of HEAD; nothing where there is no commit yet.
    old: Option<String>,
    /// The tree that is being staged.
    new: String,
}

fn note_file(repo: &Repo) -> std::path::PathBuf {
    repo.state_folder().join("vendoring")
}

/// Whether an earlier run was cut short.
#[must_use]
pub fn is_unfinished(repo: &Repo) -> bool {
    note_file(repo).symlink_metadata().is_ok()
}

/// Writes and stages the changes of a tree. The caller holds the lock of the worktree. Where it fails,
/// what was there is there and nothing else is.
pub fn deliver(
    repo: &Repo,
    old: Option<Id>,
    changes: &[TreeChange],
    disk: &Disk<'_>,
) -> Result<()> {
    let failed = |cause| Error::unable("the files cannot be written").because(cause);
    disk.other("write the tree").map_err(failed)?;
    let new = repo.write_tree(old, changes)?;
    let note = Note { old: old.map(|id| id.to_string()), new: new.to_string() };
    record::write(disk, &note_file(repo), KIND, &note).map_err(failed)?;
    let done = repo
        .put_tree(old, new)
        .and_then(|()| disk.other("look at what was written").map_err(failed))
        .and_then(|()| match repo.staged_tree()? == new {
            true => Ok(()),
            false => Err(Error::unable("what was staged is not what was meant to be")),
        });
    let Err(failure) = done else {
        // Left behind it does no harm: HEAD moves on with the commit.
        drop(disk.remove(&note_file(repo)));
        return Ok(());
    };
    Err(match take_back(repo, old, new, disk) {
        Ok(()) => failure.hint("nothing was changed"),
        Err(why) => why
            .hints()
            .iter()
            .fold(failure.detail(why.what().to_owned()), |error, hint| error.hint(hint.clone())),
    })
}

/// Takes back what an earlier run has left half done. Says whether there was anything.
pub fn recover(repo: &Repo, disk: &Disk<'_>) -> Result<bool> {
    let note: Note = match record::read(&note_file(repo), KIND) {
        Found::Nothing => return Ok(false),
        Found::Whole(note) => note,
        Found::Newer => {
            return Err(record::newer("the note of an earlier `vendor`", &note_file(repo)));
        }
        Found::Broken(why) => {
            return Err(Error::unable(
                "an earlier `vendor` was cut short, and its note cannot be read",
            )
            .detail(why)
            .hint("`git status` shows what it left; then remove the note")
            .hint(format!("rm '{}'", note_file(repo).display())));
        }
    };
    let id = |text: &str| {
        Id::from_hex(text.as_bytes()).unable(|| "the note of an earlier `vendor` names no tree")
    };
    let (old, new) = (note.old.as_deref().map(id).transpose()?, id(&note.new)?);
    // Who has committed since has taken it as it was.
    if repo.tree_of_head()? == old {
        take_back(repo, old, new, disk)?;
    } else {
        disk.remove(&note_file(repo))
            .unable(|| "the note of an earlier `vendor` cannot be removed")?;
    }
    Ok(true)
}

/// Puts all back as it was before.
fn take_back(repo: &Repo, old: Option<Id>, new: Id, disk: &Disk<'_>) -> Result<()> {
    if repo.index_is_locked() {
        return Err(Error::unable("git has left its lock behind, and files may be half written")
            .hint(format!("if no git is at work there: `rm '{}'`", repo.index_lock().display()))
            .hint("then run this again: it takes back what was written before it begins anew"));
    }
    if repo.staged_tree().ok() == Some(new) {
        // Where git refuses, what follows does it file by file.
        drop(repo.put_tree(Some(new), old.unwrap_or_else(|| repo.empty_tree())));
    }
    let root = repo.root();
    let (mut foreign, mut restored) = (Vec::new(), Vec::new());
    let changed = repo.compare_trees(old, Some(new), &Everything)?;
    for (path, Pair { one, two }) in &changed {
        let file = path.on_disk(root);
        let there = match file.symlink_metadata() {
            Ok(meta) if meta.is_file() => std::fs::read(&file).ok(),
            Ok(_) => None,
            Err(_) if one.is_some() => {
                restored.push(path.clone());
                continue;
            }
            Err(_) => continue,
        };
        let before = one.map(|entry| repo.blob(entry.id)).transpose()?;
        let comes = two.map_or(Ok(Vec::new()), |entry| repo.blob(entry.id))?;
        match there {
            Some(there) if before.as_ref().is_some_and(|before| plain(before) == plain(&there)) => {
            }
            Some(there) if plain(&comes).starts_with(&plain(&there)) => {
                if before.is_some() {
                    restored.push(path.clone());
                } else {
                    disk.remove(&file).unable(|| format!("`{path}` cannot be removed again"))?;
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
        drop(disk.remove_empty_folder(&folder.on_disk(root)));
    }
    if !restored.is_empty() {
        repo.restore_staged(&restored)?;
    }
    disk.remove(&note_file(repo)).unable(|| "the note of what was written cannot be removed")?;
    match foreign.is_empty() {
        true => Ok(()),
        false => Err(Error::unable(format!(
            "not what was being written, and so left as it is: {}",
            some_of(&foreign, 5)
        ))
        .hint("`git status` there shows it; all else is as it was before")),
    }
}

/// A text without what a checkout may have done to its line ends.
fn plain(text: &[u8]) -> Vec<u8> {
    text.iter().copied().filter(|byte| *byte != b'\r').collect()
}
