//! Preparation of a transaction: writes each new content under its temporary name, e.g.
//! `setup/.xtask-18f2-2b0-0`. One thread reads; two write, in batches that limit memory use.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::apply_context::{ApplyContext, interrupted_error};
use super::fingerprint::fingerprint_entry;
use super::journal::{FileStep, Journal};
use super::transaction::{FileUpdate, Transaction};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::parallel::{MIN_PARALLEL_ITEMS, map_halves};
use xtask_git::{FileMode, FileStat, Filters, Index, Repo, TreeEntry};

/// Maximum size of a batch in bytes.
const BYTES_AT_A_TIME: usize = 8 << 20;

/// Maximum number of files in a batch, if there are at least `MIN_PARALLEL_ITEMS` in total.
const FILES_AT_A_TIME: usize = 512;

/// A content ready to be written.
struct PreparedFile<'a> {
    step: &'a mut FileStep,
    aside: PathBuf,
    content: Vec<u8>,
    /// Permissions of a file; `None` for a symlink.
    bits: Option<CreateMode>,
    /// Mode and blob id that the file will have on disk.
    fingerprint: TreeEntry,
}

/// Writes all new contents and stores their stat data and fingerprints in the journal.
pub(super) fn prepare_files(
    applier: &ApplyContext<'_>,
    transaction: &Transaction,
    journal: &mut Journal,
    index: &Index,
) -> Result<()> {
    let ApplyContext { repo, disk, interrupts, progress, .. } = applier;
    let mut filters = repo.smudge_filters(index)?;
    let has_symlinks = repo.config_bool("core.symlinks", true);
    let changes = transaction.changes.iter().filter(|change| change.file != FileUpdate::None);
    progress.begin_task("writing files", Some(journal.files.len() as u64));
    let is_many = journal.files.len() >= MIN_PARALLEL_ITEMS;
    let at_a_time = if is_many { FILES_AT_A_TIME } else { 1 };
    let mut ready = Vec::new();
    let mut bytes = 0;
    for (step, change) in journal.files.iter_mut().zip(changes) {
        if interrupts.was_interrupted() {
            return Err(interrupted_error());
        }
        let (entry, content) = match &change.file {
            FileUpdate::CheckOut(entry) => (*entry, smudge_blob(repo, &mut filters, step, *entry)?),
            FileUpdate::Restore(entry) | FileUpdate::RestoreExactly(entry, _) => {
                (*entry, repo.read_blob(entry.id)?)
            }
            FileUpdate::None | FileUpdate::Remove => continue,
        };
        let is_symlink = entry.mode == FileMode::Symlink && has_symlinks;
        let is_executable = entry.mode == FileMode::Executable;
        let bits = match change.file {
            _ if is_symlink => None,
            FileUpdate::RestoreExactly(_, bits) => Some(CreateMode::Exact(bits)),
            _ if is_executable => Some(CreateMode::Executable),
            _ => Some(CreateMode::Plain),
        };
        let mode = match bits {
            None => FileMode::Symlink,
            Some(_) if is_executable => FileMode::Executable,
            Some(_) => FileMode::File,
        };
        let print = TreeEntry { mode, id: repo.blob_id(&content)? };
        bytes += content.len();
        let aside = step.aside.to_disk_path(repo.root());
        ready.push(PreparedFile { step, aside, content, bits, fingerprint: print });
        if ready.len() == at_a_time || bytes >= BYTES_AT_A_TIME {
            progress.advance(ready.len() as u64);
            write_files(disk, std::mem::take(&mut ready))?;
            bytes = 0;
        }
    }
    write_files(disk, ready)?;
    progress.end_task();
    Ok(())
}

fn write_files(disk: &Disk<'_>, ready: Vec<PreparedFile<'_>>) -> Result<()> {
    let written = map_halves(&ready, |half| {
        let mut has_failed = false;
        let write = |ready: &PreparedFile<'_>| {
            if has_failed {
                return Err(io::Error::other("not tried, because another file failed"));
            }
            let look = write_file(disk, ready);
            has_failed = look.is_err();
            look
        };
        half.iter().map(write).collect()
    });
    for (ready, look) in ready.into_iter().zip(written) {
        let look = look.with_context(|| format!("cannot write `{}`", ready.step.path))?;
        ready.step.made = Some(look);
        ready.step.after = Some(fingerprint_entry(ready.fingerprint));
    }
    Ok(())
}

fn write_file(disk: &Disk<'_>, ready: &PreparedFile<'_>) -> io::Result<FileStat> {
    match ready.bits {
        None => disk.create_symlink(Path::new(OsStr::from_bytes(&ready.content)), &ready.aside)?,
        Some(bits) => disk.create_file(&ready.aside, &ready.content, bits)?,
    }
    Ok(FileStat::from_metadata(&ready.aside.symlink_metadata()?))
}

fn smudge_blob(
    repo: &Repo,
    filters: &mut Filters<'_>,
    step: &FileStep,
    entry: TreeEntry,
) -> Result<Vec<u8>> {
    let content = repo.read_blob(entry.id)?;
    if entry.mode == FileMode::Symlink {
        return Ok(content);
    }
    let filtered = filters.smudge(&step.path, &content)?;
    if filtered == content && filters.is_lfs_pointer(&step.path, &content)? {
        return Err(Error::unable(format!(
            "Git LFS did not fetch the content of `{}`; its pointer is not written over a file",
            step.path
        ))
        .with_hint("`git lfs install` sets it up, `git lfs env` shows what is wrong"));
    }
    Ok(filtered)
}

/// Fetches the blobs to be written that a partial clone does not have yet.
pub(super) fn fetch_missing_blobs(repo: &Repo, transaction: &Transaction) -> Result<()> {
    let written = transaction.changes.iter().filter_map(|change| {
        let entry = change.file.entry().filter(|entry| entry.mode != FileMode::Gitlink)?;
        Some((entry.id, change.path.to_string()))
    });
    repo.fetch_objects(written)
}
