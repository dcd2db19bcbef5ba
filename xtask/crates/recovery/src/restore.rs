//! Restoration of backups, after the present state was saved as well.
//!
//! Files, index and permissions are restored in one transaction, in which each file must still be identical to the
//! version that was just saved. Copies of secret files are restored one by one, under the same condition. Files that
//! cannot be restored are listed in `left_out` and stay in the backup.
//!
//! ```text
//! choose_backup -> find_return_target -> (reset_worktree) -> plan_restore -> restore_backup
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::create_backup::SavedBackup;
use super::reset::{describe_path_obstacle, to_sound_entry};
use super::secret_files::{self, CopyRestore, SecretCopy};
use super::target::RecoveryTarget;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_git::Tools;
use xtask_git::{
    FileMode, Id, IndexStatus, OperationSnapshot, PathCache, PathsBelow, Repo, TreeEntry,
    WorktreeItem,
};
use xtask_sync::apply::apply_transaction;
use xtask_sync::backup::{
    self, Backup, BackupRecord, SavedFile, SavedStaged, UnreadableRecord, WorktreeSnapshot,
};
use xtask_sync::overlay::Overlay;
use xtask_sync::path_conflicts::predict_after_removal;
use xtask_sync::transaction::{FileUpdate, PathUpdate, Transaction};
use xtask_sync::worktree_lock::LockWorktree as _;

/// A backup that was selected for restoration.
pub struct ChosenBackup {
    pub id: String,
    /// The creation time, in seconds since the epoch.
    pub seconds: i64,
    commit: Id,
    /// The record of the run that made the backup.
    pub record: BackupRecord,
    pub snapshot: WorktreeSnapshot,
    /// The files to restore.
    pub files: Vec<SavedFile>,
    /// The copies of secret files to restore, each with its index in the list.
    pub copies: Vec<(usize, SecretCopy)>,
    /// Whether the whole backup is restored, including branch and operation.
    pub is_whole: bool,
    /// The reason why the copies are not available, if so.
    pub lost_copies: Option<String>,
}

/// The part of a backup to restore.
#[derive(Clone, Copy, Debug)]
pub enum RestoreScope<'a> {
    /// Everything, including the branch and the git operation that were left.
    Whole,
    /// All files, into any worktree.
    Files,
    /// These files and folders.
    Paths(&'a [RepoPath]),
}

/// A plan for a restoration.
#[derive(Debug, Default)]
pub struct RestorePlan {
    changes: Vec<PathUpdate>,
    /// The paths to restore, including copies.
    pub restored: Vec<RepoPath>,
    /// The number of paths that are already as in the backup.
    pub unchanged: usize,
    /// The paths that stay in the backup, each with the reason.
    pub left_out: Vec<(RepoPath, String)>,
    /// The conflicts to restore in the index.
    conflicts: Vec<(RepoPath, [Option<TreeEntry>; 3])>,
    /// The conflicts that are not restored, because they belong to another operation.
    pub lost_conflicts: Vec<RepoPath>,
}

impl RestorePlan {
    /// Returns whether no path is restored or left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.restored.is_empty() && self.left_out.is_empty() && self.conflicts.is_empty()
    }
}

/// Finds the backup `id` and selects the part `meant`. Returns an error if the backup is unknown or unreadable, or does
/// not contain a given path.
pub fn choose_backup(repo: &Repo, id: &str, meant: RestoreScope<'_>) -> Result<ChosenBackup> {
    let found = backup::list_backups(repo)?.into_iter().find(|backup| backup.id == id).ok_or_else(
        || {
            Error::usage(format!("there is no backup `{id}`"))
                .with_hint("`cargo xtask backup --list`")
        },
    )?;
    let Backup { id, seconds, commit, record } = found;
    let record = record.map_err(|why| match why {
        UnreadableRecord::Newer => {
            Error::unable(format!("backup `{id}` was written by a newer xtask"))
        }
        UnreadableRecord::Corrupt => Error::unable(format!(
            "the record of backup `{id}` cannot be read"
        ))
        .with_hint(format!("`git ls-tree -r {}{id}` shows its contents", backup::REF_PREFIX)),
    })?;
    let is_whole = matches!(meant, RestoreScope::Whole);
    let paths = match meant {
        RestoreScope::Paths(paths) => paths,
        RestoreScope::Whole | RestoreScope::Files => &[],
    };
    let snapshot = match &record.snapshot {
        Some(snapshot) => snapshot.clone(),
        None if is_whole => {
            return Err(Error::usage(format!(
                "`{id}` holds the files that `{}` replaced, and cannot be restored as a whole",
                record.purpose
            ))
            .with_hint(format!(
                "`cargo xtask undo {id}` undoes that run; with paths, `restore` restores those"
            )));
        }
        None => to_snapshot(&record),
    };
    let is_meant = |path: &RepoPath| {
        paths.is_empty() || paths.iter().any(|named| named == path || path.is_below(named))
    };
    let files: Vec<SavedFile> =
        snapshot.files.iter().filter(|file| is_meant(&file.path)).cloned().collect();
    // Missing copies must not prevent the rest from being restored; they are reported.
    let (listed, lost_copies) =
        match snapshot.copies.as_ref().map(|name| secret_files::read_list(repo, name)) {
            None => (Vec::new(), None),
            Some(Ok(listed)) => (listed, None),
            Some(Err(failure)) => {
                let why = failure.details().first().map_or(String::new(), |at| format!(" ({at})"));
                (Vec::new(), Some(format!("{failure}{why}")))
            }
        };
    let copies: Vec<(usize, SecretCopy)> =
        listed.into_iter().enumerate().filter(|(_, copy)| is_meant(&copy.path)).collect();
    let has = |path: &RepoPath| {
        let mut all =
            files.iter().map(|file| &file.path).chain(copies.iter().map(|(_, c)| &c.path));
        all.any(|found| found == path || found.is_below(path))
    };
    let missing: Vec<&RepoPath> = paths.iter().filter(|path| !has(path)).collect();
    if let Some(first) = missing.first() {
        let error = Error::usage(format!("backup `{id}` does not contain `{first}`"));
        let error =
            missing.iter().skip(1).fold(error, |e, path| e.with_detail(format!("nor `{path}`")));
        return Err(
            error.with_hint(format!("`cargo xtask restore {id} --dry-run` lists its contents"))
        );
    }
    Ok(ChosenBackup { id, seconds, commit, record, snapshot, files, copies, is_whole, lost_copies })
}

/// Converts the record of a run into a snapshot of the files that the run replaced.
fn to_snapshot(record: &BackupRecord) -> WorktreeSnapshot {
    let files = record.paths.iter().filter(|saved| saved.wrote_file);
    let files = files.map(|saved| SavedFile {
        path: saved.path.clone(),
        file: saved.file_before.clone(),
        bits: None,
        is_copied: false,
        staged: SavedStaged::AsHead,
    });
    WorktreeSnapshot { files: files.collect(), ..WorktreeSnapshot::default() }
}

/// Returns the target to which a complete restoration resets the worktree first; `None` if no reset is needed.
/// Returns an error if the backup belongs to another worktree or branch.
pub fn find_return_target(repo: &Repo, chosen: &ChosenBackup) -> Result<Option<RecoveryTarget>> {
    if !chosen.is_whole {
        return Ok(None);
    }
    let record = &chosen.record;
    if record.worktree_name != repo.worktree_name() {
        let (id, there) = (&chosen.id, &record.worktree);
        let error = Error::usage(format!("backup `{id}` belongs to the worktree `{there}`"));
        let error = match std::path::Path::new(there).is_dir() {
            true => error.with_hint(format!("`cargo xtask -C {there} restore {id}`")),
            false => error.with_detail("that worktree no longer exists"),
        };
        return Err(error.with_hint(hint_restore_paths(id)));
    }
    let head = repo.head()?;
    let before = parse_head_before(record)?;
    let is_here =
        head.branch == record.branch && (record.branch.is_some() || head.commit == before);
    if !chosen.snapshot.was_left {
        if is_here {
            return Ok(None);
        }
        let (was, back) = match &record.branch {
            Some(branch) => (format!("`{branch}`"), format!("git switch {branch}")),
            None => ("a detached HEAD".to_owned(), format!("git switch --detach {before}")),
        };
        return Err(Error::usage(format!(
            "backup `{}` belongs to {was}, which is not checked out",
            chosen.id
        ))
        .with_hint(format!("`{back}`, and then restore it"))
        .with_hint(hint_restore_paths(&chosen.id)));
    }
    let typed = record.branch.clone().unwrap_or_else(|| repo.short_id(before));
    let mut goal = RecoveryTarget {
        branch: None,
        commit: before,
        typed,
        branch_before: None,
        remote_branch: None,
        own_commits: 0,
    };
    if let Some(branch) = &record.branch {
        // A deleted branch is recreated at its old commit.
        let tip = repo.resolve_ref(&format!("refs/heads/{branch}"))?.unwrap_or(before);
        let moved = chosen.snapshot.moved.as_ref().filter(|moved| moved.branch == *branch);
        let was_moved = moved
            .is_some_and(|moved| names_commit(&moved.to, tip) && names_commit(&moved.from, before));
        if let Some(other) = repo.find_other_worktree(branch) {
            let other = other.display();
            return Err(Error::unable(format!("`{branch}` is checked out in {other} now"))
                .with_hint(format!("`git -C {other} switch --detach` frees it"))
                .with_hint(hint_restore_paths(&chosen.id)));
        }
        goal.branch = Some(branch.clone());
        goal.commit = if was_moved { before } else { tip };
        goal.branch_before = was_moved.then_some(tip);
    }
    Ok(Some(goal))
}

/// Returns whether `text` is the id of `commit`.
fn names_commit(text: &str, commit: Id) -> bool {
    Id::from_hex(text.as_bytes()).is_ok_and(|id| id == commit)
}

fn hint_restore_paths(id: &str) -> String {
    format!(
        "`cargo xtask restore {id} .` restores its files here; a path instead of the dot restores only files below it"
    )
}

fn parse_head_before(record: &BackupRecord) -> Result<Id> {
    Id::from_hex(record.head_before.as_bytes())
        .ok()
        .ok_or_else(|| Error::unable("the record of the backup has no valid commit id"))
}

/// Moves a branch back that was moved after the backup, unless it has moved again. Returns a message about the result.
pub fn move_branch_back(
    repo: &Repo,
    tools: &Tools<'_>,
    chosen: &ChosenBackup,
) -> Result<Option<String>> {
    let Some(moved) = &chosen.snapshot.moved else { return Ok(None) };
    let id = |text: &String| {
        Id::from_hex(text.as_bytes())
            .with_context(|| "the record of the backup has no valid commit id")
    };
    let (from, to) = (id(&moved.from)?, id(&moved.to)?);
    let branch = &moved.branch;
    let reference = format!("refs/heads/{branch}");
    let now = repo.resolve_ref(&reference)?;
    if now == Some(from) {
        return Ok(None);
    }
    if let Some(other) = repo.find_other_worktree(branch) {
        let other = other.display();
        return Ok(Some(format!("`{branch}` is checked out in {other}, and stays where it is")));
    }
    if now != Some(to) {
        return Ok(Some(format!("`{branch}` has moved on since, and stays where it is")));
    }
    // `reset_worktree` moves the branch that it checks out.
    if repo.current_branch().as_ref() == Some(branch) {
        return Ok(Some(format!("`{branch}` is checked out here, and stays where it is")));
    }
    tools.disk.check_gate("move the branch back").with_context(|| "cannot move the branch back")?;
    let moved = repo.swap_ref(&reference, Some(to), Some(from), "xtask: restore")?;
    Ok(Some(match moved {
        true => format!("`{branch}` is at {} again", repo.short_id(from)),
        false => format!("`{branch}` was moved concurrently, and stays where it is"),
    }))
}

/// Plans a restoration. `saved` is the backup that was just made; without it no file can be replaced, and the plan is
/// only for display.
pub fn plan_restore(
    repo: &Repo,
    chosen: &ChosenBackup,
    saved: Option<&SavedBackup>,
) -> Result<RestorePlan> {
    let index = repo.read_index()?;
    let head = repo.head()?;
    let is_same_commit = head.commit == parse_head_before(&chosen.record)?;
    let mut filters = repo.clean_filters(&index)?;
    let mut ways = PathCache::default();
    let mut plan = RestorePlan::default();
    // Conflicts are meaningful only within the operation that caused them.
    let with_conflicts = resumes_operation(repo, chosen)?;
    let gone = chosen.files.iter().filter(|file| file.file.is_none() && !file.is_copied);
    let goes: BTreeSet<&RepoPath> = gone.map(|file| &file.path).collect();
    for file in &chosen.files {
        let path = &file.path;
        let staged = repo.staged_status(&index, path)?;
        let work =
            repo.read_worktree_item(path, staged.entry(), &mut ways, &mut filters, &index)?;
        let work = predict_after_removal(repo, path, work, &|path| goes.contains(path))?;
        if let Some(why) = describe_path_obstacle(&work)
            .filter(|_| file.file.is_some() || work == WorktreeItem::Special)
        {
            plan.left_out.push((path.clone(), why));
            continue;
        }
        let now = match &work {
            WorktreeItem::Present(found) => Some(found.raw),
            _ => None,
        };
        let before = to_sound_entry(&file.file, path)?;
        let change = match (before, file.bits) {
            // The copy is restored separately.
            _ if file.is_copied => FileUpdate::None,
            _ if now == before && has_saved_mode(repo, file) => FileUpdate::None,
            (Some(entry), Some(bits)) => FileUpdate::RestoreExactly(entry, bits),
            (Some(entry), None) => FileUpdate::Restore(entry),
            (None, _) if now.is_none() => FileUpdate::None,
            (None, _) => FileUpdate::Remove,
        };
        let stages = match &file.staged {
            // At another commit, the staged state does not apply.
            SavedStaged::AsHead if is_same_commit && staged != IndexStatus::IntentToAdd => {
                let committed = repo.entry_at(head.tree, path)?;
                (staged.entry() != committed || staged == IndexStatus::Conflict)
                    .then_some(committed)
            }
            SavedStaged::AsHead => None,
            SavedStaged::Removed if staged == IndexStatus::Absent => None,
            SavedStaged::Removed => Some(None),
            SavedStaged::Entry(kept) => {
                let entry = to_sound_entry(&Some(kept.clone()), path)?;
                (staged.entry() != entry).then_some(entry)
            }
            SavedStaged::Conflict(stages) => {
                if with_conflicts {
                    let mut entries = [None; 3];
                    for (at, kept) in stages.iter().enumerate() {
                        entries[at] = to_sound_entry(kept, path)?;
                    }
                    plan.conflicts.push((path.clone(), entries));
                } else {
                    plan.lost_conflicts.push(path.clone());
                }
                None
            }
        };
        if change == FileUpdate::None && stages.is_none() {
            plan.unchanged += 1;
            continue;
        }
        let was_saved = saved.is_none_or(|saved| {
            let is_kept = saved.file_entries.get(path).is_some_and(|held| *held == now);
            // Committed content needs no backup.
            let committed = repo.entry_at(head.tree, path).ok().flatten();
            let is_committed = match &work {
                WorktreeItem::Present(found) => Some(found.entry) == committed,
                _ => now.is_none(),
            };
            is_kept || is_committed
        });
        if change != FileUpdate::None && !was_saved {
            plan.left_out.push((path.clone(), secret_files::UNSAVED.to_owned()));
            continue;
        }
        plan.restored.push(path.clone());
        let path = path.clone();
        let is_sparse = false;
        plan.changes.push(PathUpdate {
            path,
            file: change,
            expected: now,
            expected_stat: None,
            stages,
            is_sparse,
        });
    }
    let none = Vec::new();
    for (_, copy) in &chosen.copies {
        let all = saved.map_or(&none, |saved| &saved.copies);
        match secret_files::preview_restore(repo, copy, all)? {
            CopyRestore::Unchanged => plan.unchanged += 1,
            CopyRestore::Blocked(why) => plan.left_out.push((copy.path.clone(), why)),
            CopyRestore::Unsaved if saved.is_some() => {
                plan.left_out.push((copy.path.clone(), secret_files::UNSAVED.to_owned()));
            }
            // The file will be saved before the restoration.
            CopyRestore::Unsaved | CopyRestore::Restored => plan.restored.push(copy.path.clone()),
        }
    }
    Ok(plan)
}

/// Returns whether a file has the saved permissions.
fn has_saved_mode(repo: &Repo, file: &SavedFile) -> bool {
    use std::os::unix::fs::MetadataExt;
    let meta = file.path.to_disk_path(repo.root()).symlink_metadata();
    file.bits.is_none_or(|bits| meta.is_ok_and(|meta| meta.mode() & 0o7777 == bits))
}

/// Returns whether the git operation and its conflicts are resumed: for a complete restoration, at the same commit, and
/// if no other operation is in progress.
pub fn resumes_operation(repo: &Repo, chosen: &ChosenBackup) -> Result<bool> {
    if !chosen.is_whole || repo.current_operation().is_some() {
        return Ok(false);
    }
    // A rebase that ends or is aborted sets its branch: commits made on the branch since would be lost.
    let about = chosen
        .snapshot
        .operation
        .as_ref()
        .and_then(|one| one.branch.as_ref().zip(one.tip.as_ref()));
    if let Some((branch, tip)) = about
        && !repo
            .resolve_ref(&format!("refs/heads/{branch}"))?
            .is_none_or(|now| names_commit(tip, now))
    {
        return Ok(false);
    }
    Ok(repo.head()?.commit == parse_head_before(&chosen.record)?)
}

/// Executes `plan`. The caller holds the worktree lock, and no operation is in progress. Returns the plan with the
/// actual results.
pub fn restore_backup(
    repo: &Repo,
    tools: &Tools<'_>,
    chosen: &ChosenBackup,
    mut plan: RestorePlan,
    saved: &SavedBackup,
) -> Result<RestorePlan> {
    let returns = resumes_operation(repo, chosen)?;
    let overlay = match chosen.is_whole && chosen.snapshot.was_left {
        true => Overlay::from_stored(chosen.record.overlay_before.clone())
            .filter(|overlay| !overlay.paths.is_empty()),
        false => None,
    };
    // Single files can be restored even while a git operation is in progress.
    let kind =
        repo.current_operation().filter(|_| !chosen.is_whole).map(|operation| operation.kind);
    let within = Tools { finishing_operation: kind, ..*tools };
    if !plan.changes.is_empty() || overlay.is_some() {
        let purpose = format!("restore {}", chosen.id);
        let changes = std::mem::take(&mut plan.changes);
        let batch = Transaction { purpose, changes, head: None, overlay, backup: None };
        apply_transaction(&within.apply_context(repo), &batch, None)?;
    }
    if let Some(name) = &chosen.snapshot.copies {
        for (at, copy) in &chosen.copies {
            let content = secret_files::read_copy(repo, name, *at, copy);
            let back = content.and_then(|content| {
                secret_files::restore_copy(repo, tools.disk, copy, &content, &saved.copies)
            });
            let why = match back {
                Ok(CopyRestore::Restored | CopyRestore::Unchanged) => continue,
                Ok(CopyRestore::Blocked(why)) => why,
                Ok(CopyRestore::Unsaved) => secret_files::UNSAVED.to_owned(),
                Err(failure) => failure.to_string(),
            };
            plan.restored.retain(|path| *path != copy.path);
            if !plan.left_out.iter().any(|(path, _)| *path == copy.path) {
                plan.left_out.push((copy.path.clone(), why));
            }
        }
    }
    if returns {
        if !plan.conflicts.is_empty() {
            let step = tools.disk.check_gate("record conflicts");
            step.with_context(|| "cannot restore the conflicts in the index")?;
            repo.stage_conflicts(&plan.conflicts)?;
        }
        let operation = chosen.snapshot.operation.as_ref();
        let is_operation = operation.is_some_and(|one| one.name.is_some());
        repo.restore_operation_snapshot(
            &read_saved_traces(repo, chosen)?,
            is_operation,
            tools.disk,
        )?;
    }
    // Refreshes the stat data of the index: `git merge --abort` would refuse entries that it considers unverified.
    repo.refresh_index()?;
    Ok(plan)
}

/// Reads the saved state files of the git operation.
fn read_saved_traces(repo: &Repo, chosen: &ChosenBackup) -> Result<OperationSnapshot> {
    let tree = repo.tree_of(chosen.commit)?;
    let mut files = BTreeMap::new();
    let folder = RepoPath::new("operation");
    for (path, entry) in repo.list_tree(tree, &PathsBelow(&folder))? {
        let Some(below) = path.as_bytes().strip_prefix(b"operation/") else { continue };
        if entry.mode == FileMode::File {
            files.insert(RepoPath::new(below), repo.read_blob(entry.id)?);
        }
    }
    let mut refs = BTreeMap::new();
    for (name, id) in chosen.snapshot.operation.iter().flat_map(|operation| &operation.refs) {
        let id = Id::from_hex(id.as_bytes())
            .with_context(|| "the record of the backup has no valid commit id")?;
        refs.insert(name.clone(), id);
    }
    Ok(OperationSnapshot { files, refs })
}

/// Returns whether a restoration changes the checked-out commit, so that `reset_worktree` must run first.
pub fn needs_reset(
    repo: &Repo,
    chosen: &ChosenBackup,
    goal: Option<&RecoveryTarget>,
) -> Result<bool> {
    let Some(goal) = goal else { return Ok(false) };
    let head = repo.head()?;
    let is_elsewhere = head.branch != goal.branch || head.commit != goal.commit;
    if is_elsewhere || repo.current_operation().is_some() || repo.read_index()?.has_conflicts() {
        return Ok(true);
    }
    // Files that differ from HEAD now and not in the backup; an interrupted reset also leaves such files.
    let held: BTreeSet<&RepoPath> = chosen.files.iter().map(|file| &file.path).collect();
    Ok(repo.list_changes()?.tracked.keys().any(|path| !held.contains(path)))
}
