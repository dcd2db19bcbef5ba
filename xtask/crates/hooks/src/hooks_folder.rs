//! Installation and removal of shims in the folder in which git looks for hooks.
//!
//! All hooks are inspected first, and all problems are reported together. New shims are written under temporary
//! names (`pre-commit.xtask-new`) and verified before the first existing hook is touched. An existing hook gets its
//! second name before the shim replaces it, so that a hook is runnable at every moment. Removal restores the
//! original hooks byte for byte.
//!
//! ```text
//! before:  pre-commit (the user's hook)
//! after:   pre-commit (shim), pre-commit.pre-xtask (the user's hook, which the shim runs first)
//! ```

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Hook;
use super::shim::{
    KEPT, ProgramLocation, are_from_same_manager, belongs_to_program, calls_program,
    describe_manual_install, find_name_dependency, is_xtask_shim, render_shim,
};
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{CreateMode, Disk, is_executable};
use xtask_git::{HooksFolder, HooksPathScope, Repo};

/// The kind of file at the name of a hook, under its name in `xtask.hooks/1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum HookFileState {
    /// No file.
    #[serde(rename = "missing")]
    Absent,
    /// The current shim, unmodified and executable.
    #[serde(rename = "installed")]
    Shim,
    /// A shim of another version, or one that was edited or is not executable.
    #[serde(rename = "old or changed by hand")]
    ChangedShim,
    /// A hook of another origin.
    #[serde(rename = "somebody else's")]
    Foreign,
    /// A hook of another origin that calls the program itself or runs our shim under another name.
    #[serde(rename = "somebody else's, and starts xtask by itself")]
    CallsProgram,
    /// A folder or a special file.
    #[serde(rename = "not a file")]
    NotAFile,
}

/// The folder for hooks, with the reason against installing shims there, if any.
#[derive(Clone, Debug)]
pub struct InstallTarget {
    pub folder: HooksFolder,
    /// The reason against an installation.
    pub refusal: Option<String>,
    /// Whether `--force` does not help, because git runs no hook from this folder.
    pub is_unusable: bool,
}

/// Finds the folder in which git looks for hooks, and reasons against installing shims there.
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
        Some(format!("{by} disables all hooks (`core.hooksPath` is `/dev/null`)"))
    } else if folder.path == Path::new("/") {
        Some(format!(
            "{by} sets `core.hooksPath` to `/` or an empty value, so git looks for `/pre-commit`"
        ))
    } else if let Some(other) = find_foreign_git_folder(&real, &common) {
        Some(format!(
            "{by} sets `core.hooksPath` to a folder of another repository, `{}` (`{shown}`, as in a \
             copied clone); its hooks would be replaced",
            other.display()
        ))
    } else if matches!(folder.scope, HooksPathScope::User | HooksPathScope::System) {
        Some(format!(
            "{by} sets `core.hooksPath` to `{shown}` for every repository; shims of this \
             repository would run in all of them"
        ))
    } else if folder.scope == HooksPathScope::Command {
        Some(format!("`core.hooksPath` is set by {by}, for this run only"))
    } else if is_in_worktree {
        Some(format!(
            "git looks for hooks in `{shown}`, inside the worktree; shims there would change with every \
             checkout"
        ))
    } else {
        None
    };
    Ok(InstallTarget { folder, refusal, is_unusable: is_hopeless })
}

/// Returns the git folder of another repository that contains `folder`, if there is one.
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

/// Returns how a shim in `folder` finds the program.
#[must_use]
pub fn locate_program(repo: &Repo, folder: &Path) -> ProgramLocation {
    let common = real_path(repo.common_folder());
    if real_path(folder) == common.join("hooks") {
        ProgramLocation::InGitFolder
    } else {
        ProgramLocation::Path(real_path(&common).join("xtask/bin/xtask"))
    }
}

/// Returns the absolute path of the program.
fn absolute_program_path(folder: &Path, program: &ProgramLocation) -> PathBuf {
    match program {
        ProgramLocation::Path(path) => path.clone(),
        ProgramLocation::InGitFolder => {
            let hooks = real_path(folder);
            hooks.parent().unwrap_or(&hooks).join("xtask/bin/xtask")
        }
    }
}

/// Inspects the file at the name of `hook`. Returns an error if it cannot be read.
pub fn inspect_hook(folder: &Path, hook: Hook, program: &ProgramLocation) -> Result<HookFileState> {
    let path = folder.join(hook.name());
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        Err(cause) if [ErrorKind::NotFound, ErrorKind::NotADirectory].contains(&cause.kind()) => {
            return Ok(HookFileState::Absent);
        }
        Err(cause) => {
            let what = format!("cannot inspect `{}`", path.display());
            return Err(Error::unable(what).with_cause(cause));
        }
    };
    if !meta.is_file() && !meta.is_symlink() {
        return Ok(HookFileState::NotAFile);
    }
    if meta.is_symlink() && !path.is_file() {
        return Ok(if path.exists() { HookFileState::NotAFile } else { HookFileState::Foreign });
    }
    let content = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
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

/// Returns the second name of a hook that existed before the installation, e.g. `pre-commit.pre-xtask`.
#[must_use]
pub fn kept_hook_path(folder: &Path, hook: Hook) -> PathBuf {
    folder.join(format!("{}{KEPT}", hook.name()))
}

/// The outcome for one hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShimOutcome {
    /// The shim was created.
    Created,
    /// The shim was created and runs the existing hook first, if that is executable.
    Chained {
        /// Whether the existing hook is executable.
        runs: bool,
    },
    /// The shim was replaced; this path holds a copy of the old one.
    Renewed(PathBuf),
    /// No change was needed.
    Unchanged,
    /// The shim was removed.
    Removed,
    /// The shim was removed, and the hook that existed before was restored.
    Restored,
    /// Another hook has replaced the shim; it stays.
    LeftForeign,
    /// Not possible, for this reason.
    Blocked(String),
}

/// The planned work for one hook.
struct HookJob {
    hook: Hook,
    path: PathBuf,
    state: HookFileState,
    has_kept_hook: bool,
    /// Whether the kept hook is an older version of the present hook, from the same hook manager.
    is_superseded: bool,
    /// The path of our shim, if another manager has moved it aside, still runs it there, and it is outdated.
    stale_shim: Option<PathBuf>,
    /// Our shims that another manager has moved aside and does not run.
    orphaned_shims: Vec<PathBuf>,
    fault: Option<String>,
}

impl HookJob {
    /// Returns the path at which a new shim must be written.
    fn target(&self) -> Option<&Path> {
        match self.state {
            _ if self.fault.is_some() => None,
            HookFileState::Shim | HookFileState::CallsProgram => self.stale_shim.as_deref(),
            _ => Some(&self.path),
        }
    }

    /// Returns the files that are no longer in use.
    fn leftovers(&self) -> impl Iterator<Item = PathBuf> {
        let kept = with_suffix(&self.path, KEPT);
        let kept =
            Some(kept).filter(|_| self.is_superseded && self.state == HookFileState::CallsProgram);
        let all: Vec<PathBuf> = self.orphaned_shims.iter().cloned().chain(kept).collect();
        all.into_iter().filter(|_| self.fault.is_none())
    }
}

/// Installs the shims in `folder`. `now` is in seconds since the epoch.
pub fn install_shims(
    repo: &Repo,
    folder: &Path,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let program = locate_program(repo, folder);
    let jobs = plan_jobs(folder, &program)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
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

/// Moves the prepared shims to their final names.
fn place_shims(
    repo: &Repo,
    jobs: &[HookJob],
    program: &ProgramLocation,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let mut done = Vec::new();
    for job in jobs {
        let failed = || format!("cannot install the hook `{}`", job.path.display());
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

/// Previews `install_shims`: the outcome for each hook. Read-only.
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

/// Inspects all hooks and plans the work, with the faults that prevent it.
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
                "another hook has replaced the shim, and `{}` still exists; keep the one you want \
                 under the name of the hook, remove the other, and install again",
                kept.display()
            )),
            HookFileState::Foreign if !has_kept => {
                let link = fs::read_link(&path).ok();
                // A shim of another repository can be moved aside.
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

/// Writes a new shim and verifies it by reading it back.
fn write_shim(disk: &Disk<'_>, path: &Path, text: &str) -> Result<()> {
    let failed = || format!("cannot write `{}`", path.display());
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

/// Gives a hook its second name, as a hard link if the file system supports that, or else as a copy.
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

/// The folder for copies of replaced shims and hooks.
fn replaced_hooks_folder(repo: &Repo) -> PathBuf {
    repo.shared_state_folder().join("replaced-hooks")
}

/// Saves a copy of a hook that is about to be replaced or removed.
fn save_hook(repo: &Repo, hook: Hook, path: &Path, disk: &Disk<'_>, now: i64) -> Result<PathBuf> {
    let folder = replaced_hooks_folder(repo);
    let name =
        |number: u32| folder.join(format!("{}-{}-{number}", hook.name(), format_compact_time(now)));
    let mut number = 1;
    while name(number).symlink_metadata().is_ok() {
        number += 1;
    }
    let saved = name(number);
    let failed = || format!("cannot save `{}`", path.display());
    let content = fs::read(path).with_context(failed)?;
    disk.write_atomically(&saved, &content).with_context(failed)?;
    Ok(saved)
}

/// Removes a hook that is no longer run. A copy is saved unless the file is our unmodified shim.
fn remove_hook(
    repo: &Repo,
    hook: Hook,
    path: &Path,
    program: &ProgramLocation,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Option<PathBuf>> {
    let failed = || format!("cannot remove `{}`", path.display());
    let content = fs::read(path).with_context(failed)?;
    let saved = match content == render_shim(hook, program).as_bytes() {
        true => None,
        false => Some(save_hook(repo, hook, path, disk, now)?),
    };
    disk.remove_file(path).with_context(failed)?;
    Ok(saved)
}

/// Removes the shims from `folder` and restores the hooks that existed before.
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
        let failed = || format!("cannot restore the hook `{}`", path.display());
        if there == HookFileState::ChangedShim {
            save_hook(repo, hook, &path, disk, now)?;
        }
        for remains in unrun {
            remove_hook(repo, hook, &remains, &program, disk, now)?;
        }
        let aside = find_moved_shims(folder, hook, &program)?.into_iter().next();
        let what = match (there, has_kept) {
            (HookFileState::CallsProgram, _) if let Some(aside) = aside => {
                // Another manager has moved our shim aside and runs it there: the hook that existed before ours takes
                // its place, unless that hook is the manager's own.
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
                    // The manager may run this file unconditionally, so an empty script must remain.
                    let nothing = with_suffix(&path, ".xtask-new");
                    write_shim(disk, &nothing, "#!/bin/sh\n# Does nothing; xtask was here.\n")?;
                    disk.replace_file(&nothing, &aside).with_context(failed)?;
                    ShimOutcome::Blocked(format!(
                        "another hook manager has moved xtask's hook to `{}`; that file does nothing now",
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
            (HookFileState::CallsProgram, false) => {
                ShimOutcome::Blocked("it calls xtask itself; remove that line".to_owned())
            }
            (HookFileState::Foreign | HookFileState::NotAFile, false) => ShimOutcome::Unchanged,
        };
        drop(disk.remove_file(&with_suffix(&path, ".xtask-new")));
        done.push((hook, what));
    }
    Ok(done)
}

/// Finds our shims that other managers have moved aside, under names such as `pre-commit.old`. A hook that runs such a
/// shim must not be moved aside in turn: the two would call each other endlessly.
fn find_moved_shims(folder: &Path, hook: Hook, program: &ProgramLocation) -> Result<Vec<PathBuf>> {
    let is_shim =
        |content: Vec<u8>| is_xtask_shim(&content) && belongs_to_program(&content, program);
    let failed = || format!("cannot read `{}`", folder.display());
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

/// Returns whether a hook runs the file that was moved aside: it mentions the name of that file, or belongs to a
/// manager that runs moved hooks without naming them.
fn is_run_by(content: &[u8], aside: &Path) -> bool {
    let text = String::from_utf8_lossy(content);
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let names_it = |line: &str| !line.trim_start().starts_with('#') && line.contains(&*name);
    text.lines().any(names_it) || name.ends_with(".legacy") && runs_legacy(content)
}

/// Returns whether a hook belongs to a manager that runs an existing `.legacy` hook: the migration mode of
/// `pre-commit` and `prek`.
fn runs_legacy(content: &[u8]) -> bool {
    let text = String::from_utf8_lossy(content);
    ["File generated by pre-commit", "File generated by prek"]
        .iter()
        .any(|words| text.contains(words))
}

/// Returns the folders that may contain shims of this repository: the one that git uses now, and `hooks` in the git
/// folder.
pub fn list_hooks_folders(repo: &Repo) -> Result<Vec<PathBuf>> {
    let mut folders = vec![repo.hooks_folder()?.path, repo.common_folder().join("hooks")];
    folders.retain(|folder| folder.is_dir());
    folders.dedup_by(|one, two| real_path(one) == real_path(two));
    Ok(folders)
}

/// Returns whether two paths have the same content: one file with two names, or a file and its copy.
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
