//! File system changes in small steps, never through a symlink and never over an unexpected file.
//!
//! Each step first asks a gate. In production the gate is always open; tests close it at step n, or
//! from step n on, to verify that any failure or crash leaves all files either in the old or in the
//! new state.
//!
//! Existing files are never simply overwritten: [`Disk::exchange`] swaps two names in one file
//! system operation, so that the previous content remains available for inspection. For example:
//!
//! ```text
//! before:  config.new = "new"   config = "old"
//! after:   config.new = "old"   config = "new"
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags};

use super::words::format_size;

/// The kind of a step, passed to the gate before the step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// Creation of a new, empty file.
    Create,
    /// Writing the content of a new file.
    Write,
    /// Creation of a symlink or hard link.
    CreateLink,
    MakeFolder,
    /// Swap of two names.
    Exchange,
    /// Rename to a name that must be free.
    RenameNoReplace,
    /// Rename over an existing name.
    Replace,
    Remove,
    /// Removal of a folder, empty or with its content.
    RemoveFolder,
    /// A step outside [`Disk`], named by the caller, e.g. `move a ref`.
    Other(&'static str),
}

/// A counter that makes the temporary names of `write_via_temp` unique.
static WRITE_COUNTER: AtomicU64 = AtomicU64::new(0);

/// Access to the file system that asks a gate before each change.
pub struct Disk<'a> {
    gate: &'a (dyn Fn(DiskOperation) -> io::Result<()> + Sync),
    skips_fsync: AtomicBool,
}

/// The permissions of a new regular file. The system applies the umask to `Plain` and `Executable`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// `rw-rw-rw-` minus the umask.
    Plain,
    /// `rwxrwxrwx` minus the umask.
    Executable,
    /// Exactly these permissions; until they are set, only the owner has access (`0o600`).
    Exact(u32),
}

impl Disk<'static> {
    /// Creates a `Disk` whose gate is always open.
    #[must_use]
    pub fn real() -> Self {
        Disk { gate: &|_| Ok(()), skips_fsync: AtomicBool::new(false) }
    }
}

impl<'a> Disk<'a> {
    /// Creates a `Disk` that calls `gate` before each step; an error from `gate` cancels the step.
    pub fn with_gate(gate: &'a (dyn Fn(DiskOperation) -> io::Result<()> + Sync)) -> Self {
        Disk { gate, skips_fsync: AtomicBool::new(false) }
    }

    /// Turns [`Disk::fsync`] off from now on, for repositories with `core.fsync=none`.
    pub fn skip_fsync(&self) {
        self.skips_fsync.store(true, Ordering::Relaxed);
    }

    /// Waits until the file at `path` has been flushed to the disk.
    pub fn fsync(&self, path: &Path) -> io::Result<()> {
        if self.skips_fsync.load(Ordering::Relaxed) {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }

    /// Asks the gate about a step that the caller performs itself.
    pub fn check_gate(&self, name: &'static str) -> io::Result<()> {
        (self.gate)(DiskOperation::Other(name))
    }

    /// Creates a file with `content`. Returns an error if `path` already exists.
    pub fn create_file(&self, path: &Path, content: &[u8], bits: CreateMode) -> io::Result<()> {
        (self.gate)(DiskOperation::Create)?;
        let mode = match bits {
            CreateMode::Plain => 0o666,
            CreateMode::Executable => 0o777,
            CreateMode::Exact(_) => 0o600,
        };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        (self.gate)(DiskOperation::Write)?;
        file.write_all(content)?;
        match bits {
            CreateMode::Exact(bits) => file.set_permissions(fs::Permissions::from_mode(bits)),
            CreateMode::Plain | CreateMode::Executable => Ok(()),
        }
    }

    /// Creates a symlink at `path` to `target`. Returns an error if `path` already exists.
    pub fn create_symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::CreateLink)?;
        std::os::unix::fs::symlink(target, path)
    }

    /// Creates one folder. Returns an error if `path` already exists or its parent is missing.
    pub fn make_folder(&self, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::MakeFolder)?;
        fs::create_dir(path)
    }

    /// Creates `path` and its missing parents with mode `0o700` (owner only).
    pub fn make_private_folders(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        (self.gate)(DiskOperation::MakeFolder)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Swaps the files `ours` and `theirs`. Both must exist, and `ours` must be a name that only
    /// xtask uses. If the file system lacks `RENAME_EXCHANGE`, three renames via `spare_name` do
    /// the same.
    pub fn exchange(&self, ours: &Path, theirs: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::Exchange)?;
        match rustix::fs::renameat_with(CWD, ours, CWD, theirs, RenameFlags::EXCHANGE) {
            Err(errno) if is_unsupported(errno) => exchange_in_steps(ours, theirs),
            done => Ok(done?),
        }
    }

    /// Completes or reverts an exchange that was interrupted between its three renames.
    pub fn recover_exchange(&self, ours: &Path, theirs: &Path) -> io::Result<()> {
        let spare = spare_name(ours);
        if spare.symlink_metadata().is_err() {
            return Ok(());
        }
        let free = if theirs.symlink_metadata().is_err() { theirs } else { ours };
        self.rename_noreplace(&spare, free)
    }

    /// Renames `from` to `to`. Returns an error if `to` exists.
    pub fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::RenameNoReplace)?;
        rename_to_free_name(from, to)
    }

    /// Renames `from` over `to`, for files that only xtask writes.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that does")]
    pub fn replace_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::Replace)?;
        fs::rename(from, to)
    }

    /// Writes `content` to a path chosen by the user: a file, created if missing, or a pipe or
    /// device, which keeps its type.
    pub fn write_into(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        (self.gate)(DiskOperation::Write)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(content)
    }

    /// Creates the hard link `second` to `path`. Returns an error if `second` exists.
    pub fn create_hard_link(&self, path: &Path, second: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::CreateLink)?;
        fs::hard_link(path, second)
    }

    /// Removes a file or symlink; a missing one is no error.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that does")]
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::Remove)?;
        ignore_not_found(fs::remove_file(path))
    }

    /// Removes the folder at `path` and returns `true`, or returns `false` if missing, not empty,
    /// busy or protected.
    pub fn remove_empty_folder(&self, path: &Path) -> io::Result<bool> {
        (self.gate)(DiskOperation::RemoveFolder)?;
        match fs::remove_dir(path) {
            Ok(()) => Ok(true),
            Err(cause)
                if matches!(
                    cause.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::DirectoryNotEmpty
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::ResourceBusy
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                Ok(false)
            }
            Err(cause) => Err(cause),
        }
    }

    /// Removes a folder of xtask's own with its content; a missing one is no error.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that does")]
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::RemoveFolder)?;
        match fs::remove_dir_all(path) {
            // The caches of some tools, such as Go's, contain folders without write permission.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                make_folders_writable(path);
                ignore_not_found(fs::remove_dir_all(path))
            }
            done => ignore_not_found(done),
        }
    }

    /// Writes a file of xtask's own atomically: to a temporary name next to `path`, flushed to the
    /// disk, then renamed over `path`. Creates missing parent folders.
    pub fn write_atomically(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write_via_temp(path, content, CreateMode::Plain, true)
    }

    /// Writes like [`Disk::write_atomically`]; a file that is replaced keeps its permissions.
    pub fn write_keeping_permissions(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let bits = fs::metadata(path)
            .map_or(CreateMode::Plain, |meta| CreateMode::Exact(meta.permissions().mode() & 0o777));
        self.write_via_temp(path, content, bits, true)
    }

    /// Writes like [`Disk::write_atomically`], without waiting for the disk: for state that is
    /// worthless after a reboot.
    pub fn write_atomically_unsynced(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write_via_temp(path, content, CreateMode::Plain, false)
    }

    fn write_via_temp(
        &self,
        path: &Path,
        content: &[u8],
        bits: CreateMode,
        is_lasting: bool,
    ) -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            (self.gate)(DiskOperation::MakeFolder)?;
            fs::create_dir_all(folder)?;
        }
        // Other processes and threads may write the same file.
        let number = WRITE_COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}-{number}.new", std::process::id()));
        let beside = Path::new(&beside);
        self.remove_file(beside)?;
        let written = self
            .create_file(beside, content, bits)
            .and_then(|()| if is_lasting { self.fsync(beside) } else { Ok(()) })
            .and_then(|()| self.replace_file(beside, path));
        if written.is_err() {
            // The first failure is the one to report; a stale temporary file is harmless.
            drop(self.remove_file(beside));
        }
        written
    }
}

/// The maximum depth of state files below their folder.
const SWEEP_DEPTH: usize = 3;

/// Removes the temporary files that [`Disk::write_atomically`] left in `folder` when its process
/// was killed, such as `journal.1234-5.new`. Files of running processes stay.
pub fn sweep_temp_files(disk: &Disk<'_>, folder: &Path) {
    sweep_to_depth(disk, folder, SWEEP_DEPTH);
}

fn sweep_to_depth(disk: &Disk<'_>, folder: &Path, depth: usize) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && depth > 1 {
            sweep_to_depth(disk, &entry.path(), depth - 1);
        }
        let writer = entry.file_name().to_str().and_then(parse_writer_pid);
        if kind.is_file() && writer.is_some_and(|pid| super::processes::find_process(pid).is_none())
        {
            // A failed removal is retried by the next sweep.
            drop(disk.remove_file(&entry.path()));
        }
    }
}

/// Returns the process ID in a temporary name such as `journal.1234-5.new`.
fn parse_writer_pid(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_suffix(".new")?.rsplit_once('.')?.1.split_once('-')?;
    number.parse::<u64>().ok()?;
    pid.parse().ok()
}

/// Makes the folder `path` and all folders below it, but none behind a symlink, writable for the owner.
/// Failures are ignored, because the removal that follows reports them.
fn make_folders_writable(path: &Path) {
    let mut open = vec![path.to_path_buf()];
    while let Some(folder) = open.pop() {
        let meta = folder.symlink_metadata().ok();
        let Some(meta) = meta.filter(fs::Metadata::is_dir) else { continue };
        let mode = meta.permissions().mode() | 0o700;
        drop(fs::set_permissions(&folder, fs::Permissions::from_mode(mode)));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        open.extend(entries.map(|entry| entry.path()));
    }
}

/// Reads a file that people write by hand, behind a symlink or not. What is no regular file, such as a pipe
/// or a device, is an error, and so is one of more than `max` bytes.
pub fn read_regular_file(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    // Opening a pipe would block.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let what = format!("it is larger than {}", format_size(max));
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, what));
    }
    Ok(bytes)
}

/// The identity of a file while it exists: its device and inode. Two paths with the same one lead to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    #[must_use]
    pub fn of(meta: &fs::Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt as _;
        FileId { device: meta.dev(), inode: meta.ino() }
    }

    /// Returns the identity of the file to which `path` leads, through symlinks.
    #[must_use]
    pub fn at(path: &Path) -> Option<FileId> {
        fs::metadata(path).ok().as_ref().map(FileId::of)
    }

    /// Returns the identity of the file at `path` itself, which may be a symlink.
    #[must_use]
    pub fn at_no_follow(path: &Path) -> Option<FileId> {
        fs::symlink_metadata(path).ok().as_ref().map(FileId::of)
    }
}

/// Returns whether a regular file is executable as git defines it: by its owner.
#[must_use]
pub fn is_executable(meta: &fs::Metadata) -> bool {
    meta.permissions().mode() & 0o100 != 0
}

fn is_unsupported(errno: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    errno == Errno::NOSYS || errno == Errno::INVAL || errno == Errno::OPNOTSUPP
}

fn spare_name(ours: &Path) -> std::path::PathBuf {
    let mut name = ours.as_os_str().to_owned();
    name.push(".spare");
    name.into()
}

fn exchange_in_steps(ours: &Path, theirs: &Path) -> io::Result<()> {
    let spare = spare_name(ours);
    rename_to_free_name(theirs, &spare)?;
    rename_to_free_name(ours, theirs)
        .or_else(|cause| rename_to_free_name(&spare, theirs).and(Err(cause)))?;
    rename_to_free_name(&spare, ours)
}

/// Renames `from` to `to`, which must be free; atomically if the file system supports
/// `RENAME_NOREPLACE`.
#[expect(clippy::disallowed_methods, reason = "this is the one place that does")]
fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(errno) if is_unsupported(errno) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(cause) => Err(cause),
        },
        done => Ok(done?),
    }
}

fn ignore_not_found(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test sets its scene")]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-files-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn exchange_keeps_both_contents() {
        let at = folder("exchange");
        fs::write(at.join("one"), "1").unwrap();
        fs::write(at.join("two"), "2").unwrap();
        Disk::real().exchange(&at.join("one"), &at.join("two")).unwrap();
        assert_eq!(fs::read_to_string(at.join("one")).unwrap(), "2");
        assert_eq!(fs::read_to_string(at.join("two")).unwrap(), "1");
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn an_exchange_in_steps_can_be_mended_after_each() {
        let at = folder("steps");
        let (ours, theirs) = (at.join("ours"), at.join("theirs"));
        let read = |path: &Path| fs::read_to_string(path).ok();
        for steps in 0..=3 {
            fs::write(&ours, "new").unwrap();
            fs::write(&theirs, "old").unwrap();
            let moves =
                [(&theirs, &spare_name(&ours)), (&ours, &theirs), (&spare_name(&ours), &ours)];
            for (from, to) in moves.into_iter().take(steps) {
                fs::rename(from, to).unwrap();
            }
            Disk::real().recover_exchange(&ours, &theirs).unwrap();
            let (new, old) = (Some("new".to_owned()), Some("old".to_owned()));
            let is_swapped = steps >= 2;
            assert_eq!(read(&ours), if is_swapped { old.clone() } else { new.clone() }, "{steps}");
            assert_eq!(read(&theirs), if is_swapped { new } else { old }, "{steps}");
        }
        fs::write(&ours, "1").unwrap();
        fs::write(&theirs, "2").unwrap();
        exchange_in_steps(&ours, &theirs).unwrap();
        assert_eq!((read(&ours), read(&theirs)), (Some("2".into()), Some("1".into())));
        fs::remove_dir_all(at).unwrap();
    }

    /// As the caches of Go and of some other tools are left. (The superuser removes them in any case.)
    #[test]
    fn a_folder_in_which_nobody_may_remove_anything_goes_all_the_same() {
        let at = folder("shut");
        let shut = at.join("cache/module");
        fs::create_dir_all(&shut).unwrap();
        fs::write(shut.join("file"), "x").unwrap();
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o500)).unwrap();
        std::os::unix::fs::symlink(&shut, at.join("link")).unwrap();
        make_folders_writable(&at.join("link"));
        assert_eq!(shut.metadata().unwrap().permissions().mode() & 0o700, 0o500);
        make_folders_writable(&at.join("cache"));
        assert_eq!(shut.metadata().unwrap().permissions().mode() & 0o700, 0o700);
        fs::set_permissions(&shut, fs::Permissions::from_mode(0o500)).unwrap();
        Disk::real().remove_folder(&at.join("cache")).unwrap();
        assert!(!at.join("cache").exists());
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn what_a_killed_writer_left_is_swept() {
        let at = folder("sweep");
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let (gone, here) = (gone.id(), std::process::id());
        fs::create_dir_all(at.join("deep/er")).unwrap();
        let names = [
            (format!("journal.{gone}-3.new"), false),
            (format!("deep/er/x.y.{gone}-0.new"), false),
            (format!("journal.{here}-3.new"), true),
            (format!("{gone}-3.new"), true),
            ("index.new".to_owned(), true),
            (format!("journal.{gone}-x.new"), true),
        ];
        for (name, _) in &names {
            fs::write(at.join(name), "x").unwrap();
        }
        sweep_temp_files(&Disk::real(), &at);
        for (name, stays) in &names {
            assert_eq!(at.join(name).exists(), *stays, "{name}");
        }
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn nothing_is_waited_for_where_fsync_is_skipped() {
        let missing = Path::new("/nowhere/at/all");
        let disk = Disk::real();
        assert_eq!(disk.fsync(missing).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.skip_fsync();
        disk.fsync(missing).unwrap();
    }

    #[test]
    fn place_never_replaces() {
        let at = folder("place");
        fs::write(at.join("one"), "1").unwrap();
        fs::write(at.join("two"), "2").unwrap();
        let refused = Disk::real().rename_noreplace(&at.join("one"), &at.join("two")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(at.join("two")).unwrap(), "2");
        fs::remove_dir_all(at).unwrap();
    }

    #[test]
    fn a_closed_gate_stops_before_the_step() {
        let at = folder("gate");
        let shut = |_| Err(io::Error::other("shut"));
        Disk::with_gate(&shut).create_file(&at.join("one"), b"1", CreateMode::Plain).unwrap_err();
        assert!(!at.join("one").exists());
        fs::remove_dir_all(at).unwrap();
    }
}
