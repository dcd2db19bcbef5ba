//! Where a stack keeps what it knows: one folder for each layer of each worktree, under its git folder.
//!
//! The lock is the truth about who supervises; the records are only hints, which are believed as far
//! as the kernel confirms them. They hold numbers and names, never anything that is run on sight.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spec::{Seen, Spec};
use xtask_base::digest;
use xtask_base::error::{Context, Error, Result};
use xtask_base::files::Disk;
use xtask_base::folders::Folders;
use xtask_base::processes::Identity;
use xtask_base::record::{self, Found};
use xtask_base::world::World;

/// The kind of the record of a stack.
const SAVED: &str = "xtask.stack/1";

/// The kind of the record of a supervisor.
const SUPERVISOR: &str = "xtask.supervisor/1";

/// The longest path of a socket on every system that we know: macOS has room for 104 bytes.
const LONGEST_SOCKET: usize = 100;

/// A stack: the services of one layer in one worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its layer.
    pub layer: String,
    /// The root of its worktree.
    pub root: PathBuf,
    /// Its folder.
    pub folder: PathBuf,
}

/// What is kept of a stack, so that another supervisor can go on with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The folder of the stack. A copy of it elsewhere is not the stack.
    pub folder: PathBuf,
    /// By what its processes are known.
    pub token: String,
    /// The port of the status page: nothing where it is off, 0 where any will do.
    pub status: Option<u16>,
    /// Processes that services have left to the supervisor, and that carry no marker.
    #[serde(default)]
    pub strays: Vec<Identity>,
    /// Its services.
    pub units: Vec<SavedUnit>,
}

/// What is kept of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedUnit {
    /// What it is.
    pub spec: Spec,
    /// Whether it is wanted up.
    pub is_wanted: bool,
    /// Where it stood, as `ps` says it.
    pub state: String,
    /// The number of its process.
    pub run: u64,
    /// Its process.
    pub identity: Option<Identity>,
    /// Whether it was ready.
    pub was_ready: bool,
    /// When it was started, by the wall clock.
    pub started_ms: i64,
    /// Where its log began to be its own.
    #[serde(default)]
    pub log_at: u64,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether it runs without something that it needs.
    pub is_degraded: bool,
    /// What went wrong last.
    pub error: Option<String>,
    /// What of it had to be killed when it was ended last, in words.
    #[serde(default)]
    pub killed: Option<String>,
    /// How its files of variables looked when it was started.
    #[serde(default)]
    pub seen: Vec<Seen>,
}

/// Who supervises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Supervisor {
    /// The folder of the stack.
    pub folder: PathBuf,
    /// Its process.
    pub identity: Identity,
    /// Its version.
    pub version: String,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Stack {
    /// The stack of a layer in this worktree.
    #[must_use]
    pub fn new(folders: &Folders, layer: &str) -> Stack {
        let folder = folders.state().join("services").join(layer);
        Stack { layer: layer.to_owned(), root: folders.root.clone(), folder }
    }

    /// The layers of this worktree of which something is kept.
    #[must_use]
    pub fn all(folders: &Folders) -> Vec<Stack> {
        let folder = folders.state().join("services");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut layers: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        layers.sort();
        layers.iter().map(|layer| Stack::new(folders, layer)).collect()
    }

    /// Where its logs are.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Where the supervisor writes what goes wrong with it.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.folder.join("supervisor.log")
    }

    /// The lock of the supervisor.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.folder.join("supervisor.lock")
    }

    /// The lock of those who start and stop.
    #[must_use]
    pub fn command_lock(&self) -> PathBuf {
        self.folder.join("command.lock")
    }

    /// Whether this folder is a copy of the one in which a record was written, which is still there. One
    /// that was moved is no copy.
    fn is_copy_of(&self, written_in: &Path) -> bool {
        let id = |folder: &Path| {
            let meta = std::fs::metadata(folder).ok()?;
            Some((meta.dev(), meta.ino()))
        };
        let there = id(written_in);
        there.is_some() && there != id(&self.folder)
    }

    /// Makes its folder, which others may not enter: who can open a lock can hold it.
    pub fn make_folder(&self) -> Result<()> {
        let cannot = || format!("the folder `{}` cannot be made", self.folder.display());
        let Some(above) = self.folder.parent() else { return Ok(()) };
        if let Some(state) = above.parent() {
            std::fs::create_dir_all(state).unable(cannot)?;
        }
        for folder in [above, &self.folder] {
            let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
            if made.as_ref().is_err_and(|cause| cause.kind() != io::ErrorKind::AlreadyExists) {
                return made.unable(cannot);
            }
        }
        Ok(())
    }

    fn saved_path(&self) -> PathBuf {
        self.folder.join("stack")
    }

    fn supervisor_path(&self) -> PathBuf {
        self.folder.join("supervisor")
    }

    /// What was kept of it.
    #[must_use]
    pub fn saved(&self) -> Found<Saved> {
        match record::read::<Saved>(&self.saved_path(), SAVED) {
            Found::Whole(saved) if self.is_copy_of(&saved.folder) => Found::Nothing,
            found => found,
        }
    }

    /// Keeps it.
    pub fn save(&self, disk: &Disk<'_>, saved: &Saved) -> Result<()> {
        record::write_for_now(disk, &self.saved_path(), SAVED, saved)
            .unable(|| format!("`{}` cannot be written", self.saved_path().display()))
    }

    /// Forgets it: nothing of it runs.
    pub fn forget(&self, disk: &Disk<'_>) -> Result<()> {
        disk.remove(&self.saved_path())
            .unable(|| format!("`{}` cannot be removed", self.saved_path().display()))
    }

    /// Who supervises, as it was written down.
    #[must_use]
    pub fn supervisor(&self) -> Found<Supervisor> {
        match record::read::<Supervisor>(&self.supervisor_path(), SUPERVISOR) {
            Found::Whole(supervisor) if self.is_copy_of(&supervisor.folder) => Found::Nothing,
            found => found,
        }
    }

    /// Writes down who supervises.
    pub fn announce(&self, disk: &Disk<'_>, supervisor: &Supervisor) -> Result<()> {
        record::write_for_now(disk, &self.supervisor_path(), SUPERVISOR, supervisor)
            .unable(|| format!("`{}` cannot be written", self.supervisor_path().display()))
    }

    /// Takes that back.
    pub fn retire(&self, disk: &Disk<'_>) -> Result<()> {
        disk.remove(&self.supervisor_path())
            .unable(|| format!("`{}` cannot be removed", self.supervisor_path().display()))
    }

    /// Where a supervisor of it listens: a short name in a folder that is this user's alone, which is made.
    pub fn socket(&self, world: &World) -> Result<PathBuf> {
        let socket = self.socket_path(world);
        if let Some(folder) = socket.parent() {
            private_folder(folder)?;
        }
        Ok(socket)
    }

    /// The same, without making anything.
    #[must_use]
    pub fn socket_path(&self, world: &World) -> PathBuf {
        let name = digest::hex(&digest::of_parts([self.folder.as_os_str().as_encoded_bytes()]));
        let name = format!("{}.sock", &name[..16]);
        let runtime =
            world.variable("XDG_RUNTIME_DIR").map(|folder| Path::new(folder).join("xtask"));
        if let Some(folder) = runtime.filter(|folder| {
            folder.is_absolute()
                && folder.as_os_str().len() + name.len() < LONGEST_SOCKET
                && folder.parent().is_some_and(is_ours)
        }) {
            return folder.join(name);
        }
        let user = rustix::process::geteuid().as_raw();
        PathBuf::from(format!("/tmp/xtask-{user}")).join(name)
    }
}

fn is_ours(folder: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir() && meta.uid() == user)
}

/// Makes a folder that nobody else can enter, or makes sure that it is one.
fn private_folder(folder: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
    match made {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(cause)
                .unable(|| format!("the folder `{}` cannot be made", folder.display()));
        }
        _ => {}
    }
    let meta = std::fs::symlink_metadata(folder)
        .unable(|| format!("`{}` cannot be looked at", folder.display()))?;
    let user = rustix::process::geteuid().as_raw();
    let is_private = meta.permissions().mode() & 0o077 == 0;
    if meta.is_dir() && meta.uid() == user && is_private {
        return Ok(());
    }
    Err(Error::unable(format!(
        "`{}` is not a folder of yours alone (owner {}, mode {:o}), and the supervisor cannot listen there",
        folder.display(),
        meta.uid(),
        meta.permissions().mode() & 0o7777
    ))
    .hint("remove it, or set XDG_RUNTIME_DIR to a folder of your own"))
}
