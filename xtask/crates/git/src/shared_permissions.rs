//! Repositories shared by several users (`core.sharedRepository`): giving our files in the git
//! folder the permissions that git gives its own.
//!
//! ```text
//! core.sharedRepository=group: .git/xtask/clean 0600 -> 0660, .git/xtask 0700 -> 2770
//! ```

use std::fs::{self, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Id, Repo};

/// Folders of ours that stay private, at any depth: their copies may contain secrets.
const PRIVATE_FOLDERS: [&str; 2] = ["backup", "put-aside"];

/// Folders to share when the program exits, with the permission bits to add.
static SCHEDULED_SHARING: Mutex<Vec<(PathBuf, u32)>> = Mutex::new(Vec::new());

impl Repo {
    /// Reads the permission bits to add for other users; `None` if the repository is not shared.
    fn read_shared_mode(&self) -> Option<u32> {
        let value = self.config_value("core.sharedRepository")?.to_ascii_lowercase();
        match &value[..] {
            "group" | "true" | "yes" | "on" | "1" => Some(0o060),
            "all" | "world" | "everybody" | "2" => Some(0o064),
            text => {
                let octal = text.starts_with('0').then(|| u32::from_str_radix(text, 8).ok());
                octal.flatten().map(|bits| bits & 0o066).filter(|bits| *bits != 0)
            }
        }
    }

    /// Schedules `run_scheduled_sharing` for this repository.
    pub fn schedule_sharing(&self) {
        let Some(bits) = self.read_shared_mode() else { return };
        self.shared_mode.set(Some(bits));
        let entry = (self.common_folder().to_path_buf(), bits);
        let mut shared =
            SCHEDULED_SHARING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !shared.contains(&entry) {
            shared.push(entry);
        }
    }

    /// Shares a new object and its folder at once: a concurrent git of another user may write to
    /// that folder.
    pub(super) fn share_object(&self, id: Id) {
        if let Some(bits) = self.shared_mode.get() {
            let hex = id.to_string();
            let fan = self.common_folder().join("objects").join(&hex[..2]);
            add_permissions(&fan, bits);
            add_permissions(&fan.join(&hex[2..]), bits);
        }
    }

    /// Shares a temporary file of the git folder, before it is renamed.
    pub fn share_file(&self, path: &Path) {
        if let Some(bits) = self.shared_mode.get() {
            add_permissions(path, bits);
        }
    }
}

/// Shares the files that this program has created. Called once, at exit.
pub fn run_scheduled_sharing() {
    let shared = std::mem::take(
        &mut *SCHEDULED_SHARING.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
    );
    for (common, bits) in shared {
        let linked = fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten();
        let own = linked.map(|worktree| worktree.path().join("xtask"));
        for folder in own.chain([common.join("xtask")]) {
            share_folder(&folder, bits);
        }
        let fans = fs::read_dir(common.join("objects")).into_iter().flatten().flatten();
        fans.filter(|fan| fan.file_name().len() == 2)
            .for_each(|fan| add_permissions(&fan.path(), bits));
    }
}

fn share_folder(folder: &Path, bits: u32) {
    let is_shared = |entry: &walkdir::DirEntry| {
        let is_private = PRIVATE_FOLDERS.iter().any(|private| *entry.file_name() == **private);
        entry.depth() == 0 || !(entry.file_type().is_dir() && is_private)
    };
    for entry in walkdir::WalkDir::new(folder).into_iter().filter_entry(is_shared).flatten() {
        if entry.file_type().is_dir() || entry.file_type().is_file() {
            add_permissions(entry.path(), bits);
        }
    }
}

/// Adds permissions to a file of ours that lacks them. Failures are ignored, as in git; the other
/// users will notice.
fn add_permissions(path: &Path, bits: u32) {
    let Ok(meta) = path.symlink_metadata() else { return };
    let mode = meta.mode() & 0o7777;
    let wanted = with_shared_mode(&meta, mode, bits);
    if meta.uid() == rustix::process::geteuid().as_raw() && wanted != mode {
        fs::set_permissions(path, Permissions::from_mode(wanted)).ok();
    }
}

/// Returns `mode` with `bits` added: with the execute bits for programs and folders, and for
/// folders with setgid, so that new files inherit the group.
fn with_shared_mode(meta: &Metadata, mode: u32, bits: u32) -> u32 {
    // A read-only file stays read-only.
    let bits = if mode & 0o200 == 0 { bits & 0o044 } else { bits };
    let runs = if mode & 0o100 == 0 { 0 } else { (bits & 0o044) >> 2 };
    let of_group = if meta.is_dir() { 0o2000 } else { 0 };
    mode | bits | runs | of_group
}
