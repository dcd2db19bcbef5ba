//! Creation of backups: staged, changed, conflicting, hidden and untracked files, and the git operation in progress, as
//! one commit. Files that may be secret are copied next to it; see [`super::secret_files`].
//!
//! Guarantee: the worktree, the index and the branches stay untouched. A file that cannot be saved, because it is too
//! large or unreadable, is listed in `left_out` and never counts as saved.
//!
//! ```text
//! worktree/src/a.rs, index/src/b.rs, conflict/2/src/c.rs, operation/MERGE_HEAD    (tree of the backup commit)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

use super::secret_files::{self, SecretCopy};
use xtask_base::digest::{self, Digest};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_base::progress::Progress;
use xtask_base::words::{format_size, sanitize_line};
use xtask_config::SyncConfig;
use xtask_git::Tools;
use xtask_git::{
    FileMode, Head, Id, IndexChange, IndexStatus, Operation, OperationSnapshot, PathCache,
    PathLookup, PathPatterns, Repo, TreeChange, TreeEntry, WorktreeChanges, WorktreeItem,
    branch_of_ref, read_raw_file,
};
use xtask_sync::backup::{
    self, BackupRecord, MovedBranch, SavedFile, SavedOperation, SavedStaged, WorktreeSnapshot,
    backup_tree_path,
};
use xtask_sync::context;
use xtask_sync::overlay::{self, StoredEntry};

/// The size limits of a backup.
#[derive(Clone, Copy, Debug)]
pub struct BackupLimits {
    /// The maximum size of one file, in bytes.
    pub file: u64,
    /// The maximum size of all files, in bytes.
    pub total: u64,
    /// The maximum number of files.
    pub files: usize,
}

/// The default limits. Hand-written files are far smaller, and each backup is kept for a month.
pub const BACKUP_LIMITS: BackupLimits =
    BackupLimits { file: 100 << 20, total: 1 << 30, files: 20_000 };

/// The maximum length of a label, in characters.
const LONGEST_LABEL: usize = 200;

/// The maximum number of commits of an operation that a backup keeps as parents. Nearly all commits that a rebase names
/// are reachable from its starting point.
const MOST_PARENTS: usize = 200;

/// The rules for files that may be secret.
#[derive(Clone, Debug, Default)]
pub struct SecretRules {
    /// `.gitignore` patterns for secret files (`backup.ignored`).
    pub patterns: Vec<String>,
    /// Whether the patterns could not be read. Then every untracked file may be secret.
    pub is_unreadable: bool,
    /// Additional paths.
    pub extra_paths: Vec<RepoPath>,
}

impl SecretRules {
    /// Reads the patterns from `[backup]` of the canonical branch. If they cannot be read, which is passed to `warn`,
    /// every untracked file counts as secret.
    pub fn read(repo: &Repo, warn: &dyn Fn(&str)) -> SecretRules {
        let usual = || SyncConfig::default().backup_patterns;
        let (patterns, is_unreadable) = match context::find_canonical_context(repo) {
            Ok(Some(context)) => (context.config.backup_patterns, false),
            Ok(None) => (usual(), false),
            Err(failure) => {
                warn(&format!("cannot read `[backup]` of `setup/sync.toml`: {failure}"));
                (usual(), true)
            }
        };
        SecretRules { patterns, is_unreadable, extra_paths: Vec::new() }
    }
}

/// The unsaved changes in a worktree, as found by [`inspect_worktree`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsavedState {
    pub head: Head,
    /// The changes that git reports.
    pub changes: WorktreeChanges,
    /// The files that are copied instead of becoming git objects.
    pub secrets: Vec<RepoPath>,
    /// The git operation in progress, e.g. a rebase.
    pub operation: Option<Operation>,
    /// The state files of git for that operation, or for the next commit.
    pub traces: OperationSnapshot,
    /// Descriptions of data that cannot be saved.
    pub unsavable: Vec<String>,
    /// Paths that are copied in any case; a missing file is recorded as missing.
    extra_paths: Vec<RepoPath>,
}

/// The options of a backup.
#[derive(Clone, Debug)]
pub struct BackupOptions<'a> {
    /// The command, for the list of backups: `backup`, `recover`.
    pub purpose: &'a str,
    /// The label given by the user.
    pub label: Option<&'a str>,
    /// `Some` if the worktree will be reset afterwards, with the branch that will be moved, if any.
    pub leaves: Option<Option<MovedBranch>>,
    pub limits: BackupLimits,
    /// Paths that are saved even if they are committed or missing, because they are about to be replaced.
    pub replaced_paths: &'a [RepoPath],
}

/// A backup that was written.
#[derive(Clone, Debug)]
pub struct SavedBackup {
    /// The name of the backup, e.g. for `cargo xtask restore ID`.
    pub id: String,
    pub files: Vec<SavedFile>,
    /// The copies of secret files.
    pub copies: Vec<SecretCopy>,
    /// The total size, in bytes.
    pub bytes: u64,
    /// Files that could not be saved, each with the reason.
    pub left_out: Vec<String>,
    /// The tracked paths among `left_out`.
    pub unsaved_tracked: BTreeSet<RepoPath>,
    /// The content of each saved or copied file; `None` if the file was missing.
    pub file_entries: BTreeMap<RepoPath, Option<TreeEntry>>,
    /// Edited files that git ignores because of `skip-worktree` or `assume-unchanged`.
    pub overlooked: BTreeSet<RepoPath>,
    /// The git operation that was in progress.
    pub operation: Option<Operation>,
    /// The state files of that operation.
    pub traces: OperationSnapshot,
    /// Changes that a backup never contains: nested repositories and submodules.
    pub not_covered: Vec<String>,
}

/// Inspects the worktree for unsaved changes. Read-only.
pub fn inspect_worktree(repo: &Repo, rules: &SecretRules) -> Result<UnsavedState> {
    let head = repo.head()?;
    let mut changes = repo.list_changes()?;
    let named = PathPatterns::new(rules.patterns.iter().map(String::as_str));
    let is_named = |path: &RepoPath| {
        named.match_with_folders(path.as_bytes(), false) == Some(true)
            || rules.extra_paths.contains(path)
    };
    let mut secrets = repo.find_ignored_files(&rules.patterns)?;
    let tracked = changes.tracked.keys().chain(&changes.overlooked);
    secrets.extend(tracked.filter(|path| is_named(path)).cloned());
    secrets.extend(rules.extra_paths.iter().cloned());
    let is_secret = |path: &RepoPath| rules.is_unreadable || is_named(path);
    secrets.extend(changes.untracked.iter().filter(|path| is_secret(path)).cloned());
    changes.untracked.retain(|path| !is_secret(path));
    secrets.sort();
    secrets.dedup();
    let mut unsavable = changes.unreadable.clone();
    if rules.is_unreadable {
        let why = "cannot determine which ignored files to copy: the rules cannot be read";
        unsavable.push(why.to_owned());
    }
    Ok(UnsavedState {
        head,
        changes,
        secrets,
        operation: repo.current_operation(),
        traces: repo.read_operation_snapshot()?,
        unsavable,
        extra_paths: rules.extra_paths.clone(),
    })
}

impl UnsavedState {
    /// Returns whether git itself could restore everything in the worktree.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_all_git = self.changes.is_empty() && self.secrets.is_empty();
        is_all_git && self.operation.is_none() && self.unsavable.is_empty()
    }

    /// Lists changes that a backup never contains: nested repositories and submodules, which have their own history.
    #[must_use]
    pub fn list_not_covered(&self) -> Vec<String> {
        let nested = self.changes.nested.iter().map(|path| format!("`{path}`, another repository"));
        let modules = self.changes.submodules.iter();
        nested.chain(modules.map(|path| format!("`{path}`, a submodule with changes"))).collect()
    }
}

/// Writes a backup of `seen`. The caller holds the worktree lock.
pub fn save_worktree(
    repo: &Repo,
    tools: &Tools<'_>,
    seen: &UnsavedState,
    wish: &BackupOptions<'_>,
) -> Result<SavedBackup> {
    let now = tools.world.now_seconds();
    let failed = || "cannot write the backup";
    let made = secret_files::copy_files(repo, tools.disk, &seen.secrets, &seen.extra_paths, now)?;
    tools.disk.check_gate("write the objects of the backup").with_context(failed)?;
    let mut writer = BackupWriter {
        repo,
        limits: wish.limits,
        progress: tools.progress,
        tree: Vec::new(),
        files: Vec::new(),
        bytes: 0,
        left_out: seen.unsavable.iter().chain(&made.left_out).cloned().collect(),
        unsaved_tracked: BTreeSet::new(),
        file_entries: BTreeMap::new(),
        secrets: seen.secrets.iter().collect(),
        copied: made.copies.iter().map(|copy| (&copy.path, copy.digest)).collect(),
        path_cache: PathCache::default(),
    };
    writer.save_changes(&seen.changes)?;
    writer.save_paths(wish.replaced_paths)?;
    let (operation, mut parents) = writer.save_operation(seen)?;
    parents.insert(0, seen.head.commit);
    let BackupWriter { tree, files, left_out, unsaved_tracked, file_entries, .. } = writer;
    let bytes = writer.bytes + made.bytes;
    let snapshot = WorktreeSnapshot {
        label: wish.label.map(|label| sanitize_line(label, LONGEST_LABEL)),
        bytes,
        files: files.clone(),
        copies: made.name,
        copied: made.copies.len(),
        operation,
        was_left: wish.leaves.is_some(),
        moved: wish.leaves.clone().flatten(),
    };
    let record = build_record(repo, seen, wish.purpose, snapshot);
    let prepared = backup::write_backup_commit(repo, tree, &record, &parents, now)?;
    tools.disk.check_gate("name the backup").with_context(|| "cannot name the backup")?;
    let id = backup::publish_backup(repo, &prepared)?;
    drop(prune_expired(repo, tools, now));
    Ok(SavedBackup {
        id,
        files,
        copies: made.copies,
        bytes,
        left_out,
        unsaved_tracked,
        file_entries,
        overlooked: seen.changes.overlooked.iter().cloned().collect(),
        operation: seen.operation,
        traces: seen.traces.clone(),
        not_covered: seen.list_not_covered(),
    })
}

fn build_record(
    repo: &Repo,
    seen: &UnsavedState,
    purpose: &str,
    snapshot: WorktreeSnapshot,
) -> BackupRecord {
    BackupRecord {
        purpose: purpose.to_owned(),
        worktree: repo.root().display().to_string(),
        worktree_name: repo.worktree_name(),
        branch: seen.head.branch.clone(),
        head_before: seen.head.commit.to_string(),
        head_after: None,
        paths: Vec::new(),
        overlay_before: overlay::read_overlay(repo).unwrap_or_default().to_stored(),
        snapshot: Some(snapshot),
    }
}

/// Removes expired backups, and copies that no backup references any more.
fn prune_expired(repo: &Repo, tools: &Tools<'_>, now: i64) -> Result<()> {
    backup::prune_backups(repo, now)?;
    let named = || -> Result<Vec<String>> {
        let mut names = Vec::new();
        for found in backup::list_backups(repo)? {
            // An unreadable backup may reference any copy.
            let record = found.record.map_err(|_| Error::unable("unread"))?;
            names.extend(record.snapshot.and_then(|snapshot| snapshot.copies));
        }
        Ok(names)
    };
    secret_files::prune_folders(repo, tools.disk, &named, now)?;
    secret_files::remove_leftovers(repo, tools.disk, &named)
}

/// Converts the index entry of an unchanged path.
fn to_saved_staged(indexed: IndexStatus) -> SavedStaged {
    match indexed {
        IndexStatus::Entry { entry, .. } => SavedStaged::Entry(StoredEntry::new(entry)),
        IndexStatus::Absent => SavedStaged::Removed,
        IndexStatus::IntentToAdd | IndexStatus::Conflict => SavedStaged::AsHead,
    }
}

struct BackupWriter<'a> {
    repo: &'a Repo,
    limits: BackupLimits,
    progress: &'a dyn Progress,
    tree: Vec<TreeChange>,
    files: Vec<SavedFile>,
    bytes: u64,
    left_out: Vec<String>,
    unsaved_tracked: BTreeSet<RepoPath>,
    file_entries: BTreeMap<RepoPath, Option<TreeEntry>>,
    secrets: BTreeSet<&'a RepoPath>,
    copied: BTreeMap<&'a RepoPath, Digest>,
    path_cache: PathCache,
}

impl BackupWriter<'_> {
    fn save_changes(&mut self, changes: &WorktreeChanges) -> Result<()> {
        let overlooked = changes.overlooked.iter().map(|path| (path, &IndexChange::SameAsHead));
        // Tracked files come first: they are more valuable than untracked ones if a limit is reached.
        let tracked: BTreeMap<&RepoPath, &IndexChange> =
            changes.tracked.iter().chain(overlooked).collect();
        let number = tracked.len() + changes.untracked.len();
        self.progress.begin_task("saving files", Some(number as u64));
        for (path, index) in tracked {
            if !self.save_file(path, index)? {
                self.unsaved_tracked.insert(path.clone());
            }
            self.progress.advance(1);
        }
        for path in &changes.untracked {
            self.save_file(path, &IndexChange::SameAsHead)?;
            self.progress.advance(1);
        }
        self.progress.end_task();
        Ok(())
    }

    /// Saves `paths`, even if they are committed.
    fn save_paths(&mut self, paths: &[RepoPath]) -> Result<()> {
        let index = self.repo.read_index()?;
        for path in paths {
            if self.secrets.contains(path) {
                continue;
            }
            if let Some(known) = self.files.iter_mut().find(|file| file.path == *path) {
                if known.staged == SavedStaged::AsHead {
                    known.staged = to_saved_staged(self.repo.staged_status(&index, path)?);
                }
                continue;
            }
            if self.save_file(path, &IndexChange::SameAsHead)?
                && let Some(file) = self.files.last_mut()
            {
                file.staged = to_saved_staged(self.repo.staged_status(&index, path)?);
            }
        }
        Ok(())
    }

    /// Saves one file with its index entry. Returns whether that was possible.
    fn save_file(&mut self, path: &RepoPath, index: &IndexChange) -> Result<bool> {
        let (file, bits) = match self.write_content(path) {
            Ok(Some((entry, bits))) => (Some(entry), bits),
            Ok(None) => (None, None),
            Err(why) => {
                self.left_out.push(format!("{path}: {why}"));
                return Ok(false);
            }
        };
        let is_copied = file.is_some() && self.secrets.contains(path);
        if is_copied && !self.copied.contains_key(path) {
            // The reason is already in `left_out`.
            return Ok(false);
        }
        self.file_entries.insert(path.clone(), file);
        if let Some(entry) = file.filter(|_| !is_copied) {
            self.tree.push((backup_tree_path("worktree", path), Some(entry)));
        }
        let staged = match index {
            IndexChange::SameAsHead | IndexChange::IntentToAdd => SavedStaged::AsHead,
            IndexChange::Removed => SavedStaged::Removed,
            IndexChange::Entry(entry) => {
                self.keep_entry("index", path, *entry);
                SavedStaged::Entry(StoredEntry::new(*entry))
            }
            IndexChange::Conflict(stages) => {
                for (at, entry) in stages.iter().enumerate() {
                    if let Some(entry) = entry {
                        self.keep_entry(&format!("conflict/{}", at + 1), path, *entry);
                    }
                }
                SavedStaged::Conflict(stages.map(|entry| entry.map(StoredEntry::new)))
            }
        };
        let file = file.filter(|_| !is_copied).map(StoredEntry::new);
        self.files.push(SavedFile { path: path.clone(), file, bits, is_copied, staged });
        Ok(true)
    }

    /// References an index entry from the tree of the backup, so that git does not prune its object.
    fn keep_entry(&mut self, folder: &str, path: &RepoPath, entry: TreeEntry) {
        if entry.mode != FileMode::Gitlink {
            self.tree.push((backup_tree_path(folder, path), Some(entry)));
        }
    }

    /// Writes the raw content of a file as a blob. Returns `None` if there is no file, and the reason as an error if the
    /// file must be left out.
    fn write_content(
        &mut self,
        path: &RepoPath,
    ) -> Result<Option<(TreeEntry, Option<u32>)>, String> {
        let looked_up = self.path_cache.look_up_path(self.repo.root(), path);
        let meta = match looked_up.map_err(|cause| cause.to_string())? {
            PathLookup::Found(meta) => meta,
            PathLookup::NotFound(WorktreeItem::Special) => {
                return Err("it is neither a file nor a symlink".into());
            }
            PathLookup::NotFound(_) => return Ok(None),
        };
        if meta.is_dir() {
            return Ok(None);
        }
        if !meta.is_file() && !meta.is_symlink() {
            return Err("it is neither a file nor a symlink".into());
        }
        if meta.len() > self.limits.file {
            let (has, most) = (format_size(meta.len()), format_size(self.limits.file));
            return Err(format!("its size is {has}, above the limit of {most}"));
        }
        if self.files.len() >= self.limits.files {
            return Err(format!("a backup holds at most {} files", self.limits.files));
        }
        if self.bytes + meta.len() > self.limits.total {
            return Err(format!("a backup holds at most {}", format_size(self.limits.total)));
        }
        let words = |failure: Error| failure.causes().pop().unwrap_or_else(|| failure.to_string());
        let content = read_raw_file(&path.to_disk_path(self.repo.root())).map_err(words)?;
        let Some(content) = content else { return Ok(None) };
        let digest = digest::hash_parts([&content[..]]);
        if self.copied.get(path).is_some_and(|copied| *copied != digest) {
            return Err("it was changed while it was saved".into());
        }
        // Secret files do not become git objects; their id is used only in this run.
        let id = match self.secrets.contains(path) {
            true => self.repo.blob_id(&content).map_err(words)?,
            false => {
                self.bytes += content.len() as u64;
                self.repo.write_blob(&content).map_err(words)?
            }
        };
        let bits = meta.is_file().then(|| meta.mode() & 0o7777);
        let mode = match bits {
            None => FileMode::Symlink,
            Some(bits) if bits & 0o100 != 0 => FileMode::Executable,
            Some(_) => FileMode::File,
        };
        Ok(Some((TreeEntry { mode, id }, bits)))
    }

    /// Saves the git operation in progress. Returns the commits that would otherwise be unreferenced.
    fn save_operation(&mut self, seen: &UnsavedState) -> Result<(Option<SavedOperation>, Vec<Id>)> {
        let traces = &seen.traces;
        if seen.operation.is_none() && traces.files.is_empty() && traces.refs.is_empty() {
            return Ok((None, Vec::new()));
        }
        for (path, content) in &traces.files {
            let id = self.repo.write_blob(content)?;
            self.tree.push((
                backup_tree_path("operation", path),
                Some(TreeEntry { mode: FileMode::File, id }),
            ));
        }
        let parents = self.find_named_commits(traces, seen.head.commit);
        let refs = traces.refs.iter().map(|(name, id)| (name.clone(), id.to_string())).collect();
        let name = seen.operation.map(|operation| operation.name.to_owned());
        let heads = ["rebase-merge/head-name", "rebase-apply/head-name"].map(RepoPath::new);
        let head = heads.iter().find_map(|file| traces.files.get(file));
        let branch = head.and_then(|content| {
            branch_of_ref(std::str::from_utf8(content).ok()?.trim()).map(str::to_owned)
        });
        let tip = match &branch {
            Some(branch) => self.repo.resolve_ref(&format!("refs/heads/{branch}"))?,
            None => None,
        };
        let tip = tip.map(|id| id.to_string());
        Ok((Some(SavedOperation { name, branch, tip, refs }), parents))
    }

    /// Returns the commits that an operation names, by its refs and by full ids in its state files.
    fn find_named_commits(&self, traces: &OperationSnapshot, head: Id) -> Vec<Id> {
        let texts = traces.files.values().filter(|content| content.len() < 1 << 20);
        let words = texts.flat_map(|content| content.split(u8::is_ascii_whitespace));
        let named = words.filter_map(|word| Id::from_hex(word).ok());
        let named: BTreeSet<Id> = named.chain(traces.refs.values().copied()).collect();
        let is_commit = |id: &Id| *id != head && self.repo.read_commit(*id).is_ok();
        named.into_iter().filter(is_commit).take(MOST_PARENTS).collect()
    }
}
