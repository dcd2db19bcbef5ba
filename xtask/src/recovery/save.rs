//! Saving what git would not bring back: what is staged, changed, in conflict, hidden from git or not tracked,
//! and what git is in the middle of, as one commit; and copies of what may be secret beside it.
//!
//! Nothing in the worktree, the index or the branches is touched. What cannot be saved, because it is too
//! large or cannot be read, is named, and never counts as saved.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use super::copies::{self, Copy, Made};
use crate::base::error::{Context as _, Result};
use crate::base::path::RepoPath;
use crate::base::progress::Progress;
use crate::base::words::size;
use crate::repo::{
    Changes, Entry, Head, Id, InIndex, Mode, PathPatterns, Reached, Repo, Traces, TreeChange, Ways,
    Work, read_raw,
};
use crate::sync::backup::{
    self, MovedBranch, Record, SavedFile, SavedOperation, SavedStaged, Snapshot, below,
};
use crate::sync::overlay::{self, KeptEntry};
use crate::sync::run::Tools;

/// How much a backup holds at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of one file, in bytes.
    pub file: u64,
    /// Of all, in bytes.
    pub total: u64,
    /// How many files.
    pub files: usize,
}

/// What a backup holds at most: files that a person writes are far smaller, and each backup is kept for a
/// month.
pub const BOUNDS: Bounds = Bounds { file: 100 << 20, total: 1 << 30, files: 20_000 };

/// What stands in a worktree and not in its commit, looked at and not yet saved.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What is checked out.
    pub head: Head,
    /// What git says has changed.
    pub changes: Changes,
    /// What is copied and does not become an object.
    pub secrets: Vec<RepoPath>,
    /// The name of what git is in the middle of.
    pub operation: Option<&'static str>,
}

/// Why it is saved.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// In a few words, for the list: `backup`, `recover`.
    pub purpose: &'a str,
    /// What the person calls it.
    pub label: Option<&'a str>,
    /// Whether the worktree is left for another state afterwards, with the branch that will be moved.
    pub leaves: Option<Option<MovedBranch>>,
    /// How much at most.
    pub bounds: Bounds,
}

/// What was saved.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The name of the backup.
    pub id: String,
    /// Its files.
    pub files: Vec<SavedFile>,
    /// The copies.
    pub copies: Vec<Copy>,
    /// How much it is, in bytes.
    pub bytes: u64,
    /// What should have been saved and was not, with why.
    pub left_out: Vec<String>,
    /// The same without words, as far as git tracks it.
    pub unsaved: BTreeSet<RepoPath>,
    /// What a backup never holds, and is there.
    pub beyond: Vec<String>,
}

/// Looks at what there is to save. Nothing is written.
pub fn look(repo: &Repo, patterns: &[String]) -> Result<Seen> {
    let head = repo.head()?;
    let mut changes = repo.changes()?;
    let secret = PathPatterns::new(patterns.iter().map(String::as_str));
    let is_secret =
        |path: &RepoPath| secret.decide_with_folders(path.as_bytes(), false) == Some(true);
    let mut secrets = repo.ignored_among(patterns)?;
    secrets.extend(changes.untracked.iter().filter(|path| is_secret(path)).cloned());
    changes.untracked.retain(|path| !is_secret(path));
    secrets.sort();
    secrets.dedup();
    let operation = repo.operation().map(|operation| operation.name);
    Ok(Seen { head, changes, secrets, operation })
}

impl Seen {
    /// Whether there is nothing at all that git would not bring back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.secrets.is_empty() && self.operation.is_none()
    }

    /// What a backup never holds: other repositories have their own.
    #[must_use]
    pub fn beyond(&self) -> Vec<String> {
        let nested = self.changes.nested.iter().map(|path| format!("`{path}`, another repository"));
        let modules = self.changes.submodules.iter();
        nested.chain(modules.map(|path| format!("`{path}`, a submodule with changes"))).collect()
    }
}

/// Saves it. The caller holds the lock of the worktree.
pub fn save(repo: &Repo, tools: &Tools<'_>, seen: &Seen, wish: &Wish<'_>) -> Result<Saved> {
    let now = tools.world.now_seconds();
    let failed = || "the backup cannot be written";
    let made = copies::make(repo, tools.disk, &seen.secrets, now)?;
    tools.disk.other("write the objects of the backup").unable(failed)?;
    let mut writer = Writer {
        repo,
        bounds: wish.bounds,
        progress: tools.progress,
        tree: Vec::new(),
        files: Vec::new(),
        bytes: 0,
        left_out: made.left_out.clone(),
        unsaved: BTreeSet::new(),
        ways: Ways::default(),
    };
    writer.all(&seen.changes)?;
    let (operation, mut parents) = writer.operation(seen)?;
    parents.insert(0, seen.head.commit);
    let Writer { tree, files, bytes, left_out, unsaved, .. } = writer;
    let Made { name, copies, bytes: copied_bytes, .. } = made;
    let bytes = bytes + copied_bytes;
    let overlay = overlay::read(repo).unwrap_or_default();
    let record = Record {
        purpose: wish.purpose.to_owned(),
        worktree: repo.root().display().to_string(),
        worktree_name: repo.worktree_name(),
        branch: seen.head.branch.clone(),
        head_before: seen.head.commit.to_string(),
        head_after: None,
        paths: Vec::new(),
        overlay_before: overlay.to_kept(),
        snapshot: Some(Snapshot {
            label: wish.label.map(ToOwned::to_owned),
            bytes,
            files: files.clone(),
            copies: name,
            copied: copies.len(),
            operation,
            was_left: wish.leaves.is_some(),
            moved: wish.leaves.clone().flatten(),
        }),
    };
    let prepared = backup::write(repo, tree, &record, &parents, now)?;
    tools.disk.other("name the backup").unable(|| "the backup cannot be named")?;
    let id = backup::publish(repo, &prepared)?;
    drop(tidy(repo, tools, now));
    Ok(Saved { id, files, copies, bytes, left_out, unsaved, beyond: seen.beyond() })
}

/// Removes what is old enough, and copies that no backup names any more.
fn tidy(repo: &Repo, tools: &Tools<'_>, now: i64) -> Result<()> {
    backup::prune(repo, now)?;
    let named = || -> Result<Vec<String>> {
        let mut names = Vec::new();
        for found in backup::list(repo)? {
            // One that cannot be read may name any of them.
            let record = found.record.map_err(|_| crate::base::error::Error::unable("unread"))?;
            names.extend(record.snapshot.and_then(|snapshot| snapshot.copies));
        }
        Ok(names)
    };
    copies::prune(repo, tools.disk, &named, now)
}

struct Writer<'a> {
    repo: &'a Repo,
    bounds: Bounds,
    progress: &'a dyn Progress,
    tree: Vec<TreeChange>,
    files: Vec<SavedFile>,
    bytes: u64,
    left_out: Vec<String>,
    unsaved: BTreeSet<RepoPath>,
    ways: Ways,
}

impl Writer<'_> {
    fn all(&mut self, changes: &Changes) -> Result<()> {
        let overlooked = changes.overlooked.iter().map(|path| (path, &InIndex::AsHead));
        // What a person has worked on comes before what merely lies there.
        let tracked: BTreeMap<&RepoPath, &InIndex> =
            changes.tracked.iter().chain(overlooked).collect();
        let number = tracked.len() + changes.untracked.len();
        self.progress.begin("saving files", Some(number as u64));
        for (path, index) in tracked {
            if !self.file(path, index)? {
                self.unsaved.insert(path.clone());
            }
            self.progress.step(1);
        }
        for path in &changes.untracked {
            self.file(path, &InIndex::AsHead)?;
            self.progress.step(1);
        }
        self.progress.end();
        Ok(())
    }

    /// Saves one file, with what is staged for it; says whether it could.
    fn file(&mut self, path: &RepoPath, index: &InIndex) -> Result<bool> {
        let (file, bits) = match self.content(path) {
            Ok(Some((entry, bits))) => (Some(entry), bits),
            Ok(None) => (None, None),
            Err(why) => {
                self.left_out.push(format!("{path}: {why}"));
                return Ok(false);
            }
        };
        if let Some(entry) = file {
            self.tree.push((below("worktree", path), Some(entry)));
        }
        let staged = match index {
            InIndex::AsHead | InIndex::Intended => SavedStaged::AsHead,
            InIndex::Removed => SavedStaged::Removed,
            InIndex::Entry(entry) => {
                self.keep_entry("index", path, *entry);
                SavedStaged::Entry(KeptEntry::new(*entry))
            }
            InIndex::Conflict(stages) => {
                for (at, entry) in stages.iter().enumerate() {
                    if let Some(entry) = entry {
                        self.keep_entry(&format!("conflict/{}", at + 1), path, *entry);
                    }
                }
                SavedStaged::Conflict(stages.map(|entry| entry.map(KeptEntry::new)))
            }
        };
        let file = file.map(KeptEntry::new);
        self.files.push(SavedFile { path: path.clone(), file, bits, staged });
        Ok(true)
    }

    /// Keeps what is staged from being swept away. It is in the object database already.
    fn keep_entry(&mut self, folder: &str, path: &RepoPath, entry: Entry) {
        if entry.mode != Mode::Gitlink {
            self.tree.push((below(folder, path), Some(entry)));
        }
    }

    /// Writes the very bytes of a file; nothing where there is none. An error says in words why it is left out.
    fn content(&mut self, path: &RepoPath) -> Result<Option<(Entry, Option<u32>)>, String> {
        let meta = match self.ways.reach(self.repo, path).map_err(|cause| cause.to_string())? {
            Reached::There(meta) => meta,
            Reached::Not(Work::Special) => return Err("it is neither a file nor a symlink".into()),
            Reached::Not(_) => return Ok(None),
        };
        if meta.is_dir() {
            return Ok(None);
        }
        if !meta.is_file() && !meta.is_symlink() {
            return Err("it is neither a file nor a symlink".into());
        }
        if meta.len() > self.bounds.file {
            let (has, most) = (size(meta.len()), size(self.bounds.file));
            return Err(format!("it has {has}, more than {most}"));
        }
        if self.files.len() >= self.bounds.files {
            return Err(format!("a backup holds at most {} files", self.bounds.files));
        }
        if self.bytes + meta.len() > self.bounds.total {
            return Err(format!("a backup holds at most {}", size(self.bounds.total)));
        }
        let words = |failure: crate::base::error::Error| {
            failure.causes().pop().unwrap_or_else(|| failure.to_string())
        };
        let content = read_raw(&path.on_disk(self.repo.root())).map_err(words)?;
        let Some(content) = content else { return Ok(None) };
        let id = self.repo.write_blob(&content).map_err(words)?;
        self.bytes += content.len() as u64;
        let bits = meta.is_file().then(|| meta.mode() & 0o7777);
        let mode = match bits {
            None => Mode::Symlink,
            Some(bits) if bits & 0o100 != 0 => Mode::Executable,
            Some(_) => Mode::File,
        };
        Ok(Some((Entry { mode, id }, bits)))
    }

    /// Saves what git is in the middle of, with the commits that nothing else may keep.
    fn operation(&mut self, seen: &Seen) -> Result<(Option<SavedOperation>, Vec<Id>)> {
        let Some(name) = seen.operation else { return Ok((None, Vec::new())) };
        let traces = self.repo.traces()?;
        for (path, content) in &traces.files {
            let id = self.repo.write_blob(content)?;
            self.tree.push((below("operation", path), Some(Entry { mode: Mode::File, id })));
        }
        let parents = self.commits_of(&traces, seen.head.commit);
        let refs = traces.refs.iter().map(|(name, id)| (name.clone(), id.to_string())).collect();
        Ok((Some(SavedOperation { name: name.to_owned(), refs }), parents))
    }

    /// The commits that an operation names: in its refs, and in lines that are an id and nothing else.
    fn commits_of(&self, traces: &Traces, head: Id) -> Vec<Id> {
        let lines = traces.files.values().filter(|content| content.len() < 1 << 16);
        let lines = lines.flat_map(|content| content.split(|byte| *byte == b'\n'));
        let named = lines.filter_map(|line| Id::from_hex(line.trim_ascii()).ok());
        let named: BTreeSet<Id> = named.chain(traces.refs.values().copied()).collect();
        let is_commit = |id: &Id| *id != head && self.repo.commit(*id).is_ok();
        named.into_iter().filter(is_commit).take(100).collect()
    }
}
