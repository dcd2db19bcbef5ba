//! The context of every command (`Session`): environment, verbosity, disk, signals and progress, and helpers that
//! several commands share, e.g. `repo_path`, which turns the argument `../setup/a` into the path `setup/a`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::cli::{Color, GlobalArgs};
use xtask_base::environment::Environment;
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::record::upgrade_hint;
use xtask_base::signals::Interrupts;
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_hooks::program::ProgramInstaller;
use xtask_report::{self as report, StderrProgress, Verbosity};
use xtask_review::queue::{self, QueuedRequest, RequestState};
use xtask_sync::context::{SyncContext, configured_names};
use xtask_sync::pin_report::PinReport;
use xtask_sync::report::RunMode;
use xtask_sync::sync_worktree::{BestEffortSync, sync_best_effort};

/// The context of one run of the program.
pub(super) struct Session {
    /// The working folder, the variables and the clock.
    pub(super) world: Environment,
    pub(super) verbosity: Verbosity,
    /// `auto`, `always` or `never`, as git's `--color` takes it.
    pub(super) color: &'static str,
    /// Whether the command writes nothing: then a partial clone fetches no blobs.
    pub(super) is_read_only: bool,
    disk: Disk<'static>,
    interrupts: Interrupts,
    progress: StderrProgress,
}

impl Session {
    pub(super) fn new(mut world: Environment, global: &GlobalArgs) -> Result<Session> {
        if let Some(folder) = &global.directory {
            world.cwd = world.cwd.join(folder);
            if !world.cwd.is_dir() {
                return Err(Error::usage(format!("`{}` is not a folder", folder.display())));
            }
        }
        let color = match global.color {
            Color::Auto => "auto",
            Color::Always => "always",
            Color::Never => "never",
        };
        report::set_color(match global.color {
            Color::Auto => None,
            Color::Always => Some(true),
            Color::Never => Some(false),
        });
        let loudness = match (global.quiet, global.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        };
        let interrupts = Interrupts::install_handlers();
        let only_looks = false;
        Ok(Session {
            world,
            verbosity: loudness,
            color,
            is_read_only: only_looks,
            disk: Disk::real(),
            interrupts,
            progress: StderrProgress::new(),
        })
    }

    /// Opens the repository of the working folder. Returns an error if a newer xtask has written its state.
    pub(super) fn open_repo(&self) -> Result<Repo> {
        let repo = Repo::discover(&self.world.cwd)?;
        check_format(&repo)?;
        self.apply_fsync_setting(&repo);
        if !self.is_read_only {
            repo.allow_fetch();
            repo.schedule_sharing();
        }
        Ok(repo)
    }

    /// Applies the `core.fsync` setting of the repository to the disk.
    pub(super) fn apply_fsync_setting(&self, repo: &Repo) {
        if repo.skips_fsync() {
            self.disk.skip_fsync();
        }
    }

    /// Returns the tools that the library crates need.
    pub(super) fn tools(&self) -> Tools<'_> {
        Tools {
            world: &self.world,
            disk: &self.disk,
            interrupts: &self.interrupts,
            progress: &self.progress,
            finishing_operation: None,
            on_wait: &|holder| {
                report::print_warning(&format!(
                    "waiting for another xtask in this worktree ({holder})"
                ));
            },
        }
    }

    /// Returns the installer of the hooks and their program.
    pub(super) fn hook_builder<'s>(&'s self, repo: &'s Repo) -> ProgramInstaller<'s> {
        let is_quiet = self.verbosity == Verbosity::Quiet;
        ProgramInstaller { repo, world: &self.world, disk: &self.disk, is_quiet }
    }

    /// Prints `text` to stderr, unless `--quiet` is given.
    pub(super) fn print_info(&self, text: &str) {
        report::print_info(self.verbosity, text);
    }

    /// Prints a warning if an interrupted run was recovered.
    pub(super) fn warn_recovered(&self, mended: Option<String>) {
        if let Some(text) = mended {
            report::print_warning(&text);
        }
    }

    /// Prints the warnings about how canonical commit and configuration were chosen.
    pub(super) fn warn_about_context(&self, context: &SyncContext) {
        context.warnings.iter().for_each(|warning| report::print_warning(warning));
    }

    /// Syncs the branch that is checked out, as a step of another command: if the rules refuse it, that is printed as
    /// a warning and is no failure, e.g. `warning: main is protected`. The caller holds the lock of the worktree.
    pub(super) fn sync_best_effort(&self, repo: &Repo, context: SyncContext) -> Result<()> {
        match sync_best_effort(repo, context, &self.tools())? {
            BestEffortSync::OnCanonical => {}
            BestEffortSync::Synced(synced) => {
                report::print_output(&synced.render_text(RunMode::Real, self.verbosity))?;
            }
            BestEffortSync::Refused(drift, refused) => {
                report::print_output(&drift.render_text(RunMode::Check, self.verbosity))?;
                report::print_warning(refused.message());
                refused.hints().iter().for_each(|hint| self.print_info(hint));
            }
        }
        Ok(())
    }

    /// Prints the results of the pull requests that earlier pushes have queued, once each.
    pub(super) fn print_requests(&self, repo: &Repo) {
        let now = self.world.now_seconds();
        let answered = |request: &QueuedRequest| request.state != RequestState::Waiting;
        let requests: Vec<QueuedRequest> =
            queue::list_requests(repo, now).into_iter().filter(answered).collect();
        if self.verbosity == Verbosity::Quiet || requests.is_empty() {
            return;
        }
        let told: Vec<String> = requests.iter().map(QueuedRequest::key).collect();
        for request in requests {
            match request.state {
                RequestState::Done { .. } => self.print_info(&request.describe(now)),
                _ => report::print_warning(&request.describe(now)),
            }
        }
        // If this fails they are printed again, which is better than never.
        drop(queue::remove_reported(repo, &self.disk, &told, now));
    }

    /// Returns the path `typed` from the root of the repository. Returns an error if it is outside.
    pub(super) fn repo_path(&self, repo: &Repo, typed: &OsStr) -> Result<RepoPath> {
        let outside =
            || Error::usage(format!("`{}` is outside the repository", typed.to_string_lossy()));
        let cwd =
            self.world.cwd.canonicalize().with_context(|| "cannot read the working folder")?;
        let mut full = PathBuf::new();
        for part in cwd.join(Path::new(typed)).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => {
                    full.pop();
                }
                other => full.push(other),
            }
        }
        // A folder above the last name may be a symlink into the repository.
        let full = match full.strip_prefix(repo.root()) {
            Ok(_) => full,
            Err(_) => resolve_folders(&full).unwrap_or(full),
        };
        let inside = full.strip_prefix(repo.root()).map_err(|_| outside())?;
        if inside.as_os_str().is_empty() {
            return Err(Error::usage("the path is the root of the repository")
                .with_hint("name a file or folder in it; commands that need no path are about all managed paths without one"));
        }
        Ok(RepoPath::new(inside.as_os_str().as_bytes()))
    }

    /// Asks `question` and returns whether the answer is `yes`. Returns a usage error if there is no terminal and
    /// `--yes` was not given.
    pub(super) fn confirm(&self, question: &str, is_said: bool) -> Result<bool> {
        if is_said {
            return Ok(true);
        }
        report::prompt_yes(question).ok_or_else(|| {
            Error::usage("nothing was changed: confirmation needed, but there is no terminal")
                .with_hint("use `--yes` to confirm, or `--dry-run` to preview")
        })
    }

    /// Returns the paths `typed` from the root of the repository.
    pub(super) fn repo_paths(&self, repo: &Repo, typed: &[OsString]) -> Result<Vec<RepoPath>> {
        typed.iter().map(|path| self.repo_path(repo, path)).collect()
    }
}

/// Resolves the symlinks of all existing folders above the last name, which may be a managed symlink itself.
fn resolve_folders(full: &Path) -> Option<PathBuf> {
    let parent = full.parent()?;
    let mut existing = parent.ancestors();
    let (resolved, above) = existing.find_map(|one| Some((one.canonicalize().ok()?, one)))?;
    Some(resolved.join(full.strip_prefix(above).ok()?))
}

/// Returns an error if a newer xtask has written the state of the repository; called before any of it is read.
pub(super) fn check_format(repo: &Repo) -> Result<()> {
    repo.check_state_format()
        .map_err(|refusal| refusal.with_hint(upgrade_hint(&configured_names(repo).branch)))
}

/// Prints what `pin` or `unpin` has changed, and the next commands.
pub(super) fn print_pin_report(
    session: &Session,
    repo: &Repo,
    changed: &PinReport,
    is_json: bool,
) -> Result<()> {
    changed.warnings.iter().for_each(|warning| report::print_warning(warning));
    if is_json {
        return report::print_json(changed);
    }
    report::print_output(&changed.render_change())?;
    if let Some(undo) = &changed.undo {
        session.print_info(&format!("`cargo xtask undo {undo}` undoes it"));
    }
    let canonical = configured_names(repo).branch;
    if changed.commit.is_some() && repo.current_branch().as_deref() == Some(canonical.as_str()) {
        print_push_steps(session, repo, &canonical);
    } else if let Some(push) = &changed.push {
        session.print_info(&format!("next: {push}: until then nobody else knows of it"));
    }
    Ok(())
}

/// Prints the next commands after the canonical branch has moved.
pub(super) fn print_push_steps(session: &Session, repo: &Repo, branch: &str) {
    let remote = configured_names(repo).remote;
    if repo.has_remote(&remote) {
        session.print_info(&format!("next: `git push {remote} {branch}`"));
    }
    session.print_info("`cargo xtask propagate` updates every local branch");
}

pub(super) fn print_hook_message(text: &str) {
    report::print_hook_line(&format!("xtask: {text}"));
}
