//! Installation and removal of shims in the folder of the hooks.
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
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Hook;
use super::hooks_folder::{
    HookFileState, NEW_SUFFIX, absolute_program_path, find_moved_shims, inspect_hook, is_run_by,
    kept_hook_path, locate_program, runs_legacy,
};
use super::shim::{
    KEPT, ProgramLocation, are_from_same_manager, describe_manual_install, find_name_dependency,
    is_xtask_shim, render_shim,
};
use xtask_base::environment::format_compact_time;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::{CreateMode, Disk, is_executable};
use xtask_git::Repo;

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
    fn new_path(&self) -> PathBuf {
        with_suffix(&self.path, NEW_SUFFIX)
    }

    fn kept_path(&self) -> PathBuf {
        with_suffix(&self.path, KEPT)
    }

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
        let is_replaced = self.is_superseded && self.state == HookFileState::CallsProgram;
        let kept = is_replaced.then(|| self.kept_path());
        let all: Vec<PathBuf> = self.orphaned_shims.iter().cloned().chain(kept).collect();
        all.into_iter().filter(|_| self.fault.is_none())
    }
}

/// The hooks of a folder, while they are changed.
struct ShimInstaller<'a> {
    repo: &'a Repo,
    folder: &'a Path,
    program: ProgramLocation,
    disk: &'a Disk<'a>,
    /// In seconds since the epoch.
    now: i64,
}

/// Returns the hooks of an installation: those that are always installed, the `wanted` ones, and those that are
/// installed already.
pub(super) fn select_hooks(
    folder: &Path,
    program: &ProgramLocation,
    wanted: &[Hook],
) -> Result<Vec<Hook>> {
    let mut hooks = Vec::new();
    for hook in Hook::ALL {
        let is_ours = |state| {
            matches!(
                state,
                HookFileState::Shim | HookFileState::ChangedShim | HookFileState::CallsProgram
            )
        };
        if !hook.is_on_demand()
            || wanted.contains(&hook)
            || is_ours(inspect_hook(folder, hook, program)?)
        {
            hooks.push(hook);
        }
    }
    Ok(hooks)
}

/// Installs the shims in `folder`, of on-demand hooks the `wanted` ones. `now` is in seconds since the epoch.
pub fn install_shims(
    repo: &Repo,
    folder: &Path,
    disk: &Disk<'_>,
    now: i64,
    wanted: &[Hook],
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let program = locate_program(repo, folder);
    let jobs = plan_jobs(folder, &program, &select_hooks(folder, &program, wanted)?)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))?;
    let prepared = jobs
        .iter()
        .filter(|job| job.target().is_some())
        .try_for_each(|job| write_shim(disk, &job.new_path(), &render_shim(job.hook, &program)))
        .map_err(|failure| failure.with_hint("no hook was changed"));
    let installer = ShimInstaller { repo, folder, program, disk, now };
    let placed = prepared
        .and_then(|()| jobs.iter().map(|job| Ok((job.hook, installer.place_shim(job)?))).collect());
    if placed.is_err() {
        for job in &jobs {
            drop(disk.remove_file(&job.new_path()));
        }
    }
    placed
}

/// Removes the shims from `folder` and restores the hooks that existed before.
pub fn uninstall_shims(
    repo: &Repo,
    folder: &Path,
    disk: &Disk<'_>,
    now: i64,
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let program = locate_program(repo, folder);
    let jobs = plan_jobs(folder, &program, &Hook::ALL)?;
    let installer = ShimInstaller { repo, folder, program, disk, now };
    let mut done = Vec::new();
    for job in &jobs {
        let outcome = installer.remove_shim(job)?;
        if outcome != ShimOutcome::Unchanged || !job.hook.is_on_demand() {
            done.push((job.hook, outcome));
        }
    }
    Ok(done)
}

impl ShimInstaller<'_> {
    /// Moves a prepared shim to its final name.
    fn place_shim(&self, job: &HookJob) -> Result<ShimOutcome> {
        let failed = || format!("cannot install the hook `{}`", job.path.display());
        let mut outcome = match (&job.fault, &job.state) {
            (Some(fault), _) => ShimOutcome::Blocked(fault.clone()),
            (None, HookFileState::Shim | HookFileState::CallsProgram) => match &job.stale_shim {
                Some(stale) => ShimOutcome::Renewed(self.save_hook(job.hook, stale)?),
                None => ShimOutcome::Unchanged,
            },
            (None, HookFileState::Absent) => ShimOutcome::Created,
            (None, HookFileState::ChangedShim) => {
                ShimOutcome::Renewed(self.save_hook(job.hook, &job.path)?)
            }
            (None, HookFileState::Foreign | HookFileState::NotAFile) => {
                let kept = job.kept_path();
                if job.is_superseded && !is_same_file(&job.path, &kept) {
                    self.save_hook(job.hook, &kept)?;
                    self.disk.remove_file(&kept).with_context(failed)?;
                    keep_hook(self.disk, &job.path, &kept).with_context(failed)?;
                } else if !job.has_kept_hook {
                    keep_hook(self.disk, &job.path, &kept).with_context(failed)?;
                }
                let runs = fs::metadata(&job.path).is_ok_and(|meta| is_executable(&meta));
                ShimOutcome::Chained { runs }
            }
        };
        if let Some(target) = job.target() {
            self.disk.replace_file(&job.new_path(), target).with_context(failed)?;
        }
        for leftover in job.leftovers() {
            let saved = self.remove_hook(job.hook, &leftover)?;
            if outcome == ShimOutcome::Unchanged {
                outcome = saved.map_or(ShimOutcome::Unchanged, ShimOutcome::Renewed);
            }
        }
        Ok(outcome)
    }

    /// Removes a shim, and restores the hook that existed before.
    fn remove_shim(&self, job: &HookJob) -> Result<ShimOutcome> {
        let (hook, path, disk) = (job.hook, &job.path, self.disk);
        let kept = job.kept_path();
        let failed = || format!("cannot restore the hook `{}`", path.display());
        if job.state == HookFileState::ChangedShim {
            self.save_hook(hook, path)?;
        }
        for orphan in &job.orphaned_shims {
            self.remove_hook(hook, orphan)?;
        }
        let aside = find_moved_shims(self.folder, hook, &self.program)?.into_iter().next();
        let outcome = match (job.state, job.has_kept_hook) {
            (HookFileState::CallsProgram, _) if let Some(aside) = aside => {
                self.remove_moved_shim(job, &aside)?
            }
            (HookFileState::Absent, false) => ShimOutcome::Unchanged,
            (HookFileState::Absent, true) => {
                disk.rename_noreplace(&kept, path).with_context(failed)?;
                ShimOutcome::Restored
            }
            (HookFileState::Shim | HookFileState::ChangedShim, true) => {
                disk.replace_file(&kept, path).with_context(failed)?;
                ShimOutcome::Restored
            }
            (HookFileState::Shim | HookFileState::ChangedShim, false) => {
                disk.remove_file(path).with_context(failed)?;
                ShimOutcome::Removed
            }
            (HookFileState::Foreign, true) if is_same_file(path, &kept) => {
                disk.remove_file(&kept).with_context(failed)?;
                ShimOutcome::Restored
            }
            (HookFileState::Foreign, true) if job.is_superseded => {
                self.remove_hook(hook, &kept)?;
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
        drop(disk.remove_file(&job.new_path()));
        Ok(outcome)
    }

    /// Removes a shim that another manager has moved aside and runs there: the hook that existed before ours takes its
    /// place, unless that hook is the manager's own.
    fn remove_moved_shim(&self, job: &HookJob, aside: &Path) -> Result<ShimOutcome> {
        let failed = || format!("cannot restore the hook `{}`", job.path.display());
        if job.is_superseded {
            self.remove_hook(job.hook, &job.kept_path())?;
        }
        let is_optional = fs::read(&job.path).is_ok_and(|content| runs_legacy(&content));
        if job.has_kept_hook && !job.is_superseded {
            self.disk.replace_file(&job.kept_path(), aside).with_context(failed)?;
            return Ok(ShimOutcome::Restored);
        }
        if is_optional {
            self.remove_hook(job.hook, aside)?;
            return Ok(ShimOutcome::Removed);
        }
        // The manager may run this file unconditionally, so an empty script must remain.
        let nothing = job.new_path();
        write_shim(self.disk, &nothing, "#!/bin/sh\n# Does nothing; xtask was here.\n")?;
        self.disk.replace_file(&nothing, aside).with_context(failed)?;
        Ok(ShimOutcome::Blocked(format!(
            "another hook manager has moved xtask's hook to `{}`; that file does nothing now",
            aside.display()
        )))
    }

    /// Saves a copy of a hook that is about to be replaced or removed.
    fn save_hook(&self, hook: Hook, path: &Path) -> Result<PathBuf> {
        let folder = replaced_hooks_folder(self.repo);
        let base = format!("{}-{}", hook.name(), format_compact_time(self.now));
        let mut names = (1..).map(|number: u32| folder.join(format!("{base}-{number}")));
        let free = names.find(|name| name.symlink_metadata().is_err());
        let saved = free.expect("because not every number is taken");
        let failed = || format!("cannot save `{}`", path.display());
        let content = fs::read(path).with_context(failed)?;
        self.disk.write_atomically(&saved, &content).with_context(failed)?;
        Ok(saved)
    }

    /// Removes a hook that is no longer run. A copy is saved unless the file is our unmodified shim.
    fn remove_hook(&self, hook: Hook, path: &Path) -> Result<Option<PathBuf>> {
        let failed = || format!("cannot remove `{}`", path.display());
        let content = fs::read(path).with_context(failed)?;
        let saved = match content == render_shim(hook, &self.program).as_bytes() {
            true => None,
            false => Some(self.save_hook(hook, path)?),
        };
        self.disk.remove_file(path).with_context(failed)?;
        Ok(saved)
    }
}

/// Previews `install_shims`: the outcome for each hook. Read-only.
pub fn preview_install(
    repo: &Repo,
    folder: &Path,
    wanted: &[Hook],
) -> Result<Vec<(Hook, ShimOutcome)>> {
    let program = locate_program(repo, folder);
    let jobs = plan_jobs(folder, &program, &select_hooks(folder, &program, wanted)?)?;
    let saved = replaced_hooks_folder(repo);
    let words = jobs.into_iter().map(|job| {
        let has_work = job.target().is_some() || job.leftovers().next().is_some();
        let done = match (job.fault, job.state) {
            (Some(fault), _) => ShimOutcome::Blocked(fault),
            (None, HookFileState::Shim | HookFileState::CallsProgram) if has_work => {
                ShimOutcome::Renewed(saved.clone())
            }
            (None, HookFileState::Shim | HookFileState::CallsProgram) => ShimOutcome::Unchanged,
            (None, HookFileState::Foreign) => {
                let runs = fs::metadata(&job.path).is_ok_and(|meta| is_executable(&meta));
                ShimOutcome::Chained { runs }
            }
            (None, HookFileState::ChangedShim) => ShimOutcome::Renewed(saved.clone()),
            (None, HookFileState::Absent | HookFileState::NotAFile) => ShimOutcome::Created,
        };
        (job.hook, done)
    });
    Ok(words.collect())
}

/// Inspects `hooks` and plans the work, with the faults that prevent it.
fn plan_jobs(folder: &Path, program: &ProgramLocation, hooks: &[Hook]) -> Result<Vec<HookJob>> {
    let mut jobs = Vec::new();
    for hook in hooks.iter().copied() {
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
