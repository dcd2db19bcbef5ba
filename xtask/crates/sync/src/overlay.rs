//! Overlay: files that sync wrote without committing them (`--no-commit`).
//!
//! The record `overlay` in the worktree's state folder lists them with their stat data. A file that
//! still matches belongs to sync, which may remove or replace it; a changed file belongs to the
//! user. One entry, for example:
//!
//! ```text
//! {"path":"setup/a","wrote":{"mode":"100644","id":"3b18…"},"under":"Head","look":{…}}
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{FileMode, FileStat, Id, Repo, TreeEntry, WorktreeFile};

/// Kind and version of the record.
pub const KIND: &str = "xtask.overlay/1";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    pub paths: BTreeMap<RepoPath, OverlayFile>,
}

/// One file of the overlay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayFile {
    /// Written content; `None` if the file was removed.
    pub written: Option<TreeEntry>,
    pub base: OverlayBase,
    /// Stat data of the written file, by which it is recognized.
    pub stat: Option<FileStat>,
    /// Whether `--force` wrote it in spite of a pin.
    pub is_over_pin: bool,
}

impl OverlayFile {
    /// Returns whether `file` still is the written one. A removed file counts as unchanged if it is
    /// still absent.
    #[must_use]
    pub fn is_unchanged(&self, file: Option<&WorktreeFile>) -> bool {
        match (self.written, file) {
            (None, None) => true,
            (Some(_), Some(file)) => self.stat.is_some_and(|look| look.is_same_file(&file.stat)),
            _ => false,
        }
    }

    /// Returns whether `file` has the content that sync wrote, also if it was touched or copied since: nobody's work is
    /// lost with it.
    #[must_use]
    pub fn has_written_content(&self, file: Option<&WorktreeFile>) -> bool {
        let is_equal = self.written.is_some() && file.map(|file| file.entry) == self.written;
        is_equal || self.is_unchanged(file)
    }

    /// Like `is_unchanged`, but reads the stat data from disk.
    #[must_use]
    pub fn is_unchanged_on_disk(&self, repo: &Repo, path: &RepoPath) -> bool {
        let is_gone = || path.to_disk_path(repo.root()).symlink_metadata().is_err();
        self.has_unchanged_file(repo, path) || self.written.is_none() && is_gone()
    }

    /// Returns whether the written file is still there unchanged, so that sync may use its path.
    #[must_use]
    pub fn has_unchanged_file(&self, repo: &Repo, path: &RepoPath) -> bool {
        let meta = path.to_disk_path(repo.root()).symlink_metadata();
        let is_it = |look: FileStat| {
            meta.is_ok_and(|meta| look.is_same_file(&FileStat::from_metadata(&meta)))
        };
        self.written.is_some() && self.stat.is_some_and(is_it)
    }
}

/// State underneath an overlay file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayBase {
    /// The staged and committed content.
    Head,
    /// The user's work that `--force` replaced: exact bytes, or `None` for a deleted file.
    ReplacedWork(Option<TreeEntry>),
}

/// A tree entry in a state file, e.g. `{"mode":"100644","id":"3b18…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEntry {
    mode: String,
    id: String,
}

impl StoredEntry {
    #[must_use]
    pub fn new(entry: TreeEntry) -> Self {
        StoredEntry { mode: entry.mode.octal().to_owned(), id: entry.id.to_string() }
    }

    /// Parses the entry. Returns `None` if mode or id is invalid.
    #[must_use]
    pub fn to_entry(&self) -> Option<TreeEntry> {
        let mode = FileMode::from_octal(&self.mode)?;
        Some(TreeEntry { mode, id: Id::from_hex(self.id.as_bytes()).ok()? })
    }
}

/// One entry of the overlay record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredOverlayFile {
    #[serde(with = "xtask_base::path::exact")]
    path: RepoPath,
    wrote: Option<StoredEntry>,
    under: StoredOverlayBase,
    look: Option<FileStat>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    over_pin: bool,
}

impl StoredOverlayFile {
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        &self.path
    }

    pub fn set_stat(&mut self, look: FileStat) {
        self.look = Some(look);
    }
}

/// `OverlayBase` in the overlay record.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum StoredOverlayBase {
    Head,
    Work(Option<StoredEntry>),
}

impl Overlay {
    /// Converts to the stored form.
    #[must_use]
    pub fn to_stored(&self) -> Vec<StoredOverlayFile> {
        let kept = self.paths.iter().map(|(path, laid)| StoredOverlayFile {
            path: path.clone(),
            wrote: laid.written.map(StoredEntry::new),
            under: match laid.base {
                OverlayBase::Head => StoredOverlayBase::Head,
                OverlayBase::ReplacedWork(entry) => {
                    StoredOverlayBase::Work(entry.map(StoredEntry::new))
                }
            },
            look: laid.stat,
            over_pin: laid.is_over_pin,
        });
        kept.collect()
    }

    /// Converts the entries at `paths` to the stored form.
    #[must_use]
    pub fn to_stored_at<'a>(
        &self,
        paths: impl Iterator<Item = &'a RepoPath>,
    ) -> Vec<StoredOverlayFile> {
        let held = paths.filter_map(|path| Some((path.clone(), *self.paths.get(path)?)));
        Overlay { paths: held.collect() }.to_stored()
    }

    /// Parses the stored form. Returns `None` if any entry is invalid.
    #[must_use]
    pub fn from_stored(kept: Vec<StoredOverlayFile>) -> Option<Overlay> {
        let mut paths = BTreeMap::new();
        // One invalid id makes the whole record invalid.
        let sound = |entry: Option<StoredEntry>| match entry {
            None => Some(None),
            Some(entry) => entry.to_entry().map(Some),
        };
        for StoredOverlayFile { path, wrote, under, look, over_pin } in kept {
            let under = match under {
                StoredOverlayBase::Head => OverlayBase::Head,
                StoredOverlayBase::Work(entry) => OverlayBase::ReplacedWork(sound(entry)?),
            };
            let file = OverlayFile {
                written: sound(wrote)?,
                base: under,
                stat: look,
                is_over_pin: over_pin,
            };
            paths.insert(path, file);
        }
        Some(Overlay { paths })
    }
}

/// Returns the path of the overlay record.
#[must_use]
pub fn overlay_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("overlay")
}

/// Reads the overlay of this worktree. A damaged record is an error: it alone distinguishes files
/// of sync from files of the user.
pub fn read_overlay(repo: &Repo) -> Result<Overlay> {
    let file = overlay_path(repo);
    let broken = |why: &str| {
        Error::unable(format!("the record of the overlay is damaged: {why}")).with_hint(format!(
            "remove `{}`; the files that sync wrote then count as your own changes",
            file.display()
        ))
    };
    match record::read_record::<Vec<StoredOverlayFile>>(&file, KIND) {
        LoadedRecord::Missing => Ok(Overlay::default()),
        LoadedRecord::Valid(kept) => {
            Overlay::from_stored(kept).ok_or_else(|| broken("invalid entry"))
        }
        LoadedRecord::Newer => Err(newer_overlay_error(&file)),
        LoadedRecord::Corrupt(why) => Err(broken(&why)),
    }
}

/// Returns an error if the record is of a newer xtask and must not be replaced. A damaged one may
/// be.
pub fn check_overlay_version(repo: &Repo) -> Result<()> {
    let file = overlay_path(repo);
    match record::read_record::<Vec<StoredOverlayFile>>(&file, KIND) {
        LoadedRecord::Newer => Err(newer_overlay_error(&file)),
        _ => Ok(()),
    }
}

fn newer_overlay_error(file: &Path) -> Error {
    record::newer_record_error("the record of the overlay", file)
}
