//! Where a stack keeps what it knows: one folder for each layer of each worktree, under its git folder.
//!
//! The lock is the truth about who supervises; the records are only hints, which are believed as far
//! as the kernel confirms them. They hold numbers and names, never anything that is run on sight.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::spec::{EnvFileStamp, ServiceSpec};
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::processes::ProcessIdentity;
use xtask_base::record::{self, LoadedRecord};
use xtask_base::worktree_paths::WorktreePaths;

/// The kind of the record of a stack.
const STACK_RECORD: &str = "xtask.stack/1";

/// The kind of the record of a supervisor.
const SUPERVISOR_RECORD: &str = "xtask.supervisor/1";

/// The longest path of a socket on every system that we know: macOS has room for 104 bytes.
const MAX_SOCKET_PATH: usize = 100;

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
pub struct StackRecord {
    /// The folder of the stack. A copy of it elsewhere is not the stack.
    pub folder: PathBuf,
    /// By what its processes are known.
    pub token: String,
    /// The port of the status page: nothing where it is off, 0 where any will do.
    pub status: Option<u16>,
    /// Processes that services have left to the supervisor, and that carry no marker.
    #[serde(default)]
    pub strays: Vec<ProcessIdentity>,
    /// Its services.
    pub units: Vec<ServiceRecord>,
}

/// What is kept of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// What it is.
    pub spec: ServiceSpec,
    /// Whether it is wanted up.
    pub is_wanted: bool,
    /// Where it stood, as `ps` says it.
    pub state: String,
    /// The number of its process.
    pub run: u64,
    /// Its process.
    pub identity: Option<ProcessIdentity>,
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
    pub seen: Vec<EnvFileStamp>,
}

/// Who supervises.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorRecord {
    /// The folder of the stack.
    pub folder: PathBuf,
    /// Its process.
    pub identity: ProcessIdentity,
    /// Its version.
    pub version: String,
    /// Where it listens.
    pub socket: PathBuf,
}

impl Stack {
    /// The stack of a layer in this worktree.
    #[must_use]
    pub fn new(folders: &WorktreePaths, layer: &str) -> Stack {
        let folder = folders.state_folder().join("services").join(layer);
        Stack { layer: layer.to_owned(), root: folders.root.clone(), folder }
    }

    /// The layers of this worktree of which something is kept.
    #[must_use]
    pub fn list_all(folders: &WorktreePaths) -> Vec<Stack> {
        let folder = folders.state_folder().join("services");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut layers: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        layers.sort();
        layers.iter().map(|layer| Stack::new(folders, layer)).collect()
    }

    /// Where its logs are.
    #[must_use]
    pub fn logs_folder(&self) -> PathBuf {
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
    pub fn create_folder(&self) -> Result<()> {
        let cannot = || format!("the folder `{}` cannot be made", self.folder.display());
        let Some(above) = self.folder.parent() else { return Ok(()) };
        if let Some(state) = above.parent() {
            std::fs::create_dir_all(state).with_context(cannot)?;
        }
        for folder in [above, &self.folder] {
            let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
            if made.as_ref().is_err_and(|cause| cause.kind() != io::ErrorKind::AlreadyExists) {
                return made.with_context(cannot);
            }
        }
        Ok(())
    }

    fn record_path(&self) -> PathBuf {
        self.folder.join("stack")
    }

    fn supervisor_path(&self) -> PathBuf {
        self.folder.join("supervisor")
    }

    /// What was kept of it.
    #[must_use]
    pub fn read_record(&self) -> LoadedRecord<StackRecord> {
        match record::read_record::<StackRecord>(&self.record_path(), STACK_RECORD) {
            LoadedRecord::Valid(saved) if self.is_copy_of(&saved.folder) => LoadedRecord::Missing,
            found => found,
        }
    }

    /// Keeps it.
    pub fn write_record(&self, disk: &Disk<'_>, saved: &StackRecord) -> Result<()> {
        record::write_record_unsynced(disk, &self.record_path(), STACK_RECORD, saved)
            .with_context(|| format!("`{}` cannot be written", self.record_path().display()))
    }

    /// Forgets it: nothing of it runs.
    pub fn remove_record(&self, disk: &Disk<'_>) -> Result<()> {
        disk.remove_file(&self.record_path())
            .with_context(|| format!("`{}` cannot be removed", self.record_path().display()))
    }

    /// Who supervises, as it was written down.
    #[must_use]
    pub fn read_supervisor(&self) -> LoadedRecord<SupervisorRecord> {
        match record::read_record::<SupervisorRecord>(&self.supervisor_path(), SUPERVISOR_RECORD) {
            LoadedRecord::Valid(supervisor) if self.is_copy_of(&supervisor.folder) => {
                LoadedRecord::Missing
            }
            found => found,
        }
    }

    /// Writes down who supervises.
    pub fn write_supervisor(&self, disk: &Disk<'_>, supervisor: &SupervisorRecord) -> Result<()> {
        record::write_record_unsynced(disk, &self.supervisor_path(), SUPERVISOR_RECORD, supervisor)
            .with_context(|| format!("`{}` cannot be written", self.supervisor_path().display()))
    }

    /// Takes that back.
    pub fn remove_supervisor(&self, disk: &Disk<'_>) -> Result<()> {
        disk.remove_file(&self.supervisor_path())
            .with_context(|| format!("`{}` cannot be removed", self.supervisor_path().display()))
    }

    /// Where a supervisor of it listens: a short name in a folder that is this user's alone, which is made.
    pub fn prepare_socket(&self, world: &Environment) -> Result<PathBuf> {
        let socket = self.socket_path(world);
        if let Some(folder) = socket.parent() {
            ensure_private_folder(folder)?;
        }
        Ok(socket)
    }

    /// The same, without making anything.
    #[must_use]
    pub fn socket_path(&self, world: &Environment) -> PathBuf {
        let name =
            digest::to_hex(&digest::hash_parts([self.folder.as_os_str().as_encoded_bytes()]));
        let name = format!("{}.sock", &name[..16]);
        let runtime =
            world.variable("XDG_RUNTIME_DIR").map(|folder| Path::new(folder).join("xtask"));
        if let Some(folder) = runtime.filter(|folder| {
            folder.is_absolute()
                && folder.as_os_str().len() + name.len() < MAX_SOCKET_PATH
                && folder.parent().is_some_and(is_own_folder)
        }) {
            return folder.join(name);
        }
        let user = rustix::process::geteuid().as_raw();
        PathBuf::from(format!("/tmp/xtask-{user}")).join(name)
    }
}

fn is_own_folder(folder: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir() && meta.uid() == user)
}

/// Makes a folder that nobody else can enter, or makes sure that it is one.
fn ensure_private_folder(folder: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
    match made {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(cause)
                .with_context(|| format!("the folder `{}` cannot be made", folder.display()));
        }
        _ => {}
    }
    let meta = std::fs::symlink_metadata(folder)
        .with_context(|| format!("`{}` cannot be looked at", folder.display()))?;
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
    .with_hint("remove it, or set XDG_RUNTIME_DIR to a folder of your own"))
}
