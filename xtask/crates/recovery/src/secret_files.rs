//! Copies of files that may be secret: with mode 0600 in a private folder, below the git folder that all worktrees
//! share. They never become git objects.
//!
//! ```text
//! <common git folder>/xtask/backup/NAME/list   the copies: path, kind, permissions, digest
//! <common git folder>/xtask/backup/NAME/0      the content of the first copy, and so on
//! ```
//!
//! The list is written last, so a folder without a list is incomplete and is removed a day later. A restored copy is
//! verified by its digest, and replaces a file only if that file was saved before: the two are exchanged by way of
//! `<git folder>/xtask/restored-aside`.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reset::describe_path_obstacle;
use xtask_base::digest::{self, Digest};
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::format_size;
use xtask_git::{PathCache, PathLookup, Repo, WorktreeItem};

/// The record kind of the list.
const LIST_KIND: &str = "xtask.backup-copies/1";

/// The maximum size of a copied file: 16 MiB. Env files and keys are a thousand times smaller.
const LARGEST_FILE: u64 = 16 << 20;

/// The maximum number of files per backup.
const MOST: usize = 2_000;

/// The maximum total size per backup: 128 MiB.
const MOST_BYTES: u64 = 128 << 20;

/// The minimum age at which a folder without a list is removed, in seconds: another process may be writing it.
const GRACE_SECONDS: i64 = 86_400;

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretCopy {
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// Whether the file is a symlink; its content is then the link target.
    pub is_link: bool,
    /// The permission bits, e.g. `0o600`.
    pub bits: u32,
    #[serde(with = "xtask_base::digest::as_hex")]
    pub digest: Digest,
    /// Whether the file was missing: restoring it removes the present file.
    #[serde(default)]
    pub is_gone: bool,
}

impl SecretCopy {
    fn of_content(path: &RepoPath, meta: &fs::Metadata, content: &[u8]) -> SecretCopy {
        SecretCopy {
            path: path.clone(),
            is_link: meta.is_symlink(),
            bits: meta.mode() & 0o7777,
            digest: digest::hash_parts([content]),
            is_gone: false,
        }
    }

    fn of_missing(path: &RepoPath) -> SecretCopy {
        let digest = digest::hash_parts([&b""[..]]);
        SecretCopy { path: path.clone(), is_link: false, bits: 0, digest, is_gone: true }
    }
}

/// The result of copying files.
#[derive(Clone, Debug, Default)]
pub struct CopyReport {
    /// The name of the folder; `None` if there was no file to copy.
    pub name: Option<String>,
    pub copies: Vec<SecretCopy>,
    /// The total size, in bytes.
    pub bytes: u64,
    /// The files that were not copied, each with the reason.
    pub left_out: Vec<String>,
}

/// Returns the folder that contains all folders of copies.
fn copies_folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("backup")
}

/// Copies `paths`. A missing file is recorded as missing if `also` contains its path.
pub fn copy_files(
    repo: &Repo,
    disk: &Disk<'_>,
    paths: &[RepoPath],
    also: &[RepoPath],
    now: i64,
) -> Result<CopyReport> {
    let mut made = CopyReport::default();
    let mut contents = Vec::new();
    let mut path_cache = PathCache::default();
    for path in paths {
        if made.copies.len() == MOST {
            made.left_out.push(format!("{path} and later files: more than {MOST} files"));
            break;
        }
        match read_file(repo, path, &mut path_cache) {
            Ok(Some((_, content))) if made.bytes + content.len() as u64 > MOST_BYTES => {
                made.left_out.push(format!(
                    "{path}: all copies together are limited to {}",
                    format_size(MOST_BYTES)
                ));
            }
            Ok(Some((copy, content))) => {
                made.bytes += content.len() as u64;
                made.copies.push(copy);
                contents.push(content);
            }
            Ok(None) if also.contains(path) => {
                made.copies.push(SecretCopy::of_missing(path));
                contents.push(Vec::new());
            }
            Ok(None) => {}
            Err(failure) => made.left_out.push(format!("{path}: {failure}")),
        }
    }
    if contents.is_empty() {
        return Ok(made);
    }
    let failed = || "cannot write the copies of files that git does not have";
    disk.make_private_folders(&copies_folder(repo)).with_context(failed)?;
    let (name, place) = make_free_folder(repo, disk, now)?;
    for (at, content) in contents.iter().enumerate() {
        let file = place.join(at.to_string());
        disk.create_file(&file, content, CreateMode::Exact(0o600)).with_context(failed)?;
        disk.fsync(&file).with_context(failed)?;
    }
    let list = record::serialize_record(LIST_KIND, &made.copies).with_context(failed)?;
    let beside = place.join("list.new");
    disk.create_file(&beside, &list, CreateMode::Exact(0o600)).with_context(failed)?;
    disk.fsync(&beside).with_context(failed)?;
    disk.replace_file(&beside, &place.join("list")).with_context(failed)?;
    made.name = Some(name);
    Ok(made)
}

fn make_free_folder(repo: &Repo, disk: &Disk<'_>, now: i64) -> Result<(String, PathBuf)> {
    let failed = || "cannot create a folder for copies";
    for number in 0..1000 {
        let name = format!("{}-{}-{number}", format_compact_time(now), std::process::id());
        let place = copies_folder(repo).join(&name);
        if place.symlink_metadata().is_err() {
            disk.make_private_folders(&place).with_context(failed)?;
            return Ok((name, place));
        }
    }
    Err(Error::unable(failed()).with_hint("try again in a second"))
}

/// Reads a file. Returns `None` if there is none.
fn read_file(
    repo: &Repo,
    path: &RepoPath,
    path_cache: &mut PathCache,
) -> Result<Option<(SecretCopy, Vec<u8>)>> {
    let PathLookup::Found(meta) = path_cache.look_up_path(repo.root(), path)? else {
        return Ok(None);
    };
    let on_disk = path.to_disk_path(repo.root());
    let content = if meta.is_symlink() {
        fs::read_link(&on_disk).with_context(|| "cannot read the file")?.into_os_string().into_vec()
    } else if !meta.is_file() {
        return Err(Error::unable("it is neither a file nor a symlink"));
    } else if meta.len() > LARGEST_FILE {
        return Err(Error::unable(format!(
            "its size is {}, above the limit of {}",
            format_size(meta.len()),
            format_size(LARGEST_FILE)
        )));
    } else {
        fs::read(&on_disk).with_context(|| "cannot read the file")?
    };
    Ok(Some((SecretCopy::of_content(path, &meta, &content), content)))
}

/// Reads the list of copies in the folder `name`.
pub fn read_list(repo: &Repo, name: &str) -> Result<Vec<SecretCopy>> {
    let path = copies_folder(repo).join(name).join("list");
    match record::read_record(&path, LIST_KIND) {
        LoadedRecord::Valid(copies) => Ok(copies),
        LoadedRecord::Newer => Err(record::newer_record_error("the list of copies", &path)),
        LoadedRecord::Missing => Err(Error::unable("the copies of this backup are missing")
            .with_detail(path.display().to_string())),
        LoadedRecord::Corrupt(why) => {
            Err(Error::unable(format!("cannot read the list of copies: {why}"))
                .with_detail(path.display().to_string()))
        }
    }
}

/// Reads the content of the copy with index `at` and verifies its digest.
pub fn read_copy(repo: &Repo, name: &str, at: usize, copy: &SecretCopy) -> Result<Vec<u8>> {
    let path = copies_folder(repo).join(name).join(at.to_string());
    let failed = || format!("cannot read the copy of `{}`", copy.path);
    let content = fs::read(&path).with_context(failed)?;
    if digest::hash_parts([&content[..]]) == copy.digest {
        return Ok(content);
    }
    Err(Error::unable(failed())
        .with_detail(format!("the digest of `{}` does not match", path.display())))
}

/// The outcome of restoring a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyRestore {
    /// Restored.
    Restored,
    /// The file already had this content.
    Unchanged,
    /// Obstructed, for this reason.
    Blocked(String),
    /// The present file is not saved.
    Unsaved,
}

/// The message for [`CopyRestore::Unsaved`].
pub const UNSAVED: &str = "the present file could not be saved first";

/// Returns whether a copy can be restored, without doing it. The present file may be replaced only if it is in `saved`
/// or identical to HEAD.
pub fn preview_restore(
    repo: &Repo,
    copy: &SecretCopy,
    saved: &[SecretCopy],
) -> Result<CopyRestore> {
    inspect_restore(repo, copy, saved).map(|(back, _)| back)
}

/// Like [`preview_restore`], and also returns the present file.
fn inspect_restore(
    repo: &Repo,
    copy: &SecretCopy,
    saved: &[SecretCopy],
) -> Result<(CopyRestore, Option<SecretCopy>)> {
    let mut path_cache = PathCache::default();
    let kept = |why: String| Ok((CopyRestore::Blocked(why), None));
    let item = match path_cache.look_up_path(repo.root(), &copy.path)? {
        PathLookup::Found(meta) if meta.is_dir() => Some(WorktreeItem::Folder),
        PathLookup::Found(_) => None,
        PathLookup::NotFound(item) => Some(item),
    };
    if let Some(why) = item.as_ref().and_then(describe_path_obstacle) {
        return kept(why);
    }
    let now = match item {
        Some(_) => None,
        None => match read_file(repo, &copy.path, &mut path_cache) {
            Ok(found) => found.map(|(now, _)| now),
            Err(failure) => return kept(failure.to_string()),
        },
    };
    let back = match &now {
        None if copy.is_gone => CopyRestore::Unchanged,
        Some(now) if now == copy => CopyRestore::Unchanged,
        Some(now) if !saved.contains(now) && !is_committed(repo, &copy.path)? => {
            CopyRestore::Unsaved
        }
        _ => CopyRestore::Restored,
    };
    Ok((back, now))
}

/// Returns whether a file is identical to HEAD.
fn is_committed(repo: &Repo, path: &RepoPath) -> Result<bool> {
    let Some(committed) = repo.entry_at(repo.head()?.tree, path)? else { return Ok(false) };
    let index = repo.read_index()?;
    let mut filters = repo.clean_filters(&index)?;
    let work = repo.read_worktree_item(
        path,
        Some(committed),
        &mut PathCache::default(),
        &mut filters,
        &index,
    )?;
    Ok(matches!(work, WorktreeItem::Present(found) if found.entry == committed))
}

/// Restores a copy.
pub fn restore_copy(
    repo: &Repo,
    disk: &Disk<'_>,
    copy: &SecretCopy,
    content: &[u8],
    saved: &[SecretCopy],
) -> Result<CopyRestore> {
    let (back, now) = inspect_restore(repo, copy, saved)?;
    if back != CopyRestore::Restored {
        return Ok(back);
    }
    if copy.is_gone {
        return Ok(match now.map(|now| remove_if_saved(repo, disk, &now)).transpose()? {
            Some(true) => CopyRestore::Restored,
            _ => CopyRestore::Unsaved,
        });
    }
    let failed = || format!("cannot restore `{}`", copy.path);
    let target = copy.path.to_disk_path(repo.root());
    let mut missing: Vec<RepoPath> = copy.path.ancestors().collect();
    missing.reverse();
    for folder in missing {
        match disk.make_folder(&folder.to_disk_path(repo.root())) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.with_context(failed)?,
        }
    }
    let beside = make_aside_path(repo, disk, &target)?;
    let written = if copy.is_link {
        disk.create_symlink(Path::new(std::ffi::OsStr::from_bytes(content)), &beside)
    } else {
        disk.create_file(&beside, content, CreateMode::Exact(copy.bits))
    };
    let swapped = written.and_then(|()| match target.symlink_metadata() {
        Err(_) => disk.rename_noreplace(&beside, &target).map(|()| false),
        Ok(_) => disk.exchange(&beside, &target).map(|()| true),
    });
    let has_old = match swapped {
        Ok(has_old) => has_old,
        Err(cause) => {
            // Removes only the file that was just written.
            drop(disk.remove_file(&beside));
            return Err(cause).with_context(failed);
        }
    };
    if !has_old {
        return Ok(CopyRestore::Restored);
    }
    // The replaced file must be the one that was inspected, or else concurrent changes would be lost.
    if read_copy_at(&beside, &copy.path) != now {
        disk.exchange(&beside, &target).with_context(failed)?;
        disk.remove_file(&beside).with_context(failed)?;
        return Ok(CopyRestore::Blocked("it was changed concurrently".to_owned()));
    }
    disk.remove_file(&beside).with_context(failed)?;
    Ok(CopyRestore::Restored)
}

/// Removes a file that was copied, if it still is identical to the copy. Returns whether it was removed.
pub fn remove_if_saved(repo: &Repo, disk: &Disk<'_>, copy: &SecretCopy) -> Result<bool> {
    let failed = || format!("cannot remove `{}`", copy.path);
    let target = copy.path.to_disk_path(repo.root());
    let aside = make_aside_path(repo, disk, &target)?;
    disk.rename_noreplace(&target, &aside).with_context(failed)?;
    if read_copy_at(&aside, &copy.path).as_ref() != Some(copy) {
        disk.rename_noreplace(&aside, &target).with_context(failed)?;
        return Ok(false);
    }
    disk.remove_file(&aside).with_context(failed)?;
    Ok(true)
}

/// Returns a path for a file that is about to be exchanged with `target`: in the state folder, or next to `target` if
/// that is on another file system. A file that an interrupted run has left there may be the only version of its
/// content, and is kept under another name.
fn make_aside_path(repo: &Repo, disk: &Disk<'_>, target: &Path) -> Result<PathBuf> {
    let folder = repo.state_folder();
    let failed = || "cannot find a place to move files aside";
    disk.make_private_folders(&folder).with_context(failed)?;
    let device = |path: &Path| path.metadata().map(|meta| meta.dev()).ok();
    if device(&folder) != target.parent().and_then(device) {
        let mut beside = target.as_os_str().to_owned();
        beside.push(format!(".xtask-{}", std::process::id()));
        return Ok(beside.into());
    }
    let aside = folder.join("restored-aside");
    if aside.symlink_metadata().is_ok() {
        let left = (1..1000).map(|number| folder.join(format!("restored-aside-{number}")));
        let free = left.into_iter().find(|path| path.symlink_metadata().is_err());
        let free = free.ok_or_else(|| Error::unable(failed()))?;
        disk.rename_noreplace(&aside, &free).with_context(failed)?;
    }
    Ok(aside)
}

fn read_copy_at(file: &Path, path: &RepoPath) -> Option<SecretCopy> {
    let meta = file.symlink_metadata().ok()?;
    let content = match meta.is_symlink() {
        true => fs::read_link(file).ok()?.into_os_string().into_vec(),
        false => fs::read(file).ok()?,
    };
    Some(SecretCopy::of_content(path, &meta, &content))
}

/// Removes files that interrupted runs have left aside, if a backup contains their content.
pub fn remove_leftovers(
    repo: &Repo,
    disk: &Disk<'_>,
    named: &dyn Fn() -> Result<Vec<String>>,
) -> Result<()> {
    let entries = fs::read_dir(repo.state_folder()).into_iter().flatten().flatten();
    let is_aside = |name: &std::ffi::OsStr| name.as_bytes().starts_with(b"restored-aside");
    let left: Vec<PathBuf> =
        entries.filter(|entry| is_aside(&entry.file_name())).map(|entry| entry.path()).collect();
    if left.is_empty() {
        return Ok(());
    }
    let held: Vec<SecretCopy> =
        named()?.iter().filter_map(|name| read_list(repo, name).ok()).flatten().collect();
    let nothing = RepoPath::new("none");
    for path in left {
        let found = read_copy_at(&path, &nothing);
        if found.is_some_and(|found| held.iter().any(|copy| copy.digest == found.digest)) {
            disk.remove_file(&path)
                .with_context(|| format!("cannot remove `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// Removes folders that no backup references and that are older than [`GRACE_SECONDS`].
pub fn prune_folders(
    repo: &Repo,
    disk: &Disk<'_>,
    named: &dyn Fn() -> Result<Vec<String>>,
    now: i64,
) -> Result<()> {
    let Ok(entries) = fs::read_dir(copies_folder(repo)) else { return Ok(()) };
    let before = format_compact_time(now - GRACE_SECONDS);
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let old: Vec<String> = names.filter(|name| *name < before).collect();
    if old.is_empty() {
        return Ok(());
    }
    let named = named()?;
    for name in old.into_iter().filter(|name| !named.contains(name)) {
        let place = copies_folder(repo).join(&name);
        disk.remove_folder(&place)
            .with_context(|| format!("cannot remove `{}`", place.display()))?;
    }
    Ok(())
}
