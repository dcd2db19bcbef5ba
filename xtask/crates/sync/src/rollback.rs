//! Rollback or cleanup of a transaction: at once after a failure, and by the next command after a
//! crash.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::backup;
use super::fingerprint::fingerprint_file;
use super::journal::{self, FileStep, HeadStep, Journal, TransactionPhase};
use super::overlay;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk, FileId};
use xtask_base::parallel::map_halves;
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_git::{FileStat, Id, Repo};

/// Returns whether this worktree has an interrupted transaction.
#[must_use]
pub fn has_unfinished_transaction(repo: &Repo) -> bool {
    exists_on_disk(&journal::journal_path(repo))
}

/// Returns the note about an interrupted run, if there is one.
#[must_use]
pub fn interrupted_note(repo: &Repo) -> Option<String> {
    has_unfinished_transaction(repo).then(|| {
        "an earlier run was interrupted; the next `cargo xtask sync` recovers it".to_owned()
    })
}

/// Recovers from a crashed transaction: rolls it back, or cleans up if it was complete. Returns a
/// message if there was one. The caller holds the lock of the worktree.
pub fn recover_transaction(repo: &Repo, disk: &Disk<'_>) -> Result<Option<String>> {
    let journal: Journal = match record::read_record(&journal::journal_path(repo), journal::KIND) {
        LoadedRecord::Missing => return Ok(None),
        LoadedRecord::Valid(journal) => journal,
        LoadedRecord::Newer => {
            return Err(record::newer_record_error(
                "the journal of an earlier run",
                &journal::journal_path(repo),
            ));
        }
        LoadedRecord::Corrupt(why) => {
            return Err(Error::unable(format!("the journal of an earlier run is damaged: {why}"))
                .with_detail(journal::journal_path(repo).display().to_string())
                .with_hint("check `git status`; once the files are right, remove the journal"));
        }
    };
    if journal.overlay.is_some() {
        overlay::check_overlay_version(repo)?;
    }
    let has_moved = match &journal.head {
        None => journal.phase == TransactionPhase::Done,
        Some(head) => has_branch_moved(repo, head)?,
    };
    let purpose = &journal.purpose;
    let mut text = format!("an earlier `{purpose}` was interrupted and has been repaired");
    let put_aside = if has_moved {
        finish_transaction(repo, disk, &journal)
            .with_context(|| "cannot clean up after an interrupted run")?
    } else {
        remove_stale_ref_locks(repo, disk, &journal)?;
        let back = roll_back_transaction(repo, disk, &journal)?;
        if !back.is_complete {
            text.push_str(
                "; files changed since then stay as they are, and their previous contents are in \
                 the newest backup (`cargo xtask undo --list`)",
            );
        }
        back.displaced
    };
    for at in put_aside {
        text.push_str(&format!("; {}", at.describe()));
    }
    Ok(Some(text))
}

/// Returns whether the branch reached `head.new` or a descendant.
fn has_branch_moved(repo: &Repo, head: &HeadStep) -> Result<bool> {
    let name = match &head.branch {
        Some(branch) => format!("refs/heads/{branch}"),
        None => "HEAD".to_owned(),
    };
    let (Some(at), Ok(new)) = (repo.resolve_ref(&name)?, Id::from_hex(head.new.as_bytes())) else {
        return Ok(false);
    };
    // An undo moves to an ancestor, so the start is checked first.
    let is_where_it_began = Id::from_hex(head.old.as_bytes()).ok() == Some(at);
    Ok(at == new || (!is_where_it_began && repo.is_ancestor(new, at).unwrap_or(false)))
}

/// Number of checks, 10 ms apart, before an empty ref lock counts as stale.
const MAX_LOCK_CHECKS: u32 = 20;

/// Removes the locks on HEAD and the branch that our killed transaction left. They contain its new
/// commit or, if it was killed before writing that, stay empty for longer than git ever needs.
fn remove_stale_ref_locks(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    let Some(head) = journal.head.as_ref().filter(|_| journal.phase == TransactionPhase::Swapping)
    else {
        return Ok(());
    };
    if !is_own_index_lock(repo, journal) {
        return Ok(());
    }
    let mut locks = vec![repo.git_folder().join("HEAD.lock")];
    if let Some(branch) = &head.branch {
        locks.push(repo.common_folder().join(format!("refs/heads/{branch}.lock")));
    }
    for lock in locks {
        for round in 0..=MAX_LOCK_CHECKS {
            let Ok(text) = std::fs::read_to_string(&lock) else { break };
            let is_new = text.trim() == head.new;
            if is_new || (text.is_empty() && round == MAX_LOCK_CHECKS) {
                disk.remove_file(&lock)
                    .with_context(|| format!("cannot remove lock `{}`", lock.display()))?;
                break;
            }
            if !text.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    Ok(())
}

/// A file that came out of a swap, is in no commit or backup, and cannot return to its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisplacedFile {
    /// Original path.
    pub path: RepoPath,
    /// Present location, under `put-aside` in the state folder.
    pub file: PathBuf,
}

impl DisplacedFile {
    /// Describes both, for a message.
    #[must_use]
    pub fn describe(&self) -> String {
        let DisplacedFile { path, file } = self;
        format!("a concurrent change to `{path}` was saved as `{}`", file.display())
    }
}

/// Removes the file at the temporary name if its stat data match those of the scan. Returns whether
/// no file is left there.
fn remove_if_as_planned(root: &Path, disk: &Disk<'_>, step: &FileStep) -> io::Result<bool> {
    let waiting = step.aside.to_disk_path(root);
    let Ok(meta) = waiting.symlink_metadata() else { return Ok(true) };
    if step.look.is_none_or(|seen| !FileStat::from_metadata(&meta).is_same_file(&seen)) {
        return Ok(false);
    }
    disk.remove_file(&waiting)?;
    Ok(true)
}

/// Removes the file at the temporary name if its content is in git, in the backup, or the planned
/// one; moves any other file aside. A process that had the file open may have written to it after
/// the swap.
fn remove_or_displace(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
    step: &FileStep,
) -> io::Result<Option<DisplacedFile>> {
    if remove_if_as_planned(repo.root(), disk, step)? {
        return Ok(None);
    }
    let waiting = step.aside.to_disk_path(repo.root());
    // Before the first swap all temporary files are ours, complete or not.
    if journal.phase != TransactionPhase::Preparing {
        let print = fingerprint_file(repo, &waiting).map_err(io::Error::other)?;
        if print != step.before && print != step.after {
            let number = journal.files.iter().position(|other| other.aside == step.aside);
            let name = format!("{}-{}", journal.id, number.unwrap_or_default());
            let file =
                (1..).map(|time| repo.state_folder().join(format!("put-aside/{name}-{time}")));
            let file = file.into_iter().find(|file| !exists_on_disk(file)).unwrap_or_default();
            move_file(disk, &waiting, &file)?;
            return Ok(Some(DisplacedFile { path: step.path.clone(), file }));
        }
    }
    disk.remove_file(&waiting)?;
    Ok(None)
}

/// Moves a file to a free name, also on another file system.
fn move_file(disk: &Disk<'_>, from: &Path, to: &Path) -> io::Result<()> {
    disk.make_private_folders(to.parent().unwrap_or(to))?;
    match disk.rename_noreplace(from, to) {
        Err(cause) if cause.kind() == io::ErrorKind::CrossesDevices => {
            let meta = from.symlink_metadata()?;
            if meta.is_symlink() {
                disk.create_symlink(&std::fs::read_link(from)?, to)?;
            } else {
                disk.create_file(
                    to,
                    &std::fs::read(from)?,
                    CreateMode::Exact(meta.mode() & 0o7777),
                )?;
                disk.fsync(to)?;
            }
            disk.remove_file(from)
        }
        done => done,
    }
}

/// Cleans up after a completed transaction. Returns the files that could not be removed.
pub fn finish_transaction(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
) -> io::Result<Vec<DisplacedFile>> {
    let root = repo.root();
    let mut put_aside = Vec::new();
    // Files with unchanged stat data are removed unread, in two threads; the rest one by one.
    let at_once = map_halves(&journal.files, |half| {
        half.iter().map(|step| remove_if_as_planned(root, disk, step)).collect()
    });
    for (step, is_gone) in journal.files.iter().zip(at_once) {
        if !is_gone? {
            put_aside.extend(remove_or_displace(repo, disk, journal, step)?);
        }
    }
    if let Some(kept) = &journal.overlay {
        if kept.is_empty() {
            disk.remove_file(&overlay::overlay_path(repo))?;
        } else {
            record::write_record(disk, &overlay::overlay_path(repo), overlay::KIND, kept)?;
        }
    }
    disk.remove_file(&journal::old_index_path(repo))?;
    disk.remove_file(&journal::new_index_path(repo))?;
    unlock_index(repo, disk, journal)?;
    disk.remove_file(&journal::journal_path(repo))?;
    Ok(put_aside)
}

fn unlock_index(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> io::Result<()> {
    if is_own_index_lock(repo, journal) {
        disk.remove_file(&repo.index_lock_file())?;
    }
    disk.remove_file(&journal::lock_text_path(repo))
}

fn is_own_index_lock(repo: &Repo, journal: &Journal) -> bool {
    std::fs::read(repo.index_lock_file()).is_ok_and(|text| text == journal.lock_text().as_bytes())
}

/// Outcome of a rollback.
#[derive(Debug, Default)]
pub struct RollbackOutcome {
    /// Whether everything is as before.
    pub is_complete: bool,
    /// Files moved aside.
    pub displaced: Vec<DisplacedFile>,
}

/// Rolls back a transaction that has not moved the branch. Files that somebody has changed since
/// stay as they are; the backup then stays as well.
pub fn roll_back_transaction(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
) -> Result<RollbackOutcome> {
    let failed = || "cannot restore the previous state";
    let old = journal::old_index_path(repo);
    let replaced = old.exists() && !is_same_content(&old, &repo.index_file());
    let is_ours = is_own_index_lock(repo, journal);
    if !is_ours && (replaced || has_swapped_files(repo, journal)?) {
        // Somebody removed our lock and went on working with our files, which may be committed by
        // now. They stay, and their old contents stay in the backup.
        let put_aside = finish_transaction(repo, disk, journal).with_context(failed)?;
        return Ok(RollbackOutcome { is_complete: false, displaced: put_aside });
    }
    let undo = || -> io::Result<RollbackOutcome> {
        let mut back = RollbackOutcome { is_complete: true, displaced: Vec::new() };
        if replaced {
            disk.replace_file(&old, &repo.index_file())?;
        } else if is_ours && journal.had_index == Some(false) {
            disk.remove_file(&repo.index_file())?;
        }
        for step in journal.files.iter().rev().filter(|step| !step.removes) {
            swap_file_back(repo, disk, journal, step, &mut back)?;
        }
        for folder in journal.folders.iter().rev() {
            disk.remove_empty_folder(&folder.path.to_disk_path(repo.root()))?;
        }
        for step in journal.files.iter().rev().filter(|step| step.removes) {
            restore_removed_file(repo, disk, journal, step, &mut back)?;
        }
        disk.remove_file(&old)?;
        disk.remove_file(&journal::new_index_path(repo))?;
        unlock_index(repo, disk, journal)?;
        Ok(back)
    };
    let back = undo().with_context(failed)?;
    // After a complete rollback the backup has no purpose.
    if let Some(commit) = journal.backup.as_ref().and_then(|id| Id::from_hex(id.as_bytes()).ok())
        && back.is_complete
    {
        disk.check_gate("forget the backup").with_context(failed)?;
        backup::unpublish_backup(repo, commit)?;
    }
    disk.remove_file(&journal::journal_path(repo)).with_context(failed)?;
    Ok(back)
}

/// Returns whether any file of the transaction has been swapped in.
fn has_swapped_files(repo: &Repo, journal: &Journal) -> Result<bool> {
    if journal.phase == TransactionPhase::Preparing {
        return Ok(false);
    }
    for step in &journal.files {
        let waiting = fingerprint_file(repo, &step.aside.to_disk_path(repo.root()))?;
        let is_swapped = match (&step.before, step.removes) {
            (Some(_), _) => waiting.is_some() && waiting != step.after,
            (None, true) => false,
            (None, false) => step.after.is_some() && waiting.is_none(),
        };
        if is_swapped {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Swaps the old content back, or whatever came out of the swap.
fn swap_file_back(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
    step: &FileStep,
    back: &mut RollbackOutcome,
) -> io::Result<()> {
    let target = step.path.to_disk_path(repo.root());
    let aside = step.aside.to_disk_path(repo.root());
    let at = |path: &Path| fingerprint_file(repo, path).map_err(io::Error::other);
    disk.recover_exchange(&aside, &target)?;
    let (there, waiting) = (at(&target)?, at(&aside)?);
    let is_swapped = step.after.is_some() && there == step.after;
    match &step.before {
        Some(_) if is_swapped && waiting.is_some() && waiting != step.after => {
            disk.exchange(&aside, &target)?;
        }
        None if is_swapped && waiting.is_none() => disk.rename_noreplace(&target, &aside)?,
        // The temporary file has the old content, and somebody has changed the new one: theirs
        // stays.
        Some(_) => {
            back.is_complete &= waiting.is_none() || waiting == step.after || there == step.before;
        }
        None => {}
    }
    back.displaced.extend(remove_or_displace(repo, disk, journal, step)?);
    Ok(())
}

/// Moves a removed file back.
fn restore_removed_file(
    repo: &Repo,
    disk: &Disk<'_>,
    journal: &Journal,
    step: &FileStep,
    back: &mut RollbackOutcome,
) -> io::Result<()> {
    let target = step.path.to_disk_path(repo.root());
    let aside = step.aside.to_disk_path(repo.root());
    if !exists_on_disk(&aside) {
        return Ok(());
    }
    if exists_on_disk(&target) {
        // Somebody has created a new file there since: theirs stays.
        back.displaced.extend(remove_or_displace(repo, disk, journal, step)?);
        back.is_complete = false;
        return Ok(());
    }
    if let Some(folder) = target.parent().filter(|folder| !folder.is_dir()) {
        std::fs::create_dir_all(folder)?;
    }
    disk.rename_noreplace(&aside, &target)
}

fn exists_on_disk(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn is_same_content(one: &Path, two: &Path) -> bool {
    match (one.symlink_metadata(), two.symlink_metadata()) {
        (Ok(here), Ok(there)) if FileId::of(&here) == FileId::of(&there) => true,
        (Ok(here), Ok(there)) if here.len() == there.len() => {
            matches!((std::fs::read(one), std::fs::read(two)), (Ok(one), Ok(two)) if one == two)
        }
        _ => false,
    }
}
