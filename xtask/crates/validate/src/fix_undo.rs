//! The undo of one fix: each file that it changed gets its old content back, unless someone has edited it since.
//!
//! Each replaced version is kept in `found`, since it may contain edits made during the fix. For example:
//!
//! ```text
//! src/a.py as the fix left it  ->  exchanged with before/<sha256>, restored
//! src/b.py edited after it     ->  kept
//! ```

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::fix_backup::{FixChange, FixPhase, FixRecord, FixStore};
use super::fix_snapshot::{
    FileVersion, SavedKind, copy_name, create_private_folder, has_symlink_above, read_file_version,
};
use xtask_base::digest;
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::CreateMode;
use xtask_base::path::RepoPath;

#[derive(Debug, Default)]
pub struct FixUndoReport {
    /// The restored paths.
    pub restored: Vec<RepoPath>,
    /// Paths that were edited after the fix, and stay.
    pub kept: Vec<RepoPath>,
    /// The folder that holds the replaced versions.
    pub saved: Option<PathBuf>,
    pub failures: Vec<String>,
    /// Whether new files stay because the changes were incompletely known (`FixPhase::Unknown`).
    pub keeps_new_files: bool,
}

impl FixStore<'_> {
    /// Restores the files that a fix changed, except those edited later. Keeps each replaced version, since
    /// it may contain edits made during the fix.
    pub fn undo_fix(&self, record: FixRecord) -> Result<FixUndoReport> {
        let mut record =
            if record.phase == FixPhase::Open { self.finish_fix(record)? } else { record };
        let mut done = FixUndoReport::default();
        let copies = self.copies_folder(&record.run, record.number);
        let changed: Vec<FixChange> =
            record.changes.iter().filter(|change| change.before != change.after).cloned().collect();
        done.saved = self.save_replaced(&record, &changed)?;
        // New files first: one may occupy the place of a folder to restore, or be inside a folder to remove.
        let (gone, there): (Vec<FixChange>, Vec<FixChange>) =
            changed.into_iter().partition(|change| change.before.is_none());
        self.restore_paths(gone, &copies, &mut done);
        for folder in record.folders_made.iter().rev() {
            let path = RepoPath::new(folder.as_bytes());
            // Someone may have replaced the folder by a symlink.
            if !has_symlink_above(self.root, &path)
                && let Err(cause) = self.disk.remove_empty_folder(&path.to_disk_path(self.root))
            {
                done.failures.push(format!("cannot remove the folder `{folder}`: {cause}"));
            }
        }
        self.restore_paths(there, &copies, &mut done);
        for folder in &record.folders_before {
            let path = RepoPath::new(folder.as_bytes());
            let on_disk = path.to_disk_path(self.root);
            // Leaves anything that someone else has created at the path.
            if on_disk.symlink_metadata().is_err()
                && !has_symlink_above(self.root, &path)
                && let Err(cause) = fs::create_dir_all(&on_disk)
            {
                done.failures.push(format!("cannot create the folder `{folder}`: {cause}"));
            }
        }
        done.keeps_new_files = record.phase == FixPhase::Unknown;
        let is_whole = done.kept.is_empty() && done.failures.is_empty();
        // A failure may succeed next time; later edits stay.
        record.phase = match (is_whole, done.failures.is_empty()) {
            (true, _) => FixPhase::Undone,
            (false, true) => FixPhase::Partly,
            (false, false) => record.phase,
        };
        self.write_record(&record)?;
        if is_whole {
            // The copies are no longer needed.
            drop(self.disk.remove_folder(&copies));
        }
        Ok(done)
    }

    /// Restores several paths; an error does not stop the others.
    fn restore_paths(&self, changes: Vec<FixChange>, copies: &Path, done: &mut FixUndoReport) {
        for change in changes {
            match self.restore_path(&change, copies) {
                Ok(true) => done.restored.push(change.path),
                Ok(false) => done.kept.push(change.path),
                Err(cause) => {
                    done.failures.push(format!("cannot restore `{}`: {cause}", change.path));
                    done.kept.push(change.path);
                }
            }
        }
    }

    /// Saves the present versions in `found`, as hard links if possible.
    fn save_replaced(&self, record: &FixRecord, changed: &[FixChange]) -> Result<Option<PathBuf>> {
        let found = self.fix_folder(record).join("found");
        let mut is_made = false;
        let mut index = String::new();
        for change in changed.iter().filter(|change| change.after.is_some()) {
            let on_disk = change.path.to_disk_path(self.root);
            let Ok(meta) = fs::symlink_metadata(&on_disk) else { continue };
            let is_kept = meta.is_file() || meta.is_symlink();
            if !is_kept || has_symlink_above(self.root, &change.path) {
                continue;
            }
            if !is_made {
                is_made = true;
                create_private_folder(self.disk, &found)
                    .with_context(|| format!("cannot create the folder `{}`", found.display()))?;
            }
            let kept = found.join(copy_name(&change.path));
            index.push_str(&format!("{} {}\n", copy_name(&change.path), change.path));
            if kept.symlink_metadata().is_ok()
                || self.disk.create_hard_link(&on_disk, &kept).is_ok()
            {
                continue;
            }
            if meta.is_symlink() {
                let target = fs::read_link(&on_disk)
                    .with_context(|| format!("cannot save `{}`", change.path))?;
                self.disk
                    .create_symlink(&target, &kept)
                    .with_context(|| format!("cannot save `{}`", change.path))?;
                continue;
            }
            let content =
                fs::read(&on_disk).with_context(|| format!("cannot save `{}`", change.path))?;
            self.save_copy(&found, &change.path, &content)?;
        }
        if is_made {
            // Maps the names of the copies to paths.
            let list = found.join("index");
            self.disk
                .write_atomically(&list, index.as_bytes())
                .with_context(|| format!("cannot write `{}`", list.display()))?;
        }
        Ok(is_made.then_some(found))
    }

    /// Restores one path. Returns `false` if it was edited after the fix.
    fn restore_path(&self, change: &FixChange, copies: &Path) -> io::Result<bool> {
        let target = change.path.to_disk_path(self.root);
        if has_symlink_above(self.root, &change.path) {
            return Ok(false);
        }
        let now = read_file_version(&target)?.map(|(kept, _)| kept);
        if now == change.before {
            return Ok(true);
        }
        if now != change.after {
            return Ok(false);
        }
        let ours = target.with_file_name(format!(".xtask-{}", std::process::id()));
        let ours = ours.as_path();
        let Some(before) = &change.before else {
            self.disk.rename_noreplace(&target, ours)?;
            return self.verify_replaced(ours, &target, change);
        };
        let content = fs::read(copies.join(copy_name(&change.path)))?;
        if digest::hash_parts([&content[..]]) != before.digest {
            return Err(io::Error::other("the saved copy is damaged"));
        }
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder)?;
        }
        if let Err(cause) = self.recreate_file(ours, before, content) {
            // A file that already existed at this name must not be removed.
            if cause.kind() != io::ErrorKind::AlreadyExists {
                drop(self.disk.remove_file(ours));
            }
            return Err(cause);
        }
        let moved = match change.after {
            // Fails if someone else created the file first.
            None => self.disk.rename_noreplace(ours, &target),
            Some(_) => self.disk.exchange(ours, &target),
        };
        if let Err(cause) = moved {
            // Reports the first error; the temporary copy is removed.
            drop(self.disk.remove_file(ours));
            let is_taken = cause.kind() == io::ErrorKind::AlreadyExists && change.after.is_none();
            return if is_taken { Ok(false) } else { Err(cause) };
        }
        if change.after.is_none() { Ok(true) } else { self.verify_replaced(ours, &target, change) }
    }

    /// Creates the original file or symlink under the temporary name `ours`.
    fn recreate_file(&self, ours: &Path, before: &FileVersion, content: Vec<u8>) -> io::Result<()> {
        if before.thing == SavedKind::Special {
            return Err(io::Error::other("it was neither a file nor a symlink"));
        }
        if before.thing == SavedKind::Link {
            return self.disk.create_symlink(Path::new(&OsString::from_vec(content)), ours);
        }
        self.disk.create_file(ours, &content, CreateMode::Plain)?;
        fs::set_permissions(ours, fs::Permissions::from_mode(before.mode & 0o7777))
    }

    /// Checks that the file moved out of `target` is the version left by the fix, and moves it back if not.
    fn verify_replaced(&self, out: &Path, target: &Path, change: &FixChange) -> io::Result<bool> {
        if read_file_version(out)?.map(|(kept, _)| kept) == change.after {
            self.disk.remove_file(out)?;
            return Ok(true);
        }
        if change.before.is_some() {
            self.disk.exchange(out, target)?;
            self.disk.remove_file(out)?;
        } else {
            self.disk.rename_noreplace(out, target)?;
        }
        Ok(false)
    }
}
