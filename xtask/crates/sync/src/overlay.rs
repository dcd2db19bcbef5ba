//! The overlay: files that sync wrote without committing them (`--no-commit`).
//!
//! A record in the state folder of the worktree says what was written where. As long as a file
//! still holds that, it is ours to take away or to replace; as soon as somebody has changed it, it
//! is theirs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{FileMode, FileStat, Id, Repo, TreeEntry, WorktreeFile};

/// The kind and version of the record.
pub const KIND: &str = "xtask.overlay/1";

/// What was written, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The paths.
    pub paths: BTreeMap<RepoPath, OverlayFile>,
}

/// What was laid over a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverlayFile {
    /// What was written: a content, or that the file was removed.
    pub written: Option<TreeEntry>,
    /// What lies under it.
    pub base: OverlayBase,
    /// How the file looked when it was written, by which it is known again.
    pub stat: Option<FileStat>,
}

impl OverlayFile {
    /// Whether a file still is what was written. One that was removed has nothing to be known by.
    #[must_use]
    pub fn is_unchanged(&self, file: Option<&WorktreeFile>) -> bool {
        match (self.written, file) {
            (None, None) => true,
            (Some(_), Some(file)) => self.stat.is_some_and(|look| look.is_same_file(&file.stat)),
            _ => false,
        }
    }

    /// Whether what was done here still stands: the file that was written is there, or none is.
    #[must_use]
    pub fn is_unchanged_on_disk(&self, repo: &Repo, path: &RepoPath) -> bool {
        let is_gone = || path.to_disk_path(repo.root()).symlink_metadata().is_err();
        self.has_unchanged_file(repo, path) || self.written.is_none() && is_gone()
    }

    /// Whether a file was written here that still is there, so that its place is free for sync.
    #[must_use]
    pub fn has_unchanged_file(&self, repo: &Repo, path: &RepoPath) -> bool {
        let meta = path.to_disk_path(repo.root()).symlink_metadata();
        let is_it = |look: FileStat| {
            meta.is_ok_and(|meta| look.is_same_file(&FileStat::from_metadata(&meta)))
        };
        self.written.is_some() && self.stat.is_some_and(is_it)
    }
}

/// What an overlay lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlayBase {
    /// What was staged and committed.
    Head,
    /// Work of the user's that was forced away: these very bytes, or that the file was gone.
    ReplacedWork(Option<TreeEntry>),
}

/// An entry as it is kept in files of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredEntry {
    mode: String,
    id: String,
}

impl StoredEntry {
    /// To be kept.
    #[must_use]
    pub fn new(entry: TreeEntry) -> Self {
        StoredEntry { mode: entry.mode.octal().to_owned(), id: entry.id.to_string() }
    }

    /// Back again, if it is sound.
    #[must_use]
    pub fn to_entry(&self) -> Option<TreeEntry> {
        let mode = FileMode::from_octal(&self.mode)?;
        Some(TreeEntry { mode, id: Id::from_hex(self.id.as_bytes()).ok()? })
    }
}

/// One line of the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredOverlayFile {
    #[serde(with = "xtask_base::path::exact")]
    path: RepoPath,
    wrote: Option<StoredEntry>,
    under: StoredOverlayBase,
    look: Option<FileStat>,
}

impl StoredOverlayFile {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        &self.path
    }

    /// Notes how the file looks.
    pub fn set_stat(&mut self, look: FileStat) {
        self.look = Some(look);
    }
}

/// What an overlay lies on, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum StoredOverlayBase {
    Head,
    Work(Option<StoredEntry>),
}

impl Overlay {
    /// As it is kept.
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
        });
        kept.collect()
    }

    /// What it holds at some paths, as it is kept.
    #[must_use]
    pub fn to_stored_at<'a>(
        &self,
        paths: impl Iterator<Item = &'a RepoPath>,
    ) -> Vec<StoredOverlayFile> {
        let held = paths.filter_map(|path| Some((path.clone(), *self.paths.get(path)?)));
        Overlay { paths: held.collect() }.to_stored()
    }

    /// Back again, if all of it is sound.
    #[must_use]
    pub fn from_stored(kept: Vec<StoredOverlayFile>) -> Option<Overlay> {
        let mut paths = BTreeMap::new();
        // An id that is not one makes the whole record unsound.
        let sound = |entry: Option<StoredEntry>| match entry {
            None => Some(None),
            Some(entry) => entry.to_entry().map(Some),
        };
        for StoredOverlayFile { path, wrote, under, look } in kept {
            let under = match under {
                StoredOverlayBase::Head => OverlayBase::Head,
                StoredOverlayBase::Work(entry) => OverlayBase::ReplacedWork(sound(entry)?),
            };
            paths.insert(path, OverlayFile { written: sound(wrote)?, base: under, stat: look });
        }
        Some(Overlay { paths })
    }
}

/// Where the record lies.
#[must_use]
pub fn overlay_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("overlay")
}

/// Reads the overlay of this worktree. A record that cannot be believed is an error: without it
/// there is no telling what is whose.
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
            Overlay::from_stored(kept).ok_or_else(|| broken("an id is not one"))
        }
        LoadedRecord::Newer => Err(newer_overlay_error(&file)),
        LoadedRecord::Corrupt(why) => Err(broken(&why)),
    }
}

/// Makes sure that no record of a newer xtask is replaced. One that is damaged may be.
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
