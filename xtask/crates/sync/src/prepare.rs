//! Writes every new content of a transaction under a name of our own: read here, written by two
//! threads, as many at a time as take little memory.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::applier::{Applier, interrupted};
use super::batch::{Batch, FileChange};
use super::journal::{FileStep, Journal};
use super::print::print_of;
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::{Bits, Disk};
use xtask_base::halves::{WORTH_A_THREAD, in_halves};
use xtask_git::{Entry, FileStat, Filters, Index, Mode, Repo};

/// Bytes of content that are read before they are written.
const BYTES_AT_A_TIME: usize = 8 << 20;

/// Files that are read before they are written, where there are many.
const FILES_AT_A_TIME: usize = 512;

/// A content that was read.
struct Ready<'a> {
    step: &'a mut FileStep,
    aside: PathBuf,
    content: Vec<u8>,
    /// The permissions of a file; nothing for a symlink.
    bits: Option<Bits>,
    /// What it will be on disk.
    print: Entry,
}

/// Writes them all, and notes in the journal how they look.
pub(super) fn prepare(
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
    let is_many = journal.files.len() >= WORTH_A_THREAD;
    let at_a_time = if is_many { FILES_AT_A_TIME } else { 1 };
    let mut ready = Vec::new();
    let mut bytes = 0;
    for (step, change) in journal.files.iter_mut().zip(changes) {
        if interrupts.arrived() {
            return Err(interrupted());
        }
        let (entry, content) = match &change.file {
            FileChange::CheckOut(entry) => (*entry, checked_out(repo, &mut filters, step, *entry)?),
            FileChange::Restore(entry) | FileChange::RestoreExactly(entry, _) => {
                (*entry, repo.blob(entry.id)?)
            }
            FileChange::None | FileChange::Remove => continue,
        };
        let is_symlink = entry.mode == Mode::Symlink && has_symlinks;
        let is_executable = entry.mode == Mode::Executable;
        let bits = match change.file {
            _ if is_symlink => None,
            FileChange::RestoreExactly(_, bits) => Some(Bits::Exact(bits)),
            _ if is_executable => Some(Bits::Executable),
            _ => Some(Bits::Plain),
        };
        let mode = match bits {
            None => Mode::Symlink,
            Some(_) if is_executable => Mode::Executable,
            Some(_) => Mode::File,
        };
        let print = Entry { mode, id: repo.blob_id(&content)? };
        bytes += content.len();
        let aside = step.aside.on_disk(repo.root());
        ready.push(Ready { step, aside, content, bits, print });
        if ready.len() == at_a_time || bytes >= BYTES_AT_A_TIME {
            progress.step(ready.len() as u64);
            write(disk, std::mem::take(&mut ready))?;
            bytes = 0;
        }
    }
    write(disk, ready)?;
    progress.end();
    Ok(())
}

fn write(disk: &Disk<'_>, ready: Vec<Ready<'_>>) -> Result<()> {
    let written = in_halves(&ready, |half| {
        let mut has_failed = false;
        let write = |ready: &Ready<'_>| {
            if has_failed {
                return Err(io::Error::other("not tried, since another failed"));
            }
            let look = write_one(disk, ready);
            has_failed = look.is_err();
            look
        };
        half.iter().map(write).collect()
    });
    for (ready, look) in ready.into_iter().zip(written) {
        let look = look.unable(|| format!("`{}` cannot be written", ready.step.path))?;
        ready.step.made = Some(look);
        ready.step.after = Some(print_of(ready.print));
    }
    Ok(())
}

fn write_one(disk: &Disk<'_>, ready: &Ready<'_>) -> io::Result<FileStat> {
    match ready.bits {
        None => disk.symlink(Path::new(OsStr::from_bytes(&ready.content)), &ready.aside)?,
        Some(bits) => disk.create(&ready.aside, &ready.content, bits)?,
    }
    Ok(FileStat::of(&ready.aside.symlink_metadata()?))
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
