//! Makes a batch of changes true: files, index and branch together, all or nothing.
//!
//! 1. The journal is written.
//! 2. New contents are written under names of our own beside their targets.
//! 3. Git's lock on the index is taken, and what the plan was made from is looked at again.
//! 4. Each content is swapped with what is there, in one step of the file system, and what came out
//!    must be what was expected: a file that somebody saved in the meantime goes back unharmed.
//! 5. The new index takes the place of the old one, which is kept.
//! 6. The branch is moved, if it still is where it was. This is the point of no return. For a
//!    transaction that moves no branch it is the journal that says "done".
//! 7. What was replaced is removed, and the lock and the journal with it.
//!
//! Up to 6 any failure takes everything back, in `recover`, which a later command calls after a
//! crash, too.

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
use super::prepare::prepare_files;
use super::rollback::{finish_transaction, roll_back_transaction};
use super::transaction::{FileUpdate, Transaction};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::parallel::map_halves;
use xtask_base::path::RepoPath;
use xtask_base::record;
use xtask_git::{
    FileMode, FileStat, Index, IndexStamp, IndexUpdate, PathCache, PathLookup, Repo, StatData,
    stat_data_from_metadata,
};

/// A transaction that went through.
#[derive(Debug)]
pub struct AppliedTransaction {
    /// The name of its backup.
    pub backup: Option<String>,
    /// Whether tidying up failed; the next command does it.
    pub needs_cleanup: bool,
    /// How the files look that are as they are staged now.
    pub clean_stats: BTreeMap<RepoPath, StatData>,
}

/// Makes the batch true, and answers with the name of its backup. `index` is the index from which
/// it was planned.
pub fn apply_transaction(
    applier: &ApplyContext<'_>,
    batch: &Transaction,
    index: Option<Index>,
) -> Result<AppliedTransaction> {
    let _held = applier.interrupts.defer_signals();
    let stages = batch.changes.iter().any(|change| change.stages.is_some());
    let index = match index {
        Some(index) => index,
        None => applier.repo.read_index()?,
    };
    fetch_missing_blobs(applier.repo, batch)?;
    let mut journal = draft_journal(applier, batch, stages.then(|| index.stamp().is_some()))?;
    let done = run_transaction(applier, batch, &mut journal, index);
    match done {
        Ok(applied) => Ok(applied),
        Err(failure) => match roll_back_transaction(applier.repo, applier.disk, &journal) {
            Ok(back) => {
                let mut failure = failure;
                if !back.is_complete {
                    failure = failure
                        .with_hint("what some files held before is in `cargo xtask undo --list`");
                }
                Err(back
                    .displaced
                    .iter()
                    .fold(failure, |failure, at| failure.with_detail(at.describe())))
            }
            Err(second) => Err(failure
                .with_detail(format!("and the rollback failed, too: {second}"))
                .with_hint("the next `cargo xtask sync` will put it right")),
        },
    }
}

/// Brings what is to be written, where a partial clone has not got it.
fn fetch_missing_blobs(repo: &Repo, batch: &Transaction) -> Result<()> {
    let written = batch.changes.iter().filter_map(|change| match change.file {
        FileUpdate::CheckOut(entry)
        | FileUpdate::Restore(entry)
        | FileUpdate::RestoreExactly(entry, _)
            if entry.mode != FileMode::Gitlink =>
        {
            Some((entry.id, change.path.to_string()))
        }
        _ => None,
    });
    repo.fetch_objects(written)
}

/// The journal before anything happened: which names will be used.
fn draft_journal(
    applier: &ApplyContext<'_>,
    batch: &Transaction,
    had_index: Option<bool>,
) -> Result<Journal> {
    let repo = applier.repo;
    let mut ways = PathCache::default();
    let mut nearest: BTreeMap<Option<RepoPath>, (Option<RepoPath>, Vec<RepoPath>)> =
        BTreeMap::new();
    let mut files = Vec::new();
    let mut folders: BTreeSet<RepoPath> = BTreeSet::new();
    let removals = batch.changes.iter().filter(|change| change.file == FileUpdate::Remove);
    let goes: BTreeSet<&RepoPath> = removals.map(|change| &change.path).collect();
    for (number, change) in batch.changes.iter().enumerate() {
        if change.file == FileUpdate::None {
            continue;
        }
        let removes = change.file == FileUpdate::Remove;
        let parent = change.path.parent();
        let (waits_in, missing) = match nearest.get(&parent) {
            Some(known) => known.clone(),
            None => {
                let found = find_nearest_folder(repo, &mut ways, &change.path, &goes)?;
                nearest.insert(parent, found.clone());
                found
            }
        };
        if !removes {
            folders.extend(missing);
        }
        // What is removed waits at the root, so that its folder can go; unless that is on another
        // file system, to which nothing can be moved in one step.
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
        purpose: batch.purpose.clone(),
        phase: TransactionPhase::Preparing,
        files,
        folders: folders.into_iter().map(|path| FolderStep { path }).collect(),
        had_index,
        head: batch.head.as_ref().map(|head| HeadStep {
            branch: head.branch.clone(),
            old: head.old.to_string(),
            new: head.new.to_string(),
        }),
        overlay: batch.overlay.as_ref().map(Overlay::to_stored),
        backup: batch.backup.as_ref().map(|prepared| prepared.commit.to_string()),
    })
}

/// The nearest folder above a path that is there, and those below it that are not.
fn find_nearest_folder(
    repo: &Repo,
    ways: &mut PathCache,
    path: &RepoPath,
    goes: &BTreeSet<&RepoPath>,
) -> Result<(Option<RepoPath>, Vec<RepoPath>)> {
    let mut missing = Vec::new();
    for folder in path.ancestors() {
        match ways.look_up_path(repo.root(), &folder)? {
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
    batch: &Transaction,
    journal: &mut Journal,
    mut index: Index,
) -> Result<AppliedTransaction> {
    let ApplyContext { repo, disk, .. } = applier;
    let stamp = index.stamp().cloned();
    write_journal(repo, disk, journal)?;
    let backup = match &batch.backup {
        Some(prepared) => {
            disk.check_gate("name the backup").with_context(|| "the backup cannot be named")?;
            Some(backup::publish_backup(repo, prepared)?)
        }
        None => None,
    };
    let staged = build_staged_entries(repo, batch, &index)?;
    if journal.had_index.is_some() {
        repo.mark_racy_entries(&mut index)?;
    }
    index.apply_updates(&staged);
    prepare_files(applier, batch, journal, &index)?;
    record_overlay_stats(journal);
    journal.phase = TransactionPhase::Swapping;
    write_journal(repo, disk, journal)?;
    lock_index(repo, disk, journal)?;
    check_still_as_planned(applier, batch, stamp.as_ref())?;
    swap_files_in(applier, journal)?;
    let looks = match journal.had_index {
        Some(_) => write_index(repo, disk, batch, journal, index, staged)?,
        None => BTreeMap::new(),
    };
    if applier.interrupts.was_interrupted() {
        return Err(interrupted_error());
    }
    match &batch.head {
        Some(head) => {
            disk.check_gate("move the branch").with_context(|| "the branch cannot be moved")?;
            repo.move_head(head.old, head.new, &head.message)?;
        }
        None => {
            journal.phase = TransactionPhase::Done;
            write_journal(repo, disk, journal)?;
        }
    }
    // What is left is tidying up. If it fails the change stands, and the next command tidies.
    let finished = finish_transaction(repo, disk, journal);
    let is_untidy = finished.is_err();
    for at in finished.unwrap_or_default() {
        applier.progress.warn(&at.describe());
    }
    Ok(AppliedTransaction { backup, needs_cleanup: is_untidy, clean_stats: looks })
}

fn write_journal(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    record::write_record(disk, &journal::journal_path(repo), journal::KIND, journal)
        .with_context(|| "the journal cannot be written")
}

/// Notes how the files of an overlay look, by which it is known again.
fn record_overlay_stats(journal: &mut Journal) {
    let made: BTreeMap<&RepoPath, FileStat> =
        journal.files.iter().filter_map(|step| Some((&step.path, step.made?))).collect();
    for kept in journal.overlay.iter_mut().flatten() {
        if let Some(look) = made.get(kept.path()) {
            kept.set_stat(*look);
        }
    }
}

/// What the index is to hold, without the times of files that are not written yet.
fn build_staged_entries(
    repo: &Repo,
    batch: &Transaction,
    index: &Index,
) -> Result<BTreeMap<RepoPath, IndexUpdate>> {
    let mut staged = BTreeMap::new();
    let mut ways = PathCache::default();
    for change in &batch.changes {
        let Some(entry) = change.stages else { continue };
        // A file that stays as it is keeps its times only if they are known to belong to it.
        let stays = change.file == FileUpdate::None;
        let reached = stays.then(|| ways.look_up_path(repo.root(), &change.path)).transpose()?;
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

/// Takes git's lock on the index, with a text in it that says whose it is.
fn lock_index(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    let failed = || "the index cannot be locked";
    let source = journal::lock_text_path(repo);
    disk.write_atomically(&source, journal.lock_text().as_bytes()).with_context(failed)?;
    let lock = repo.index_lock_file();
    match disk.create_hard_link(&source, &lock) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::unable("the index is locked: another git process is at work here")
                .with_hint("wait until it has ended; if none is running, remove the file")
                .with_detail(lock.display().to_string()))
        }
        Err(cause) if cause.kind() == io::ErrorKind::Unsupported => disk
            .create_file(&lock, journal.lock_text().as_bytes(), CreateMode::Plain)
            .with_context(failed),
        Err(cause) => Err(Error::unable(failed()).with_cause(cause)),
    }
}

/// Looks again at what the plan was made from, now that git cannot change it any more.
fn check_still_as_planned(
    applier: &ApplyContext<'_>,
    batch: &Transaction,
    stamp: Option<&IndexStamp>,
) -> Result<()> {
    let repo = applier.repo;
    repo.forget_refs();
    let moved = |what: &str| {
        Error::unable(format!("{what} meanwhile; nothing was changed")).with_hint("run it again")
    };
    if repo.index_stamp().as_ref() != stamp {
        return Err(moved("the index was changed"));
    }
    if let Some(operation) =
        repo.current_operation().filter(|found| Some(found.kind) != applier.ending)
    {
        return Err(moved(&format!("{} was begun", operation.name)));
    }
    if let Some(expected) = &batch.head {
        let head = repo.head()?;
        if head.branch != expected.branch || head.commit != expected.old {
            return Err(moved("another commit was checked out"));
        }
    }
    Ok(())
}

/// Swaps the new contents in: removals first, so that they make way.
fn swap_files_in(applier: &ApplyContext<'_>, journal: &Journal) -> Result<()> {
    let ApplyContext { repo, disk, interrupts, .. } = applier;
    let (removals, writes): (Vec<_>, Vec<_>) = journal.files.iter().partition(|s| s.removes);
    let mut ways = PathCache::default();
    for step in removals {
        if interrupts.was_interrupted() {
            return Err(interrupted_error());
        }
        swap_file(repo, disk, step, &mut ways)?;
        remove_empty_folders(repo, disk, &step.path)?;
    }
    for folder in &journal.folders {
        let path = folder.path.to_disk_path(repo.root());
        match disk.make_folder(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made.with_context(|| format!("the folder `{}` cannot be made", folder.path))?,
        }
    }
    let mut ways = PathCache::default();
    for step in writes {
        if interrupts.was_interrupted() {
            return Err(interrupted_error());
        }
        swap_file(repo, disk, step, &mut ways)?;
    }
    Ok(())
}

fn swap_file(repo: &Repo, disk: &Disk<'_>, step: &FileStep, ways: &mut PathCache) -> Result<()> {
    let target = step.path.to_disk_path(repo.root());
    let aside = step.aside.to_disk_path(repo.root());
    let failed = || format!("`{}` cannot be replaced", step.path);
    if let Some(link) = ways.find_symlink_above(repo.root(), &step.path)? {
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
        // Somebody saved the file between our look and the swap: theirs goes back, at once.
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

/// Whether what came out of a swap is what the plan saw: by its size, time and inode, where those
/// can be trusted, and else by its bytes. The ctime has changed by the swap itself.
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
    Error::unable(format!("`{path}` was changed meanwhile; nothing was changed by sync"))
        .with_hint("run it again")
}

/// Removes the folders that a removal has left empty.
fn remove_empty_folders(repo: &Repo, disk: &Disk<'_>, path: &RepoPath) -> Result<()> {
    for folder in path.ancestors() {
        let gone = disk
            .remove_empty_folder(&folder.to_disk_path(repo.root()))
            .with_context(|| format!("the empty folder `{folder}` cannot be removed"))?;
        if !gone {
            break;
        }
    }
    Ok(())
}

fn write_index(
    repo: &Repo,
    disk: &Disk<'_>,
    batch: &Transaction,
    journal: &Journal,
    mut index: Index,
    mut staged: BTreeMap<RepoPath, IndexUpdate>,
) -> Result<BTreeMap<RepoPath, StatData>> {
    let repo_root = repo.root();
    let failed = || "the new index cannot be written";
    let had_index = index.stamp().is_some();
    let looked = map_halves(&journal.files, |half| {
        let look = |step: &FileStep| step.path.to_disk_path(repo_root).symlink_metadata().ok();
        half.iter().map(look).collect()
    });
    let mut made: BTreeMap<&RepoPath, Metadata> = BTreeMap::new();
    for (step, meta) in journal.files.iter().zip(looked) {
        // Somebody may have saved it since: then git must look for itself.
        let is_ours = |meta: &Metadata| {
            step.made.is_some_and(|made| made.is_same_file(&FileStat::from_metadata(meta)))
        };
        if let Some(meta) = meta.filter(is_ours) {
            made.insert(&step.path, meta);
        }
    }
    for change in &batch.changes {
        // The times of a file may stand beside an entry only if the file is that entry; otherwise
        // git would take the user's change for none.
        let holds = match change.file {
            FileUpdate::CheckOut(entry)
            | FileUpdate::Restore(entry)
            | FileUpdate::RestoreExactly(entry, _) => Some(entry),
            FileUpdate::None | FileUpdate::Remove => None,
        };
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
        // Of a git that was killed here; nobody else is at work with this name.
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

/// Keeps the old index under a second name; where that cannot be, as a copy.
fn keep_old_index(repo: &Repo, disk: &Disk<'_>, old: &Path) -> io::Result<()> {
    match disk.create_hard_link(&repo.index_file(), old) {
        Err(cause) if cause.kind() == io::ErrorKind::Unsupported => {
            disk.write_atomically(old, &std::fs::read(repo.index_file())?)
        }
        done => done,
    }
}
