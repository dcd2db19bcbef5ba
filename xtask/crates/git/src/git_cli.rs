//! Commands of the `git` program that a user would recognize: fetch, push, switch, reset, diff.
//!
//! Every command runs with `LANGUAGE=C`, so that its messages can be matched, and with a timeout
//! unless the user watches it (`…_attached`). For example, `fetch("origin", &["main"])` runs
//!
//! ```text
//! git ls-remote --heads -- origin main
//! git fetch --quiet --no-tags -- origin +refs/heads/main:refs/remotes/origin/main
//! ```

use std::ffi::OsString;
use std::process::ExitStatus;
use std::time::Duration;

use super::local_git::LocalGit;
use super::push::unreachable_remote_error;
use super::{Id, Repo, Revision, branch_of_ref};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::process::{ACTIVE_VAR, Program, ProgramOutput};

/// Timeout of a fetch: two minutes, enough for a slow line and short enough for a person to wait.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);

/// Timeout of the difference of one file.
const DIFF_TIMEOUT: Duration = Duration::from_secs(20);

/// Timeout of a fetch or push of hundreds of branches: ten minutes.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(600);

/// Pauses between retries if another git holds the lock of a ref, in milliseconds.
const PAUSES_MS: [u64; 6] = [50, 100, 200, 400, 800, 1600];

/// Environment variable that `cargo xtask push` sets for its `git push`, so that the `pre-push`
/// hook checks the push and leaves pull requests to the command.
pub const PUSHING: &str = "XTASK_PUSHING";

/// How `push_attached` runs our own `pre-push` hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushHookMode {
    /// The hook exits at once.
    Skip,
    /// The hook checks the push, and leaves pull requests to the caller.
    CheckOnly,
}

/// A ref of the remote that a push would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefPushPreview {
    /// The full name at the remote, e.g. `refs/heads/main`.
    pub to: String,
    /// The new commit; `None` if the ref would be deleted or git reports no commit.
    pub from: Option<Id>,
    pub is_deleted: bool,
    pub is_new: bool,
}

/// The name of the program.
pub const GIT: &str = "git";

/// Returns whether a process name belongs to git, e.g. `git` or `git-remote-https`.
#[must_use]
pub fn is_git(name: &str) -> bool {
    name == GIT || name.starts_with("git-")
}

/// Git commands that can move refs: running one clears the ref cache.
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

/// The oldest git that is tested and supported, that of Debian 12.
const OLDEST_GIT: (u32, u32) = (2, 39);

impl Repo {
    /// Returns an error if git is older than `OLDEST_GIT`. A version that cannot be parsed is
    /// accepted.
    pub fn check_git_version(&self) -> Result<()> {
        let asked = LocalGit(self.git_command(["version"])).run()?;
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
        .with_hint("`git version` and `PATH` show which one is used"))
    }

    /// Builds a git command in the worktree. `LANGUAGE=C` makes messages English without changing
    /// the character set, on which filters and file names depend.
    pub(super) fn git_command<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Program {
        let args: Vec<&str> = args.into_iter().collect();
        if args.iter().any(|word| REF_MOVING_COMMANDS.contains(word)) && !args.contains(&"list") {
            self.forget_refs();
        }
        let git = Program::new(GIT, self.root()).env("LANGUAGE", "C");
        let git = match self.needs_git_dir {
            true => git.env("GIT_DIR", self.git_folder()).env("GIT_WORK_TREE", self.root()),
            false => git,
        };
        git.args(args)
    }

    /// Fetches `branches` of a remote into their remote-tracking refs and returns those that the
    /// remote has. The remote-tracking refs of the others stay unchanged.
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

    /// Runs a command that contacts a remote, without a password prompt and with
    /// `TRANSFER_TIMEOUT`.
    pub(super) fn run_remote_command(&self, args: &[String]) -> Result<ProgramOutput> {
        let asking = self.git_command(args.iter().map(String::as_str)).with_full_output();
        asking.env("GIT_TERMINAL_PROMPT", "0").run_with_timeout(TRANSFER_TIMEOUT)
    }

    /// Fetches all branches of a remote and returns their names and commits. No remote-tracking ref
    /// is pruned.
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
            let Some(name) = branch_of_ref(name) else { continue };
            let is_text = !name.contains(char::REPLACEMENT_CHARACTER);
            // A commit newer than the fetched one is detected by the lease when the branch is
            // pushed.
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

    /// Fast-forwards the checked-out branch to `target`, as `git merge --ff-only` does. Unrelated
    /// local changes stay; if one is in the way, or HEAD is not an ancestor of `target`, git
    /// refuses and changes no file or ref. No hook runs.
    pub fn fast_forward(&self, target: Id) -> Result<ProgramOutput> {
        let target = target.to_string();
        let merge = ["merge", "--quiet", "--ff-only", "--no-autostash", "--no-overwrite-ignore"];
        let merge = merge.into_iter().chain(["--no-verify-signatures", "--no-stat", &target]);
        self.local_git(merge).run()
    }

    /// Moves the checked-out branch to `target`, as `git reset --keep` does: replaces the files
    /// that differ, and refuses if one of them has local changes.
    pub fn reset_keep(&self, target: &str) -> Result<ProgramOutput> {
        // Refresh first, or files with new times and equal content count as changed.
        self.refresh_index()?;
        self.local_git(["reset", "--quiet", "--keep", target, "--"]).run()
    }

    /// Returns whether anything is staged or marked with `git add -N`.
    pub fn has_staged_changes(&self) -> Result<bool> {
        let args = ["diff", "--cached", "--quiet", "--ita-visible-in-index", "--"];
        Ok(!self.local_git(args).run()?.status.success())
    }

    /// Runs `git push` attached to the terminal.
    pub fn push_attached(&self, arguments: &[OsString], how: PushHookMode) -> Result<ExitStatus> {
        let program = self.git_command(["push"]).args(arguments);
        match how {
            PushHookMode::Skip => program.run_attached(),
            // Without `ACTIVE_VAR` our hook runs; `PUSHING` limits it to the check.
            PushHookMode::CheckOnly => {
                program.env_remove(ACTIVE_VAR).env(PUSHING, "1").run_attached()
            }
        }
    }

    /// Lists the refs that a push with these arguments would change, by `git push --dry-run
    /// --porcelain`.
    pub fn preview_push(&self, arguments: &[OsString]) -> Result<Vec<RefPushPreview>> {
        // Placed after the user's options, so that they take precedence.
        let ours = ["--dry-run", "--porcelain", "--no-quiet", "--no-verify"].map(OsString::from);
        let options = arguments.iter().position(|word| word == "--").unwrap_or(arguments.len());
        let mut asking = arguments.to_vec();
        asking.splice(options..options, ours);
        let asked = self
            .git_command(["push"])
            .args(asking)
            .env("GIT_TERMINAL_PROMPT", "0")
            .run_with_timeout(FETCH_TIMEOUT)?;
        // Each line is `FLAG\tFROM:TO\tSUMMARY`.
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
            return Err(Error::unable("`git push --dry-run` failed; nothing was pushed")
                .with_detail(asked.stderr)
                .with_hint("`git push` shows the cause; with hooks installed they check it"));
        }
        Ok(found)
    }

    /// Returns the current commit of a branch at a remote, by `git ls-remote`.
    pub fn ls_remote_branch(&self, remote: &str, branch: &str) -> Result<Option<Id>> {
        let name = format!("refs/heads/{branch}");
        let args = ["ls-remote", "--heads", "--", remote, &name];
        let asked = self
            .git_command(args)
            .env("GIT_TERMINAL_PROMPT", "0")
            .run_with_timeout(FETCH_TIMEOUT)?;
        if !asked.status.success() {
            return Err(Error::unable(format!(
                "`git ls-remote {remote}` failed: {}",
                asked.stderr
            )));
        }
        let line = asked.stdout.lines().find_map(|line| line.split_once('\t'));
        Ok(line.and_then(|(id, _)| Id::from_hex(id.as_bytes()).ok()))
    }

    /// Runs `git switch` attached to the terminal.
    pub fn switch_attached(&self, branch: &str) -> Result<ExitStatus> {
        self.git_command(["switch", branch]).run_attached()
    }

    /// Runs `git switch --no-track -c BRANCH AT` attached to the terminal, with the user's hooks.
    /// If git refuses, no branch is created.
    pub fn switch_to_new(&self, branch: &str, at: Id) -> Result<ExitStatus> {
        let at = at.to_string();
        self.git_command(["switch", "--no-track", "-c", branch, &at])
            .env_remove(ACTIVE_VAR)
            .run_attached()
    }

    /// Removes the section `branch.NAME` from the configuration, as `git branch -d` does.
    pub fn remove_branch_config(&self, branch: &str) -> Result<()> {
        let section = format!("branch.{branch}");
        let of_branch = format!("{section}.");
        let listed = self.local_git(["config", "--local", "--name-only", "--list"]).run()?;
        // The branch name may contain dots, the last part of a key does not.
        let is_of_branch =
            |key: &str| key.strip_prefix(&of_branch).is_some_and(|rest| !rest.contains('.'));
        if !listed.stdout.lines().any(is_of_branch) {
            return Ok(());
        }
        let args = ["config", "--local", "--remove-section", &section];
        let done = self.local_git(args).run()?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!(
            "cannot remove `{section}` from git's configuration: {}",
            done.stderr
        )))
    }

    /// Runs `git diff TREE -- PATHS` attached to the terminal, with git's colours and pager. Writes
    /// no file, not even the index.
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

    /// Runs `git diff OLD NEW -- PATHS` on the terminal without a pager. `old` defaults to the
    /// empty tree.
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
                return Err(Error::unable("cannot show the change"));
            }
        }
        Ok(())
    }

    /// Returns what `git diff OLD NEW` says about a path, as text without colours.
    pub fn read_diff(&self, old: Id, new: Id, path: &RepoPath) -> Result<String> {
        use std::ffi::OsStr;
        use std::os::unix::ffi::OsStrExt;
        let (old, new) = (old.to_string(), new.to_string());
        // Neither a program of the user nor one that an attribute names runs for a look.
        let fixed = ["--no-pager", "--literal-pathspecs", "diff", "--no-renames", "--no-color"];
        let rest = ["--no-ext-diff", "--no-textconv", &old, &new, "--"];
        let asked = self
            .git_command(fixed.into_iter().chain(rest))
            .args([OsStr::from_bytes(path.as_bytes())])
            .env("GIT_OPTIONAL_LOCKS", "0")
            // A look fetches no content that a partial clone has left out.
            .env("GIT_NO_LAZY_FETCH", "1")
            .run_with_timeout(DIFF_TIMEOUT)?;
        if !asked.status.success() {
            return Err(Error::unable("cannot show the change").with_detail(asked.stderr));
        }
        Ok(asked.stdout)
    }

    /// Sets `key` in the configuration of this repository.
    pub fn set_config(&self, key: &str, value: &str) -> Result<()> {
        let done = self.local_git(["config", "--local", key, value]).run()?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("`git config {key}` failed: {}", done.stderr)))
    }
}

/// Retries a command while another git of this clone holds the lock of a ref: two fetches at once
/// are common.
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
