//! Applies a `Transaction` to files, index and branch, all or nothing.
//!
//! 1. Write the journal (`journal`).
//! 2. Write new contents under temporary names next to their targets, e.g. `setup/.xtask-ID-0`
//!    (`prepare`).
//! 3. Take git's `index.lock`, then check the index stamp, HEAD and operation in progress again.
//! 4. Swap each content with the present file in one file-system step (`renameat2` with
//!    `RENAME_EXCHANGE`) and compare the file that came out with `FileStep::before`: a file that
//!    somebody saved in between goes back unharmed.
//! 5. Replace the index; the old one is kept as `index.old`.
//! 6. Move the branch if it still is at `HeadMove::old`. This is the point of no return. A
//!    transaction that moves no branch sets the journal's phase to `Done` instead.
//! 7. Remove the replaced files, the lock and the journal.
//!
//! A failure before step 6 is rolled back by `rollback`, which a later command also calls after a
//! crash.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io;
use std::path::Path;

pub use super::apply_context::ApplyContext;
use super::apply_context::interrupted_error;
use super::backup;
use super::fingerprint::{fingerprint_entry, fingerprint_file};
use super::journal::{self, FileStep, FolderStep, HeadStep, Journal, TransactionPhase};
use super::overlay::Overlay;
use super::prepare::{fetch_missing_blobs, prepare_files};
use super::rollback::{finish_transaction, roll_back_transaction};
use super::transaction::{FileUpdate, Transaction};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::parallel::map_halves;
use xtask_base::path::RepoPath;
use xtask_base::record;
use xtask_git::{
    FileStat, Index, IndexStamp, IndexUpdate, PathCache, PathLookup, Repo, StatData,
    stat_data_from_metadata,
};

/// An applied transaction.
#[derive(Debug)]
pub struct AppliedTransaction {
    /// Name of the backup, e.g. `20260131T120000Z-1`.
    pub backup: Option<String>,
    /// Whether cleanup failed; the next command does it.
    pub needs_cleanup: bool,
    /// Stat data of the written files that match their index entry.
    pub clean_stats: BTreeMap<RepoPath, StatData>,
}

/// Applies `transaction` and returns the name of its backup. `index` is the index that the plan was made
/// from; `None` reads it.
///
/// A failure rolls back, and the error says if that failed as well.
pub fn apply_transaction(
    applier: &ApplyContext<'_>,
    transaction: &Transaction,
    index: Option<Index>,
) -> Result<AppliedTransaction> {
    let _held = applier.interrupts.defer_signals();
    let stages = transaction.changes.iter().any(|change| change.stages.is_some());
    let index = match index {
        Some(index) => index,
        None => applier.repo.read_index()?,
    };
    fetch_missing_blobs(applier.repo, transaction)?;
    let mut journal = draft_journal(applier, transaction, stages.then(|| index.stamp().is_some()))?;
    let done = run_transaction(applier, transaction, &mut journal, index);
    match done {
        Ok(applied) => Ok(applied),
        Err(failure) => match roll_back_transaction(applier.repo, applier.disk, &journal) {
            Ok(back) => {
                let mut failure = failure;
                if !back.is_complete {
                    failure = failure.with_hint(
                        "the previous contents of some files are in a backup: `cargo xtask undo \
                         --list`",
                    );
                }
                Err(back
                    .displaced
                    .iter()
                    .fold(failure, |failure, at| failure.with_detail(at.describe())))
            }
            Err(second) => Err(failure
                .with_detail(format!("rollback also failed: {second}"))
                .with_hint("the next `cargo xtask sync` repairs it")),
        },
    }
}

/// Builds the journal before the first write: it fixes the temporary names.
fn draft_journal(
    applier: &ApplyContext<'_>,
    transaction: &Transaction,
    had_index: Option<bool>,
) -> Result<Journal> {
    let repo = applier.repo;
    let mut path_cache = PathCache::default();
    let mut nearest: BTreeMap<Option<RepoPath>, (Option<RepoPath>, Vec<RepoPath>)> =
        BTreeMap::new();
    let mut files = Vec::new();
    let mut folders: BTreeSet<RepoPath> = BTreeSet::new();
    let removals = transaction.changes.iter().filter(|change| change.file == FileUpdate::Remove);
    let goes: BTreeSet<&RepoPath> = removals.map(|change| &change.path).collect();
    for (number, change) in transaction.changes.iter().enumerate() {
        if change.file == FileUpdate::None {
            continue;
        }
        let removes = change.file == FileUpdate::Remove;
        let parent = change.path.parent();
        let (waits_in, missing) = match nearest.get(&parent) {
            Some(known) => known.clone(),
            None => {
                let found = find_nearest_folder(repo, &mut path_cache, &change.path, &goes)?;
                nearest.insert(parent, found.clone());
                found
            }
        };
        if !removes {
            folders.extend(missing);
        }
        // A removed file waits in the root, so that its folder can be removed. If the root is on
        // another file system, a rename cannot reach it, and the file waits in its own folder.
        let waits_in =
            if removes && is_on_one_file_system(repo, waits_in.as_ref()) { None } else { waits_in };
        let mut aside = waits_in.map_or(Vec::new(), |folder| [folder.as_bytes(), b"/"].concat());
        aside.extend_from_slice(format!(".xtask-{}-{number}", applier.id).as_bytes());
        let aside = RepoPath::new(aside);
        let before = change.expected.map(fingerprint_entry);
        let (path, look) = (change.path.clone(), change.expected_stat);
        files.push(FileStep { path, aside, before, after: None, removes, look, made: None });
    }
    Ok(Journal {
        id: applier.id.clone(),
        purpose: transaction.purpose.clone(),
        phase: TransactionPhase::Preparing,
        files,
        folders: folders.into_iter().map(|path| FolderStep { path }).collect(),
        had_index,
        head: transaction.head.as_ref().map(|head| HeadStep {
            branch: head.branch.clone(),
            old: head.old.to_string(),
            new: head.new.to_string(),
        }),
        overlay: transaction.overlay.as_ref().map(Overlay::to_stored),
        backup: transaction.backup.as_ref().map(|prepared| prepared.commit.to_string()),
    })
}

/// Returns the nearest existing folder above `path`, and the missing folders between the two.
fn find_nearest_folder(
    repo: &Repo,
    path_cache: &mut PathCache,
    path: &RepoPath,
    goes: &BTreeSet<&RepoPath>,
) -> Result<(Option<RepoPath>, Vec<RepoPath>)> {
    let mut missing = Vec::new();
    for folder in path.ancestors() {
        match path_cache.look_up_path(repo.root(), &folder)? {
            PathLookup::Found(meta) if meta.is_dir() => return Ok((Some(folder), missing)),
            PathLookup::Found(meta) if meta.is_symlink() && !goes.contains(&folder) => {
                return Err(Error::unable(format!("`{folder}` has become a symlink")));
            }
            _ => missing.push(folder),
        }
    }
    Ok((None, missing))
}

fn is_on_one_file_system(repo: &Repo, folder: Option<&RepoPath>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.symlink_metadata().map(|meta| meta.dev()).ok();
    folder.is_none_or(|folder| device(repo.root()) == device(&folder.to_disk_path(repo.root())))
}

fn run_transaction(
    applier: &ApplyContext<'_>,
    transaction: &Transaction,
    journal: &mut Journal,
    mut index: Index,
) -> Result<AppliedTransaction> {
    let ApplyContext { repo, disk, .. } = applier;
    let stamp = index.stamp().cloned();
    write_journal(repo, disk, journal)?;
    let backup = match &transaction.backup {
        Some(prepared) => {
            disk.check_gate("name the backup")
                .with_context(|| "cannot create the ref of the backup")?;
            Some(backup::publish_backup(repo, prepared)?)
        }
        None => None,
    };
    let staged = build_staged_entries(repo, transaction, &index)?;
    if journal.had_index.is_some() {
        repo.mark_racy_entries(&mut index)?;
    }
    index.apply_updates(&staged);
    prepare_files(applier, transaction, journal, &index)?;
    record_overlay_stats(journal);
    journal.phase = TransactionPhase::Swapping;
    write_journal(repo, disk, journal)?;
    lock_index(repo, disk, journal)?;
    check_still_as_planned(applier, transaction, stamp.as_ref())?;
    swap_files_in(applier, journal)?;
    let looks = match journal.had_index {
        Some(_) => write_index(repo, disk, transaction, journal, index, staged)?,
        None => BTreeMap::new(),
    };
    if applier.interrupts.was_interrupted() {
        return Err(interrupted_error());
    }
    match &transaction.head {
        Some(head) => {
            disk.check_gate("move the branch").with_context(|| "cannot move the branch")?;
            repo.move_head(head.old, head.new, &head.message)?;
        }
        None => {
            journal.phase = TransactionPhase::Done;
            write_journal(repo, disk, journal)?;
        }
    }
    // The rest is cleanup. If it fails, the change stays applied and the next command cleans up.
    let finished = finish_transaction(repo, disk, journal);
    let is_untidy = finished.is_err();
    for at in finished.unwrap_or_default() {
        applier.progress.warn(&at.describe());
    }
    Ok(AppliedTransaction { backup, needs_cleanup: is_untidy, clean_stats: looks })
}

fn write_journal(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    record::write_record(disk, &journal::journal_path(repo), journal::KIND, journal)
        .with_context(|| "cannot write the journal")
}

/// Stores the stat data of new overlay files, by which `OverlayFile::is_unchanged` recognizes them.
fn record_overlay_stats(journal: &mut Journal) {
    let made: BTreeMap<&RepoPath, FileStat> =
        journal.files.iter().filter_map(|step| Some((&step.path, step.made?))).collect();
    for kept in journal.overlay.iter_mut().flatten() {
        if let Some(look) = made.get(kept.path()) {
            kept.set_stat(*look);
        }
    }
}

/// Returns the index entries to write, without stat data for files that are not written yet.
fn build_staged_entries(
    repo: &Repo,
    transaction: &Transaction,
    index: &Index,
) -> Result<BTreeMap<RepoPath, IndexUpdate>> {
    let mut staged = BTreeMap::new();
    let mut path_cache = PathCache::default();
    for change in &transaction.changes {
        let Some(entry) = change.stages else { continue };
        // An untouched file keeps its stat data only if the index says that they belong to `entry`.
        let stays = change.file == FileUpdate::None;
        let reached =
            stays.then(|| path_cache.look_up_path(repo.root(), &change.path)).transpose()?;
        let meta = match reached {
            Some(PathLookup::Found(meta))
                if repo.staged_status(index, &change.path)?.entry() == entry
                    && index.is_up_to_date(&change.path, &meta) =>
            {
                Some(meta)
            }
            _ => None,
        };
        let is_skipped = change.is_sparse;
        staged.insert(change.path.clone(), IndexUpdate { entry, meta, is_skipped });
    }
    Ok(staged)
}

/// Takes git's `index.lock`; its content (`Journal::lock_text`) identifies the owner.
fn lock_index(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    let failed = || "cannot lock the index";
    let source = journal::lock_text_path(repo);
    disk.write_atomically(&source, journal.lock_text().as_bytes()).with_context(failed)?;
    let lock = repo.index_lock_file();
    match disk.create_hard_link(&source, &lock) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::unable("the index is locked: another git process is running here")
                .with_hint("wait until it has ended; if none is running, remove the file")
                .with_detail(lock.display().to_string()))
        }
        Err(cause) if cause.kind() == io::ErrorKind::Unsupported => disk
            .create_file(&lock, journal.lock_text().as_bytes(), CreateMode::Plain)
            .with_context(failed),
        Err(cause) => Err(Error::unable(failed()).with_cause(cause)),
    }
}

/// Checks the inputs of the plan again, now that git can no longer change them.
fn check_still_as_planned(
    applier: &ApplyContext<'_>,
    transaction: &Transaction,
    stamp: Option<&IndexStamp>,
) -> Result<()> {
    let repo = applier.repo;
    repo.forget_refs();
    let moved = |what: &str| {
        Error::unable(format!("{what} concurrently; nothing was changed")).with_hint("run it again")
    };
    if repo.index_stamp().as_ref() != stamp {
        return Err(moved("the index was changed"));
    }
    if let Some(operation) =
        repo.current_operation().filter(|found| Some(found.kind) != applier.ending)
    {
        return Err(moved(&format!("{} was started", operation.name)));
    }
    if let Some(expected) = &transaction.head {
        let head = repo.head()?;
        if head.branch != expected.branch || head.commit != expected.old {
            return Err(moved("another commit was checked out"));
        }
    }
    Ok(())
}

/// Swaps the new contents in, removals first, so that files can make room for folders.
fn swap_files_in(applier: &ApplyContext<'_>, journal: &Journal) -> Result<()> {
    let ApplyContext { repo, disk, interrupts, .. } = applier;
    let (removals, writes): (Vec<_>, Vec<_>) = journal.files.iter().partition(|s| s.removes);
    let mut path_cache = PathCache::default();
    for step in removals {
        if interrupts.was_interrupted() {
            return Err(interrupted_error());
        }
        swap_file(repo, disk, step, &mut path_cache)?;
        remove_empty_folders(repo, disk, &step.path)?;
    }
    for folder in &journal.folders {
        let path = folder.path.to_disk_path(repo.root());
        match disk.make_folder(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made.with_context(|| format!("cannot create folder `{}`", folder.path))?,
        }
    }
    let mut path_cache = PathCache::default();
    for step in writes {
        if interrupts.was_interrupted() {
            return Err(interrupted_error());
        }
        swap_file(repo, disk, step, &mut path_cache)?;
    }
    Ok(())
}

fn swap_file(
    repo: &Repo,
    disk: &Disk<'_>,
    step: &FileStep,
    path_cache: &mut PathCache,
) -> Result<()> {
    let target = step.path.to_disk_path(repo.root());
    let aside = step.aside.to_disk_path(repo.root());
    let failed = || format!("cannot replace `{}`", step.path);
    if let Some(link) = path_cache.find_symlink_above(repo.root(), &step.path)? {
        return Err(Error::unable(format!("`{link}` has become a symlink; nothing was changed")));
    }
    let moved = match (&step.before, step.removes) {
        (Some(_), false) => disk.exchange(&aside, &target),
        (Some(_), true) => disk.rename_noreplace(&target, &aside),
        (None, false) => disk.rename_noreplace(&aside, &target),
        (None, true) => return Ok(()),
    };
    if let Err(cause) = &moved
        && matches!(cause.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
    {
        return Err(changed_meanwhile_error(&step.path));
    }
    moved.with_context(failed)?;
    if step.before.is_some() && !is_as_planned(repo, step, &aside)? {
        // Somebody saved the file between the scan and the swap: their file goes back at once.
        let back = if step.removes {
            disk.rename_noreplace(&aside, &target)
        } else {
            disk.exchange(&aside, &target)
        };
        back.with_context(failed)?;
        return Err(changed_meanwhile_error(&step.path));
    }
    Ok(())
}

/// Returns whether the file that came out of a swap is the one the plan saw: compared by size,
/// mtime and inode if `FileStep::look` is trusted, and by content otherwise. The swap itself
/// changes the ctime.
fn is_as_planned(repo: &Repo, step: &FileStep, aside: &Path) -> Result<bool> {
    if let Some(seen) = step.look
        && let Ok(meta) = aside.symlink_metadata()
        && FileStat::from_metadata(&meta).is_same_file(&seen)
    {
        return Ok(true);
    }
    Ok(fingerprint_file(repo, aside)? == step.before)
}

fn changed_meanwhile_error(path: &RepoPath) -> Error {
    Error::unable(format!("`{path}` was changed concurrently; nothing was changed by sync"))
        .with_hint("run it again")
}

/// Removes the folders above `path` that a removal has emptied.
fn remove_empty_folders(repo: &Repo, disk: &Disk<'_>, path: &RepoPath) -> Result<()> {
    for folder in path.ancestors() {
        let gone = disk
            .remove_empty_folder(&folder.to_disk_path(repo.root()))
            .with_context(|| format!("cannot remove the empty folder `{folder}`"))?;
        if !gone {
            break;
        }
    }
    Ok(())
}

fn write_index(
    repo: &Repo,
    disk: &Disk<'_>,
    transaction: &Transaction,
    journal: &Journal,
    mut index: Index,
    mut staged: BTreeMap<RepoPath, IndexUpdate>,
) -> Result<BTreeMap<RepoPath, StatData>> {
    let repo_root = repo.root();
    let failed = || "cannot write the new index";
    let had_index = index.stamp().is_some();
    let looked = map_halves(&journal.files, |half| {
        let look = |step: &FileStep| step.path.to_disk_path(repo_root).symlink_metadata().ok();
        half.iter().map(look).collect()
    });
    let mut made: BTreeMap<&RepoPath, Metadata> = BTreeMap::new();
    for (step, meta) in journal.files.iter().zip(looked) {
        // If somebody has saved the file since, git must compare the content itself.
        let is_ours = |meta: &Metadata| {
            step.made.is_some_and(|made| made.is_same_file(&FileStat::from_metadata(meta)))
        };
        if let Some(meta) = meta.filter(is_ours) {
            made.insert(&step.path, meta);
        }
    }
    for change in &transaction.changes {
        // An entry gets stat data only if the file has the content of that entry; otherwise git
        // would take the user's change for an unmodified file.
        let holds = change.file.entry();
        if let Some(staged) = staged.get_mut(&change.path)
            && holds.is_some()
            && staged.entry == holds
        {
            staged.meta = made.get(&change.path).cloned();
        }
    }
    let as_staged = staged.iter().filter_map(|(path, staged)| Some((path, staged.meta.as_ref()?)));
    let looks =
        as_staged.map(|(path, meta)| (path.clone(), stat_data_from_metadata(meta))).collect();
    let new = journal::new_index_path(repo);
    if had_index && repo.has_special_index(&index) {
        let present = std::fs::read(repo.index_file()).with_context(failed)?;
        disk.write_atomically(&new, &present).with_context(failed)?;
        // A lock of a git that was killed here; no other process uses this name.
        disk.remove_file(&repo.lock_path(&new)).with_context(failed)?;
        disk.check_gate("stage by git").with_context(failed)?;
        repo.update_index_by_git(&new, &staged)?;
        disk.fsync(&new).with_context(failed)?;
    } else {
        index.apply_updates(&staged);
        disk.write_atomically(&new, &index.to_bytes()?).with_context(failed)?;
    }
    if had_index {
        let old = journal::old_index_path(repo);
        disk.remove_file(&old).with_context(failed)?;
        keep_old_index(repo, disk, &old).with_context(failed)?;
    }
    repo.share_file(&new);
    disk.replace_file(&new, &repo.index_file()).with_context(failed)?;
    Ok(looks)
}

/// Keeps the old index under `old` as a hard link, or as a copy on a file system without hard
/// links.
fn keep_old_index(repo: &Repo, disk: &Disk<'_>, old: &Path) -> io::Result<()> {
    match disk.create_hard_link(&repo.index_file(), old) {
        Err(cause) if cause.kind() == io::ErrorKind::Unsupported => {
            disk.write_atomically(old, &std::fs::read(repo.index_file())?)
        }
        done => done,
    }
}
