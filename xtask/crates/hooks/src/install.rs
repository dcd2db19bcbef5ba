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
use super::shim::{
    KEPT, ProgramAt, are_of_one_manager, by_hand, is_by_hand, is_of, is_ours, needs_its_name, text,
};
use xtask_base::error::{Context, Error, Result};
use xtask_base::files::{Bits, Disk, is_executable};
use xtask_base::world::compact;
use xtask_git::{HooksFolder, NamedBy, Repo};

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
    /// Whether no force helps: git runs no hook from there.
    pub is_hopeless: bool,
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
    let is_hopeless = [Path::new("/dev/null"), Path::new("/")].contains(&&*folder.path);
    let refusal = if folder.path == Path::new("/dev/null") {
        Some(format!("{by} switches all hooks off (`core.hooksPath` is `/dev/null`)"))
    } else if folder.path == Path::new("/") {
        Some(format!(
            "{by} has `core.hooksPath` empty or `/`, and git looks for hooks as `/pre-commit`"
        ))
    } else if let Some(other) = git_folder_of_another(&real, &common) {
        Some(format!(
            "{by} sends hooks into another repository, `{}` (`core.hooksPath` is `{shown}`, as in a \
             clone that was copied); its hooks would be replaced",
            other.display()
        ))
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
    Ok(Place { folder, refusal, is_hopeless })
}

/// The git folder of another repository in which a folder lies, if it does.
fn git_folder_of_another(folder: &Path, common: &Path) -> Option<PathBuf> {
    let is_git_folder = |path: &&Path| {
        path.join("HEAD").symlink_metadata().is_ok()
            && path.join("objects").is_dir()
            && path.join("refs").is_dir()
    };
    let found = folder.ancestors().find(is_git_folder)?;
    (found != common).then(|| found.to_path_buf())
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
    if !is_ours(&content)
        && (is_by_hand(&content, hook, &absolute(folder, program))
            || aside(folder, hook, program)?.iter().any(|aside| is_run_by(&content, aside)))
    {
        return Ok(There::ByHand);
    }
    Ok(if !is_ours(&content) || meta.is_symlink() || !is_of(&content, program) {
        There::Foreign
    } else if content == text(hook, program).as_bytes() && meta.mode() & 0o111 != 0 {
        There::Ours
    } else {
        There::OursChanged
    })
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
    /// Whether what is kept is an older hook of the manager whose hook stands there now.
    is_superseded: bool,
    /// Where the shim is run from, if another manager has put it aside and does so, and is not what it
    /// should be.
    stale: Option<PathBuf>,
    /// Shims of ours that another manager has put aside and does not run.
    unrun: Vec<PathBuf>,
    fault: Option<String>,
}

impl Job {
    /// Where a new shim is to be written.
    fn target(&self) -> Option<&Path> {
        match self.there {
            _ if self.fault.is_some() => None,
            There::Ours | There::ByHand => self.stale.as_deref(),
            _ => Some(&self.path),
        }
    }

    /// What is not used any more.
    fn remains(&self) -> impl Iterator<Item = PathBuf> {
        let kept = with_suffix(&self.path, KEPT);
        let kept = Some(kept).filter(|_| self.is_superseded && self.there == There::ByHand);
        let all: Vec<PathBuf> = self.unrun.iter().cloned().chain(kept).collect();
        all.into_iter().filter(|_| self.fault.is_none())
    }
}

/// Puts the shims in. `now` is in seconds since the epoch.
pub fn install(repo: &Repo, folder: &Path, disk: &Disk<'_>, now: i64) -> Result<Vec<(Hook, Done)>> {
    let program = program_at(repo, folder);
    let jobs = plan(folder, &program)?;
    fs::create_dir_all(folder).unable(|| format!("`{}` cannot be made", folder.display()))?;
    let new = |job: &Job| with_suffix(&job.path, ".xtask-new");
    let prepared = jobs
        .iter()
        .filter(|job| job.target().is_some())
        .try_for_each(|job| prepare(disk, &new(job), &text(job.hook, &program)));
    let placed = match prepared {
        Ok(()) => place_all(repo, &jobs, &program, disk, now),
        Err(failure) => Err(failure.hint("no hook was changed")),
    };
    if placed.is_err() {
        for job in &jobs {
            drop(disk.remove(&new(job)));
        }
    }
    placed
}

/// Puts what was prepared in its places.
fn place_all(
    repo: &Repo,
    jobs: &[Job],
    program: &ProgramAt,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, Done)>> {
    let mut done = Vec::new();
    for job in jobs {
        let failed = || format!("the hook `{}` cannot be put in place", job.path.display());
        let kept = with_suffix(&job.path, KEPT);
        let what = match (&job.fault, &job.there) {
            (Some(fault), _) => Done::InTheWay(fault.clone()),
            (None, There::Ours | There::ByHand) => match &job.stale {
                Some(stale) => Done::Renewed(save(repo, job.hook, stale, disk, now)?),
                None => Done::Same,
            },
            (None, There::Nothing) => Done::New,
            (None, There::OursChanged) => {
                Done::Renewed(save(repo, job.hook, &job.path, disk, now)?)
            }
            (None, There::Foreign | There::NoFile) => {
                if job.is_superseded && !is_same_file(&job.path, &kept) {
                    save(repo, job.hook, &kept, disk, now)?;
                    disk.remove(&kept).unable(failed)?;
                    keep(disk, &job.path, &kept).unable(failed)?;
                } else if !job.has_kept {
                    keep(disk, &job.path, &kept).unable(failed)?;
                }
                let runs = fs::metadata(&job.path).is_ok_and(|meta| is_executable(&meta));
                Done::Chained { runs }
            }
        };
        if let Some(target) = job.target() {
            disk.replace(&with_suffix(&job.path, ".xtask-new"), target).unable(failed)?;
        }
        let mut what = what;
        for remains in job.remains() {
            let saved = put_away(repo, job.hook, &remains, program, disk, now)?;
            if what == Done::Same {
                what = saved.map_or(Done::Same, Done::Renewed);
            }
        }
        done.push((job.hook, what));
    }
    Ok(done)
}

/// What stands at each name, and whether anything is to be done there.
pub fn survey(repo: &Repo, folder: &Path) -> Result<Vec<(Hook, Done)>> {
    let jobs = plan(folder, &program_at(repo, folder))?;
    let words = jobs.into_iter().map(|job| {
        let has_work = job.target().is_some() || job.remains().next().is_some();
        let done = match (job.fault, job.there) {
            (Some(fault), _) => Done::InTheWay(fault),
            (None, There::Ours | There::ByHand) if has_work => Done::Renewed(replaced(repo)),
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
        let content = fs::read(&path).unwrap_or_default();
        let is_superseded = has_kept
            && matches!(there, There::Foreign | There::ByHand)
            && (is_same_file(&path, &kept)
                || fs::read(&kept).is_ok_and(|kept| are_of_one_manager(&content, &kept)));
        let (run, unrun): (Vec<PathBuf>, Vec<PathBuf>) = aside(folder, hook, program)?
            .into_iter()
            .partition(|aside| there == There::ByHand && is_run_by(&content, aside));
        let is_stale = |aside: &PathBuf| {
            fs::read(aside).is_ok_and(|content| content != text(hook, program).as_bytes())
        };
        let stale = run.into_iter().find(is_stale);
        let fault = match there {
            There::NoFile => Some("it is not a file".to_owned()),
            There::Foreign if has_kept && !is_superseded => Some(format!(
                "somebody has put another hook over the shim, and `{}` is still there; keep the \
                 one you want under its own name, remove the other, and install again",
                kept.display()
            )),
            There::Foreign if !has_kept => {
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
        jobs.push(Job { hook, path, there, has_kept, is_superseded, stale, unrun, fault });
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
    Err(Error::unable(failed()).hint("verification after write failed"))
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

/// Saves a hook that is about to go.
fn save(repo: &Repo, hook: Hook, path: &Path, disk: &Disk<'_>, now: i64) -> Result<PathBuf> {
    let folder = replaced(repo);
    let name = |number: u32| folder.join(format!("{}-{}-{number}", hook.name(), compact(now)));
    let mut number = 1;
    while name(number).symlink_metadata().is_ok() {
        number += 1;
    }
    let saved = name(number);
    let failed = || format!("`{}` cannot be saved", path.display());
    let content = fs::read(path).unable(failed)?;
    disk.write_whole(&saved, &content).unable(failed)?;
    Ok(saved)
}

/// Takes a hook away that nobody runs any more; what is not our shim as we write it is saved.
fn put_away(
    repo: &Repo,
    hook: Hook,
    path: &Path,
    program: &ProgramAt,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Option<PathBuf>> {
    let failed = || format!("`{}` cannot be removed", path.display());
    let content = fs::read(path).unable(failed)?;
    let saved = match content == text(hook, program).as_bytes() {
        true => None,
        false => Some(save(repo, hook, path, disk, now)?),
    };
    disk.remove(path).unable(failed)?;
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
    for job in plan(folder, &program)? {
        let Job { hook, path, there, has_kept, is_superseded, unrun, .. } = job;
        let kept = kept_name(folder, hook);
        let failed = || format!("the hook `{}` cannot be put back", path.display());
        if there == There::OursChanged {
            save(repo, hook, &path, disk, now)?;
        }
        for remains in unrun {
            put_away(repo, hook, &remains, &program, disk, now)?;
        }
        let aside = aside(folder, hook, &program)?.into_iter().next();
        let what = match (there, has_kept) {
            (There::ByHand, _) if let Some(aside) = aside => {
                // Another manager has put our shim aside and runs it there: there goes what was
                // before ours, unless it is that manager's own.
                if is_superseded {
                    put_away(repo, hook, &kept, &program, disk, now)?;
                }
                let is_optional = fs::read(&path).is_ok_and(|content| runs_legacy(&content));
                if has_kept && !is_superseded {
                    disk.replace(&kept, &aside).unable(failed)?;
                    Done::Restored
                } else if is_optional {
                    put_away(repo, hook, &aside, &program, disk, now)?;
                    Done::Removed
                } else {
                    // That manager may run it whatever happens, so something stays to be run.
                    let nothing = with_suffix(&path, ".xtask-new");
                    prepare(disk, &nothing, "#!/bin/sh\n# Does nothing; xtask was here.\n")?;
                    disk.replace(&nothing, &aside).unable(failed)?;
                    Done::InTheWay(format!(
                        "another manager has put xtask's hook aside as `{}`; that does nothing now",
                        aside.display()
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
            (There::Foreign, true) if is_superseded => {
                put_away(repo, hook, &kept, &program, disk, now)?;
                Done::Left
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

/// Where other managers have put our shim aside, under names that begin with the hook's. Were a hook that
/// runs it moved aside in turn, each would run the other without end.
fn aside(folder: &Path, hook: Hook, program: &ProgramAt) -> Result<Vec<PathBuf>> {
    let is_shim = |content: Vec<u8>| is_ours(&content) && is_of(&content, program);
    let failed = || format!("`{}` cannot be read", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.unable(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unable(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_aside = name.starts_with(&format!("{}.", hook.name()))
            && !name.ends_with(KEPT)
            && !name.ends_with(".xtask-new");
        if is_aside && path.is_file() && fs::read(&path).is_ok_and(is_shim) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a hook is known to run what was put aside: it names it, or is one of the managers that run what
/// they have put aside without naming it.
fn is_run_by(content: &[u8], aside: &Path) -> bool {
    let text = String::from_utf8_lossy(content);
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let names_it = |line: &str| !line.trim_start().starts_with('#') && line.contains(&*name);
    text.lines().any(names_it) || name.ends_with(".legacy") && runs_legacy(content)
}

/// Whether a hook is of a manager that runs what it has put aside as `.legacy`, if that is there (the
/// migration mode of pre-commit and prek).
fn runs_legacy(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    ["File generated by pre-commit", "File generated by prek"]
        .iter()
        .any(|words| text.contains(words))
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
