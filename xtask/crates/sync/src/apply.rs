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

pub use super::applier::Applier;
use super::applier::interrupted;
use super::backup;
use super::batch::{Batch, FileChange};
use super::journal::{self, FileStep, FolderStep, HeadStep, Journal, Phase};
use super::overlay::Overlay;
use super::prepare::prepare;
use super::print::{print_at, print_of};
use super::recover::{finish, take_back};
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::{Bits, Disk};
use xtask_base::halves::in_halves;
use xtask_base::path::RepoPath;
use xtask_base::record;
use xtask_git::{
    CleanLook, FileStat, Index, IndexStamp, Mode, Reached, Repo, Staged, Ways, look_of_metadata,
};

/// A transaction that went through.
#[derive(Debug)]
pub struct Applied {
    /// The name of its backup.
    pub backup: Option<String>,
    /// Whether tidying up failed; the next command does it.
    pub is_untidy: bool,
    /// How the files look that are as they are staged now.
    pub looks: BTreeMap<RepoPath, CleanLook>,
}

/// Makes the batch true, and answers with the name of its backup. `index` is the index from which
/// it was planned.
pub fn apply(applier: &Applier<'_>, batch: &Batch, index: Option<Index>) -> Result<Applied> {
    let _held = applier.interrupts.hold_off();
    let stages = batch.changes.iter().any(|change| change.stages.is_some());
    let index = match index {
        Some(index) => index,
        None => applier.repo.index()?,
    };
    bring(applier.repo, batch)?;
    let mut journal = draft(applier, batch, stages.then(|| index.stamp().is_some()))?;
    let done = run(applier, batch, &mut journal, index);
    match done {
        Ok(applied) => Ok(applied),
        Err(failure) => match take_back(applier.repo, applier.disk, &journal) {
            Ok(back) => {
                let mut failure = failure;
                if !back.is_all {
                    failure =
                        failure.hint("what some files held before is in `cargo xtask undo --list`");
                }
                Err(back.put_aside.iter().fold(failure, |failure, at| failure.detail(at.words())))
            }
            Err(second) => Err(failure
                .detail(format!("and the rollback failed, too: {second}"))
                .hint("the next `cargo xtask sync` will put it right")),
        },
    }
}

/// Brings what is to be written, where a partial clone has not got it.
fn bring(repo: &Repo, batch: &Batch) -> Result<()> {
    let written = batch.changes.iter().filter_map(|change| match change.file {
        FileChange::CheckOut(entry)
        | FileChange::Restore(entry)
        | FileChange::RestoreExactly(entry, _)
            if entry.mode != Mode::Gitlink =>
        {
            Some((entry.id, change.path.to_string()))
        }
        _ => None,
    });
    repo.bring(written)
}

/// The journal before anything happened: which names will be used.
fn draft(applier: &Applier<'_>, batch: &Batch, had_index: Option<bool>) -> Result<Journal> {
    let repo = applier.repo;
    let mut ways = Ways::default();
    let mut nearest: BTreeMap<Option<RepoPath>, (Option<RepoPath>, Vec<RepoPath>)> =
        BTreeMap::new();
    let mut files = Vec::new();
    let mut folders: BTreeSet<RepoPath> = BTreeSet::new();
    let removals = batch.changes.iter().filter(|change| change.file == FileChange::Remove);
    let goes: BTreeSet<&RepoPath> = removals.map(|change| &change.path).collect();
    for (number, change) in batch.changes.iter().enumerate() {
        if change.file == FileChange::None {
            continue;
        }
        let removes = change.file == FileChange::Remove;
        let parent = change.path.parent();
        let (waits_in, missing) = match nearest.get(&parent) {
            Some(known) => known.clone(),
            None => {
                let found = nearest_folder(repo, &mut ways, &change.path, &goes)?;
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
        let before = change.expects.map(print_of);
        let (path, look) = (change.path.clone(), change.look);
        files.push(FileStep { path, aside, before, after: None, removes, look, made: None });
    }
    Ok(Journal {
        id: applier.id.clone(),
        purpose: batch.purpose.clone(),
        phase: Phase::Preparing,
        files,
        folders: folders.into_iter().map(|path| FolderStep { path }).collect(),
        had_index,
        head: batch.head.as_ref().map(|head| HeadStep {
            branch: head.branch.clone(),
            old: head.old.to_string(),
            new: head.new.to_string(),
        }),
        overlay: batch.overlay.as_ref().map(Overlay::to_kept),
        backup: batch.backup.as_ref().map(|prepared| prepared.commit.to_string()),
    })
}

/// The nearest folder above a path that is there, and those below it that are not.
fn nearest_folder(
    repo: &Repo,
    ways: &mut Ways,
    path: &RepoPath,
    goes: &BTreeSet<&RepoPath>,
) -> Result<(Option<RepoPath>, Vec<RepoPath>)> {
    let mut missing = Vec::new();
    for folder in path.ancestors() {
        match ways.reach(repo.root(), &folder)? {
            Reached::There(meta) if meta.is_dir() => return Ok((Some(folder), missing)),
            Reached::There(meta) if meta.is_symlink() && !goes.contains(&folder) => {
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
    folder.is_none_or(|folder| device(repo.root()) == device(&folder.on_disk(repo.root())))
}

fn run(
    applier: &Applier<'_>,
    batch: &Batch,
    journal: &mut Journal,
    mut index: Index,
) -> Result<Applied> {
    let Applier { repo, disk, .. } = applier;
    let stamp = index.stamp().cloned();
    write_journal(repo, disk, journal)?;
    let backup = match &batch.backup {
        Some(prepared) => {
            disk.other("name the backup").unable(|| "the backup cannot be named")?;
            Some(backup::publish(repo, prepared)?)
        }
        None => None,
    };
    let staged = staged(repo, batch, &index)?;
    if journal.had_index.is_some() {
        repo.settle(&mut index)?;
    }
    index.stage(&staged);
    prepare(applier, batch, journal, &index)?;
    note_overlay_looks(journal);
    journal.phase = Phase::Swapping;
    write_journal(repo, disk, journal)?;
    lock_index(repo, disk, journal)?;
    still_as_planned(applier, batch, stamp.as_ref())?;
    swap_in(applier, journal)?;
    let looks = match journal.had_index {
        Some(_) => write_index(repo, disk, batch, journal, index, staged)?,
        None => BTreeMap::new(),
    };
    if applier.interrupts.arrived() {
        return Err(interrupted());
    }
    match &batch.head {
        Some(head) => {
            disk.other("move the branch").unable(|| "the branch cannot be moved")?;
            repo.move_head(head.old, head.new, &head.message)?;
        }
        None => {
            journal.phase = Phase::Done;
            write_journal(repo, disk, journal)?;
        }
    }
    // What is left is tidying up. If it fails the change stands, and the next command tidies.
    let finished = finish(repo, disk, journal);
    let is_untidy = finished.is_err();
    for at in finished.unwrap_or_default() {
        applier.progress.remark(&at.words());
    }
    Ok(Applied { backup, is_untidy, looks })
}

fn write_journal(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    record::write(disk, &journal::file(repo), journal::KIND, journal)
        .unable(|| "the journal cannot be written")
}

/// Notes how the files of an overlay look, by which it is known again.
fn note_overlay_looks(journal: &mut Journal) {
    let made: BTreeMap<&RepoPath, FileStat> =
        journal.files.iter().filter_map(|step| Some((&step.path, step.made?))).collect();
    for kept in journal.overlay.iter_mut().flatten() {
        if let Some(look) = made.get(kept.path()) {
            kept.set_look(*look);
        }
    }
}

/// What the index is to hold, without the times of files that are not written yet.
fn staged(repo: &Repo, batch: &Batch, index: &Index) -> Result<BTreeMap<RepoPath, Staged>> {
    let mut staged = BTreeMap::new();
    let mut ways = Ways::default();
    for change in &batch.changes {
        let Some(entry) = change.stages else { continue };
        // A file that stays as it is keeps its times only if they are known to belong to it.
        let stays = change.file == FileChange::None;
        let reached = stays.then(|| ways.reach(repo.root(), &change.path)).transpose()?;
        let meta = match reached {
            Some(Reached::There(meta))
                if repo.staged(index, &change.path)?.entry() == entry
                    && index.is_fresh(&change.path, &meta) =>
            {
                Some(meta)
            }
            _ => None,
        };
        let is_skipped = change.is_sparse;
        staged.insert(change.path.clone(), Staged { entry, meta, is_skipped });
    }
    Ok(staged)
}

/// Takes git's lock on the index, with a text in it that says whose it is.
fn lock_index(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    let failed = || "the index cannot be locked";
    let source = journal::lock_source(repo);
    disk.write_whole(&source, journal.lock_text().as_bytes()).unable(failed)?;
    let lock = repo.index_lock();
    match disk.second_name(&source, &lock) {
        Ok(()) => Ok(()),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::unable("the index is locked: another git process is at work here")
                .hint("wait until it has ended; if none is running, remove the file")
                .detail(lock.display().to_string()))
        }
        Err(cause) if cause.kind() == io::ErrorKind::Unsupported => {
            disk.create(&lock, journal.lock_text().as_bytes(), Bits::Plain).unable(failed)
        }
        Err(cause) => Err(Error::unable(failed()).because(cause)),
    }
}

/// Looks again at what the plan was made from, now that git cannot change it any more.
fn still_as_planned(
    applier: &Applier<'_>,
    batch: &Batch,
    stamp: Option<&IndexStamp>,
) -> Result<()> {
    let repo = applier.repo;
    repo.forget_refs();
    let moved = |what: &str| {
        Error::unable(format!("{what} meanwhile; nothing was changed")).hint("run it again")
    };
    if repo.index_stamp().as_ref() != stamp {
        return Err(moved("the index was changed"));
    }
    if let Some(operation) = repo.operation().filter(|found| Some(found.kind) != applier.ending) {
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
fn swap_in(applier: &Applier<'_>, journal: &Journal) -> Result<()> {
    let Applier { repo, disk, interrupts, .. } = applier;
    let (removals, writes): (Vec<_>, Vec<_>) = journal.files.iter().partition(|s| s.removes);
    let mut ways = Ways::default();
    for step in removals {
        if interrupts.arrived() {
            return Err(interrupted());
        }
        swap(repo, disk, step, &mut ways)?;
        remove_empty_folders(repo, disk, &step.path)?;
    }
    for folder in &journal.folders {
        let path = folder.path.on_disk(repo.root());
        match disk.make_folder(&path) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
            made => made.unable(|| format!("the folder `{}` cannot be made", folder.path))?,
        }
    }
    let mut ways = Ways::default();
    for step in writes {
        if interrupts.arrived() {
            return Err(interrupted());
        }
        swap(repo, disk, step, &mut ways)?;
    }
    Ok(())
}

fn swap(repo: &Repo, disk: &Disk<'_>, step: &FileStep, ways: &mut Ways) -> Result<()> {
    let target = step.path.on_disk(repo.root());
    let aside = step.aside.on_disk(repo.root());
    let failed = || format!("`{}` cannot be replaced", step.path);
    if let Some(link) = ways.symlink_above(repo.root(), &step.path)? {
        return Err(Error::unable(format!("`{link}` has become a symlink; nothing was changed")));
    }
    let moved = match (&step.before, step.removes) {
        (Some(_), false) => disk.exchange(&aside, &target),
        (Some(_), true) => disk.place(&target, &aside),
        (None, false) => disk.place(&aside, &target),
        (None, true) => return Ok(()),
    };
    if let Err(cause) = &moved
        && matches!(cause.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
    {
        return Err(changed_meanwhile(&step.path));
    }
    moved.unable(failed)?;
    if step.before.is_some() && !is_what_was_seen(repo, step, &aside)? {
        // Somebody saved the file between our look and the swap: theirs goes back, at once.
        let back =
            if step.removes { disk.place(&aside, &target) } else { disk.exchange(&aside, &target) };
        back.unable(failed)?;
        return Err(changed_meanwhile(&step.path));
    }
    Ok(())
}

/// Whether what came out of a swap is what the plan saw: by its size, time and inode, where those
/// can be trusted, and else by its bytes. The ctime has changed by the swap itself.
fn is_what_was_seen(repo: &Repo, step: &FileStep, aside: &Path) -> Result<bool> {
    if let Some(seen) = step.look
        && let Ok(meta) = aside.symlink_metadata()
        && FileStat::of(&meta).is_same_file(&seen)
    {
        return Ok(true);
    }
    Ok(print_at(repo, aside)? == step.before)
}

fn changed_meanwhile(path: &RepoPath) -> Error {
    Error::unable(format!("`{path}` was changed meanwhile; nothing was changed by sync"))
        .hint("run it again")
}

/// Removes the folders that a removal has left empty.
fn remove_empty_folders(repo: &Repo, disk: &Disk<'_>, path: &RepoPath) -> Result<()> {
    for folder in path.ancestors() {
        let gone = disk
            .remove_empty_folder(&folder.on_disk(repo.root()))
            .unable(|| format!("the empty folder `{folder}` cannot be removed"))?;
        if !gone {
            break;
        }
    }
    Ok(())
}

fn write_index(
    repo: &Repo,
    disk: &Disk<'_>,
    batch: &Batch,
    journal: &Journal,
    mut index: Index,
    mut staged: BTreeMap<RepoPath, Staged>,
) -> Result<BTreeMap<RepoPath, CleanLook>> {
    let repo_root = repo.root();
    let failed = || "the new index cannot be written";
    let had_index = index.stamp().is_some();
    let looked = in_halves(&journal.files, |half| {
        let look = |step: &FileStep| step.path.on_disk(repo_root).symlink_metadata().ok();
        half.iter().map(look).collect()
    });
    let mut made: BTreeMap<&RepoPath, Metadata> = BTreeMap::new();
    for (step, meta) in journal.files.iter().zip(looked) {
        // Somebody may have saved it since: then git must look for itself.
        let is_ours =
            |meta: &Metadata| step.made.is_some_and(|made| made.is_same_file(&FileStat::of(meta)));
        if let Some(meta) = meta.filter(is_ours) {
            made.insert(&step.path, meta);
        }
    }
    for change in &batch.changes {
        // The times of a file may stand beside an entry only if the file is that entry; otherwise
        // git would take the user's change for none.
        let holds = match change.file {
            FileChange::CheckOut(entry)
            | FileChange::Restore(entry)
            | FileChange::RestoreExactly(entry, _) => Some(entry),
            FileChange::None | FileChange::Remove => None,
        };
        if let Some(staged) = staged.get_mut(&change.path)
            && holds.is_some()
            && staged.entry == holds
        {
            staged.meta = made.get(&change.path).cloned();
        }
    }
    let as_staged = staged.iter().filter_map(|(path, staged)| Some((path, staged.meta.as_ref()?)));
    let looks = as_staged.map(|(path, meta)| (path.clone(), look_of_metadata(meta))).collect();
    let new = journal::new_index(repo);
    if had_index && repo.has_special_index(&index) {
        let present = std::fs::read(repo.index_file()).unable(failed)?;
        disk.write_whole(&new, &present).unable(failed)?;
        // Of a git that was killed here; nobody else is at work with this name.
        disk.remove(&repo.lock_of(&new)).unable(failed)?;
        disk.other("stage by git").unable(failed)?;
        repo.stage_by_git(&new, &staged)?;
        disk.fsync(&new).unable(failed)?;
    } else {
        index.stage(&staged);
        disk.write_whole(&new, &index.to_bytes()?).unable(failed)?;
    }
    if had_index {
        let old = journal::old_index(repo);
        disk.remove(&old).unable(failed)?;
        keep_old(repo, disk, &old).unable(failed)?;
    }
    repo.share_file(&new);
    disk.replace(&new, &repo.index_file()).unable(failed)?;
    Ok(looks)
}

/// Keeps the old index under a second name; where that cannot be, as a copy.
fn keep_old(repo: &Repo, disk: &Disk<'_>, old: &Path) -> io::Result<()> {
    match disk.second_name(&repo.index_file(), old) {
        Err(cause) if cause.kind() == io::ErrorKind::Unsupported => {
            disk.write_whole(old, &std::fs::read(repo.index_file())?)
        }
        done => done,
    }
}
