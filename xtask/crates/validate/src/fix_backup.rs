//! Backups of the files that a fix may write, so that a fix can be undone.
//!
//! A record is on disk before the fix changes the first byte. Files that were edited after the fix are never
//! overwritten; since someone may also have edited files during the fix, each replaced version is kept next
//! to the record. Records of a newer xtask are left alone. Copies are below the git folder, readable by their
//! owner alone, and never become git objects, since they may be secrets.
//!
//! ```text
//! fixes/<run>/<number>/record  before/<sha256 of path>  found/<sha256 of path>  found/index
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use xtask_base::digest::{self, Digest, as_hex};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::path::{RepoPath, exact};
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::{format_size, pluralize};

const RECORD_SCHEMA: &str = "xtask.fix/1";

/// A file that exists while a fix runs, to detect interrupted fixes.
const OPEN_MARKER: &str = "open";

/// The largest number and total size of the files in `writes`; more would take too long to copy.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 256_000_000;

/// The number of runs kept, and their total size: 512 MB.
const MAX_RUNS: usize = 50;
const MAX_KEPT_BYTES: u64 = 512_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SavedKind {
    File,
    Link,
    /// A FIFO, a socket or a device.
    Special,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    thing: SavedKind,
    mode: u32,
    /// The digest of the content, or of the link text.
    #[serde(with = "as_hex")]
    digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FixChange {
    #[serde(with = "exact")]
    path: RepoPath,
    before: Option<FileVersion>,
    /// `None` also while the fix runs.
    after: Option<FileVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixPhase {
    /// The fix has started; it may have been interrupted.
    Open,
    /// The fix has ended, and its changes are recorded.
    Applied,
    /// The fix has ended, and its changes are incompletely known: they exceed the limits or are unreadable.
    Unknown,
    /// Some changes could not be undone.
    Partly,
    /// All changes were undone.
    Undone,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FixRecord {
    pub run: String,
    /// The number of the fix within its run, from 1.
    pub number: usize,
    pub check: String,
    pub command: String,
    /// The root of the worktree, for display.
    pub worktree: String,
    /// The start, in seconds since the epoch.
    pub at: i64,
    pub phase: FixPhase,
    /// The paths that the fix may write.
    writes: Vec<String>,
    changes: Vec<FixChange>,
    /// The folders that existed before.
    folders_before: Vec<String>,
    /// The folders that the fix created.
    folders_made: Vec<String>,
    /// The branch; `None` if HEAD was detached.
    pub branch: Option<String>,
}

impl FixRecord {
    /// Whether there are changes that can be undone.
    #[must_use]
    pub fn has_changes_to_undo(&self) -> bool {
        self.phase != FixPhase::Applied
            || !self.changed_paths().is_empty()
            || !self.folders_made.is_empty()
    }

    #[must_use]
    pub fn changed_paths(&self) -> Vec<RepoPath> {
        let changed = self.changes.iter().filter(|change| change.before != change.after);
        changed.map(|change| change.path.clone()).collect()
    }
}

/// The files and folders below `writes`.
#[derive(Debug, Default, PartialEq, Eq)]
struct FixSnapshot {
    files: BTreeMap<RepoPath, FileVersion>,
    folders: BTreeSet<Vec<u8>>,
}

/// The fix backups of a worktree.
pub struct FixStore<'a> {
    pub folder: PathBuf,
    pub root: &'a Path,
    pub disk: &'a Disk<'a>,
}

pub struct FixRequest<'a> {
    pub run: &'a str,
    /// The number of the fix within its run, from 1.
    pub number: usize,
    pub check: &'a str,
    pub command: &'a str,
    pub writes: &'a [RepoPath],
    /// The present, in seconds since the epoch.
    pub at: i64,
    /// The branch; `None` if HEAD is detached.
    pub branch: Option<String>,
}

#[derive(Debug, Default)]
pub struct FixUndoReport {
    /// The restored paths.
    pub restored: Vec<RepoPath>,
    /// Paths that were edited after the fix, and stay.
    pub kept: Vec<RepoPath>,
    /// The folder that holds the replaced versions.
    pub saved: Option<PathBuf>,
    pub failures: Vec<String>,
    /// Whether new files stay because the changes were incompletely known (`FixPhase::Unknown`).
    pub leaves_new_things: bool,
}

impl FixStore<'_> {
    fn record_file(&self, run: &str, number: usize) -> PathBuf {
        self.folder.join(run).join(number.to_string()).join("record")
    }

    fn copies_folder(&self, run: &str, number: usize) -> PathBuf {
        self.folder.join(run).join(number.to_string()).join("before")
    }

    fn write_record(&self, record: &FixRecord) -> Result<()> {
        let file = self.record_file(&record.run, record.number);
        record::write_record(self.disk, &file, RECORD_SCHEMA, record)
            .with_context(|| format!("cannot write the fix record `{}`", file.display()))
    }

    /// Copies all files in `writes` and writes the record of a fix that is about to start.
    pub fn begin_fix(&self, purpose: &FixRequest<'_>) -> Result<FixRecord> {
        self.remove_oldest_runs(purpose.run)?;
        let copies = self.copies_folder(purpose.run, purpose.number);
        create_private_folder(self.disk, &copies)
            .with_context(|| format!("cannot create the folder `{}`", copies.display()))?;
        let before = self.take_snapshot(purpose.writes, Some(&copies))?;
        let changes = before.files.into_iter();
        let changes = changes
            .map(|(path, kept)| FixChange { path, before: Some(kept), after: None })
            .collect();
        let record = FixRecord {
            run: purpose.run.to_owned(),
            number: purpose.number,
            check: purpose.check.to_owned(),
            command: purpose.command.to_owned(),
            worktree: self.root.display().to_string(),
            at: purpose.at,
            phase: FixPhase::Open,
            writes: purpose.writes.iter().map(ToString::to_string).collect(),
            changes,
            folders_before: to_names(before.folders),
            folders_made: Vec::new(),
            branch: purpose.branch.clone(),
        };
        self.write_record(&record)?;
        self.disk
            .write_atomically(&self.folder.join(OPEN_MARKER), b"")
            .with_context(|| "cannot record that a fix has started")?;
        Ok(record)
    }

    /// Returns the fixes whose record is still open, i.e. that were interrupted.
    #[must_use]
    pub fn list_unfinished(&self) -> Vec<FixRecord> {
        if self.folder.join(OPEN_MARKER).symlink_metadata().is_err() {
            return Vec::new();
        }
        self.list_fixes().into_iter().filter(|record| record.phase == FixPhase::Open).collect()
    }

    /// Records the state after the command of a fix has ended.
    pub fn finish_fix(&self, mut record: FixRecord) -> Result<FixRecord> {
        let writes: Vec<RepoPath> =
            record.writes.iter().map(|path| RepoPath::new(path.as_bytes())).collect();
        let seen = self.take_snapshot(&writes, None);
        if let Ok(mut after) = seen {
            for change in &mut record.changes {
                change.after = after.files.remove(&change.path);
            }
            let new = after.files.into_iter();
            record.changes.extend(new.map(|(path, kept)| FixChange {
                path,
                before: None,
                after: Some(kept),
            }));
            record.changes.sort_by(|one, two| one.path.cmp(&two.path));
            record.folders_made = to_names(after.folders);
            record.folders_made.retain(|folder| !record.folders_before.contains(folder));
            record.phase = FixPhase::Applied;
        } else {
            // Known files can be compared one by one; new files are unknown and stay.
            for change in &mut record.changes {
                let now = read_file_version(&change.path.to_disk_path(self.root)).ok().flatten();
                change.after = now.map(|(kept, _)| kept);
            }
            record.phase = FixPhase::Unknown;
        }
        self.write_record(&record)?;
        // Another fix may have been interrupted earlier, also one of a newer xtask, which is unreadable here.
        // A stale marker only costs a scan.
        if self.list_unfinished().is_empty() && self.list_newer_runs().is_empty() {
            drop(self.disk.remove_file(&self.folder.join(OPEN_MARKER)));
        }
        Ok(record)
    }

    #[must_use]
    pub fn fix_folder(&self, record: &FixRecord) -> PathBuf {
        self.folder.join(&record.run).join(record.number.to_string())
    }

    /// Restores the files that a fix changed, except those edited later. Keeps each replaced version, since
    /// it may contain edits made during the fix.
    pub fn undo_fix(&self, record: FixRecord) -> Result<FixUndoReport> {
        let mut record =
            if record.phase == FixPhase::Open { self.finish_fix(record)? } else { record };
        let mut done = FixUndoReport::default();
        let copies = self.copies_folder(&record.run, record.number);
        let changed: Vec<FixChange> =
            record.changes.iter().filter(|change| change.before != change.after).cloned().collect();
        done.saved = self.save_replaced(&record, &changed)?;
        // New files first: one may occupy the place of a folder to restore, or be inside a folder to remove.
        let (gone, there): (Vec<FixChange>, Vec<FixChange>) =
            changed.into_iter().partition(|change| change.before.is_none());
        self.restore_paths(gone, &copies, &mut done);
        for folder in record.folders_made.iter().rev() {
            let path = RepoPath::new(folder.as_bytes());
            // Someone may have replaced the folder by a symlink.
            if !has_symlink_above(self.root, &path)
                && let Err(cause) = self.disk.remove_empty_folder(&path.to_disk_path(self.root))
            {
                done.failures.push(format!("cannot remove the folder `{folder}`: {cause}"));
            }
        }
        self.restore_paths(there, &copies, &mut done);
        for folder in &record.folders_before {
            let path = RepoPath::new(folder.as_bytes());
            let on_disk = path.to_disk_path(self.root);
            // Leaves anything that someone else has created at the path.
            if on_disk.symlink_metadata().is_err()
                && !has_symlink_above(self.root, &path)
                && let Err(cause) = fs::create_dir_all(&on_disk)
            {
                done.failures.push(format!("cannot create the folder `{folder}`: {cause}"));
            }
        }
        done.leaves_new_things = record.phase == FixPhase::Unknown;
        let is_whole = done.kept.is_empty() && done.failures.is_empty();
        // A failure may succeed next time; later edits stay.
        record.phase = match (is_whole, done.failures.is_empty()) {
            (true, _) => FixPhase::Undone,
            (false, true) => FixPhase::Partly,
            (false, false) => record.phase,
        };
        self.write_record(&record)?;
        if is_whole {
            // The copies are no longer needed.
            drop(self.disk.remove_folder(&copies));
        }
        Ok(done)
    }

    /// Restores several paths; an error does not stop the others.
    fn restore_paths(&self, changes: Vec<FixChange>, copies: &Path, done: &mut FixUndoReport) {
        for change in changes {
            match self.restore_path(&change, copies) {
                Ok(true) => done.restored.push(change.path),
                Ok(false) => done.kept.push(change.path),
                Err(cause) => {
                    done.failures.push(format!("cannot restore `{}`: {cause}", change.path));
                    done.kept.push(change.path);
                }
            }
        }
    }

    /// Saves the present versions in `found`, as hard links if possible.
    fn save_replaced(&self, record: &FixRecord, changed: &[FixChange]) -> Result<Option<PathBuf>> {
        let found = self.fix_folder(record).join("found");
        let mut is_made = false;
        let mut index = String::new();
        for change in changed.iter().filter(|change| change.after.is_some()) {
            let on_disk = change.path.to_disk_path(self.root);
            let Ok(meta) = fs::symlink_metadata(&on_disk) else { continue };
            let is_kept = meta.is_file() || meta.is_symlink();
            if !is_kept || has_symlink_above(self.root, &change.path) {
                continue;
            }
            if !is_made {
                is_made = true;
                create_private_folder(self.disk, &found)
                    .with_context(|| format!("cannot create the folder `{}`", found.display()))?;
            }
            let kept = found.join(copy_name(&change.path));
            index.push_str(&format!("{} {}\n", copy_name(&change.path), change.path));
            if kept.symlink_metadata().is_ok()
                || self.disk.create_hard_link(&on_disk, &kept).is_ok()
            {
                continue;
            }
            if meta.is_symlink() {
                let target = fs::read_link(&on_disk)
                    .with_context(|| format!("cannot save `{}`", change.path))?;
                self.disk
                    .create_symlink(&target, &kept)
                    .with_context(|| format!("cannot save `{}`", change.path))?;
                continue;
            }
            let content =
                fs::read(&on_disk).with_context(|| format!("cannot save `{}`", change.path))?;
            self.save_copy(&found, &change.path, &content)?;
        }
        if is_made {
            // Maps the names of the copies to paths.
            let list = found.join("index");
            self.disk
                .write_atomically(&list, index.as_bytes())
                .with_context(|| format!("cannot write `{}`", list.display()))?;
        }
        Ok(is_made.then_some(found))
    }

    /// Restores one path. Returns `false` if it was edited after the fix.
    fn restore_path(&self, change: &FixChange, copies: &Path) -> io::Result<bool> {
        let target = change.path.to_disk_path(self.root);
        if has_symlink_above(self.root, &change.path) {
            return Ok(false);
        }
        let now = read_file_version(&target)?.map(|(kept, _)| kept);
        if now == change.before {
            return Ok(true);
        }
        if now != change.after {
            return Ok(false);
        }
        let ours = target.with_file_name(format!(".xtask-{}", std::process::id()));
        let ours = ours.as_path();
        let Some(before) = &change.before else {
            self.disk.rename_noreplace(&target, ours)?;
            return self.verify_replaced(ours, &target, change);
        };
        let content = fs::read(copies.join(copy_name(&change.path)))?;
        if digest::hash_parts([&content[..]]) != before.digest {
            return Err(io::Error::other("the saved copy is damaged"));
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        if let Err(cause) = self.recreate_file(ours, before, content) {
            // A file that already existed at this name must not be removed.
            if cause.kind() != io::ErrorKind::AlreadyExists {
                drop(self.disk.remove_file(ours));
            }
            return Err(cause);
        }
        let moved = match change.after {
            // Fails if someone else created the file first.
            None => self.disk.rename_noreplace(ours, &target),
            Some(_) => self.disk.exchange(ours, &target),
        };
        if let Err(cause) = moved {
            // Reports the first error; the temporary copy is removed.
            drop(self.disk.remove_file(ours));
            let is_taken = cause.kind() == io::ErrorKind::AlreadyExists && change.after.is_none();
            return if is_taken { Ok(false) } else { Err(cause) };
        }
        if change.after.is_none() { Ok(true) } else { self.verify_replaced(ours, &target, change) }
    }

    /// Creates the original file or symlink under the temporary name `ours`.
    fn recreate_file(&self, ours: &Path, before: &FileVersion, content: Vec<u8>) -> io::Result<()> {
        if before.thing == SavedKind::Special {
            return Err(io::Error::other("it was neither a file nor a symlink"));
        }
        if before.thing == SavedKind::Link {
            return self.disk.create_symlink(Path::new(&OsString::from_vec(content)), ours);
        }
        self.disk.create_file(ours, &content, CreateMode::Plain)?;
        fs::set_permissions(ours, fs::Permissions::from_mode(before.mode & 0o7777))
    }

    /// Checks that the file moved out of `target` is the version left by the fix, and moves it back if not.
    fn verify_replaced(&self, out: &Path, target: &Path, change: &FixChange) -> io::Result<bool> {
        if read_file_version(out)?.map(|(kept, _)| kept) == change.after {
            self.disk.remove_file(out)?;
            return Ok(true);
        }
        if change.before.is_some() {
            self.disk.exchange(out, target)?;
            self.disk.remove_file(out)?;
        } else {
            self.disk.rename_noreplace(out, target)?;
        }
        Ok(false)
    }

    /// Returns all fixes, oldest first.
    pub fn list_fixes(&self) -> Vec<FixRecord> {
        let mut found: Vec<FixRecord> =
            self.read_records()
                .into_iter()
                .filter_map(|(_, found)| {
                    if let LoadedRecord::Valid(record) = found { Some(record) } else { None }
                })
                .collect();
        found.sort_by(|one, two| {
            (one.at, &one.run, one.number).cmp(&(two.at, &two.run, two.number))
        });
        found
    }

    /// Returns the runs that have records of a newer xtask, oldest first.
    fn list_newer_runs(&self) -> BTreeSet<String> {
        let records = self.read_records().into_iter();
        records
            .filter(|(_, found)| matches!(found, LoadedRecord::Newer))
            .map(|(run, _)| run)
            .collect()
    }

    /// Reads all records, each with the id of its run.
    fn read_records(&self) -> Vec<(String, LoadedRecord<FixRecord>)> {
        let mut found = Vec::new();
        for run in list_folders(&self.folder) {
            let name = run.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for fix in list_folders(&run) {
                found.push((name.clone(), record::read_record(&fix.join("record"), RECORD_SCHEMA)));
            }
        }
        found
    }

    /// Returns the fixes of a run, or for `last` of the last run with one to undo; newest first.
    pub fn list_run_fixes(&self, run: &str) -> Result<Vec<FixRecord>> {
        let all = self.list_fixes();
        // A partly undone fix must be named explicitly.
        let is_open = |record: &&FixRecord| {
            !matches!(record.phase, FixPhase::Undone | FixPhase::Partly)
                && record.has_changes_to_undo()
        };
        let name = match run {
            "last" => all.iter().rev().find(is_open).map(|record| record.run.clone()),
            name => Some(name.to_owned()),
        };
        // Run ids start with their time, so an unreadable run may be the last one.
        let is_meant = |newer: &&String| match (run, &name) {
            ("last", Some(name)) => *newer > name,
            ("last", None) => true,
            _ => *newer == run,
        };
        if let Some(newer) = self.list_newer_runs().iter().rev().find(is_meant) {
            let what = format!("the fix record of run `{newer}`");
            return Err(record::newer_record_error(&what, &self.folder.join(newer)));
        }
        let Some(name) = name else {
            return Err(Error::negative("there is no fix to undo"));
        };
        if !all.iter().any(|record| record.run == name) {
            let error = Error::usage(format!("no such run with a fix: `{name}`"));
            return Err(error.with_hint("`cargo xtask undo --list` lists them"));
        }
        let mut of_run: Vec<FixRecord> =
            all.into_iter().filter(|r| r.run == name && r.phase != FixPhase::Undone).collect();
        of_run.reverse();
        Ok(of_run)
    }

    /// Scans everything below `writes`, and saves the files in `copies` if given.
    fn take_snapshot(&self, writes: &[RepoPath], copies: Option<&Path>) -> Result<FixSnapshot> {
        let mut found = FixSnapshot::default();
        let mut bytes = 0;
        for path in writes {
            if path.to_disk_path(self.root).symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
                let what = format!("`{path}`, which `writes` lists, is a symlink");
                return Err(Error::unable(what).with_hint("list its target in `writes` instead"));
            }
        }
        let mut open: Vec<RepoPath> = writes.to_vec();
        while let Some(path) = open.pop() {
            // A path can be listed twice, or be inside a listed folder.
            if found.files.contains_key(&path) || found.folders.contains(path.as_bytes()) {
                continue;
            }
            let failed = || format!("cannot read `{path}`, which the fix may write");
            if has_symlink_above(self.root, &path) {
                return Err(Error::unable(failed()).with_detail("it is behind a symlink"));
            }
            let on_disk = path.to_disk_path(self.root);
            let meta = match fs::symlink_metadata(&on_disk) {
                Ok(meta) => meta,
                Err(cause) if is_not_found(&cause) => continue,
                Err(cause) => return Err(Error::unable(failed()).with_cause(cause)),
            };
            if meta.is_dir() {
                found.folders.insert(path.as_bytes().to_vec());
                for entry in on_disk.read_dir().with_context(failed)? {
                    let name = entry.with_context(failed)?.file_name();
                    open.push(RepoPath::new([path.as_bytes(), b"/", name.as_bytes()].concat()));
                }
            } else if meta.is_file() || meta.is_symlink() {
                bytes += meta.len();
                if found.files.len() >= MAX_FILES || bytes > MAX_BYTES {
                    return Err(Error::unable(format!(
                        "`writes` covers more than can be saved ({}, {})",
                        pluralize(MAX_FILES, "file"),
                        format_size(MAX_BYTES)
                    ))
                    .with_hint("list less in `writes`, or run the command manually"));
                }
                let Some((kept, content)) = read_file_version(&on_disk).with_context(failed)?
                else {
                    continue;
                };
                if let Some(copies) = copies {
                    self.save_copy(copies, &path, &content)?;
                }
                found.files.insert(path, kept);
            } else {
                let kept =
                    FileVersion { thing: SavedKind::Special, mode: 0, digest: Digest::default() };
                found.files.insert(path, kept);
            }
        }
        Ok(found)
    }

    fn save_copy(&self, folder: &Path, path: &RepoPath, content: &[u8]) -> Result<()> {
        let copy = folder.join(copy_name(path));
        let written = self.disk.create_file(&copy, content, CreateMode::Plain);
        written
            .and_then(|()| self.disk.fsync(&copy))
            .with_context(|| format!("cannot save `{path}` as `{}`", copy.display()))
    }

    /// Removes the oldest runs to make room. Runs that may still be undone automatically stay.
    fn remove_oldest_runs(&self, run: &str) -> Result<()> {
        // Records of a newer xtask may be open.
        let open: BTreeSet<String> = self
            .list_unfinished()
            .into_iter()
            .map(|record| record.run)
            .chain(self.list_newer_runs())
            .collect();
        let mut bytes = 0;
        for (at, old) in list_folders(&self.folder).iter().rev().enumerate() {
            bytes += folder_size(old);
            if at + 1 < MAX_RUNS && bytes <= MAX_KEPT_BYTES {
                continue;
            }
            let name = old.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = name.unwrap_or_default();
            if name == run && bytes > MAX_KEPT_BYTES {
                return Err(Error::unable(
                    "the backups for the fixes of this run exceed the limit",
                )
                .with_detail(format_size(MAX_KEPT_BYTES)));
            }
            if name == run || open.contains(&name) {
                continue;
            }
            self.disk
                .remove_folder(old)
                .with_context(|| format!("cannot remove `{}`", old.display()))?;
        }
        Ok(())
    }
}

/// Returns the size of all files below a folder, in bytes.
fn folder_size(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => folder_size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn to_names(folders: BTreeSet<Vec<u8>>) -> Vec<String> {
    folders.into_iter().map(|folder| RepoPath::new(folder).to_string()).collect()
}

fn is_not_found(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn copy_name(path: &RepoPath) -> String {
    digest::to_hex(&digest::hash_parts([path.as_bytes()]))
}

fn list_folders(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = of.read_dir() else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

fn create_private_folder(disk: &Disk<'_>, folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    disk.check_gate("make a private folder")?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn has_symlink_above(root: &Path, path: &RepoPath) -> bool {
    path.ancestors().any(|above| {
        above.to_disk_path(root).symlink_metadata().is_ok_and(|meta| meta.is_symlink())
    })
}

/// Reads the file at `path`. Returns `None` if it is missing or a folder.
fn read_file_version(path: &Path) -> io::Result<Option<(FileVersion, Vec<u8>)>> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => return Ok(None),
        Ok(meta) => meta,
        Err(cause) if is_not_found(&cause) => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let (thing, content) = if meta.is_symlink() {
        (SavedKind::Link, fs::read_link(path)?.into_os_string().into_vec())
    } else if meta.is_file() {
        (SavedKind::File, fs::read(path)?)
    } else {
        return Ok(Some((
            FileVersion { thing: SavedKind::Special, mode: 0, digest: Digest::default() },
            Vec::new(),
        )));
    };
    let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
    let kept = FileVersion { thing, mode, digest: digest::hash_parts([&content[..]]) };
    Ok(Some((kept, content)))
}
