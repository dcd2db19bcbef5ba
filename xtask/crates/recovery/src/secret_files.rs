//! Copies of files that may be secret: with mode 0600 in a folder for their owner alone, under the git
//! folder that all worktrees share, and never objects of git.
//!
//! ```text
//! <common git folder>/xtask/backup/NAME/list   what was copied: path, kind, permissions, digest
//! <common git folder>/xtask/backup/NAME/0      the content of the first, and so on
//! ```
//!
//! The list is written last, so a folder without one is none; it goes a day later. What is put back is
//! compared with its digest, and takes the place of a file only if that is what was saved before: it is
//! swapped in by way of `<git folder>/xtask/restored-aside`.

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use xtask_base::digest::{self, Digest};
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{CreateMode, Disk};
use xtask_base::path::RepoPath;
use xtask_base::record::{self, LoadedRecord};
use xtask_base::words::format_size;
use xtask_git::{PathCache, PathLookup, Repo};

/// The kind of the list.
const LIST_KIND: &str = "xtask.backup-copies/1";

/// The largest file that is copied: 16 MiB. Files of variables and keys are a thousand times smaller.
const LARGEST_FILE: u64 = 16 << 20;

/// The most files that are copied at once.
const MOST: usize = 2_000;

/// How much is copied at once: 128 MiB.
const MOST_BYTES: u64 = 128 << 20;

/// How long a folder without a list is left alone, in seconds: somebody may be writing it.
const GRACE_SECONDS: i64 = 86_400;

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretCopy {
    /// Its path.
    #[serde(with = "xtask_base::path::exact")]
    pub path: RepoPath,
    /// Whether it is a symlink; its content is then where it leads.
    pub is_link: bool,
    /// Its permissions.
    pub bits: u32,
    /// The digest of its content.
    #[serde(with = "xtask_base::digest::as_hex")]
    pub digest: Digest,
    /// That there was none: put back, it is taken away.
    #[serde(default)]
    pub is_gone: bool,
}

impl SecretCopy {
    fn of_missing(path: &RepoPath) -> SecretCopy {
        let digest = digest::hash_parts([&b""[..]]);
        SecretCopy { path: path.clone(), is_link: false, bits: 0, digest, is_gone: true }
    }
}

/// Copies that were made.
#[derive(Clone, Debug, Default)]
pub struct CopyReport {
    /// The name of their folder; nothing where there was nothing to copy.
    pub name: Option<String>,
    /// What was copied.
    pub copies: Vec<SecretCopy>,
    /// How much it is, in bytes.
    pub bytes: u64,
    /// What was not copied, and why.
    pub left_out: Vec<String>,
}

/// The folder of all of them.
fn copies_folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("backup")
}

/// Copies these files. That one of `also` is not there is kept as well.
pub fn copy_files(
    repo: &Repo,
    disk: &Disk<'_>,
    paths: &[RepoPath],
    also: &[RepoPath],
    now: i64,
) -> Result<CopyReport> {
    let mut made = CopyReport::default();
    let mut contents = Vec::new();
    let mut ways = PathCache::default();
    for path in paths {
        if made.copies.len() == MOST {
            made.left_out.push(format!("{path}, and what follows: more than {MOST} files"));
            break;
        }
        match read_file(repo, path, &mut ways) {
            Ok(Some((_, content))) if made.bytes + content.len() as u64 > MOST_BYTES => {
                made.left_out
                    .push(format!("{path}: at most {} are copied", format_size(MOST_BYTES)));
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
    let failed = || "the copies of files that git does not have cannot be written";
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
    let failed = || "a folder for copies cannot be made";
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

/// A file as it is now; nothing where there is none.
fn read_file(
    repo: &Repo,
    path: &RepoPath,
    ways: &mut PathCache,
) -> Result<Option<(SecretCopy, Vec<u8>)>> {
    let PathLookup::Found(meta) = ways.look_up_path(repo.root(), path)? else { return Ok(None) };
    let on_disk = path.to_disk_path(repo.root());
    let is_link = meta.is_symlink();
    let content = if is_link {
        fs::read_link(&on_disk).with_context(|| "it cannot be read")?.into_os_string().into_vec()
    } else if !meta.is_file() {
        return Err(Error::unable("it is neither a file nor a symlink"));
    } else if meta.len() > LARGEST_FILE {
        return Err(Error::unable(format!(
            "it has {}, more than {}",
            format_size(meta.len()),
            format_size(LARGEST_FILE)
        )));
    } else {
        fs::read(&on_disk).with_context(|| "it cannot be read")?
    };
    let bits = meta.mode() & 0o7777;
    let digest = digest::hash_parts([&content[..]]);
    Ok(Some((SecretCopy { path: path.clone(), is_link, bits, digest, is_gone: false }, content)))
}

/// What was copied under this name.
pub fn read_list(repo: &Repo, name: &str) -> Result<Vec<SecretCopy>> {
    let path = copies_folder(repo).join(name).join("list");
    match record::read_record(&path, LIST_KIND) {
        LoadedRecord::Valid(copies) => Ok(copies),
        LoadedRecord::Newer => Err(record::newer_record_error("the list of copies", &path)),
        LoadedRecord::Missing => Err(Error::unable("the copies of this backup are gone")
            .with_detail(path.display().to_string())),
        LoadedRecord::Corrupt(why) => {
            Err(Error::unable(format!("the list of copies cannot be read: {why}"))
                .with_detail(path.display().to_string()))
        }
    }
}

/// The content of a copy, by its place in the list.
pub fn read_copy(repo: &Repo, name: &str, at: usize, copy: &SecretCopy) -> Result<Vec<u8>> {
    let path = copies_folder(repo).join(name).join(at.to_string());
    let failed = || format!("the copy of `{}` cannot be read", copy.path);
    let content = fs::read(&path).with_context(failed)?;
    if digest::hash_parts([&content[..]]) == copy.digest {
        return Ok(content);
    }
    Err(Error::unable(failed()).with_detail(format!("`{}` is not what was copied", path.display())))
}

/// What came of putting a copy back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyRestore {
    /// It is there again.
    Restored,
    /// It was there already, as it was.
    Unchanged,
    /// Something else is in its place, in words.
    Blocked(String),
    /// What is in its place is not saved.
    Unsaved,
}

/// In words, where what is in its place is not saved.
pub const UNSAVED: &str = "what is there now could not be saved first";

/// Whether a copy can be put back, without doing it. What is in its place goes only if `saved` says that
/// just this was saved, or HEAD holds it.
pub fn preview_restore(
    repo: &Repo,
    copy: &SecretCopy,
    saved: &[SecretCopy],
) -> Result<CopyRestore> {
    inspect_restore(repo, copy, saved).map(|(back, _)| back)
}

/// The same, with what is in its place.
fn inspect_restore(
    repo: &Repo,
    copy: &SecretCopy,
    saved: &[SecretCopy],
) -> Result<(CopyRestore, Option<SecretCopy>)> {
    let mut ways = PathCache::default();
    let kept = |why: String| Ok((CopyRestore::Blocked(why), None));
    let now = match ways.look_up_path(repo.root(), &copy.path)? {
        PathLookup::Found(meta) if meta.is_dir() => {
            return kept("a folder is in its place".to_owned());
        }
        PathLookup::NotFound(xtask_git::WorktreeItem::BelowSymlink(link)) => {
            return kept(format!("`{link}` is a symlink now"));
        }
        PathLookup::NotFound(xtask_git::WorktreeItem::BelowFile(file)) => {
            return kept(format!("`{file}` is a file now"));
        }
        PathLookup::NotFound(_) => None,
        PathLookup::Found(_) => match read_file(repo, &copy.path, &mut ways) {
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

/// Whether a file is as HEAD holds it.
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
    Ok(matches!(work, xtask_git::WorktreeItem::Present(found) if found.entry == committed))
}

/// Puts a copy back.
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
    let failed = || format!("`{}` cannot be put back", copy.path);
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
            // Only what was just written there is removed again.
            drop(disk.remove_file(&beside));
            return Err(cause).with_context(failed);
        }
    };
    if !has_old {
        return Ok(CopyRestore::Restored);
    }
    // What came out must be what was seen: nobody's newest bytes go.
    if read_copy_at(&beside, &copy.path) != now {
        disk.exchange(&beside, &target).with_context(failed)?;
        disk.remove_file(&beside).with_context(failed)?;
        return Ok(CopyRestore::Blocked("it was changed meanwhile".to_owned()));
    }
    disk.remove_file(&beside).with_context(failed)?;
    Ok(CopyRestore::Restored)
}

/// Takes a file away that was copied, if it still is just that; says whether it did.
pub fn remove_if_saved(repo: &Repo, disk: &Disk<'_>, copy: &SecretCopy) -> Result<bool> {
    let failed = || format!("`{}` cannot be taken away", copy.path);
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

/// Where a content waits to be swapped in, and what it has replaced to be looked at: among our own files, or
/// beside the target where that is on another file system. What a run that was cut short has left there is
/// nobody's to remove unseen, and stays under another name.
fn make_aside_path(repo: &Repo, disk: &Disk<'_>, target: &Path) -> Result<PathBuf> {
    let folder = repo.state_folder();
    let failed = || "a place to put files aside cannot be made";
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
    let is_link = meta.is_symlink();
    let content = match is_link {
        true => fs::read_link(file).ok()?.into_os_string().into_vec(),
        false => fs::read(file).ok()?,
    };
    let (bits, digest) = (meta.mode() & 0o7777, digest::hash_parts([&content[..]]));
    Some(SecretCopy { path: path.clone(), is_link, bits, digest, is_gone: false })
}

/// Removes what runs that were cut short have left aside, as far as a backup holds it.
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
                .with_context(|| format!("`{}` cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// Removes the folders that no backup names, once they are old enough for nobody to be writing them.
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
            .with_context(|| format!("`{}` cannot be removed", place.display()))?;
    }
    Ok(())
}
