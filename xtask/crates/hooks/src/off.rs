//! Switching hooks off for a while, without moving a file: for one worktree or for all of them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use xtask_base::error::{Context, Error, Result};
use xtask_base::files::Disk;
use xtask_base::record::{self, Found};
use xtask_git::Repo;

const KIND: &str = "xtask.hooks-off/1";

/// That hooks are switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Off {
    /// Until when, in seconds since the epoch; nothing until they are switched on again.
    pub until: Option<i64>,
}

/// Where hooks are switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// In this worktree.
    Here,
    /// In all worktrees of the repository.
    Everywhere,
}

fn file(repo: &Repo, place: Where) -> PathBuf {
    let folder = match place {
        Where::Here => repo.state_folder(),
        Where::Everywhere => repo.shared_state_folder(),
    };
    // The main worktree's own folder is the one that all share.
    folder.join(match place {
        Where::Here => "hooks-off-here",
        Where::Everywhere => "hooks-off",
    })
}

/// Whether hooks are switched off in this worktree now, and where that was said. A record that
/// cannot be believed is an error: it may have said so.
pub fn is_off(repo: &Repo, now: i64) -> Result<Option<(Where, Off)>> {
    for place in [Where::Here, Where::Everywhere] {
        match record::read::<Off>(&file(repo, place), KIND) {
            Found::Nothing => {}
            Found::Whole(off) if off.until.is_some_and(|until| until <= now) => {}
            Found::Whole(off) => return Ok(Some((place, off))),
            Found::Newer => return Err(newer(&file(repo, place))),
            Found::Broken(why) => {
                return Err(Error::unable(format!(
                    "the note that hooks are switched off is damaged: {why}"
                ))
                .hint(match place {
                    Where::Here => "`cargo xtask hooks enable` removes it",
                    Where::Everywhere => "`cargo xtask hooks enable --all` removes it",
                }));
            }
        }
    }
    Ok(None)
}

fn newer(file: &Path) -> Error {
    record::newer("the note that hooks are switched off", file)
}

/// Keeps a note that a newer xtask has written from being replaced or removed.
fn check_known(file: &Path) -> Result<()> {
    match record::read::<Off>(file, KIND) {
        Found::Newer => Err(newer(file)),
        _ => Ok(()),
    }
}

/// Switches hooks off.
pub fn disable(repo: &Repo, disk: &Disk<'_>, place: Where, off: Off) -> Result<()> {
    let file = file(repo, place);
    check_known(&file)?;
    record::write(disk, &file, KIND, &off)
        .unable(|| format!("`{}` cannot be written", file.display()))
}

/// Switches hooks on again: in this worktree, or in every one of them. Says whether any were off.
pub fn enable(repo: &Repo, disk: &Disk<'_>, place: Where) -> Result<bool> {
    let mut failed = None;
    let mut files = vec![file(repo, Where::Here)];
    if place == Where::Everywhere {
        files.push(file(repo, Where::Everywhere));
        for tree in repo.worktrees()?.iter().filter(|tree| tree.is_there) {
            // One that cannot be opened does not keep the others from being switched on.
            match repo.open_worktree(&tree.root) {
                Ok(other) => files.push(self::file(&other, Where::Here)),
                Err(failure) => failed = Some(failure),
            }
        }
    }
    files.iter().try_for_each(|file| check_known(file))?;
    let mut were_off = false;
    for file in files {
        were_off |= file.symlink_metadata().is_ok();
        disk.remove(&file).unable(|| format!("`{}` cannot be removed", file.display()))?;
    }
    failed.map_or(Ok(were_off), Err)
}
