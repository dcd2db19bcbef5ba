//! Getting shims in and out of the folder in which git looks for hooks.
//!
//! All is looked at first, and whatever speaks against it is said at once. New shims are written
//! beside their places and read back before the first old hook is touched; a hook that was there
//! gets a second name before its own is taken, so that at no moment none runs. Taking the shims out
//! puts back, byte for byte, what was there.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Hook;
use super::shim::{KEPT, ProgramAt, by_hand, is_by_hand, is_of, is_ours, needs_its_name, text};
use crate::base::error::{Context, Error, Result};
use crate::base::files::{Bits, Disk, is_executable};
use crate::base::world::compact;
use crate::repo::{HooksFolder, NamedBy, Repo};

/// What stands at the name of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum There {
    /// Nothing.
    Nothing,
    /// Our shim, as it should be.
    Ours,
    /// A shim of ours of another version, or changed by hand.
    OursChanged,
    /// Somebody else's hook.
    Foreign,
    /// Somebody else's hook, which starts our program by itself, or our shim under another name.
    ByHand,
    /// Something that is no file.
    NoFile,
}

/// The folder of the hooks, and why ours should not go there, if they should not.
#[derive(Clone, Debug)]
pub struct Place {
    /// The folder.
    pub folder: HooksFolder,
    /// Why not.
    pub refusal: Option<String>,
}

/// Where hooks go, and whether they should.
pub fn place(repo: &Repo) -> Result<Place> {
    let folder = repo.hooks_folder()?;
    let shown = folder.path.display();
    let by = folder.named_by.words();
    let real = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
    let common = real_path(repo.common_folder());
    let trees = repo.worktrees()?;
    let is_in = |root: &Path| real.starts_with(root) && !real.starts_with(&common);
    let is_in_worktree = is_in(repo.root()) || trees.iter().any(|tree| is_in(&tree.root));
    let refusal = if folder.path == Path::new("/dev/null") {
        Some(format!("{by} switches all hooks off (`core.hooksPath` is `/dev/null`)"))
    } else if matches!(folder.named_by, NamedBy::User | NamedBy::System) {
        Some(format!(
            "{by} sends the hooks of every repository to `{shown}` (`core.hooksPath`); shims of this \
             repository would run in all of them"
        ))
    } else if folder.named_by == NamedBy::Run {
        Some(format!("`core.hooksPath` comes from {by}, for this run alone"))
    } else if is_in_worktree {
        Some(format!(
            "git looks for hooks in `{shown}`, among the files of the worktree; shims there would \
             change with every branch"
        ))
    } else {
        None
    };
    Ok(Place { folder, refusal })
}

fn real_path(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

/// Where a shim in this folder finds the program.
#[must_use]
pub fn program_at(repo: &Repo, folder: &Path) -> ProgramAt {
    let common = real_path(repo.common_folder());
    if real_path(folder) == common.join("hooks") {
        ProgramAt::Beside
    } else {
        ProgramAt::Path(real_path(&common).join("xtask/bin/xtask"))
    }
}

/// Where the program lies, from wherever one looks.
fn absolute(folder: &Path, program: &ProgramAt) -> PathBuf {
    match program {
        ProgramAt::Path(path) => path.clone(),
        ProgramAt::Beside => {
            let hooks = real_path(folder);
            hooks.parent().unwrap_or(&hooks).join("xtask/bin/xtask")
        }
    }
}

/// What stands at the name of a hook.
pub fn look(folder: &Path, hook: Hook, program: &ProgramAt) -> Result<There> {
    let path = folder.join(hook.name());
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(cause) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&cause.kind()) => {
            return Ok(There::Nothing);
        }
        Err(cause) => {
            let what = format!("`{}` cannot be looked at", path.display());
            return Err(Error::unable(what).because(cause));
        }
    };
    if !meta.is_file() && !meta.is_symlink() {
        return Ok(There::NoFile);
    }
    if meta.is_symlink() && !path.is_file() {
        return Ok(if path.exists() { There::NoFile } else { There::Foreign });
    }
    let content = fs::read(&path).unable(|| format!("`{}` cannot be read", path.display()))?;
    let is_foreign = !is_ours(&content);
    Ok(
        if is_foreign
            && (is_by_hand(&content, hook, &absolute(folder, program))
                || renamed(folder, hook, program)?.is_some_and(|aside| is_run_by(&content, &aside)))
        {
            There::ByHand
        } else if !is_ours(&content) || meta.is_symlink() || !is_of(&content, program) {
            There::Foreign
        } else if content == text(hook, program).as_bytes() && meta.mode() & 0o111 != 0 {
            There::Ours
        } else {
            There::OursChanged
        },
    )
}

/// The name under which a hook that was there is kept.
#[must_use]
pub fn kept_name(folder: &Path, hook: Hook) -> PathBuf {
    folder.join(format!("{}{KEPT}", hook.name()))
}

/// What was done with a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// The shim is new.
    New,
    /// The shim is new, and runs the hook that was there if that may be run at all.
    Chained {
        /// Whether it may.
        runs: bool,
    },
    /// A shim was renewed; what it was is kept at this path.
    Renewed(PathBuf),
    /// All is as it was.
    Same,
    /// The shim went.
    Removed,
    /// The shim went, and the hook that was there before is back.
    Restored,
    /// Somebody else's hook stands there now, and stays.
    Left,
    /// It cannot be done, for this reason.
    InTheWay(String),
}

/// What is to be done with a hook, as found before anything is.
struct Job {
    hook: Hook,
    path: PathBuf,
    there: There,
    has_kept: bool,
    fault: Option<String>,
}

impl Job {
    /// Whether a new shim is to be written.
    fn is_to_do(&self) -> bool {
        self.fault.is_none() && !matches!(self.there, There::Ours | There::ByHand)
    }
}

/// Puts the shims in. `now` is in seconds since the epoch.
pub fn install(repo: &Repo, folder: &Path, disk: &Disk<'_>, now: i64) -> Result<Vec<(Hook, Done)>> {
    let program = program_at(repo, folder);
    let jobs = plan(folder, &program)?;
    fs::create_dir_all(folder).unable(|| format!("`{}` cannot be made", folder.display()))?;
    let new = |path: &Path| with_suffix(path, ".xtask-new");
    let prepared = jobs
        .iter()
        .filter(|job| job.is_to_do())
        .try_for_each(|job| prepare(disk, &new(&job.path), &text(job.hook, &program)));
    if let Err(failure) = prepared {
        for job in &jobs {
            drop(disk.remove(&new(&job.path)));
        }
        return Err(failure.hint("no hook was changed"));
    }
    let placed = place_all(repo, &jobs, disk, now);
    if placed.is_err() {
        for job in &jobs {
            drop(disk.remove(&new(&job.path)));
        }
    }
    placed
}

/// Puts what was prepared in its places.
fn place_all(repo: &Repo, jobs: &[Job], disk: &Disk<'_>, now: i64) -> Result<Vec<(Hook, Done)>> {
    let new = |path: &Path| with_suffix(path, ".xtask-new");
    let mut done = Vec::new();
    for job in jobs {
        let failed = || format!("the hook `{}` cannot be put in place", job.path.display());
        let what = match (&job.fault, &job.there) {
            (Some(fault), _) => Done::InTheWay(fault.clone()),
            (None, There::Ours | There::ByHand) => Done::Same,
            (None, There::Nothing) => Done::New,
            (None, There::OursChanged) => Done::Renewed(save(repo, job, disk, now)?),
            (None, There::Foreign | There::NoFile) => {
                if !job.has_kept {
                    keep(disk, &job.path, &with_suffix(&job.path, KEPT)).unable(failed)?;
                }
                let runs = fs::metadata(&job.path).is_ok_and(|meta| is_executable(&meta));
                Done::Chained { runs }
            }
        };
        if job.is_to_do() {
            disk.replace(&new(&job.path), &job.path).unable(failed)?;
        }
        done.push((job.hook, what));
    }
    Ok(done)
}

/// What stands at each name, and whether anything is to be done there.
pub fn survey(repo: &Repo, folder: &Path) -> Result<Vec<(Hook, Done)>> {
    let jobs = plan(folder, &program_at(repo, folder))?;
    let words = jobs.into_iter().map(|job| {
        let done = match (job.fault, job.there) {
            (Some(fault), _) => Done::InTheWay(fault),
            (None, There::Ours | There::ByHand) => Done::Same,
            (None, There::Foreign) => {
                let runs = fs::metadata(&job.path).is_ok_and(|meta| is_executable(&meta));
                Done::Chained { runs }
            }
            (None, There::OursChanged) => Done::Renewed(replaced(repo)),
            (None, There::Nothing | There::NoFile) => Done::New,
        };
        (job.hook, done)
    });
    Ok(words.collect())
}

/// Everything that is there, and everything that speaks against changing it.
fn plan(folder: &Path, program: &ProgramAt) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for hook in Hook::ALL {
        let path = folder.join(hook.name());
        let there = look(folder, hook, program)?;
        let kept = kept_name(folder, hook);
        let has_kept = kept.symlink_metadata().is_ok();
        let fault = match there {
            There::NoFile => Some("it is not a file".to_owned()),
            There::Foreign if has_kept && !is_same_file(&path, &kept) => Some(format!(
                "somebody has put another hook over the shim, and `{}` is still there; keep the \
                 one you want under its own name, remove the other, and install again",
                kept.display()
            )),
            There::Foreign if !has_kept => {
                let content = fs::read(&path).unwrap_or_default();
                let link = fs::read_link(&path).ok();
                // The shim of another repository can be moved.
                let needs = needs_its_name(&content, link.as_deref(), hook.name())
                    .filter(|_| !is_ours(&content));
                needs.map(|why| {
                    let way = by_hand(&content, hook, &absolute(folder, program));
                    format!("it cannot be moved aside: {why}; {way}")
                })
            }
            _ => None,
        };
        jobs.push(Job { hook, path, there, has_kept, fault });
    }
    Ok(jobs)
}

/// Writes a new shim and reads it back.
fn prepare(disk: &Disk<'_>, path: &Path, text: &str) -> Result<()> {
    let failed = || format!("`{}` cannot be written", path.display());
    disk.remove(path).unable(failed)?;
    disk.create(path, text.as_bytes(), Bits::Executable).unable(failed)?;
    let written = fs::read(path).unable(failed)?;
    let is_whole = written == text.as_bytes();
    let meta = path.symlink_metadata().unable(failed)?;
    if is_whole && meta.mode() & 0o100 != 0 {
        return Ok(());
    }
    Err(Error::unable(failed()).hint("what was written is not what is read back"))
}

/// Gives a hook its second name: the very file where the file system can, or else a copy.
fn keep(disk: &Disk<'_>, path: &Path, kept: &Path) -> std::io::Result<()> {
    if disk.second_name(path, kept).is_ok() {
        return Ok(());
    }
    let meta = path.symlink_metadata()?;
    if meta.is_symlink() {
        return disk.symlink(&fs::read_link(path)?, kept);
    }
    disk.create(kept, &fs::read(path)?, Bits::Plain)?;
    fs::set_permissions(kept, meta.permissions())
}

/// Where shims that somebody has changed are kept.
fn replaced(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("replaced-hooks")
}

/// Saves a shim that somebody has changed.
fn save(repo: &Repo, job: &Job, disk: &Disk<'_>, now: i64) -> Result<PathBuf> {
    let folder = replaced(repo);
    let name = |number: u32| folder.join(format!("{}-{}-{number}", job.hook.name(), compact(now)));
    let mut number = 1;
    while name(number).symlink_metadata().is_ok() {
        number += 1;
    }
    let saved = name(number);
    let content =
        fs::read(&job.path).unable(|| format!("`{}` cannot be read", job.path.display()))?;
    disk.write_whole(&saved, &content)
        .unable(|| format!("`{}` cannot be saved", job.path.display()))?;
    Ok(saved)
}

/// Takes the shims out of a folder and puts back what was there.
pub fn uninstall(
    repo: &Repo,
    folder: &Path,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, Done)>> {
    let program = program_at(repo, folder);
    let mut done = Vec::new();
    for hook in Hook::ALL {
        let path = folder.join(hook.name());
        let kept = kept_name(folder, hook);
        let has_kept = kept.symlink_metadata().is_ok();
        let there = look(folder, hook, &program)?;
        let failed = || format!("the hook `{}` cannot be put back", path.display());
        let job = Job { hook, path: path.clone(), there: there.clone(), has_kept, fault: None };
        if there == There::OursChanged {
            save(repo, &job, disk, now)?;
        }
        let renamed = renamed(folder, hook, &program)?;
        let what = match (there, has_kept) {
            (There::ByHand, _) if renamed.is_some() => {
                // Another manager has put our shim aside and runs it there: there goes what was
                // before ours.
                let other = renamed.as_deref().unwrap_or(&path);
                if has_kept {
                    disk.replace(&kept, other).unable(failed)?;
                    Done::Restored
                } else {
                    // That manager may run it whatever happens, so something stays to be run.
                    let nothing = with_suffix(&path, ".xtask-new");
                    prepare(disk, &nothing, "#!/bin/sh\n# Does nothing; xtask was here.\n")?;
                    disk.replace(&nothing, other).unable(failed)?;
                    Done::InTheWay(format!(
                        "another manager has put xtask's hook aside as `{}`; that does nothing now",
                        other.display()
                    ))
                }
            }
            (There::Nothing, false) => Done::Same,
            (There::Nothing, true) => {
                disk.place(&kept, &path).unable(failed)?;
                Done::Restored
            }
            (There::Ours | There::OursChanged, true) => {
                disk.replace(&kept, &path).unable(failed)?;
                Done::Restored
            }
            (There::Ours | There::OursChanged, false) => {
                disk.remove(&path).unable(failed)?;
                Done::Removed
            }
            (There::Foreign, true) if is_same_file(&path, &kept) => {
                disk.remove(&kept).unable(failed)?;
                Done::Restored
            }
            (There::Foreign | There::ByHand | There::NoFile, true) => Done::Left,
            (There::ByHand, false) => Done::InTheWay(
                "it starts xtask by a line of its own; take that line out".to_owned(),
            ),
            (There::Foreign | There::NoFile, false) => Done::Same,
        };
        drop(disk.remove(&with_suffix(&path, ".xtask-new")));
        done.push((hook, what));
    }
    Ok(done)
}

/// Where another manager has put our shim aside, under a name that begins with the hook's. Were its
/// own hook moved aside in turn, each would run the other without end.
fn renamed(folder: &Path, hook: Hook, program: &ProgramAt) -> Result<Option<PathBuf>> {
    let is_shim = |content: Vec<u8>| is_ours(&content) && is_of(&content, program);
    let failed = || format!("`{}` cannot be read", folder.display());
    for found in fs::read_dir(folder).unable(failed)? {
        let path = found.unable(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_aside = name.starts_with(&format!("{}.", hook.name()))
            && !name.ends_with(KEPT)
            && !name.ends_with(".xtask-new");
        if is_aside && fs::read(&path).is_ok_and(is_shim) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whether a hook is known to run what was put aside: it names it, or is one of the managers that run what
/// they have put aside as `.legacy` without naming it (the migration mode of pre-commit and prek).
fn is_run_by(content: &[u8], aside: &Path) -> bool {
    let text = String::from_utf8_lossy(content);
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let names_it = |line: &str| !line.trim_start().starts_with('#') && line.contains(&*name);
    let runs_legacy = ["File generated by pre-commit", "File generated by prek"];
    text.lines().any(names_it)
        || name.ends_with(".legacy") && runs_legacy.iter().any(|words| text.contains(words))
}

/// The folders in which shims of this repository may lie: where git looks now, and its own.
pub fn folders(repo: &Repo) -> Result<Vec<PathBuf>> {
    let mut folders = vec![repo.hooks_folder()?.path, repo.common_folder().join("hooks")];
    folders.retain(|folder| folder.is_dir());
    folders.dedup_by(|one, two| real_path(one) == real_path(two));
    Ok(folders)
}

/// Whether two names stand for the same content: one file, or one file and its copy.
fn is_same_file(one: &Path, two: &Path) -> bool {
    let read = |path: &Path| {
        let meta = path.symlink_metadata().ok()?;
        let content = if meta.is_symlink() {
            fs::read_link(path).ok()?.into_os_string().into_encoded_bytes()
        } else {
            fs::read(path).ok()?
        };
        Some((meta.is_symlink(), meta.mode(), content))
    };
    read(one).is_some_and(|one| Some(one) == read(two))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
