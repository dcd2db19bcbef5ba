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
    KEPT, ProgramLocation, are_from_same_manager, belongs_to_program, calls_program,
    describe_manual_install, find_name_dependency, is_xtask_shim, render_shim,
};
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{CreateMode, Disk, is_executable};
use xtask_git::{HooksFolder, HooksPathScope, Repo};

/// What stands at the name of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookFileState {
    /// Nothing.
    Absent,
    /// Our shim, as it should be.
    Shim,
    /// A shim of ours of another version, or changed by hand.
    ChangedShim,
    /// Somebody else's hook.
    Foreign,
    /// Somebody else's hook, which starts our program by itself, or our shim under another name.
    CallsProgram,
    /// Something that is no file.
    NotAFile,
}

/// The folder of the hooks, and why ours should not go there, if they should not.
#[derive(Clone, Debug)]
pub struct InstallTarget {
    /// The folder.
    pub folder: HooksFolder,
    /// Why not.
    pub refusal: Option<String>,
    /// Whether no force helps: git runs no hook from there.
    pub is_unusable: bool,
}

/// Where hooks go, and whether they should.
pub fn find_install_target(repo: &Repo) -> Result<InstallTarget> {
    let folder = repo.hooks_folder()?;
    let shown = folder.path.display();
    let by = folder.scope.describe();
    let real = folder.path.canonicalize().unwrap_or_else(|_| folder.path.clone());
    let common = real_path(repo.common_folder());
    let trees = repo.list_worktrees()?;
    let is_in = |root: &Path| real.starts_with(root) && !real.starts_with(&common);
    let is_in_worktree = is_in(repo.root()) || trees.iter().any(|tree| is_in(&tree.root));
    let is_hopeless = [Path::new("/dev/null"), Path::new("/")].contains(&&*folder.path);
    let refusal = if folder.path == Path::new("/dev/null") {
        Some(format!("{by} switches all hooks off (`core.hooksPath` is `/dev/null`)"))
    } else if folder.path == Path::new("/") {
        Some(format!(
            "{by} has `core.hooksPath` empty or `/`, and git looks for hooks as `/pre-commit`"
        ))
    } else if let Some(other) = find_foreign_git_folder(&real, &common) {
        Some(format!(
            "{by} sends hooks into another repository, `{}` (`core.hooksPath` is `{shown}`, as in a \
             clone that was copied); its hooks would be replaced",
            other.display()
        ))
    } else if matches!(folder.scope, HooksPathScope::User | HooksPathScope::System) {
        Some(format!(
            "{by} sends the hooks of every repository to `{shown}` (`core.hooksPath`); shims of this \
             repository would run in all of them"
        ))
    } else if folder.scope == HooksPathScope::Command {
        Some(format!("`core.hooksPath` comes from {by}, for this run alone"))
    } else if is_in_worktree {
        Some(format!(
            "git looks for hooks in `{shown}`, among the files of the worktree; shims there would \
             change with every branch"
        ))
    } else {
        None
    };
    Ok(InstallTarget { folder, refusal, is_unusable: is_hopeless })
}

/// The git folder of another repository in which a folder lies, if it does.
fn find_foreign_git_folder(folder: &Path, common: &Path) -> Option<PathBuf> {
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
pub fn locate_program(repo: &Repo, folder: &Path) -> ProgramLocation {
    let common = real_path(repo.common_folder());
    if real_path(folder) == common.join("hooks") {
        ProgramLocation::InGitFolder
    } else {
        ProgramLocation::Path(real_path(&common).join("xtask/bin/xtask"))
    }
}

/// Where the program lies, from wherever one looks.
fn absolute_program_path(folder: &Path, program: &ProgramLocation) -> PathBuf {
    match program {
        ProgramLocation::Path(path) => path.clone(),
        ProgramLocation::InGitFolder => {
            let hooks = real_path(folder);
            hooks.parent().unwrap_or(&hooks).join("xtask/bin/xtask")
        }
    }
}

/// What stands at the name of a hook.
pub fn inspect_hook(folder: &Path, hook: Hook, program: &ProgramLocation) -> Result<HookFileState> {
    let path = folder.join(hook.name());
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(cause) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&cause.kind()) => {
            return Ok(HookFileState::Absent);
        }
        Err(cause) => {
            let what = format!("`{}` cannot be looked at", path.display());
            return Err(Error::unable(what).with_cause(cause));
        }
    };
    if !meta.is_file() && !meta.is_symlink() {
        return Ok(HookFileState::NotAFile);
    }
    if meta.is_symlink() && !path.is_file() {
        return Ok(if path.exists() { HookFileState::NotAFile } else { HookFileState::Foreign });
    }
    let content =
        fs::read(&path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    if !is_xtask_shim(&content)
        && (calls_program(&content, hook, &absolute_program_path(folder, program))
            || find_moved_shims(folder, hook, program)?
                .iter()
                .any(|aside| is_run_by(&content, aside)))
    {
        return Ok(HookFileState::CallsProgram);
    }
    Ok(if !is_xtask_shim(&content) || meta.is_symlink() || !belongs_to_program(&content, program) {
        HookFileState::Foreign
    } else if content == render_shim(hook, program).as_bytes() && meta.mode() & 0o111 != 0 {
        HookFileState::Shim
    } else {
        HookFileState::ChangedShim
    })
}

/// The name under which a hook that was there is kept.
#[must_use]
pub fn kept_hook_path(folder: &Path, hook: Hook) -> PathBuf {
    folder.join(format!("{}{KEPT}", hook.name()))
}

/// What was done with a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShimOutcome {
    /// The shim is new.
    Created,
    /// The shim is new, and runs the hook that was there if that may be run at all.
    Chained {
        /// Whether it may.
        runs: bool,
    },
    /// A shim was renewed; what it was is kept at this path.
    Renewed(PathBuf),
    /// All is as it was.
    Unchanged,
    /// The shim went.
    Removed,
    /// The shim went, and the hook that was there before is back.
    Restored,
    /// Somebody else's hook stands there now, and stays.
    LeftForeign,
    /// It cannot be done, for this reason.
    Blocked(String),
}

/// What is to be done with a hook, as found before anything is.
struct HookJob {
    hook: Hook,
    path: PathBuf,
    state: HookFileState,
    has_kept_hook: bool,
    /// Whether what is kept is an older hook of the manager whose hook stands there now.
    is_superseded: bool,
    /// Where the shim is run from, if another manager has put it aside and does so, and is not what it
    /// should be.
    stale_shim: Option<PathBuf>,
    /// Shims of ours that another manager has put aside and does not run.
    orphaned_shims: Vec<PathBuf>,
    fault: Option<String>,
}

impl HookJob {
    /// Where a new shim is to be written.
    fn target(&self) -> Option<&Path> {
        match self.state {
            _ if self.fault.is_some() => None,
            HookFileState::Shim | HookFileState::CallsProgram => self.stale_shim.as_deref(),
            _ => Some(&self.path),
        }
    }

    /// What is not used any more.
    fn leftovers(&self) -> impl Iterator<Item = PathBuf> {
        let kept = with_suffix(&self.path, KEPT);
        let kept =
            Some(kept).filter(|_| self.is_superseded && self.state == HookFileState::CallsProgram);
        let all: Vec<PathBuf> = self.orphaned_shims.iter().cloned().chain(kept).collect();
        all.into_iter().filter(|_| self.fault.is_none())
    }
}

/// Puts the shims in. `now` is in seconds since the epoch.
pub fn install_shims(
    repo: &Repo,
    folder: &Path,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let program = locate_program(repo, folder);
    let jobs = plan_jobs(folder, &program)?;
    fs::create_dir_all(folder).with_context(|| format!("`{}` cannot be made", folder.display()))?;
    let new = |job: &HookJob| with_suffix(&job.path, ".xtask-new");
    let prepared = jobs
        .iter()
        .filter(|job| job.target().is_some())
        .try_for_each(|job| write_shim(disk, &new(job), &render_shim(job.hook, &program)));
    let placed = match prepared {
        Ok(()) => place_shims(repo, &jobs, &program, disk, now),
        Err(failure) => Err(failure.with_hint("no hook was changed")),
    };
    if placed.is_err() {
        for job in &jobs {
            drop(disk.remove_file(&new(job)));
        }
    }
    placed
}

/// Puts what was prepared in its places.
fn place_shims(
    repo: &Repo,
    jobs: &[HookJob],
    program: &ProgramLocation,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let mut done = Vec::new();
    for job in jobs {
        let failed = || format!("the hook `{}` cannot be put in place", job.path.display());
        let kept = with_suffix(&job.path, KEPT);
        let what = match (&job.fault, &job.state) {
            (Some(fault), _) => ShimOutcome::Blocked(fault.clone()),
            (None, HookFileState::Shim | HookFileState::CallsProgram) => match &job.stale_shim {
                Some(stale) => ShimOutcome::Renewed(save_hook(repo, job.hook, stale, disk, now)?),
                None => ShimOutcome::Unchanged,
            },
            (None, HookFileState::Absent) => ShimOutcome::Created,
            (None, HookFileState::ChangedShim) => {
                ShimOutcome::Renewed(save_hook(repo, job.hook, &job.path, disk, now)?)
            }
            (None, HookFileState::Foreign | HookFileState::NotAFile) => {
                if job.is_superseded && !is_same_file(&job.path, &kept) {
                    save_hook(repo, job.hook, &kept, disk, now)?;
                    disk.remove_file(&kept).with_context(failed)?;
                    keep_hook(disk, &job.path, &kept).with_context(failed)?;
                } else if !job.has_kept_hook {
                    keep_hook(disk, &job.path, &kept).with_context(failed)?;
                }
                let runs = fs::metadata(&job.path).is_ok_and(|meta| is_executable(&meta));
                ShimOutcome::Chained { runs }
            }
        };
        if let Some(target) = job.target() {
            disk.replace_file(&with_suffix(&job.path, ".xtask-new"), target)
                .with_context(failed)?;
        }
        let mut what = what;
        for remains in job.leftovers() {
            let saved = remove_hook(repo, job.hook, &remains, program, disk, now)?;
            if what == ShimOutcome::Unchanged {
                what = saved.map_or(ShimOutcome::Unchanged, ShimOutcome::Renewed);
            }
        }
        done.push((job.hook, what));
    }
    Ok(done)
}

/// What stands at each name, and whether anything is to be done there.
pub fn preview_install(repo: &Repo, folder: &Path) -> Result<Vec<(Hook, ShimOutcome)>> {
    let jobs = plan_jobs(folder, &locate_program(repo, folder))?;
    let words = jobs.into_iter().map(|job| {
        let has_work = job.target().is_some() || job.leftovers().next().is_some();
        let done = match (job.fault, job.state) {
            (Some(fault), _) => ShimOutcome::Blocked(fault),
            (None, HookFileState::Shim | HookFileState::CallsProgram) if has_work => {
                ShimOutcome::Renewed(replaced_hooks_folder(repo))
            }
            (None, HookFileState::Shim | HookFileState::CallsProgram) => ShimOutcome::Unchanged,
            (None, HookFileState::Foreign) => {
                let runs = fs::metadata(&job.path).is_ok_and(|meta| is_executable(&meta));
                ShimOutcome::Chained { runs }
            }
            (None, HookFileState::ChangedShim) => ShimOutcome::Renewed(replaced_hooks_folder(repo)),
            (None, HookFileState::Absent | HookFileState::NotAFile) => ShimOutcome::Created,
        };
        (job.hook, done)
    });
    Ok(words.collect())
}

/// Everything that is there, and everything that speaks against changing it.
fn plan_jobs(folder: &Path, program: &ProgramLocation) -> Result<Vec<HookJob>> {
    let mut jobs = Vec::new();
    for hook in Hook::ALL {
        let path = folder.join(hook.name());
        let there = inspect_hook(folder, hook, program)?;
        let kept = kept_hook_path(folder, hook);
        let has_kept = kept.symlink_metadata().is_ok();
        let content = fs::read(&path).unwrap_or_default();
        let is_superseded = has_kept
            && matches!(there, HookFileState::Foreign | HookFileState::CallsProgram)
            && (is_same_file(&path, &kept)
                || fs::read(&kept).is_ok_and(|kept| are_from_same_manager(&content, &kept)));
        let (run, unrun): (Vec<PathBuf>, Vec<PathBuf>) = find_moved_shims(folder, hook, program)?
            .into_iter()
            .partition(|aside| there == HookFileState::CallsProgram && is_run_by(&content, aside));
        let is_stale = |aside: &PathBuf| {
            fs::read(aside).is_ok_and(|content| content != render_shim(hook, program).as_bytes())
        };
        let stale = run.into_iter().find(is_stale);
        let fault = match there {
            HookFileState::NotAFile => Some("it is not a file".to_owned()),
            HookFileState::Foreign if has_kept && !is_superseded => Some(format!(
                "somebody has put another hook over the shim, and `{}` is still there; keep the \
                 one you want under its own name, remove the other, and install again",
                kept.display()
            )),
            HookFileState::Foreign if !has_kept => {
                let link = fs::read_link(&path).ok();
                // The shim of another repository can be moved.
                let needs = find_name_dependency(&content, link.as_deref(), hook.name())
                    .filter(|_| !is_xtask_shim(&content));
                needs.map(|why| {
                    let way = describe_manual_install(
                        &content,
                        hook,
                        &absolute_program_path(folder, program),
                    );
                    format!("it cannot be moved aside: {why}; {way}")
                })
            }
            _ => None,
        };
        jobs.push(HookJob {
            hook,
            path,
            state: there,
            has_kept_hook: has_kept,
            is_superseded,
            stale_shim: stale,
            orphaned_shims: unrun,
            fault,
        });
    }
    Ok(jobs)
}

/// Writes a new shim and reads it back.
fn write_shim(disk: &Disk<'_>, path: &Path, text: &str) -> Result<()> {
    let failed = || format!("`{}` cannot be written", path.display());
    disk.remove_file(path).with_context(failed)?;
    disk.create_file(path, text.as_bytes(), CreateMode::Executable).with_context(failed)?;
    let written = fs::read(path).with_context(failed)?;
    let is_whole = written == text.as_bytes();
    let meta = path.symlink_metadata().with_context(failed)?;
    if is_whole && meta.mode() & 0o100 != 0 {
        return Ok(());
    }
    Err(Error::unable(failed()).with_hint("verification after write failed"))
}

/// Gives a hook its second name: the very file where the file system can, or else a copy.
fn keep_hook(disk: &Disk<'_>, path: &Path, kept: &Path) -> std::io::Result<()> {
    if disk.create_hard_link(path, kept).is_ok() {
        return Ok(());
    }
    let meta = path.symlink_metadata()?;
    if meta.is_symlink() {
        return disk.create_symlink(&fs::read_link(path)?, kept);
    }
    disk.create_file(kept, &fs::read(path)?, CreateMode::Plain)?;
    fs::set_permissions(kept, meta.permissions())
}

/// Where shims that somebody has changed are kept.
fn replaced_hooks_folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("replaced-hooks")
}

/// Saves a hook that is about to go.
fn save_hook(repo: &Repo, hook: Hook, path: &Path, disk: &Disk<'_>, now: i64) -> Result<PathBuf> {
    let folder = replaced_hooks_folder(repo);
    let name =
        |number: u32| folder.join(format!("{}-{}-{number}", hook.name(), format_compact_time(now)));
    let mut number = 1;
    while name(number).symlink_metadata().is_ok() {
        number += 1;
    }
    let saved = name(number);
    let failed = || format!("`{}` cannot be saved", path.display());
    let content = fs::read(path).with_context(failed)?;
    disk.write_atomically(&saved, &content).with_context(failed)?;
    Ok(saved)
}

/// Takes a hook away that nobody runs any more; what is not our shim as we write it is saved.
fn remove_hook(
    repo: &Repo,
    hook: Hook,
    path: &Path,
    program: &ProgramLocation,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Option<PathBuf>> {
    let failed = || format!("`{}` cannot be removed", path.display());
    let content = fs::read(path).with_context(failed)?;
    let saved = match content == render_shim(hook, program).as_bytes() {
        true => None,
        false => Some(save_hook(repo, hook, path, disk, now)?),
    };
    disk.remove_file(path).with_context(failed)?;
    Ok(saved)
}

/// Takes the shims out of a folder and puts back what was there.
pub fn uninstall_shims(
    repo: &Repo,
    folder: &Path,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let program = locate_program(repo, folder);
    let mut done = Vec::new();
    for job in plan_jobs(folder, &program)? {
        let HookJob {
            hook,
            path,
            state: there,
            has_kept_hook: has_kept,
            is_superseded,
            orphaned_shims: unrun,
            ..
        } = job;
        let kept = kept_hook_path(folder, hook);
        let failed = || format!("the hook `{}` cannot be put back", path.display());
        if there == HookFileState::ChangedShim {
            save_hook(repo, hook, &path, disk, now)?;
        }
        for remains in unrun {
            remove_hook(repo, hook, &remains, &program, disk, now)?;
        }
        let aside = find_moved_shims(folder, hook, &program)?.into_iter().next();
        let what = match (there, has_kept) {
            (HookFileState::CallsProgram, _) if let Some(aside) = aside => {
                // Another manager has put our shim aside and runs it there: there goes what was
                // before ours, unless it is that manager's own.
                if is_superseded {
                    remove_hook(repo, hook, &kept, &program, disk, now)?;
                }
                let is_optional = fs::read(&path).is_ok_and(|content| runs_legacy(&content));
                if has_kept && !is_superseded {
                    disk.replace_file(&kept, &aside).with_context(failed)?;
                    ShimOutcome::Restored
                } else if is_optional {
                    remove_hook(repo, hook, &aside, &program, disk, now)?;
                    ShimOutcome::Removed
                } else {
                    // That manager may run it whatever happens, so something stays to be run.
                    let nothing = with_suffix(&path, ".xtask-new");
                    write_shim(disk, &nothing, "#!/bin/sh\n# Does nothing; xtask was here.\n")?;
                    disk.replace_file(&nothing, &aside).with_context(failed)?;
                    ShimOutcome::Blocked(format!(
                        "another manager has put xtask's hook aside as `{}`; that does nothing now",
                        aside.display()
                    ))
                }
            }
            (HookFileState::Absent, false) => ShimOutcome::Unchanged,
            (HookFileState::Absent, true) => {
                disk.rename_noreplace(&kept, &path).with_context(failed)?;
                ShimOutcome::Restored
            }
            (HookFileState::Shim | HookFileState::ChangedShim, true) => {
                disk.replace_file(&kept, &path).with_context(failed)?;
                ShimOutcome::Restored
            }
            (HookFileState::Shim | HookFileState::ChangedShim, false) => {
                disk.remove_file(&path).with_context(failed)?;
                ShimOutcome::Removed
            }
            (HookFileState::Foreign, true) if is_same_file(&path, &kept) => {
                disk.remove_file(&kept).with_context(failed)?;
                ShimOutcome::Restored
            }
            (HookFileState::Foreign, true) if is_superseded => {
                remove_hook(repo, hook, &kept, &program, disk, now)?;
                ShimOutcome::LeftForeign
            }
            (
                HookFileState::Foreign | HookFileState::CallsProgram | HookFileState::NotAFile,
                true,
            ) => ShimOutcome::LeftForeign,
            (HookFileState::CallsProgram, false) => ShimOutcome::Blocked(
                "it starts xtask by a line of its own; take that line out".to_owned(),
            ),
            (HookFileState::Foreign | HookFileState::NotAFile, false) => ShimOutcome::Unchanged,
        };
        drop(disk.remove_file(&with_suffix(&path, ".xtask-new")));
        done.push((hook, what));
    }
    Ok(done)
}

/// Where other managers have put our shim aside, under names that begin with the hook's. Were a hook that
/// runs it moved aside in turn, each would run the other without end.
fn find_moved_shims(folder: &Path, hook: Hook, program: &ProgramLocation) -> Result<Vec<PathBuf>> {
    let is_shim =
        |content: Vec<u8>| is_xtask_shim(&content) && belongs_to_program(&content, program);
    let failed = || format!("`{}` cannot be read", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(cause) if cause.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.with_context(failed)?.path();
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
pub fn list_hooks_folders(repo: &Repo) -> Result<Vec<PathBuf>> {
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
