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

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::fix_snapshot::{FileVersion, SavedKind, create_private_folder, read_file_version};
use xtask_base::digest::Digest;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::{RepoPath, exact};
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::format_size;

const RECORD_SCHEMA: &str = "xtask.fix/1";

/// A file that exists while a fix runs, to detect interrupted fixes.
const OPEN_MARKER: &str = "open";

/// The number of runs kept, and their total size: 512 MB.
const MAX_RUNS: usize = 50;
const MAX_KEPT_BYTES: u64 = 512_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FixChange {
    #[serde(with = "exact")]
    pub(super) path: RepoPath,
    pub(super) before: Option<FileVersion>,
    /// `None` also while the fix runs.
    pub(super) after: Option<FileVersion>,
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
    pub(super) writes: Vec<String>,
    pub(super) changes: Vec<FixChange>,
    /// The folders that existed before.
    pub(super) folders_before: Vec<String>,
    /// The folders that the fix created.
    pub(super) folders_made: Vec<String>,
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

    fn write_paths(&self) -> Vec<RepoPath> {
        self.writes.iter().map(|path| RepoPath::new(path.as_bytes())).collect()
    }

    /// Returns the changed paths, with the digests of their new contents; `None` for what is no file now.
    #[must_use]
    pub fn written_contents(&self) -> Vec<(RepoPath, Option<Digest>)> {
        let changed = self.changes.iter().filter(|change| change.before != change.after);
        let digest = |change: &FixChange| {
            let after = change.after.as_ref().filter(|after| after.thing == SavedKind::File);
            (change.path.clone(), after.map(|after| after.digest))
        };
        changed.map(digest).collect()
    }

    #[must_use]
    pub fn changed_paths(&self) -> Vec<RepoPath> {
        let changed = self.changes.iter().filter(|change| change.before != change.after);
        changed.map(|change| change.path.clone()).collect()
    }
}

/// The fix backups of a worktree.
pub struct FixStore<'a> {
    pub folder: PathBuf,
    pub root: &'a Path,
    pub disk: &'a Disk<'a>,
}

impl FixStore<'_> {
    fn record_file(&self, run: &str, number: usize) -> PathBuf {
        self.folder.join(run).join(number.to_string()).join("record")
    }

    pub(super) fn copies_folder(&self, run: &str, number: usize) -> PathBuf {
        self.folder.join(run).join(number.to_string()).join("before")
    }

    pub(super) fn write_record(&self, record: &FixRecord) -> Result<()> {
        let file = self.record_file(&record.run, record.number);
        record::write_record(self.disk, &file, RECORD_SCHEMA, record)
            .with_context(|| format!("cannot write the fix record `{}`", file.display()))
    }

    /// Copies all files in `writes` and writes the record of a fix that is about to start.
    pub fn begin_fix(&self, mut record: FixRecord) -> Result<FixRecord> {
        self.remove_oldest_runs(&record.run)?;
        let copies = self.copies_folder(&record.run, record.number);
        create_private_folder(self.disk, &copies)
            .with_context(|| format!("cannot create the folder `{}`", copies.display()))?;
        let before = self.take_snapshot(&record.write_paths(), Some(&copies))?;
        let change = |(path, kept)| FixChange { path, before: Some(kept), after: None };
        record.changes = before.files.into_iter().map(change).collect();
        record.folders_before = to_names(before.folders);
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
        let seen = self.take_snapshot(&record.write_paths(), None);
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

fn list_folders(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = of.read_dir() else { return Vec::new() };
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}
