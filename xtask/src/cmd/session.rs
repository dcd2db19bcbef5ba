//! What every command has at hand: the world, the repository, the disk, the signals, and how much
//! the user wants to hear.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::cli::{Color, Global};
use xtask_base::error::{Context as _, Error, Result};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::record::take_newer;
use xtask_base::signals::Interrupts;
use xtask_base::world::World;
use xtask_git::Tools;
use xtask_git::{Head, Repo};
use xtask_hooks::Hook;
use xtask_hooks::install::Done;
use xtask_hooks::program::Builder;
use xtask_hooks::shim::KEPT;
use xtask_report::hooks::HookDone;
use xtask_report::sync::{CanonicalLine, PathLine, SyncReport};
use xtask_report::{self as report, Bar, Loudness};
use xtask_review::queue::{self, Request, State};
use xtask_sync::classify::{Class, Why};
use xtask_sync::context::{Context, usual_names};
use xtask_sync::plan::Plan;

/// One run of the program.
pub(super) struct Session {
    /// Where, with which environment and when.
    pub(super) world: World,
    /// How much to tell.
    pub(super) loudness: Loudness,
    /// The colours that were asked for, as git names them.
    pub(super) color: &'static str,
    /// Whether nothing is to be written: then a partial clone brings no contents.
    pub(super) only_looks: bool,
    disk: Disk<'static>,
    interrupts: Interrupts,
    bar: Bar,
}

impl Session {
    pub(super) fn new(mut world: World, global: &Global) -> Result<Session> {
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
            (true, _) => Loudness::Quiet,
            (_, true) => Loudness::Verbose,
            _ => Loudness::Usual,
        };
        let interrupts = Interrupts::take_over();
        let only_looks = false;
        Ok(Session {
            world,
            loudness,
            color,
            only_looks,
            disk: Disk::real(),
            interrupts,
            bar: Bar::new(),
        })
    }

    /// The repository around the working folder, with state that this program knows.
    pub(super) fn repo(&self) -> Result<Repo> {
        let repo = Repo::discover(&self.world.cwd)?;
        check_format(&repo)?;
        self.write_as_git_in(&repo);
        if !self.only_looks {
            repo.allow_fetch();
            repo.share_at_the_end();
        }
        Ok(repo)
    }

    /// Writes files as this repository has told git to.
    pub(super) fn write_as_git_in(&self, repo: &Repo) {
        if repo.skips_fsync() {
            self.disk.skip_fsync();
        }
    }

    /// What work needs from the outside.
    pub(super) fn tools(&self) -> Tools<'_> {
        Tools {
            world: &self.world,
            disk: &self.disk,
            interrupts: &self.interrupts,
            progress: &self.bar,
            ending: None,
            waiting: &|holder| {
                report::warn(&format!("waiting for another xtask in this worktree ({holder})"));
            },
        }
    }

    /// What an installation of the hooks needs.
    pub(super) fn builder<'s>(&'s self, repo: &'s Repo) -> Builder<'s> {
        let is_quiet = self.loudness == Loudness::Quiet;
        Builder { repo, world: &self.world, disk: &self.disk, is_quiet }
    }

    /// Tells what is going on.
    pub(super) fn story(&self, text: &str) {
        report::story(self.loudness, text);
    }

    /// Tells that an earlier run was mended, if one was.
    pub(super) fn tell_mended(&self, mended: Option<String>) {
        if let Some(text) = mended {
            report::warn(&text);
        }
    }

    /// Tells what came of the pull requests that pushes have asked for, once.
    pub(super) fn tell_requests(&self, repo: &Repo) {
        let now = self.world.now_seconds();
        let answered = |request: &Request| request.state != State::Waiting;
        let requests: Vec<Request> = queue::all(repo, now).into_iter().filter(answered).collect();
        if self.loudness == Loudness::Quiet || requests.is_empty() {
            return;
        }
        let told: Vec<String> = requests.iter().map(Request::key).collect();
        for request in requests {
            match request.state {
                State::Done { .. } => self.story(&request.words(now)),
                _ => report::warn(&request.words(now)),
            }
        }
        // Told twice is better than not at all.
        drop(queue::forget(repo, &self.disk, &told, now));
    }

    /// A path as the user typed it, from the root of the repository. What lies outside is an error.
    pub(super) fn repo_path(&self, repo: &Repo, typed: &OsStr) -> Result<RepoPath> {
        let outside =
            || Error::usage(format!("`{}` is outside of the repository", typed.to_string_lossy()));
        let cwd = self.world.cwd.canonicalize().unable(|| "the working folder cannot be read")?;
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
        let inside = full.strip_prefix(repo.root()).map_err(|_| outside())?;
        if inside.as_os_str().is_empty() {
            return Err(Error::usage("the whole repository was named")
                .hint("leave the path out to mean all managed paths"));
        }
        Ok(RepoPath::new(inside.as_os_str().as_bytes()))
    }

    /// Asks before something is changed that others will see. Without `--yes` and without a terminal
    /// there is nobody to ask, and that is an error of usage.
    pub(super) fn confirm(&self, question: &str, is_said: bool) -> Result<bool> {
        if is_said {
            return Ok(true);
        }
        report::ask(question).ok_or_else(|| {
            Error::usage("nothing was changed: this asks first, and there is no terminal to ask on")
                .hint("`--yes` says yes; `--dry-run` only looks")
        })
    }

    /// Several of them.
    pub(super) fn repo_paths(&self, repo: &Repo, typed: &[OsString]) -> Result<Vec<RepoPath>> {
        typed.iter().map(|path| self.repo_path(repo, path)).collect()
    }
}

/// Refuses state that a newer xtask has written, before anything of it is read or written.
pub(super) fn check_format(repo: &Repo) -> Result<()> {
    repo.check_format().map_err(|refusal| refusal.hint(take_newer(&usual_names(repo).branch)))
}

/// What was done with each hook, for the report.
pub(super) fn hook_lines(hooks: &[(Hook, Done)]) -> Vec<HookDone> {
    let lines = hooks.iter().map(|(hook, done)| {
        let words = match done {
            Done::Same => None,
            Done::New => Some("installed".to_owned()),
            Done::Chained { runs: true } => {
                Some(format!("installed; what was there runs first, as {}{KEPT}", hook.name()))
            }
            Done::Chained { runs: false } => Some(format!(
                "installed; what was there is kept as {}{KEPT} and not run: it is not executable",
                hook.name()
            )),
            Done::InTheWay(why) => Some(format!("left alone: {why}")),
            Done::Renewed(saved) => {
                Some(format!("renewed; what it was is kept in {}", saved.display()))
            }
            Done::Removed => Some("removed".to_owned()),
            Done::Restored => Some("as it was before".to_owned()),
            Done::Left => Some(format!(
                "somebody else's, and stays; the one before is still {}{KEPT}",
                hook.name()
            )),
        };
        (hook.name(), words)
    });
    lines.collect()
}

/// The report of a plan.
pub(super) fn describe(
    repo: &Repo,
    head: &Head,
    context: &Context,
    plan: &Plan,
    in_sync: &[RepoPath],
    warnings: Vec<String>,
) -> SyncReport {
    let mut paths: Vec<PathLine> = plan
        .items
        .iter()
        .map(|item| PathLine {
            path: item.path().to_string(),
            class: item.class.name(),
            action: item.action.name(),
            reason: item.reason(),
            is_conflict: item.is_conflict(),
            merge_file: None,
        })
        .collect();
    paths.extend(in_sync.iter().map(|path| PathLine {
        path: path.to_string(),
        class: Class::InSync.name(),
        action: "none",
        reason: Why::Same.to_string(),
        is_conflict: false,
        merge_file: None,
    }));
    paths.sort_by(|one, two| one.path.cmp(&two.path));
    SyncReport { branch: head.branch.clone(), warnings, paths, ..empty(repo, context) }
}

/// A report that has nothing to say yet.
pub(super) fn empty(repo: &Repo, context: &Context) -> SyncReport {
    SyncReport {
        schema: "xtask.sync/1",
        canonical: CanonicalLine {
            reference: context.canonical.reference.clone(),
            commit: context.canonical.commit.to_string(),
        },
        worktree: repo.root().display().to_string(),
        branch: repo.branch_name(),
        mode: "commit",
        commit: None,
        undo: None,
        moved_to: None,
        skipped: None,
        warnings: context.warnings.clone(),
        paths: Vec::new(),
    }
}

/// What can be typed once the canonical branch has moved.
pub(super) fn after_landing(session: &Session, repo: &Repo, branch: &str) {
    let remote = usual_names(repo).remote;
    if repo.has_remote(&remote) {
        session.story(&format!("next: `git push {remote} {branch}` for everybody"));
    }
    session.story("`cargo xtask propagate` brings it to every branch here");
}

pub(super) fn tell(text: &str) {
    report::hook_line(&format!("xtask: {text}"));
}
