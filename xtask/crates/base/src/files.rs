//! Changing files, one small step at a time, never through a symlink and never over something
//! that was not expected.
//!
//! Every step first asks a gate. In use the gate is always open; the tests close it at step n, or
//! from step n on, to see that any failure and any crash leaves all before or all after.
//!
//! What is replaced is never simply overwritten: `exchange` swaps two names in one step of the
//! file system, so that what was there still exists afterwards and can be looked at.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{CWD, RenameFlags};

/// What is about to be done, for the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskOperation {
    /// Make a new, empty file.
    Create,
    /// Write the content of a new file.
    Write,
    /// Make a symlink.
    CreateLink,
    /// Make a folder.
    MakeFolder,
    /// Swap two names.
    Exchange,
    /// Move to a name that is free.
    RenameNoReplace,
    /// Move over an existing name.
    Replace,
    /// Remove a file.
    Remove,
    /// Remove an empty folder.
    RemoveFolder,
    /// Something that the gate cannot see into, named by the caller: an object, a ref.
    Other(&'static str),
}

/// Numbers the files that are written whole, for their names alone.
static WRITE_COUNTER: AtomicU64 = AtomicU64::new(0);

/// Makes changes on disk.
pub struct Disk<'a> {
    gate: &'a (dyn Fn(DiskOperation) -> io::Result<()> + Sync),
    skips_fsync: AtomicBool,
}

/// The mode of a new regular file; what the umask takes away is taken away by the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateMode {
    /// `rw-rw-rw-` less the umask.
    Plain,
    /// `rwxrwxrwx` less the umask.
    Executable,
    /// These permissions and no others, from its first moment on for nobody but its owner.
    Exact(u32),
}

impl Disk<'static> {
    /// The disk as it is.
    #[must_use]
    pub fn real() -> Self {
        Disk { gate: &|_| Ok(()), skips_fsync: AtomicBool::new(false) }
    }
}

impl<'a> Disk<'a> {
    /// A disk whose every step first asks `gate`.
    pub fn with_gate(gate: &'a (dyn Fn(DiskOperation) -> io::Result<()> + Sync)) -> Self {
        Disk { gate, skips_fsync: AtomicBool::new(false) }
    }

    /// Leaves it to the system from now on when files reach the disk: where git was told the same by
    /// `core.fsync=none`.
    pub fn skip_fsync(&self) {
        self.skips_fsync.store(true, Ordering::Relaxed);
    }

    /// Waits until a file has reached the disk.
    pub fn fsync(&self, path: &Path) -> io::Result<()> {
        if self.skips_fsync.load(Ordering::Relaxed) {
            return Ok(());
        }
        File::open(path)?.sync_all()
    }

    /// A step that this type does not make itself.
    pub fn check_gate(&self, name: &'static str) -> io::Result<()> {
        (self.gate)(DiskOperation::Other(name))
    }

    /// Makes a new file with this content; it is an error if the name is taken.
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

    /// Makes a new symlink; it is an error if the name is taken.
    pub fn create_symlink(&self, target: &Path, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::CreateLink)?;
        std::os::unix::fs::symlink(target, path)
    }

    /// Makes one folder; its parent must exist. That it exists already is an error.
    pub fn make_folder(&self, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::MakeFolder)?;
        fs::create_dir(path)
    }

    /// Makes folders that are for their owner alone, as far as they are missing.
    pub fn make_private_folders(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        (self.gate)(DiskOperation::MakeFolder)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    /// Swaps what two names stand for. Both must exist, and `ours` must be a name of our own.
    /// Where the file system cannot do it in one step, it is done in three, by way of `spare_name`.
    pub fn exchange(&self, ours: &Path, theirs: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::Exchange)?;
        match rustix::fs::renameat_with(CWD, ours, CWD, theirs, RenameFlags::EXCHANGE) {
            Err(errno) if is_unsupported(errno) => exchange_in_steps(ours, theirs),
            done => Ok(done?),
        }
    }

    /// Brings an exchange to its end or its beginning that was cut short between its steps.
    pub fn recover_exchange(&self, ours: &Path, theirs: &Path) -> io::Result<()> {
        let spare = spare_name(ours);
        if spare.symlink_metadata().is_err() {
            return Ok(());
        }
        let free = if theirs.symlink_metadata().is_err() { theirs } else { ours };
        self.rename_noreplace(&spare, free)
    }

    /// Moves `from` to `to`, which must be free.
    pub fn rename_noreplace(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::RenameNoReplace)?;
        rename_to_free_name(from, to)
    }

    /// Moves `from` over `to`, for files that are ours alone.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that does")]
    pub fn replace_file(&self, from: &Path, to: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::Replace)?;
        fs::rename(from, to)
    }

    /// Writes into what a user has named: a file, which is made if it is missing, or a pipe or a device,
    /// which stay what they are.
    pub fn write_into(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        (self.gate)(DiskOperation::Write)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(content)
    }

    /// Gives a file a second name, which must be free.
    pub fn create_hard_link(&self, path: &Path, second: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::CreateLink)?;
        fs::hard_link(path, second)
    }

    /// Removes a file or a symlink. That it is gone already is fine.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that does")]
    pub fn remove_file(&self, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::Remove)?;
        ignore_not_found(fs::remove_file(path))
    }

    /// Removes a folder if it is there and empty; says whether it went.
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

    /// Removes a folder of ours with all that is in it. That it is gone already is fine.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that does")]
    pub fn remove_folder(&self, path: &Path) -> io::Result<()> {
        (self.gate)(DiskOperation::RemoveFolder)?;
        match fs::remove_dir_all(path) {
            // Caches of some tools make folders in which nobody may remove anything.
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                make_folders_writable(path);
                ignore_not_found(fs::remove_dir_all(path))
            }
            done => ignore_not_found(done),
        }
    }

    /// Writes a file of ours whole: to a name beside it, to the disk, and then over the name.
    /// Missing folders above it are made.
    pub fn write_atomically(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write_via_temp(path, content, true)
    }

    /// The same, but the system writes it to the disk when it likes: for what means nothing any more
    /// once the machine has stopped.
    pub fn write_atomically_unsynced(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write_via_temp(path, content, false)
    }

    fn write_via_temp(&self, path: &Path, content: &[u8], is_lasting: bool) -> io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
            (self.gate)(DiskOperation::MakeFolder)?;
            fs::create_dir_all(folder)?;
        }
        // Other processes and other threads may be writing the same file.
        let number = WRITE_COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}-{number}.new", std::process::id()));
        let beside = Path::new(&beside);
        self.remove_file(beside)?;
        let written = self
            .create_file(beside, content, CreateMode::Plain)
            .and_then(|()| if is_lasting { self.fsync(beside) } else { Ok(()) })
            .and_then(|()| self.replace_file(beside, path));
        if written.is_err() {
            // The first failure is the one to report; a leftover of ours harms nobody.
            drop(self.remove_file(beside));
        }
        written
    }
}

/// How deep files of state lie in their folder.
const SWEEP_DEPTH: usize = 3;

/// Removes what `write_whole` leaves in a folder of ours when it is killed: the names that it writes to
/// first, of processes that are no more.
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
            // Nobody needs it; if it cannot go it is tried again.
            drop(disk.remove_file(&entry.path()));
        }
    }
}

/// The process that writes under a name like `journal.1234-5.new`.
fn parse_writer_pid(name: &str) -> Option<u32> {
    let (pid, number) = name.strip_suffix(".new")?.rsplit_once('.')?.1.split_once('-')?;
    number.parse::<u64>().ok()?;
    pid.parse().ok()
}

/// Lets the owner change all folders below one; where that fails, so will what comes next.
fn make_folders_writable(path: &Path) {
    let mut open = vec![path.to_path_buf()];
    while let Some(folder) = open.pop() {
        let Ok(meta) = folder.symlink_metadata() else { continue };
        let mode = meta.permissions().mode() | 0o700;
        drop(fs::set_permissions(&folder, fs::Permissions::from_mode(mode)));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        open.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
}

/// Whether a regular file is executable, as git sees it: by its owner.
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

/// Renames to a name that must be free, in one step where the file system can.
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
