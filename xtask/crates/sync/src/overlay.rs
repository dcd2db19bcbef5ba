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
use xtask_base::record::{self, Found};
use xtask_git::{Entry, FileStat, Id, Mode, OnDisk, Repo};

/// The kind and version of the record.
pub const KIND: &str = "xtask.overlay/1";

/// What was written, by path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// The paths.
    pub paths: BTreeMap<RepoPath, Laid>,
}

/// What was laid over a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Laid {
    /// What was written: a content, or that the file was removed.
    pub wrote: Option<Entry>,
    /// What lies under it.
    pub under: Under,
    /// How the file looked when it was written, by which it is known again.
    pub look: Option<FileStat>,
}

impl Laid {
    /// Whether a file still is what was written. One that was removed has nothing to be known by.
    #[must_use]
    pub fn is_still_there(&self, file: Option<&OnDisk>) -> bool {
        match (self.wrote, file) {
            (None, None) => true,
            (Some(_), Some(file)) => self.look.is_some_and(|look| look.is_same_file(&file.look)),
            _ => false,
        }
    }

    /// Whether what was done here still stands: the file that was written is there, or none is.
    #[must_use]
    pub fn is_on_disk(&self, repo: &Repo, path: &RepoPath) -> bool {
        let is_gone = || path.on_disk(repo.root()).symlink_metadata().is_err();
        self.is_file_on_disk(repo, path) || self.wrote.is_none() && is_gone()
    }

    /// Whether a file was written here that still is there, so that its place is free for sync.
    #[must_use]
    pub fn is_file_on_disk(&self, repo: &Repo, path: &RepoPath) -> bool {
        let meta = path.on_disk(repo.root()).symlink_metadata();
        let is_it = |look: FileStat| meta.is_ok_and(|meta| look.is_same_file(&FileStat::of(&meta)));
        self.wrote.is_some() && self.look.is_some_and(is_it)
    }
}

/// What an overlay lies on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Under {
    /// What was staged and committed.
    Head,
    /// Work of the user's that was forced away: these very bytes, or that the file was gone.
    Work(Option<Entry>),
}

/// An entry as it is kept in files of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptEntry {
    mode: String,
    id: String,
}

impl KeptEntry {
    /// To be kept.
    #[must_use]
    pub fn new(entry: Entry) -> Self {
        KeptEntry { mode: entry.mode.octal().to_owned(), id: entry.id.to_string() }
    }

    /// Back again, if it is sound.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        let mode = Mode::from_octal(&self.mode)?;
        Some(Entry { mode, id: Id::from_hex(self.id.as_bytes()).ok()? })
    }
}

/// One line of the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptPath {
    #[serde(with = "xtask_base::path::exact")]
    path: RepoPath,
    wrote: Option<KeptEntry>,
    under: KeptUnder,
    look: Option<FileStat>,
}

impl KeptPath {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        &self.path
    }

    /// Notes how the file looks.
    pub fn set_look(&mut self, look: FileStat) {
        self.look = Some(look);
    }
}

/// What an overlay lies on, as it is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum KeptUnder {
    Head,
    Work(Option<KeptEntry>),
}

impl Overlay {
    /// As it is kept.
    #[must_use]
    pub fn to_kept(&self) -> Vec<KeptPath> {
        let kept = self.paths.iter().map(|(path, laid)| KeptPath {
            path: path.clone(),
            wrote: laid.wrote.map(KeptEntry::new),
            under: match laid.under {
                Under::Head => KeptUnder::Head,
                Under::Work(entry) => KeptUnder::Work(entry.map(KeptEntry::new)),
            },
            look: laid.look,
        });
        kept.collect()
    }

    /// What it holds at some paths, as it is kept.
    #[must_use]
    pub fn of<'a>(&self, paths: impl Iterator<Item = &'a RepoPath>) -> Vec<KeptPath> {
        let held = paths.filter_map(|path| Some((path.clone(), *self.paths.get(path)?)));
        Overlay { paths: held.collect() }.to_kept()
    }

    /// Back again, if all of it is sound.
    #[must_use]
    pub fn from_kept(kept: Vec<KeptPath>) -> Option<Overlay> {
        let mut paths = BTreeMap::new();
        // An id that is not one makes the whole record unsound.
        let sound = |entry: Option<KeptEntry>| match entry {
            None => Some(None),
            Some(entry) => entry.entry().map(Some),
        };
        for KeptPath { path, wrote, under, look } in kept {
            let under = match under {
                KeptUnder::Head => Under::Head,
                KeptUnder::Work(entry) => Under::Work(sound(entry)?),
            };
            paths.insert(path, Laid { wrote: sound(wrote)?, under, look });
        }
        Some(Overlay { paths })
    }
}

/// Where the record lies.
#[must_use]
pub fn file(repo: &Repo) -> PathBuf {
    repo.state_folder().join("overlay")
}

/// Reads the overlay of this worktree. A record that cannot be believed is an error: without it
/// there is no telling what is whose.
pub fn read(repo: &Repo) -> Result<Overlay> {
    let file = file(repo);
    let broken = |why: &str| {
        Error::unable(format!("the record of the overlay is damaged: {why}")).hint(format!(
            "remove `{}`; the files that sync wrote then count as your own changes",
            file.display()
        ))
    };
    match record::read::<Vec<KeptPath>>(&file, KIND) {
        Found::Nothing => Ok(Overlay::default()),
        Found::Whole(kept) => Overlay::from_kept(kept).ok_or_else(|| broken("an id is not one")),
        Found::Newer => Err(newer(&file)),
        Found::Broken(why) => Err(broken(&why)),
    }
}

/// Makes sure that no record of a newer xtask is replaced. One that is damaged may be.
pub fn check_known(repo: &Repo) -> Result<()> {
    let file = file(repo);
    match record::read::<Vec<KeptPath>>(&file, KIND) {
        Found::Newer => Err(newer(&file)),
        _ => Ok(()),
    }
}

fn newer(file: &Path) -> Error {
    record::newer("the record of the overlay", file)
}
