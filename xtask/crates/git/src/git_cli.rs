//! The git program, for what a user would see git do.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

use super::push::unreachable_remote_error;
use super::{Id, Repo, Revision};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::process::{ACTIVE_VAR, Program, ProgramOutput};

/// How long a fetch may take before it is given up: two minutes, enough for a slow line and short
/// enough for a person to notice.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a fetch or a push of hundreds of branches may take: ten minutes.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a command that works on this machine alone may take.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

/// How long a ref that another git holds is waited for, a pause after the other, in milliseconds.
const PAUSES_MS: [u64; 6] = [50, 100, 200, 400, 800, 1600];

/// Set for a push that `cargo xtask push` sees to itself.
pub const PUSHING: &str = "XTASK_PUSHING";

/// How a push goes by our own hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushHookMode {
    /// Ours does nothing.
    Skip,
    /// Ours judges, and leaves the pull requests to whoever pushes.
    CheckOnly,
}

/// A ref at a remote that a push would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefPushPreview {
    /// Its name there.
    pub to: String,
    /// The commit that it would get; nothing where it would be deleted, or git says no commit.
    pub from: Option<Id>,
    /// Whether it would be deleted.
    pub is_deleted: bool,
    /// Whether it would be new.
    pub is_new: bool,
}

/// Whether a process of this name is git, or a program of git's (`git-remote-https`).
#[must_use]
pub fn is_git(name: &str) -> bool {
    name == "git" || name.starts_with("git-")
}

/// Words of git's after which refs may be others than before.
const REF_MOVING_COMMANDS: [&str; 14] = [
    "am",
    "bisect",
    "checkout",
    "cherry-pick",
    "commit",
    "fetch",
    "merge",
    "push",
    "rebase",
    "reset",
    "revert",
    "stash",
    "switch",
    "worktree",
];

/// The oldest git with which all of this is tried: that of Debian 12.
const OLDEST_GIT: (u32, u32) = (2, 39);

impl Repo {
    /// Refuses a git that is too old for what we ask of it. One that does not tell its version is not too old.
    pub fn check_git_version(&self) -> Result<()> {
        let asked = self.git_command(["version"]).run_with_timeout(LOCAL_TIMEOUT)?;
        let version = asked.stdout.trim().trim_start_matches("git version ");
        let mut numbers = version.split('.').map(str::parse::<u32>);
        let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
            return Ok(());
        };
        if (major, minor) >= OLDEST_GIT {
            return Ok(());
        }
        Err(Error::unable(format!(
            "git {version} is too old: {}.{} or newer is needed; nothing was changed",
            OLDEST_GIT.0, OLDEST_GIT.1
        ))
        .with_hint("`git version` and `PATH` say which one is found"))
    }

    /// Git, which speaks English: the words of its filters and the names of files stay as they are.
    pub(super) fn git_command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Program {
        let args: Vec<&str> = args.into_iter().collect();
        if args.iter().any(|word| REF_MOVING_COMMANDS.contains(word)) && !args.contains(&"list") {
            self.forget_refs();
        }
        let git = Program::new("git", self.root()).env("LANGUAGE", "C");
        let git = match self.needs_git_dir {
            true => git.env("GIT_DIR", self.git_folder()).env("GIT_WORK_TREE", self.root()),
            false => git,
        };
        git.args(args)
    }

    /// Fetches branches of a remote into their remote-tracking refs. Answers with those that the
    /// remote has; the others are left out, and their remote-tracking refs stay.
    pub fn fetch(&self, remote: &str, branches: &[&str]) -> Result<Vec<String>> {
        let run = |args: &[&str]| -> Result<ProgramOutput> {
            retry_on_ref_lock(|| {
                let asking = self.git_command(args.iter().copied());
                asking.env("GIT_TERMINAL_PROMPT", "0").run_with_timeout(FETCH_TIMEOUT)
            })
        };
        let failed = |output: &ProgramOutput| {
            Error::unable(format!("`git fetch {remote}` failed: {}", output.stderr))
                .with_hint("without --fetch the state of the last fetch is used")
        };
        let mut list = vec!["ls-remote", "--heads", "--", remote];
        list.extend(branches);
        let there = run(&list)?;
        if !there.status.success() {
            return Err(failed(&there));
        }
        let is_there = |branch: &&&str| {
            let name = format!("refs/heads/{branch}");
            there.stdout.lines().any(|line| line.split('\t').nth(1) == Some(&name))
        };
        let found: Vec<String> =
            branches.iter().filter(is_there).map(|branch| (*branch).to_owned()).collect();
        if found.is_empty() {
            return Ok(found);
        }
        let spec = |branch: &String| format!("+refs/heads/{branch}:refs/remotes/{remote}/{branch}");
        let specs: Vec<String> = found.iter().map(spec).collect();
        let mut args = vec!["-c", "gc.auto=0", "-c", "maintenance.auto=false"];
        args.extend(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", remote]);
        args.extend(specs.iter().map(String::as_str));
        let fetched = run(&args)?;
        if fetched.status.success() { Ok(found) } else { Err(failed(&fetched)) }
    }

    /// A command that talks to a remote: it asks nothing, and has as long as a fetch.
    pub(super) fn run_remote_command(&self, args: &[String]) -> Result<ProgramOutput> {
        let asking = self.git_command(args.iter().map(String::as_str)).with_full_output();
        asking.env("GIT_TERMINAL_PROMPT", "0").run_with_timeout(TRANSFER_TIMEOUT)
    }

    /// The branches of a remote, as it says now, with their commits. What they need is fetched, and
    /// the remote-tracking refs follow. None of those is removed.
    pub fn fetch_all_branches(&self, remote: &str) -> Result<Vec<(String, Id)>> {
        let words =
            |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let spec = format!("+refs/heads/*:refs/remotes/{remote}/*");
        let quiet = ["-c", "gc.auto=0", "-c", "maintenance.auto=false", "fetch", "--quiet"];
        let mut fetch = words(&quiet);
        fetch.extend(words(&[
            "--no-tags",
            "--no-write-fetch-head",
            "--no-prune",
            "--no-auto-maintenance",
        ]));
        fetch.extend(words(&["--recurse-submodules=no", "--", remote, &spec]));
        let fetched = retry_on_ref_lock(|| self.run_remote_command(&fetch))?;
        if !fetched.status.success() {
            return Err(unreachable_remote_error(remote, &fetched.stderr));
        }
        let listed = self.run_remote_command(&words(&["ls-remote", "--heads", "--", remote]))?;
        if !listed.status.success() {
            return Err(unreachable_remote_error(remote, &listed.stderr));
        }
        let mut branches = Vec::new();
        for (id, name) in listed.stdout.lines().filter_map(|line| line.split_once('\t')) {
            let Some(name) = name.strip_prefix("refs/heads/") else { continue };
            let is_text = !name.contains(char::REPLACEMENT_CHARACTER);
            // What is newer there than what was fetched is found out when it is pushed.
            let fetched = if is_text {
                self.resolve_ref(&format!("refs/remotes/{remote}/{name}"))?
            } else {
                None
            };
            let id = fetched.or(Id::from_hex(id.as_bytes()).ok());
            branches.extend(id.map(|id| (name.to_owned(), id)));
        }
        Ok(branches)
    }

    /// Moves the branch that is checked out here forward to a commit, as `git merge --ff-only` does:
    /// local changes that are not in the way stay, and where one is, or HEAD is not an ancestor,
    /// nothing moves. No hook runs.
    pub fn fast_forward(&self, target: Id) -> Result<ProgramOutput> {
        let target = target.to_string();
        let merge = ["merge", "--quiet", "--ff-only", "--no-autostash", "--no-overwrite-ignore"];
        let merge = merge.into_iter().chain(["--no-verify-signatures", "--no-stat", &target]);
        self.git_command(["-c", "core.hooksPath=/dev/null"].into_iter().chain(merge))
            .run_with_timeout(LOCAL_TIMEOUT)
    }

    /// Moves the checked-out branch to `target` as `git reset --keep` does: files that differ
    /// between here and there are replaced, and if one of them was changed locally nothing is.
    pub fn reset_keep(&self, target: &str) -> Result<ProgramOutput> {
        // Files that were only touched must not pass for changed ones. That some did change is an
        // answer of this command, not a failure.
        self.git_command(["add", "--refresh", "--", "."]).run_with_timeout(LOCAL_TIMEOUT)?;
        self.git_command([
            "-c",
            "core.hooksPath=/dev/null",
            "reset",
            "--quiet",
            "--keep",
            target,
            "--",
        ])
        .run_with_timeout(LOCAL_TIMEOUT)
    }

    /// Whether anything is staged, or announced with `git add -N`.
    pub fn has_staged_changes(&self) -> Result<bool> {
        let args = ["diff", "--cached", "--quiet", "--ita-visible-in-index", "--"];
        Ok(!self.git_command(args).run_with_timeout(LOCAL_TIMEOUT)?.status.success())
    }

    /// `git push`, with the user watching.
    pub fn push_attached(&self, arguments: &[OsString], how: PushHookMode) -> Result<ExitStatus> {
        let program = self.git_command(["push"]).args(arguments);
        match how {
            PushHookMode::Skip => program.run_attached(),
            // Our own hook is to judge this push, and to leave the rest to us.
            PushHookMode::CheckOnly => {
                program.env_remove(ACTIVE_VAR).env(PUSHING, "1").run_attached()
            }
        }
    }

    /// The refs at the remote that a push would change, as git itself says.
    pub fn preview_push(&self, arguments: &[OsString]) -> Result<Vec<RefPushPreview>> {
        // Ours come after the user's options, and so count; no hook runs for a question.
        let ours = ["--dry-run", "--porcelain", "--no-quiet", "--no-verify"].map(OsString::from);
        let options = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
        let mut asking = arguments.to_vec();
        asking.splice(options..options, ours);
        let asked = self
            .git_command(["push"])
            .args(asking)
            .env("GIT_TERMINAL_PROMPT", "0")
            .run_with_timeout(FETCH_TIMEOUT)?;
        // Each line is a flag, `from:to` and a summary.
        let lines = asked.stdout.lines().filter_map(|line| {
            let mut parts = line.split('\t');
            let (flag, refs) = (parts.next()?, parts.next()?);
            let (from, to) = refs.split_once(':')?;
            let from = match self.parse_revision(from) {
                Ok(Revision::Commit(commit)) => Some(commit),
                _ => None,
            };
            let (is_deleted, is_new) = (flag == "-", flag == "*");
            (flag != "=").then(|| RefPushPreview { to: to.to_owned(), from, is_deleted, is_new })
        });
        let found: Vec<_> = lines.collect();
        if found.is_empty() && !asked.status.success() {
            return Err(Error::unable("git could not say what it would push; nothing was pushed")
                .with_detail(asked.stderr)
                .with_hint("`git push` tells more; with hooks installed it is judged as well"));
        }
        Ok(found)
    }

    /// The commit that a branch has at a remote, as the remote says now.
    pub fn ls_remote_branch(&self, remote: &str, branch: &str) -> Result<Option<Id>> {
        let name = format!("refs/heads/{branch}");
        let args = ["ls-remote", "--heads", "--", remote, &name];
        let asked = self
            .git_command(args)
            .env("GIT_TERMINAL_PROMPT", "0")
            .run_with_timeout(FETCH_TIMEOUT)?;
        if !asked.status.success() {
            return Err(Error::unable(format!("`{remote}` cannot be asked: {}", asked.stderr)));
        }
        let line = asked.stdout.lines().find_map(|line| line.split_once('\t'));
        Ok(line.and_then(|(id, _)| Id::from_hex(id.as_bytes()).ok()))
    }

    /// `git switch`, with the user watching.
    pub fn switch_attached(&self, branch: &str) -> Result<ExitStatus> {
        self.git_command(["switch", branch]).run_attached()
    }

    /// `git switch` to a new branch that begins at a commit and follows none, with the user watching, and
    /// with the hooks that a switch has. Where git refuses, there is no branch.
    pub fn switch_to_new(&self, branch: &str, at: Id) -> Result<ExitStatus> {
        let at = at.to_string();
        self.git_command(["switch", "--no-track", "-c", branch, &at])
            .env_remove(ACTIVE_VAR)
            .run_attached()
    }

    /// Takes what git's configuration says of a branch that is gone out of it, as `git branch -d` does.
    pub fn remove_branch_config(&self, branch: &str) -> Result<()> {
        let section = format!("branch.{branch}");
        let of_branch = format!("{section}.");
        let listed = self
            .git_command(["config", "--local", "--name-only", "--list"])
            .run_with_timeout(LOCAL_TIMEOUT)?;
        // A branch may have dots in its name, the last part of a key has none.
        let is_of_branch =
            |key: &str| key.strip_prefix(&of_branch).is_some_and(|rest| !rest.contains('.'));
        if !listed.stdout.lines().any(is_of_branch) {
            return Ok(());
        }
        let args = ["config", "--local", "--remove-section", &section];
        let done = self.git_command(args).run_with_timeout(LOCAL_TIMEOUT)?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("`git config` keeps `{section}`: {}", done.stderr)))
    }

    /// `git diff` of the working tree against a tree, for these paths only, with the user
    /// watching: with git's own colours and pager. Nothing is written, not even the index.
    pub fn diff_attached(&self, tree: &str, paths: &[RepoPath], color: &str) -> Result<ExitStatus> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let color = format!("--color={color}");
        let fixed = [
            "--literal-pathspecs",
            "-c",
            "diff.autoRefreshIndex=false",
            "diff",
            &color,
            tree,
            "--",
        ];
        self.git_command(fixed)
            .args(paths.iter().map(|path| OsStr::from_bytes(path.as_bytes())))
            .env("GIT_OPTIONAL_LOCKS", "0")
            .run_attached()
    }

    /// `git diff` between a commit (or nothing) and another, for these paths only, as it is shown on a
    /// terminal but without a pager. Nothing is written.
    pub fn show_diff(
        &self,
        old: Option<Id>,
        new: Id,
        paths: &[RepoPath],
        color: &str,
    ) -> Result<()> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let color = format!("--color={color}");
        let old = old.unwrap_or_else(|| self.empty_tree()).to_string();
        let new = new.to_string();
        let fixed = ["--no-pager", "--literal-pathspecs", "diff", "--no-renames", "--no-ext-diff"];
        for some in paths.chunks(500) {
            let shown = self
                .git_command(fixed.into_iter().chain([&color[..], &old, &new, "--"]))
                .args(some.iter().map(|path| OsStr::from_bytes(path.as_bytes())))
                .run_attached()?;
            if !shown.success() {
                return Err(Error::unable("the change cannot be shown"));
            }
        }
        Ok(())
    }

    /// Sets a value in the configuration of this repository.
    pub fn set_config(&self, key: &str, value: &str) -> Result<()> {
        let done =
            self.git_command(["config", "--local", key, value]).run_with_timeout(LOCAL_TIMEOUT)?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("`git config {key}` failed: {}", done.stderr)))
    }
}

/// Does something again while another git of this clone holds a ref that it wants to move: two fetches
/// at once are nothing unusual.
fn retry_on_ref_lock(mut act: impl FnMut() -> Result<ProgramOutput>) -> Result<ProgramOutput> {
    let mut done = act()?;
    for pause in PAUSES_MS {
        let is_held = ["cannot lock ref", "unable to update local ref", ".lock': File exists"]
            .iter()
            .any(|words| done.stderr.contains(words));
        if done.status.success() || !is_held {
            break;
        }
        std::thread::sleep(Duration::from_millis(pause));
        done = act()?;
    }
    Ok(done)
}
