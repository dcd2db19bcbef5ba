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
use std::io;
use std::path::Path;

use super::backup;
use super::batch::{Batch, FileChange};
use super::journal::{self, FileStep, FolderStep, HeadStep, Journal, Phase, Print};
use super::overlay::{self, Overlay};
use crate::base::error::{Context as _, Error, Kind, Result};
use crate::base::files::{Bits, Disk, is_executable};
use crate::base::path::RepoPath;
use crate::base::progress::Progress;
use crate::base::record::{self, Found};
use crate::base::signals::Interrupts;
use crate::repo::{
    Entry, FileStat, Filters, Id, Index, IndexStamp, Mode, Reached, Repo, Staged, Ways, read_raw,
};

/// What a transaction works with.
pub struct Applier<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The disk.
    pub disk: &'a Disk<'a>,
    /// The signals, which are held off.
    pub interrupts: &'a Interrupts,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
    /// Seconds since the epoch, for reflogs.
    pub now: i64,
    /// Tells this transaction from others.
    pub id: String,
}

/// A transaction that went through.
#[derive(Debug)]
pub struct Applied {
    /// The name of its backup.
    pub backup: Option<String>,
    /// Whether tidying up failed; the next command does it.
    pub is_untidy: bool,
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
    if stages && index.has_folders() {
        return Err(Error::unable("the index is sparse: folders stand in it for what is left out")
            .hint("`git sparse-checkout reapply --no-sparse-index`, then try again"));
    }
    let mut journal = draft(applier, batch, stages.then(|| index.stamp().is_some()))?;
    let done = run(applier, batch, &mut journal, index);
    match done {
        Ok(applied) => Ok(applied),
        Err(failure) => match take_back(applier.repo, applier.disk, &journal) {
            Ok(()) => Err(failure),
            Err(second) => Err(failure
                .detail(format!("and taking back what was begun failed, too: {second}"))
                .hint("the next `cargo xtask sync` will put it right")),
        },
    }
}

/// The journal before anything happened: which names will be used.
fn draft(applier: &Applier<'_>, batch: &Batch, had_index: Option<bool>) -> Result<Journal> {
    let repo = applier.repo;
    let mut ways = Ways::default();
    let mut files = Vec::new();
    let mut folders: BTreeSet<RepoPath> = BTreeSet::new();
    for (number, change) in batch.changes.iter().enumerate() {
        if change.file == FileChange::None {
            continue;
        }
        let removes = change.file == FileChange::Remove;
        let (waits_in, missing) = nearest_folder(repo, &mut ways, &change.path)?;
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
        files.push(FileStep { path, aside, before, after: None, removes, look });
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
) -> Result<(Option<RepoPath>, Vec<RepoPath>)> {
    let mut missing = Vec::new();
    for folder in path.ancestors() {
        match ways.reach(repo, &folder)? {
            Reached::There(meta) if meta.is_dir() => return Ok((Some(folder), missing)),
            Reached::There(meta) if meta.is_symlink() => {
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
    journal.phase = Phase::Swapping;
    write_journal(repo, disk, journal)?;
    lock_index(repo, disk, journal)?;
    still_as_planned(repo, batch, stamp.as_ref())?;
    swap_in(applier, journal)?;
    if journal.had_index.is_some() {
        write_index(repo, disk, batch, index, staged)?;
    }
    if applier.interrupts.arrived() {
        return Err(interrupted());
    }
    match &batch.head {
        Some(head) => {
            disk.other("move the branch").unable(|| "the branch cannot be moved")?;
            repo.move_head(head.old, head.new, &head.message, applier.now)?;
        }
        None => {
            journal.phase = Phase::Done;
            write_journal(repo, disk, journal)?;
        }
    }
    // What is left is tidying up. If it fails the change stands, and the next command tidies.
    let is_untidy = finish(repo, disk, journal).is_err();
    Ok(Applied { backup, is_untidy })
}

fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "interrupted; nothing was changed")
}

fn write_journal(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    record::write(disk, &journal::file(repo), journal::KIND, journal)
        .unable(|| "the journal cannot be written")
}

/// What the index is to hold, without the times of files that are not written yet.
fn staged(repo: &Repo, batch: &Batch, index: &Index) -> Result<BTreeMap<RepoPath, Staged>> {
    let mut staged = BTreeMap::new();
    let mut ways = Ways::default();
    for change in &batch.changes {
        let Some(entry) = change.stages else { continue };
        // A file that stays as it is keeps its times only if they are known to belong to it.
        let meta = match ways.reach(repo, &change.path)? {
            Reached::There(meta)
                if change.file == FileChange::None
                    && index.at(&change.path).entry() == entry
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

/// Writes every new content under its own name.
fn prepare(
    applier: &Applier<'_>,
    batch: &Batch,
    journal: &mut Journal,
    index: &Index,
) -> Result<()> {
    let Applier { repo, disk, interrupts, progress, .. } = applier;
    let mut filters = repo.smudge_filters(index)?;
    let has_symlinks = repo.setting_is("core.symlinks", true);
    let changes = batch.changes.iter().filter(|change| change.file != FileChange::None);
    progress.begin("writing files", Some(journal.files.len() as u64));
    for (step, change) in journal.files.iter_mut().zip(changes) {
        if interrupts.arrived() {
            return Err(interrupted());
        }
        let (entry, content) = match &change.file {
            FileChange::CheckOut(entry) => (*entry, checked_out(repo, &mut filters, step, *entry)?),
            FileChange::Restore(entry) => (*entry, repo.blob(entry.id)?),
            FileChange::None | FileChange::Remove => continue,
        };
        let raw = repo.blob_id(&content)?;
        let aside = step.aside.on_disk(repo.root());
        let failed = || format!("`{}` cannot be written", step.path);
        let mode = match entry.mode {
            Mode::Symlink if has_symlinks => {
                use std::os::unix::ffi::OsStrExt;
                let target = Path::new(std::ffi::OsStr::from_bytes(&content));
                disk.symlink(target, &aside).unable(failed)?;
                Mode::Symlink
            }
            Mode::Executable => {
                disk.create(&aside, &content, Bits::Executable).unable(failed)?;
                Mode::Executable
            }
            _ => {
                disk.create(&aside, &content, Bits::Plain).unable(failed)?;
                Mode::File
            }
        };
        step.after = Some(print_of(Entry { mode, id: raw }));
        progress.step(1);
    }
    progress.end();
    Ok(())
}

fn checked_out(
    repo: &Repo,
    filters: &mut Filters<'_>,
    step: &FileStep,
    entry: Entry,
) -> Result<Vec<u8>> {
    let content = repo.blob(entry.id)?;
    if entry.mode == Mode::Symlink {
        return Ok(content);
    }
    let filtered = filters.smudge(&step.path, &content)?;
    if filtered == content && filters.is_lfs_pointer(&step.path, &content)? {
        return Err(Error::unable(format!(
            "Git LFS did not fetch the content of `{}`; its pointer is not written over a file",
            step.path
        ))
        .hint("`git lfs install` sets it up, `git lfs env` shows what is wrong"));
    }
    Ok(filtered)
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
fn still_as_planned(repo: &Repo, batch: &Batch, stamp: Option<&IndexStamp>) -> Result<()> {
    let moved = |what: &str| {
        Error::unable(format!("{what} meanwhile; nothing was changed")).hint("run it again")
    };
    if repo.index_stamp().as_ref() != stamp {
        return Err(moved("the index was changed"));
    }
    if let Some(operation) = repo.operation() {
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
    if let Some(link) = ways.symlink_above(repo, &step.path)? {
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
    {
        let now = FileStat { ctime_ns: seen.ctime_ns, ..FileStat::of(&meta) };
        if now == seen {
            return Ok(true);
        }
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
    mut index: Index,
    mut staged: BTreeMap<RepoPath, Staged>,
) -> Result<()> {
    let failed = || "the new index cannot be written";
    let had_index = index.stamp().is_some();
    for change in &batch.changes {
        // The times of a file may stand beside an entry only if the file is that entry; otherwise
        // git would take the user's change for none.
        if let Some(staged) = staged.get_mut(&change.path)
            && let FileChange::CheckOut(entry) = change.file
            && staged.entry == Some(entry)
        {
            staged.meta = std::fs::symlink_metadata(change.path.on_disk(repo.root())).ok();
        }
    }
    index.stage(&staged);
    disk.write_whole(&journal::new_index(repo), &index.to_bytes()?).unable(failed)?;
    if had_index {
        let old = journal::old_index(repo);
        disk.remove(&old).unable(failed)?;
        keep_old(repo, disk, &old).unable(failed)?;
    }
    disk.replace(&journal::new_index(repo), &repo.index_file()).unable(failed)
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

/// Removes what a transaction leaves that went through.
fn finish(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> io::Result<()> {
    for step in &journal.files {
        disk.remove(&step.aside.on_disk(repo.root()))?;
    }
    if let Some(kept) = &journal.overlay {
        if kept.is_empty() {
            disk.remove(&overlay::file(repo))?;
        } else {
            record::write(disk, &overlay::file(repo), overlay::KIND, kept)?;
        }
    }
    disk.remove(&journal::old_index(repo))?;
    disk.remove(&journal::new_index(repo))?;
    unlock_index(repo, disk, journal)?;
    disk.remove(&journal::file(repo))
}

fn unlock_index(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> io::Result<()> {
    if lock_is_ours(repo, journal) {
        disk.remove(&repo.index_lock())?;
    }
    disk.remove(&journal::lock_source(repo))
}

fn lock_is_ours(repo: &Repo, journal: &Journal) -> bool {
    std::fs::read(repo.index_lock()).is_ok_and(|text| text == journal.lock_text().as_bytes())
}

/// Takes everything back that a transaction did before it moved the branch. What somebody else has
/// changed since stays as they left it.
fn take_back(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    let failed = || "what was begun cannot be taken back";
    let old = journal::old_index(repo);
    let replaced = old.exists() && !same_file(&old, &repo.index_file());
    let is_ours = lock_is_ours(repo, journal);
    if replaced && !is_ours {
        // Somebody has removed our lock and gone on with our index. It and the files belong
        // together, and the next sync commits them.
        return finish(repo, disk, journal).unable(failed);
    }
    let undo = || -> io::Result<()> {
        if replaced {
            disk.replace(&old, &repo.index_file())?;
        } else if is_ours && journal.had_index == Some(false) {
            disk.remove(&repo.index_file())?;
        }
        for step in journal.files.iter().rev().filter(|step| !step.removes) {
            swap_back(repo, disk, step)?;
        }
        for folder in journal.folders.iter().rev() {
            disk.remove_empty_folder(&folder.path.on_disk(repo.root()))?;
        }
        for step in journal.files.iter().rev().filter(|step| step.removes) {
            put_back(repo, disk, step)?;
        }
        disk.remove(&old)?;
        disk.remove(&journal::new_index(repo))?;
        unlock_index(repo, disk, journal)
    };
    undo().unable(failed)?;
    if let Some(commit) = journal.backup.as_ref().and_then(|id| Id::from_hex(id.as_bytes()).ok()) {
        disk.other("forget the backup").unable(failed)?;
        backup::forget_commit(repo, commit)?;
    }
    disk.remove(&journal::file(repo)).unable(failed)
}

fn swap_back(repo: &Repo, disk: &Disk<'_>, step: &FileStep) -> io::Result<()> {
    let target = step.path.on_disk(repo.root());
    let aside = step.aside.on_disk(repo.root());
    let at = |path: &Path| print_at(repo, path).map_err(io::Error::other);
    disk.mend_exchange(&aside, &target)?;
    let is_swapped = step.after.is_some() && at(&target)? == step.after;
    match &step.before {
        Some(_) if is_swapped && at(&aside)? == step.before && step.before != step.after => {
            disk.exchange(&aside, &target)?;
        }
        None if is_swapped && !exists(&aside) => disk.place(&target, &aside)?,
        _ => {}
    }
    disk.remove(&aside)
}

fn put_back(repo: &Repo, disk: &Disk<'_>, step: &FileStep) -> io::Result<()> {
    let target = step.path.on_disk(repo.root());
    let aside = step.aside.on_disk(repo.root());
    if !exists(&aside) {
        return Ok(());
    }
    if exists(&target) {
        // Somebody has made a new file there since; what was removed is in git.
        return disk.remove(&aside);
    }
    if let Some(folder) = target.parent().filter(|folder| !folder.is_dir()) {
        std::fs::create_dir_all(folder)?;
    }
    disk.place(&aside, &target)
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn same_file(one: &Path, two: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (one.symlink_metadata(), two.symlink_metadata()) {
        (Ok(here), Ok(there)) if (here.dev(), here.ino()) == (there.dev(), there.ino()) => true,
        (Ok(here), Ok(there)) if here.len() == there.len() => {
            matches!((std::fs::read(one), std::fs::read(two)), (Ok(one), Ok(two)) if one == two)
        }
        _ => false,
    }
}

fn print_of(entry: Entry) -> Print {
    Print { raw: entry.id.to_string(), mode: entry.mode.octal().to_owned() }
}

/// What is at a path on disk: its very bytes and kind.
fn print_at(repo: &Repo, on_disk: &Path) -> Result<Option<Print>> {
    let Some(content) = read_raw(on_disk)? else { return Ok(None) };
    let meta = on_disk
        .symlink_metadata()
        .unable(|| format!("`{}` cannot be looked at", on_disk.display()))?;
    let mode = if meta.is_symlink() {
        Mode::Symlink
    } else if is_executable(&meta) {
        Mode::Executable
    } else {
        Mode::File
    };
    Ok(Some(print_of(Entry { mode, id: repo.blob_id(&content)? })))
}

/// The entry that stands for a file's very bytes, for `Change::expects`.
pub fn raw_entry(repo: &Repo, path: &RepoPath) -> Result<Option<Entry>> {
    let print = print_at(repo, &path.on_disk(repo.root()))?;
    Ok(print.and_then(|print| {
        let mode = Mode::from_octal(&print.mode)?;
        Some(Entry { mode, id: Id::from_hex(print.raw.as_bytes()).ok()? })
    }))
}

/// Whether a transaction was cut short here.
#[must_use]
pub fn is_unfinished(repo: &Repo) -> bool {
    exists(&journal::file(repo))
}

/// Mends what a crashed transaction left: takes it back, or tidies up if it had gone through.
/// Says what it was for, if there was one. The caller holds the lock of the worktree.
pub fn recover(repo: &Repo, disk: &Disk<'_>) -> Result<Option<String>> {
    let journal: Journal = match record::read(&journal::file(repo), journal::KIND) {
        Found::Nothing => return Ok(None),
        Found::Whole(journal) => journal,
        Found::Broken(why) => {
            return Err(Error::unable(format!("the journal of an earlier run is damaged: {why}"))
                .detail(journal::file(repo).display().to_string())
                .hint("look at `git status`; when the files are as they should be, remove it"));
        }
    };
    let has_moved = match &journal.head {
        None => journal.phase == Phase::Done,
        Some(head) => has_moved(repo, head)?,
    };
    let mended = if has_moved {
        finish(repo, disk, &journal).unable(|| "an earlier run cannot be tidied up after")
    } else {
        remove_stale_ref_locks(repo, disk, &journal)?;
        take_back(repo, disk, &journal)
    };
    mended.map(|()| Some(journal.purpose))
}

/// Whether the branch got to the new commit, or further.
fn has_moved(repo: &Repo, head: &HeadStep) -> Result<bool> {
    let name = match &head.branch {
        Some(branch) => format!("refs/heads/{branch}"),
        None => "HEAD".to_owned(),
    };
    let (Some(at), Ok(new)) = (repo.resolve(&name)?, Id::from_hex(head.new.as_bytes())) else {
        return Ok(false);
    };
    // An undo goes back to an ancestor, so being where it began comes first.
    let is_where_it_began = Id::from_hex(head.old.as_bytes()).ok() == Some(at);
    Ok(at == new || (!is_where_it_began && repo.is_ancestor(new, at).unwrap_or(false)))
}

/// How often a lock on a ref is looked at before it counts as left behind.
const LOCK_ROUNDS: u32 = 20;

/// Removes the locks on HEAD and the branch that a killed transaction of ours left: they hold its
/// new commit or, if it was killed before writing that, nothing for longer than git ever needs.
fn remove_stale_ref_locks(repo: &Repo, disk: &Disk<'_>, journal: &Journal) -> Result<()> {
    let Some(head) = journal.head.as_ref().filter(|_| journal.phase == Phase::Swapping) else {
        return Ok(());
    };
    if !lock_is_ours(repo, journal) {
        return Ok(());
    }
    let mut locks = vec![repo.git_folder().join("HEAD.lock")];
    if let Some(branch) = &head.branch {
        locks.push(repo.common_folder().join(format!("refs/heads/{branch}.lock")));
    }
    for lock in locks {
        for round in 0..=LOCK_ROUNDS {
            let Ok(text) = std::fs::read_to_string(&lock) else { break };
            let is_new = text.trim() == head.new;
            if is_new || (text.is_empty() && round == LOCK_ROUNDS) {
                disk.remove(&lock)
                    .unable(|| format!("the lock `{}` cannot be removed", lock.display()))?;
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
