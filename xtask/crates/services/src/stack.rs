//! `Stack`: paths, locks and records of the services of one layer in one worktree, in one folder
//! under its git folder.
//!
//! The lock decides who supervises; the records are only hints, trusted as far as the kernel
//! confirms them. They hold numbers and names, and reading one executes none of its contents.
//!
//! ```text
//! .git/xtask/services/local/: stack (StackRecord), supervisor (SupervisorRecord),
//!   supervisor.lock, command.lock, supervisor.log, logs/api.log
//! ```

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::service_state::ServiceNotes;
use super::spec::{EnvFileStamp, ServiceSpec};
use super::status::ReportedState;
use xtask_base::digest;
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{Disk, FileId};
use xtask_base::processes::ProcessIdentity;
use xtask_base::record::{self, LoadedRecord};
use xtask_base::worktree_paths::WorktreePaths;

/// Record kind of `StackRecord`.
const STACK_RECORD: &str = "xtask.stack/1";

/// Record kind of `SupervisorRecord`.
const SUPERVISOR_RECORD: &str = "xtask.supervisor/1";

/// Maximum length of a socket path on every supported system: macOS has room for 104 bytes.
const MAX_SOCKET_PATH: usize = 100;

/// Services of one layer in one worktree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Name of the layer.
    pub layer: String,
    /// Root of the worktree.
    pub root: PathBuf,
    /// Folder of its records, locks and logs.
    pub folder: PathBuf,
}

/// State of a stack, as recorded for the next supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StackRecord {
    /// Folder of the stack. A record in a copy of that folder is ignored.
    pub folder: PathBuf,
    /// Token in the markers of its processes.
    pub token: String,
    /// Port of the status page: `None` if it is off, 0 for any free port.
    pub status: Option<u16>,
    /// Processes without a marker that services left to the supervisor.
    #[serde(default)]
    pub strays: Vec<ProcessIdentity>,
    pub units: Vec<ServiceRecord>,
}

/// State of a service, as recorded for the next supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    pub spec: ServiceSpec,
    /// Whether the service should be up.
    pub is_wanted: bool,
    pub state: ReportedState,
    /// Number of the current or last run.
    pub run: u64,
    /// First process of the run.
    pub identity: Option<ProcessIdentity>,
    pub was_ready: bool,
    /// Start time of the run, in milliseconds since the Unix epoch.
    pub started_ms: i64,
    /// Offset in the log, in bytes, at which the run begins.
    #[serde(default)]
    pub log_at: u64,
    #[serde(flatten)]
    pub notes: ServiceNotes,
    /// Stamps of its env files at its start.
    #[serde(default)]
    pub seen: Vec<EnvFileStamp>,
}

/// Address and identity of a supervisor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SupervisorRecord {
    /// Folder of the stack.
    pub folder: PathBuf,
    pub identity: ProcessIdentity,
    /// Version of the toolkit.
    pub version: String,
    /// Path of the control socket.
    pub socket: PathBuf,
}

impl Stack {
    /// Returns the stack of a layer in this worktree.
    #[must_use]
    pub fn new(folders: &WorktreePaths, layer: &str) -> Stack {
        let folder = folders.state_folder().join("services").join(layer);
        Stack { layer: layer.to_owned(), root: folders.root.clone(), folder }
    }

    /// Returns the stacks of this worktree that have a folder.
    #[must_use]
    pub fn list_all(folders: &WorktreePaths) -> Vec<Stack> {
        let folder = folders.state_folder().join("services");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut layers: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        layers.sort();
        layers.iter().map(|layer| Stack::new(folders, layer)).collect()
    }

    /// Returns the folder of the logs.
    #[must_use]
    pub fn logs_folder(&self) -> PathBuf {
        self.folder.join("logs")
    }

    /// Returns the path of the supervisor's own error log.
    #[must_use]
    pub fn supervisor_log(&self) -> PathBuf {
        self.folder.join("supervisor.log")
    }

    /// Returns the path of the lock that a supervisor holds.
    #[must_use]
    pub fn supervisor_lock(&self) -> PathBuf {
        self.folder.join("supervisor.lock")
    }

    /// Returns the path of the lock of commands that start and stop.
    #[must_use]
    pub fn command_lock(&self) -> PathBuf {
        self.folder.join("command.lock")
    }

    /// Returns whether this folder is a copy of `written_in`, which still exists. A moved folder is no
    /// copy.
    fn is_copy_of(&self, written_in: &Path) -> bool {
        let there = FileId::at(written_in);
        there.is_some() && there != FileId::at(&self.folder)
    }

    /// Creates its folder with mode 0700: whoever can open a lock can hold it.
    pub fn create_folder(&self) -> Result<()> {
        let cannot = || format!("cannot create the folder `{}`", self.folder.display());
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

    /// Reads the stack record.
    #[must_use]
    pub fn read_record(&self) -> LoadedRecord<StackRecord> {
        match record::read_record::<StackRecord>(&self.record_path(), STACK_RECORD) {
            LoadedRecord::Valid(saved) if self.is_copy_of(&saved.folder) => LoadedRecord::Missing,
            found => found,
        }
    }

    /// Writes the stack record.
    pub fn write_record(&self, disk: &Disk<'_>, saved: &StackRecord) -> Result<()> {
        record::write_record_unsynced(disk, &self.record_path(), STACK_RECORD, saved)
            .with_context(|| format!("cannot write `{}`", self.record_path().display()))
    }

    /// Removes the stack record, once none of its services runs.
    pub fn remove_record(&self, disk: &Disk<'_>) -> Result<()> {
        disk.remove_file(&self.record_path())
            .with_context(|| format!("cannot remove `{}`", self.record_path().display()))
    }

    /// Reads the supervisor record.
    #[must_use]
    pub fn read_supervisor(&self) -> LoadedRecord<SupervisorRecord> {
        match record::read_record::<SupervisorRecord>(&self.supervisor_path(), SUPERVISOR_RECORD) {
            LoadedRecord::Valid(supervisor) if self.is_copy_of(&supervisor.folder) => {
                LoadedRecord::Missing
            }
            found => found,
        }
    }

    /// Writes the supervisor record.
    pub fn write_supervisor(&self, disk: &Disk<'_>, supervisor: &SupervisorRecord) -> Result<()> {
        record::write_record_unsynced(disk, &self.supervisor_path(), SUPERVISOR_RECORD, supervisor)
            .with_context(|| format!("cannot write `{}`", self.supervisor_path().display()))
    }

    /// Removes the supervisor record.
    pub fn remove_supervisor(&self, disk: &Disk<'_>) -> Result<()> {
        disk.remove_file(&self.supervisor_path())
            .with_context(|| format!("cannot remove `{}`", self.supervisor_path().display()))
    }

    /// Returns `socket_path`, and creates its folder, which is accessible to this user only.
    pub fn prepare_socket(&self, world: &Environment) -> Result<PathBuf> {
        let socket = self.socket_path(world);
        if let Some(folder) = socket.parent() {
            ensure_private_folder(folder)?;
        }
        Ok(socket)
    }

    /// Returns the path of the control socket: a short name in `XDG_RUNTIME_DIR`, if that is usable, or
    /// in `/tmp/xtask-UID`.
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

/// Creates a folder for this user only, or checks that an existing one is.
fn ensure_private_folder(folder: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new().mode(0o700).create(folder);
    match made {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
            return Err(cause)
                .with_context(|| format!("cannot create the folder `{}`", folder.display()));
        }
        _ => {}
    }
    let meta = std::fs::symlink_metadata(folder)
        .with_context(|| format!("cannot inspect `{}`", folder.display()))?;
    let user = rustix::process::geteuid().as_raw();
    let is_private = meta.permissions().mode() & 0o077 == 0;
    if meta.is_dir() && meta.uid() == user && is_private {
        return Ok(());
    }
    Err(Error::unable(format!(
        "`{}` is not private to you (owner {}, mode {:o}): the supervisor cannot listen there",
        folder.display(),
        meta.uid(),
        meta.permissions().mode() & 0o7777
    ))
    .with_hint("remove it, or set XDG_RUNTIME_DIR to a folder of your own"))
}
