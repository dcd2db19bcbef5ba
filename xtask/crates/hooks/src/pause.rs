//! Disabling of hooks for a while, in one worktree or in all of them, without changes to the hook files.
//!
//! ```text
//! { "until": 1767225600 }    in `hooks-off-here` or `hooks-off` of the state folder
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::Repo;

const KIND: &str = "xtask.hooks-off/1";

/// A pause of the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HooksPause {
    /// The end of the pause, in seconds since the epoch; `None` until the hooks are enabled again.
    pub until: Option<i64>,
}

/// The worktrees to which a pause applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseScope {
    /// This worktree.
    Here,
    /// All worktrees of the repository.
    Everywhere,
}

impl PauseScope {
    /// Returns the command that ends such a pause.
    #[must_use]
    pub fn enable_command(self) -> &'static str {
        match self {
            PauseScope::Here => "cargo xtask hooks enable",
            PauseScope::Everywhere => "cargo xtask hooks enable --all",
        }
    }
}

fn pause_path(repo: &Repo, place: PauseScope) -> PathBuf {
    let folder = match place {
        PauseScope::Here => repo.state_folder(),
        PauseScope::Everywhere => repo.shared_state_folder(),
    };
    // The state folder of the main worktree is also the shared one, so the names must differ.
    folder.join(match place {
        PauseScope::Here => "hooks-off-here",
        PauseScope::Everywhere => "hooks-off",
    })
}

/// Returns the pause that applies to this worktree at `now`, with its scope. A corrupt record is an error, because it
/// may have contained a pause.
pub fn find_pause(repo: &Repo, now: i64) -> Result<Option<(PauseScope, HooksPause)>> {
    for place in [PauseScope::Here, PauseScope::Everywhere] {
        match record::read_record::<HooksPause>(&pause_path(repo, place), KIND) {
            LoadedRecord::Missing => {}
            LoadedRecord::Valid(off) if off.until.is_some_and(|until| until <= now) => {}
            LoadedRecord::Valid(off) => return Ok(Some((place, off))),
            LoadedRecord::Newer => return Err(newer_format_error(&pause_path(repo, place))),
            LoadedRecord::Corrupt(why) => {
                return Err(Error::unable(format!(
                    "the record of disabled hooks is corrupt: {why}"
                ))
                .with_hint(format!("`{}` removes it", place.enable_command())));
            }
        }
    }
    Ok(None)
}

fn newer_format_error(file: &Path) -> Error {
    record::newer_record_error("the record of disabled hooks", file)
}

/// Returns an error if the record was written by a newer xtask, so that it is neither replaced nor removed.
fn check_replaceable(file: &Path) -> Result<()> {
    match record::read_record::<HooksPause>(file, KIND) {
        LoadedRecord::Newer => Err(newer_format_error(file)),
        _ => Ok(()),
    }
}

/// Disables hooks.
pub fn pause_hooks(repo: &Repo, disk: &Disk<'_>, place: PauseScope, off: HooksPause) -> Result<()> {
    let file = pause_path(repo, place);
    check_replaceable(&file)?;
    record::write_record(disk, &file, KIND, &off)
        .with_context(|| format!("cannot write `{}`", file.display()))
}

/// Enables hooks again, in this worktree or in all worktrees. Returns whether any hooks were disabled.
pub fn resume_hooks(repo: &Repo, disk: &Disk<'_>, place: PauseScope) -> Result<bool> {
    let mut failed = None;
    let mut files = vec![pause_path(repo, PauseScope::Here)];
    if place == PauseScope::Everywhere {
        files.push(pause_path(repo, PauseScope::Everywhere));
        for tree in repo.list_worktrees()?.iter().filter(|tree| tree.is_there) {
            // A worktree that cannot be opened must not prevent the others from being enabled.
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
        disk.remove_file(&file).with_context(|| format!("cannot remove `{}`", file.display()))?;
    }
    failed.map_or(Ok(were_off), Err)
}
