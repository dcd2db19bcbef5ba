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

use super::chosen_backup::{ChosenBackup, names_commit, parse_head_before};
use super::create_backup::{
    BACKUP_LIMITS, BackupOptions, SavedBackup, SecretRules, inspect_worktree, save_worktree,
};
use super::reset::{self, describe_path_obstacle, to_sound_entry};
use super::secret_files::{self, CopyRestore};
use super::target::RecoveryTarget;
use xtask_base::error::{Result, ResultExt as _};
use xtask_base::path::RepoPath;
use xtask_git::Tools;
use xtask_git::{
    FileMode, Id, IndexStatus, OperationSnapshot, PathCache, PathsBelow, Repo, TreeEntry,
    WorktreeItem,
};
use xtask_sync::apply::apply_transaction;
use xtask_sync::backup::{SavedFile, SavedStaged};
use xtask_sync::overlay::Overlay;
use xtask_sync::path_conflicts::predict_after_removal;
use xtask_sync::transaction::{FileUpdate, PathUpdate, Transaction};
use xtask_sync::worktree_lock::LockWorktree as _;

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
        return Ok(Some(format!("`{branch}` was not moved: it is checked out in {other}")));
    }
    if now != Some(to) {
        return Ok(Some(format!("`{branch}` was not moved: it has new commits since")));
    }
    // `reset_worktree` moves the branch that it checks out.
    if repo.current_branch().as_ref() == Some(branch) {
        return Ok(Some(format!("`{branch}` was not moved: it is checked out here")));
    }
    tools.disk.check_gate("move the branch back").with_context(|| "cannot move the branch back")?;
    let moved = repo.swap_ref(&reference, Some(to), Some(from), "xtask: restore")?;
    Ok(Some(match moved {
        true => format!("`{branch}` is at {} again", repo.short_id(from)),
        false => format!("`{branch}` was not moved: it was updated concurrently"),
    }))
}

/// Returns whether restoring would change no file and resume no operation.
pub fn is_already_restored(repo: &Repo, chosen: &ChosenBackup) -> Result<bool> {
    let plan = plan_restore(repo, chosen, None)?;
    let takes_up = chosen.snapshot.operation.is_some() && resumes_operation(repo, chosen)?;
    Ok(plan.is_empty() && !takes_up)
}

/// Backs up the current state. A backup is made even of a clean worktree, so that the restoration can be undone.
/// `leaves` tells whether the worktree is reset first. The caller holds the worktree lock.
pub fn save_current_state(
    repo: &Repo,
    tools: &Tools<'_>,
    mut secrets: SecretRules,
    chosen: &ChosenBackup,
    leaves: bool,
) -> Result<SavedBackup> {
    // A file that is restored from a secret copy is backed up as one, whatever the patterns say now.
    secrets.extra_paths.extend(chosen.copies.iter().map(|(_, copy)| copy.path.clone()));
    let seen = inspect_worktree(repo, &secrets)?;
    let replaced: Vec<RepoPath> = chosen.files.iter().map(|file| file.path.clone()).collect();
    let wish = BackupOptions {
        purpose: &format!("restore {}", chosen.id),
        label: None,
        leaves: leaves.then_some(None),
        limits: BACKUP_LIMITS,
        // A reset leaves a clean worktree, so these paths need no backup of their own.
        replaced_paths: if leaves { &[] } else { &replaced },
    };
    save_worktree(repo, tools, &seen, &wish)
}

/// Restores a backup, after a reset to `recovery_target` if there is one. `saved` is the backup of the current state. Passes
/// results other than the restored files to `say`.
pub fn apply_backup(
    repo: &Repo,
    tools: &Tools<'_>,
    chosen: &ChosenBackup,
    recovery_target: Option<&RecoveryTarget>,
    saved: &SavedBackup,
    say: &dyn Fn(&str),
) -> Result<RestorePlan> {
    if let Some(recovery_target) = recovery_target {
        let kept = reset::reset_worktree(repo, tools, saved, recovery_target)?;
        reset::report_reset(repo, recovery_target, &kept, say);
    }
    if chosen.is_whole
        && let Some(words) = move_branch_back(repo, tools, chosen)?
    {
        say(&words);
    }
    let plan = plan_restore(repo, chosen, Some(saved))?;
    restore_backup(repo, tools, chosen, plan, saved)
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
    let gone = chosen.files.iter().filter(|file| file.file.is_none() && !file.is_copied);
    let mut planner = RestorePlanner {
        repo,
        saved,
        is_same_commit: head.commit == parse_head_before(&chosen.record)?,
        with_conflicts: resumes_operation(repo, chosen)?,
        removed: gone.map(|file| &file.path).collect(),
        head_tree: head.tree,
        plan: RestorePlan::default(),
    };
    let mut filters = repo.clean_filters(&index)?;
    let mut path_cache = PathCache::default();
    for file in &chosen.files {
        let path = &file.path;
        let staged = repo.staged_status(&index, path)?;
        let work =
            repo.read_worktree_item(path, staged.entry(), &mut path_cache, &mut filters, &index)?;
        let is_removed = |path: &RepoPath| planner.removed.contains(path);
        let work = predict_after_removal(repo, path, work, &is_removed)?;
        planner.plan_file(file, staged, &work)?;
    }
    let mut plan = planner.plan;
    let copies = saved.map_or(&[][..], |saved| &saved.copies);
    for (_, copy) in &chosen.copies {
        match secret_files::preview_restore(repo, copy, copies)? {
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

/// Plans the files of a restoration one by one.
struct RestorePlanner<'a> {
    repo: &'a Repo,
    saved: Option<&'a SavedBackup>,
    is_same_commit: bool,
    /// Conflicts are meaningful only within the operation that caused them.
    with_conflicts: bool,
    /// The files that the restoration removes.
    removed: BTreeSet<&'a RepoPath>,
    head_tree: Id,
    plan: RestorePlan,
}

impl RestorePlanner<'_> {
    fn plan_file(
        &mut self,
        file: &SavedFile,
        staged: IndexStatus,
        work: &WorktreeItem,
    ) -> Result<()> {
        let path = &file.path;
        let is_obstructed = file.file.is_some() || *work == WorktreeItem::Special;
        if let Some(why) = describe_path_obstacle(work).filter(|_| is_obstructed) {
            self.plan.left_out.push((path.clone(), why));
            return Ok(());
        }
        let now = match work {
            WorktreeItem::Present(found) => Some(found.raw),
            _ => None,
        };
        let update = self.plan_content(file, now)?;
        let stages = self.plan_stages(file, staged)?;
        if update == FileUpdate::None && stages.is_none() {
            self.plan.unchanged += 1;
        } else if update != FileUpdate::None && !self.is_saved(path, work, now) {
            self.plan.left_out.push((path.clone(), secret_files::UNSAVED.to_owned()));
        } else {
            self.plan.restored.push(path.clone());
            self.plan.changes.push(PathUpdate {
                path: path.clone(),
                file: update,
                expected: now,
                expected_stat: None,
                stages,
                is_sparse: false,
            });
        }
        Ok(())
    }

    fn plan_content(&self, file: &SavedFile, now: Option<TreeEntry>) -> Result<FileUpdate> {
        let before = to_sound_entry(&file.file, &file.path)?;
        Ok(match (before, file.bits) {
            // The copy is restored separately.
            _ if file.is_copied => FileUpdate::None,
            _ if now == before && has_saved_mode(self.repo, file) => FileUpdate::None,
            (Some(entry), Some(bits)) => FileUpdate::RestoreExactly(entry, bits),
            (Some(entry), None) => FileUpdate::Restore(entry),
            (None, _) if now.is_none() => FileUpdate::None,
            (None, _) => FileUpdate::Remove,
        })
    }

    /// Returns the new index entry of a file, if it changes. A conflict is planned by itself.
    fn plan_stages(
        &mut self,
        file: &SavedFile,
        staged: IndexStatus,
    ) -> Result<Option<Option<TreeEntry>>> {
        let path = &file.path;
        Ok(match &file.staged {
            // At another commit, the staged state does not apply.
            SavedStaged::AsHead if self.is_same_commit && staged != IndexStatus::IntentToAdd => {
                let committed = self.repo.entry_at(self.head_tree, path)?;
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
            SavedStaged::Conflict(stages) if self.with_conflicts => {
                let mut entries = [None; 3];
                for (entry, kept) in entries.iter_mut().zip(stages) {
                    *entry = to_sound_entry(kept, path)?;
                }
                self.plan.conflicts.push((path.clone(), entries));
                None
            }
            SavedStaged::Conflict(_) => {
                self.plan.lost_conflicts.push(path.clone());
                None
            }
        })
    }

    /// Returns whether the present file may be replaced: it is in the backup that was just made, or committed.
    fn is_saved(&self, path: &RepoPath, work: &WorktreeItem, now: Option<TreeEntry>) -> bool {
        let Some(saved) = self.saved else { return true };
        let is_kept = saved.file_entries.get(path).is_some_and(|held| *held == now);
        is_kept
            || match work {
                WorktreeItem::Present(found) => {
                    let committed = self.repo.entry_at(self.head_tree, path).ok().flatten();
                    Some(found.entry) == committed
                }
                _ => now.is_none(),
            }
    }
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
    recovery_target: Option<&RecoveryTarget>,
) -> Result<bool> {
    let Some(recovery_target) = recovery_target else { return Ok(false) };
    if !recovery_target.is_at(&repo.head()?)
        || repo.current_operation().is_some()
        || repo.read_index()?.has_conflicts()
    {
        return Ok(true);
    }
    // Files that differ from HEAD now and not in the backup; an interrupted reset also leaves such files.
    let held: BTreeSet<&RepoPath> = chosen.files.iter().map(|file| &file.path).collect();
    Ok(repo.list_changes()?.tracked.keys().any(|path| !held.contains(path)))
}
