//! Fixes: what a command may change is saved before it runs, put back where it did not help, and can be
//! brought back later.
//!
//! A record of it is on disk before the first byte changes. Nothing is put back over what somebody has
//! changed since the fix; and because somebody may have worked while it ran, what is replaced is kept
//! beside the record first. What a newer xtask has written down stays as it is, and is taken back by
//! that. Copies lie under the git folder, readable by their owner alone, and never
//! become objects of git: they may be secrets.

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

/// The file that is there while a fix runs, so that one that was cut short is noticed.
const OPEN_MARKER: &str = "open";

/// The most files that a fix may write, and their size: what is more cannot be saved in a moment.
const MAX_FILES: usize = 10_000;
const MAX_BYTES: u64 = 256_000_000;

/// How many runs with fixes are kept, and how much of them: 512 MB.
const MAX_RUNS: usize = 50;
const MAX_KEPT_BYTES: u64 = 512_000_000;

/// What kind of thing is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SavedKind {
    File,
    Link,
    /// A pipe, a socket or a device.
    Special,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    thing: SavedKind,
    mode: u32,
    /// Of its content, or of where it leads.
    #[serde(with = "as_hex")]
    digest: Digest,
}

/// A path before and after a fix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FixChange {
    #[serde(with = "exact")]
    path: RepoPath,
    before: Option<FileVersion>,
    /// Unknown while the fix has not ended.
    after: Option<FileVersion>,
}

/// How far a fix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FixPhase {
    /// It has begun, and may have been cut short.
    Open,
    /// It has ended, and what it changed is here.
    Applied,
    /// It has ended, and what it left is more than can be looked at.
    Unknown,
    /// Not all of what it changed could be put back.
    Partly,
    /// What it changed was put back.
    Undone,
}

/// A fix as it is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FixRecord {
    pub run: String,
    /// Which fix of the run.
    pub number: usize,
    pub check: String,
    pub command: String,
    /// The root of the worktree, for people.
    pub worktree: String,
    /// When, in seconds since the epoch.
    pub at: i64,
    pub phase: FixPhase,
    /// Paths that it may write.
    writes: Vec<String>,
    changes: Vec<FixChange>,
    /// Folders that were there before.
    folders_before: Vec<String>,
    /// Folders that it made.
    folders_made: Vec<String>,
    /// The branch that was checked out; nothing where HEAD was detached.
    pub branch: Option<String>,
}

impl FixRecord {
    /// Whether it changed something that can be put back.
    #[must_use]
    pub fn has_changes_to_undo(&self) -> bool {
        self.phase != FixPhase::Applied
            || !self.changed_paths().is_empty()
            || !self.folders_made.is_empty()
    }

    /// The paths that it changed.
    #[must_use]
    pub fn changed_paths(&self) -> Vec<RepoPath> {
        let changed = self.changes.iter().filter(|change| change.before != change.after);
        changed.map(|change| change.path.clone()).collect()
    }
}

/// What there is below the paths that a fix may write.
#[derive(Debug, Default, PartialEq, Eq)]
struct FixSnapshot {
    files: BTreeMap<RepoPath, FileVersion>,
    folders: BTreeSet<Vec<u8>>,
}

/// The fixes of a worktree.
pub struct FixStore<'a> {
    /// Where records are kept.
    pub folder: PathBuf,
    /// The root of the worktree.
    pub root: &'a Path,
    /// The disk.
    pub disk: &'a Disk<'a>,
}

/// What a fix is for.
pub struct FixRequest<'a> {
    pub run: &'a str,
    /// Which fix of the run.
    pub number: usize,
    pub check: &'a str,
    /// The command.
    pub command: &'a str,
    /// What it may write.
    pub writes: &'a [RepoPath],
    /// Now, in seconds since the epoch.
    pub at: i64,
    /// The branch; nothing where HEAD is detached.
    pub branch: Option<String>,
}

/// What was put back.
#[derive(Debug, Default)]
pub struct FixUndoReport {
    /// The paths that are as they were.
    pub restored: Vec<RepoPath>,
    /// Those that were changed since, and stay.
    pub kept: Vec<RepoPath>,
    /// Where that is kept which was replaced.
    pub saved: Option<PathBuf>,
    /// What could not be put back, and why.
    pub failures: Vec<String>,
    /// Whether the fix left more than can be looked at, so that what is new stays.
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
        record::write_record(self.disk, &file, RECORD_SCHEMA, record).with_context(|| {
            format!("the record of a fix, `{}`, cannot be written", file.display())
        })
    }

    /// Saves what a fix may write, and writes down that it begins.
    pub fn begin_fix(&self, purpose: &FixRequest<'_>) -> Result<FixRecord> {
        self.remove_oldest_runs(purpose.run)?;
        let copies = self.copies_folder(purpose.run, purpose.number);
        create_private_folder(self.disk, &copies)
            .with_context(|| format!("the folder `{}` cannot be made", copies.display()))?;
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
            .with_context(|| "that a fix begins cannot be noted")?;
        Ok(record)
    }

    /// Fixes that have begun and not ended: their program is gone.
    #[must_use]
    pub fn list_unfinished(&self) -> Vec<FixRecord> {
        if self.folder.join(OPEN_MARKER).symlink_metadata().is_err() {
            return Vec::new();
        }
        self.list_fixes().into_iter().filter(|record| record.phase == FixPhase::Open).collect()
    }

    /// Notes what a fix has left, when its command has ended.
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
            // What was there before can be compared by itself; what is new stays.
            for change in &mut record.changes {
                let now = read_file_version(&change.path.to_disk_path(self.root)).ok().flatten();
                change.after = now.map(|(kept, _)| kept);
            }
            record.phase = FixPhase::Unknown;
        }
        self.write_record(&record)?;
        // Another one may have been cut short before; of those of a newer xtask that cannot be told. A note
        // that stays costs a look at all, no more.
        if self.list_unfinished().is_empty() && self.list_newer_runs().is_empty() {
            drop(self.disk.remove_file(&self.folder.join(OPEN_MARKER)));
        }
        Ok(record)
    }

    /// Where what belongs to a fix is kept.
    #[must_use]
    pub fn fix_folder(&self, record: &FixRecord) -> PathBuf {
        self.folder.join(&record.run).join(record.number.to_string())
    }

    /// Puts back what a fix has changed, but for what was changed since. What is replaced on the way is
    /// kept, because somebody may have worked on it while the fix ran.
    pub fn undo_fix(&self, record: FixRecord) -> Result<FixUndoReport> {
        let mut record =
            if record.phase == FixPhase::Open { self.finish_fix(record)? } else { record };
        let mut done = FixUndoReport::default();
        let copies = self.copies_folder(&record.run, record.number);
        let changed: Vec<FixChange> =
            record.changes.iter().filter(|change| change.before != change.after).cloned().collect();
        done.saved = self.save_replaced(&record, &changed)?;
        // What is new goes first: it may stand where a folder is to be, or in one that is to go.
        let (gone, there): (Vec<FixChange>, Vec<FixChange>) =
            changed.into_iter().partition(|change| change.before.is_none());
        self.restore_paths(gone, &copies, &mut done);
        for folder in record.folders_made.iter().rev() {
            let path = RepoPath::new(folder.as_bytes());
            // Somebody may have put a symlink in its place.
            if !has_symlink_above(self.root, &path)
                && let Err(cause) = self.disk.remove_empty_folder(&path.to_disk_path(self.root))
            {
                done.failures.push(format!("the folder `{folder}` cannot be removed: {cause}"));
            }
        }
        self.restore_paths(there, &copies, &mut done);
        for folder in &record.folders_before {
            let path = RepoPath::new(folder.as_bytes());
            let on_disk = path.to_disk_path(self.root);
            // Where something else stands now, that is somebody's.
            if on_disk.symlink_metadata().is_err()
                && !has_symlink_above(self.root, &path)
                && let Err(cause) = fs::create_dir_all(&on_disk)
            {
                done.failures.push(format!("the folder `{folder}` cannot be made: {cause}"));
            }
        }
        done.leaves_new_things = record.phase == FixPhase::Unknown;
        let is_whole = done.kept.is_empty() && done.failures.is_empty();
        // What failed may go the next time; what somebody has changed stays changed.
        record.phase = match (is_whole, done.failures.is_empty()) {
            (true, _) => FixPhase::Undone,
            (false, true) => FixPhase::Partly,
            (false, false) => record.phase,
        };
        self.write_record(&record)?;
        if is_whole {
            // All of it is in its place again.
            drop(self.disk.remove_folder(&copies));
        }
        Ok(done)
    }

    /// Brings several paths to what they were. One that fails keeps no other one from it.
    fn restore_paths(&self, changes: Vec<FixChange>, copies: &Path, done: &mut FixUndoReport) {
        for change in changes {
            match self.restore_path(&change, copies) {
                Ok(true) => done.restored.push(change.path),
                Ok(false) => done.kept.push(change.path),
                Err(cause) => {
                    done.failures.push(format!("`{}` cannot be put back: {cause}", change.path));
                    done.kept.push(change.path);
                }
            }
        }
    }

    /// Keeps what is about to be replaced, by a second name where that is possible.
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
                    .with_context(|| format!("the folder `{}` cannot be made", found.display()))?;
            }
            let kept = found.join(copy_name(&change.path));
            index.push_str(&format!("{} {}\n", copy_name(&change.path), change.path));
            if kept.symlink_metadata().is_ok()
                || self.disk.create_hard_link(&on_disk, &kept).is_ok()
            {
                continue;
            }
            if meta.is_symlink() {
                let target =
                    fs::read_link(&on_disk).with_context(|| format!("`{}`", change.path))?;
                self.disk
                    .create_symlink(&target, &kept)
                    .with_context(|| format!("`{}`", change.path))?;
                continue;
            }
            let content =
                fs::read(&on_disk).with_context(|| format!("`{}` cannot be saved", change.path))?;
            self.save_copy(&found, &change.path, &content)?;
        }
        if is_made {
            // Which name stands for which path.
            let list = found.join("index");
            self.disk
                .write_atomically(&list, index.as_bytes())
                .with_context(|| format!("`{}` cannot be written", list.display()))?;
        }
        Ok(is_made.then_some(found))
    }

    /// Brings one path to what it was; says no where somebody has changed it since.
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
            return Err(io::Error::other("its copy is damaged"));
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        if let Err(cause) = self.recreate_file(ours, before, content) {
            // What stands at the name already is not ours to remove.
            if cause.kind() != io::ErrorKind::AlreadyExists {
                drop(self.disk.remove_file(ours));
            }
            return Err(cause);
        }
        let moved = match change.after {
            // Nothing is there, unless somebody was quicker.
            None => self.disk.rename_noreplace(ours, &target),
            Some(_) => self.disk.exchange(ours, &target),
        };
        if let Err(cause) = moved {
            // The first failure is the one to report; this copy is not needed any more.
            drop(self.disk.remove_file(ours));
            let is_taken = cause.kind() == io::ErrorKind::AlreadyExists && change.after.is_none();
            return if is_taken { Ok(false) } else { Err(cause) };
        }
        if change.after.is_none() { Ok(true) } else { self.verify_replaced(ours, &target, change) }
    }

    /// Makes a file or a symlink as it was, at a name of ours.
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

    /// What came out of its place is what the fix had left, or goes back there.
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

    /// Every fix that is remembered, the oldest first.
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

    /// The runs with fixes that a newer xtask has written down, the oldest first.
    fn list_newer_runs(&self) -> BTreeSet<String> {
        let records = self.read_records().into_iter();
        records
            .filter(|(_, found)| matches!(found, LoadedRecord::Newer))
            .map(|(run, _)| run)
            .collect()
    }

    /// What is written down, each with the name of its run.
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

    /// The fixes of a run, or of the last run that had any, the last one first.
    pub fn list_run_fixes(&self, run: &str) -> Result<Vec<FixRecord>> {
        let all = self.list_fixes();
        // What was tried and could not be put back whole is asked for by its name.
        let is_open = |record: &&FixRecord| {
            !matches!(record.phase, FixPhase::Undone | FixPhase::Partly)
                && record.has_changes_to_undo()
        };
        let name = match run {
            "last" => all.iter().rev().find(is_open).map(|record| record.run.clone()),
            name => Some(name.to_owned()),
        };
        // The names of runs begin with their time, so one that cannot be read may be the last.
        let is_meant = |newer: &&String| match (run, &name) {
            ("last", Some(name)) => *newer > name,
            ("last", None) => true,
            _ => *newer == run,
        };
        if let Some(newer) = self.list_newer_runs().iter().rev().find(is_meant) {
            let what = format!("what run `{newer}` has fixed");
            return Err(record::newer_record_error(&what, &self.folder.join(newer)));
        }
        let Some(name) = name else {
            return Err(Error::negative("there is no fix to take back"));
        };
        if !all.iter().any(|record| record.run == name) {
            let error = Error::usage(format!("there is no run `{name}` with a fix"));
            return Err(error.with_hint("`cargo xtask undo --list` lists them"));
        }
        let mut of_run: Vec<FixRecord> =
            all.into_iter().filter(|r| r.run == name && r.phase != FixPhase::Undone).collect();
        of_run.reverse();
        Ok(of_run)
    }

    /// Looks at everything that a fix may write; with `copies` it is saved there on the way.
    fn take_snapshot(&self, writes: &[RepoPath], copies: Option<&Path>) -> Result<FixSnapshot> {
        let mut found = FixSnapshot::default();
        let mut bytes = 0;
        for path in writes {
            if path.to_disk_path(self.root).symlink_metadata().is_ok_and(|meta| meta.is_symlink()) {
                let what = format!("`{path}`, which a fix may write, is a symlink");
                return Err(Error::unable(what).with_hint("`writes` can name what it leads to"));
            }
        }
        let mut open: Vec<RepoPath> = writes.to_vec();
        while let Some(path) = open.pop() {
            // It may be named twice, or lie in a folder that is named as well.
            if found.files.contains_key(&path) || found.folders.contains(path.as_bytes()) {
                continue;
            }
            let failed = || format!("`{path}`, which a fix may write, cannot be read");
            if has_symlink_above(self.root, &path) {
                return Err(Error::unable(failed()).with_detail("it lies behind a symlink"));
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
                        "what a fix may write is more than can be saved ({}, {})",
                        pluralize(MAX_FILES, "file"),
                        format_size(MAX_BYTES)
                    ))
                    .with_hint("`writes` can name less, or the command can be run by hand"));
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
            .with_context(|| format!("`{path}` cannot be saved as `{}`", copy.display()))
    }

    /// Removes the oldest runs, so that a new one finds room. What may still be put back by itself stays.
    fn remove_oldest_runs(&self, run: &str) -> Result<()> {
        // Of those of a newer xtask nobody here can tell.
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
                return Err(Error::unable("the fixes of this run have saved as much as they may")
                    .with_detail(format_size(MAX_KEPT_BYTES)));
            }
            if name == run || open.contains(&name) {
                continue;
            }
            self.disk
                .remove_folder(old)
                .with_context(|| format!("`{}` cannot be removed", old.display()))?;
        }
        Ok(())
    }
}

/// How much lies below a folder.
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

/// What is at a path, with its content; nothing where there is nothing, or a folder.
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
