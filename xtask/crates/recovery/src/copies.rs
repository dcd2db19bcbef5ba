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
use xtask_base::error::{Context, Error, Result};
use xtask_base::files::{Bits, Disk};
use xtask_base::path::RepoPath;
use xtask_base::record::{self, Found};
use xtask_base::words::size;
use xtask_base::world::compact;
use xtask_git::{Reached, Repo, Ways};

/// The kind of the list.
const LIST: &str = "xtask.backup-copies/1";

/// The largest file that is copied: 16 MiB. Files of variables and keys are a thousand times smaller.
const LARGEST: u64 = 16 << 20;

/// The most files that are copied at once.
const MOST: usize = 2_000;

/// How much is copied at once: 128 MiB.
const MOST_BYTES: u64 = 128 << 20;

/// How long a folder without a list is left alone, in seconds: somebody may be writing it.
const LEFT_ALONE: i64 = 86_400;

/// A file that was copied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
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

impl Copy {
    fn gone(path: &RepoPath) -> Copy {
        let digest = digest::of_parts([&b""[..]]);
        Copy { path: path.clone(), is_link: false, bits: 0, digest, is_gone: true }
    }
}

/// Copies that were made.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// The name of their folder; nothing where there was nothing to copy.
    pub name: Option<String>,
    /// What was copied.
    pub copies: Vec<Copy>,
    /// How much it is, in bytes.
    pub bytes: u64,
    /// What was not copied, and why.
    pub left_out: Vec<String>,
}

/// The folder of all of them.
fn folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("backup")
}

/// Copies these files. That one of `also` is not there is kept as well.
pub fn make(
    repo: &Repo,
    disk: &Disk<'_>,
    paths: &[RepoPath],
    also: &[RepoPath],
    now: i64,
) -> Result<Made> {
    let mut made = Made::default();
    let mut contents = Vec::new();
    let mut ways = Ways::default();
    for path in paths {
        if made.copies.len() == MOST {
            made.left_out.push(format!("{path}, and what follows: more than {MOST} files"));
            break;
        }
        match read(repo, path, &mut ways) {
            Ok(Some((_, content))) if made.bytes + content.len() as u64 > MOST_BYTES => {
                made.left_out.push(format!("{path}: at most {} are copied", size(MOST_BYTES)));
            }
            Ok(Some((copy, content))) => {
                made.bytes += content.len() as u64;
                made.copies.push(copy);
                contents.push(content);
            }
            Ok(None) if also.contains(path) => {
                made.copies.push(Copy::gone(path));
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
    disk.make_private_folders(&folder(repo)).unable(failed)?;
    let (name, place) = free_folder(repo, disk, now)?;
    for (at, content) in contents.iter().enumerate() {
        let file = place.join(at.to_string());
        disk.create(&file, content, Bits::Exact(0o600)).unable(failed)?;
        disk.fsync(&file).unable(failed)?;
    }
    let list = record::to_bytes(LIST, &made.copies).unable(failed)?;
    let beside = place.join("list.new");
    disk.create(&beside, &list, Bits::Exact(0o600)).unable(failed)?;
    disk.fsync(&beside).unable(failed)?;
    disk.replace(&beside, &place.join("list")).unable(failed)?;
    made.name = Some(name);
    Ok(made)
}

fn free_folder(repo: &Repo, disk: &Disk<'_>, now: i64) -> Result<(String, PathBuf)> {
    let failed = || "a folder for copies cannot be made";
    for number in 0..1000 {
        let name = format!("{}-{}-{number}", compact(now), std::process::id());
        let place = folder(repo).join(&name);
        if place.symlink_metadata().is_err() {
            disk.make_private_folders(&place).unable(failed)?;
            return Ok((name, place));
        }
    }
    Err(Error::unable(failed()).hint("try again in a second"))
}

/// A file as it is now; nothing where there is none.
fn read(repo: &Repo, path: &RepoPath, ways: &mut Ways) -> Result<Option<(Copy, Vec<u8>)>> {
    let Reached::There(meta) = ways.reach(repo.root(), path)? else { return Ok(None) };
    let on_disk = path.on_disk(repo.root());
    let is_link = meta.is_symlink();
    let content = if is_link {
        fs::read_link(&on_disk).unable(|| "it cannot be read")?.into_os_string().into_vec()
    } else if !meta.is_file() {
        return Err(Error::unable("it is neither a file nor a symlink"));
    } else if meta.len() > LARGEST {
        return Err(Error::unable(format!(
            "it has {}, more than {}",
            size(meta.len()),
            size(LARGEST)
        )));
    } else {
        fs::read(&on_disk).unable(|| "it cannot be read")?
    };
    let bits = meta.mode() & 0o7777;
    let digest = digest::of_parts([&content[..]]);
    Ok(Some((Copy { path: path.clone(), is_link, bits, digest, is_gone: false }, content)))
}

/// What was copied under this name.
pub fn list(repo: &Repo, name: &str) -> Result<Vec<Copy>> {
    let path = folder(repo).join(name).join("list");
    match record::read(&path, LIST) {
        Found::Whole(copies) => Ok(copies),
        Found::Newer => Err(record::newer("the list of copies", &path)),
        Found::Nothing => {
            Err(Error::unable("the copies of this backup are gone")
                .detail(path.display().to_string()))
        }
        Found::Broken(why) => {
            Err(Error::unable(format!("the list of copies cannot be read: {why}"))
                .detail(path.display().to_string()))
        }
    }
}

/// The content of a copy, by its place in the list.
pub fn content(repo: &Repo, name: &str, at: usize, copy: &Copy) -> Result<Vec<u8>> {
    let path = folder(repo).join(name).join(at.to_string());
    let failed = || format!("the copy of `{}` cannot be read", copy.path);
    let content = fs::read(&path).unable(failed)?;
    if digest::of_parts([&content[..]]) == copy.digest {
        return Ok(content);
    }
    Err(Error::unable(failed()).detail(format!("`{}` is not what was copied", path.display())))
}

/// What came of putting a copy back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Back {
    /// It is there again.
    Restored,
    /// It was there already, as it was.
    Same,
    /// Something else is in its place, in words.
    Kept(String),
    /// What is in its place is not saved.
    Unsaved,
}

/// In words, where what is in its place is not saved.
pub const UNSAVED: &str = "what is there now could not be saved first";

/// Whether a copy can be put back, without doing it. What is in its place goes only if `saved` says that
/// just this was saved, or HEAD holds it.
pub fn look(repo: &Repo, copy: &Copy, saved: &[Copy]) -> Result<Back> {
    look_at(repo, copy, saved).map(|(back, _)| back)
}

/// The same, with what is in its place.
fn look_at(repo: &Repo, copy: &Copy, saved: &[Copy]) -> Result<(Back, Option<Copy>)> {
    let mut ways = Ways::default();
    let kept = |why: String| Ok((Back::Kept(why), None));
    let now = match ways.reach(repo.root(), &copy.path)? {
        Reached::There(meta) if meta.is_dir() => {
            return kept("a folder is in its place".to_owned());
        }
        Reached::Not(xtask_git::Work::BelowSymlink(link)) => {
            return kept(format!("`{link}` is a symlink now"));
        }
        Reached::Not(xtask_git::Work::BelowFile(file)) => {
            return kept(format!("`{file}` is a file now"));
        }
        Reached::Not(_) => None,
        Reached::There(_) => match read(repo, &copy.path, &mut ways) {
            Ok(found) => found.map(|(now, _)| now),
            Err(failure) => return kept(failure.to_string()),
        },
    };
    let back = match &now {
        None if copy.is_gone => Back::Same,
        Some(now) if now == copy => Back::Same,
        Some(now) if !saved.contains(now) && !is_committed(repo, &copy.path)? => Back::Unsaved,
        _ => Back::Restored,
    };
    Ok((back, now))
}

/// Whether a file is as HEAD holds it.
fn is_committed(repo: &Repo, path: &RepoPath) -> Result<bool> {
    let Some(committed) = repo.entry_at(repo.head()?.tree, path)? else { return Ok(false) };
    let index = repo.index()?;
    let mut filters = repo.clean_filters(&index)?;
    let work = repo.work(path, Some(committed), &mut Ways::default(), &mut filters, &index)?;
    Ok(matches!(work, xtask_git::Work::Present(found) if found.entry == committed))
}

/// Puts a copy back.
pub fn put_back(
    repo: &Repo,
    disk: &Disk<'_>,
    copy: &Copy,
    content: &[u8],
    saved: &[Copy],
) -> Result<Back> {
    let (back, now) = look_at(repo, copy, saved)?;
    if back != Back::Restored {
        return Ok(back);
    }
    if copy.is_gone {
        return Ok(match now.map(|now| take_away(repo, disk, &now)).transpose()? {
            Some(true) => Back::Restored,
            _ => Back::Unsaved,
        });
    }
    let failed = || format!("`{}` cannot be put back", copy.path);
    let target = copy.path.on_disk(repo.root());
    let mut missing: Vec<RepoPath> = copy.path.ancestors().collect();
    missing.reverse();
    for folder in missing {
        match disk.make_folder(&folder.on_disk(repo.root())) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.unable(failed)?,
        }
    }
    let beside = aside(repo, disk, &target)?;
    let written = if copy.is_link {
        disk.symlink(Path::new(std::ffi::OsStr::from_bytes(content)), &beside)
    } else {
        disk.create(&beside, content, Bits::Exact(copy.bits))
    };
    let swapped = written.and_then(|()| match target.symlink_metadata() {
        Err(_) => disk.place(&beside, &target).map(|()| false),
        Ok(_) => disk.exchange(&beside, &target).map(|()| true),
    });
    let has_old = match swapped {
        Ok(has_old) => has_old,
        Err(cause) => {
            // Only what was just written there is removed again.
            drop(disk.remove(&beside));
            return Err(cause).unable(failed);
        }
    };
    if !has_old {
        return Ok(Back::Restored);
    }
    // What came out must be what was seen: nobody's newest bytes go.
    if read_at(&beside, &copy.path) != now {
        disk.exchange(&beside, &target).unable(failed)?;
        disk.remove(&beside).unable(failed)?;
        return Ok(Back::Kept("it was changed meanwhile".to_owned()));
    }
    disk.remove(&beside).unable(failed)?;
    Ok(Back::Restored)
}

/// Takes a file away that was copied, if it still is just that; says whether it did.
pub fn take_away(repo: &Repo, disk: &Disk<'_>, copy: &Copy) -> Result<bool> {
    let failed = || format!("`{}` cannot be taken away", copy.path);
    let target = copy.path.on_disk(repo.root());
    let aside = aside(repo, disk, &target)?;
    disk.place(&target, &aside).unable(failed)?;
    if read_at(&aside, &copy.path).as_ref() != Some(copy) {
        disk.place(&aside, &target).unable(failed)?;
        return Ok(false);
    }
    disk.remove(&aside).unable(failed)?;
    Ok(true)
}

/// Where a content waits to be swapped in, and what it has replaced to be looked at: among our own files, or
/// beside the target where that is on another file system. What a run that was cut short has left there is
/// nobody's to remove unseen, and stays under another name.
fn aside(repo: &Repo, disk: &Disk<'_>, target: &Path) -> Result<PathBuf> {
    let folder = repo.state_folder();
    let failed = || "a place to put files aside cannot be made";
    disk.make_private_folders(&folder).unable(failed)?;
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
        disk.place(&aside, &free).unable(failed)?;
    }
    Ok(aside)
}

fn read_at(file: &Path, path: &RepoPath) -> Option<Copy> {
    let meta = file.symlink_metadata().ok()?;
    let is_link = meta.is_symlink();
    let content = match is_link {
        true => fs::read_link(file).ok()?.into_os_string().into_vec(),
        false => fs::read(file).ok()?,
    };
    let (bits, digest) = (meta.mode() & 0o7777, digest::of_parts([&content[..]]));
    Some(Copy { path: path.clone(), is_link, bits, digest, is_gone: false })
}

/// Removes what runs that were cut short have left aside, as far as a backup holds it.
pub fn sweep(repo: &Repo, disk: &Disk<'_>, named: &dyn Fn() -> Result<Vec<String>>) -> Result<()> {
    let entries = fs::read_dir(repo.state_folder()).into_iter().flatten().flatten();
    let is_aside = |name: &std::ffi::OsStr| name.as_bytes().starts_with(b"restored-aside");
    let left: Vec<PathBuf> =
        entries.filter(|entry| is_aside(&entry.file_name())).map(|entry| entry.path()).collect();
    if left.is_empty() {
        return Ok(());
    }
    let held: Vec<Copy> =
        named()?.iter().filter_map(|name| list(repo, name).ok()).flatten().collect();
    let nothing = RepoPath::new("none");
    for path in left {
        let found = read_at(&path, &nothing);
        if found.is_some_and(|found| held.iter().any(|copy| copy.digest == found.digest)) {
            disk.remove(&path).unable(|| format!("`{}` cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// Removes the folders that no backup names, once they are old enough for nobody to be writing them.
pub fn prune(
    repo: &Repo,
    disk: &Disk<'_>,
    named: &dyn Fn() -> Result<Vec<String>>,
    now: i64,
) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder(repo)) else { return Ok(()) };
    let before = compact(now - LEFT_ALONE);
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let old: Vec<String> = names.filter(|name| *name < before).collect();
    if old.is_empty() {
        return Ok(());
    }
    let named = named()?;
    for name in old.into_iter().filter(|name| !named.contains(name)) {
        let place = folder(repo).join(&name);
        disk.remove_folder(&place).unable(|| format!("`{}` cannot be removed", place.display()))?;
    }
    Ok(())
}
