//! Switching hooks off for a while, without moving a file: for one worktree or for all of them.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::Repo;

const KIND: &str = "xtask.hooks-off/1";

/// That hooks are switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HooksPause {
    /// Until when, in seconds since the epoch; nothing until they are switched on again.
    pub until: Option<i64>,
}

/// Where hooks are switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseScope {
    /// In this worktree.
    Here,
    /// In all worktrees of the repository.
    Everywhere,
}

fn pause_path(repo: &Repo, place: PauseScope) -> PathBuf {
    let folder = match place {
        PauseScope::Here => repo.state_folder(),
        PauseScope::Everywhere => repo.shared_state_folder(),
    };
    // The main worktree's own folder is the one that all share.
    folder.join(match place {
        PauseScope::Here => "hooks-off-here",
        PauseScope::Everywhere => "hooks-off",
    })
}

/// Whether hooks are switched off in this worktree now, and where that was said. A record that
/// cannot be believed is an error: it may have said so.
pub fn find_pause(repo: &Repo, now: i64) -> Result<Option<(PauseScope, HooksPause)>> {
    for place in [PauseScope::Here, PauseScope::Everywhere] {
        match record::read_record::<HooksPause>(&pause_path(repo, place), KIND) {
            LoadedRecord::Missing => {}
            LoadedRecord::Valid(off) if off.until.is_some_and(|until| until <= now) => {}
            LoadedRecord::Valid(off) => return Ok(Some((place, off))),
            LoadedRecord::Newer => return Err(newer_format_error(&pause_path(repo, place))),
            LoadedRecord::Corrupt(why) => {
                return Err(Error::unable(format!(
                    "the note that hooks are switched off is damaged: {why}"
                ))
                .with_hint(match place {
                    PauseScope::Here => "`cargo xtask hooks enable` removes it",
                    PauseScope::Everywhere => "`cargo xtask hooks enable --all` removes it",
                }));
            }
        }
    }
    Ok(None)
}

fn newer_format_error(file: &Path) -> Error {
    record::newer_record_error("the note that hooks are switched off", file)
}

/// Keeps a note that a newer xtask has written from being replaced or removed.
fn check_replaceable(file: &Path) -> Result<()> {
    match record::read_record::<HooksPause>(file, KIND) {
        LoadedRecord::Newer => Err(newer_format_error(file)),
        _ => Ok(()),
    }
}

/// Switches hooks off.
pub fn pause_hooks(repo: &Repo, disk: &Disk<'_>, place: PauseScope, off: HooksPause) -> Result<()> {
    let file = pause_path(repo, place);
    check_replaceable(&file)?;
    record::write_record(disk, &file, KIND, &off)
        .with_context(|| format!("`{}` cannot be written", file.display()))
}

/// Switches hooks on again: in this worktree, or in every one of them. Says whether any were off.
pub fn resume_hooks(repo: &Repo, disk: &Disk<'_>, place: PauseScope) -> Result<bool> {
    let mut failed = None;
    let mut files = vec![pause_path(repo, PauseScope::Here)];
    if place == PauseScope::Everywhere {
        files.push(pause_path(repo, PauseScope::Everywhere));
        for tree in repo.list_worktrees()?.iter().filter(|tree| tree.is_there) {
            // One that cannot be opened does not keep the others from being switched on.
            match repo.open_worktree(&tree.root) {
                Ok(other) => files.push(self::pause_path(&other, PauseScope::Here)),
                Err(failure) => failed = Some(failure),
            }
        }
    }
    files.iter().try_for_each(|file| check_replaceable(file))?;
    let mut were_off = false;
    for file in files {
        were_off |= file.symlink_metadata().is_ok();
        disk.remove_file(&file)
            .with_context(|| format!("`{}` cannot be removed", file.display()))?;
    }
    failed.map_or(Ok(were_off), Err)
}
