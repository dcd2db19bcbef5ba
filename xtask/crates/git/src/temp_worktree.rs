//! A worktree of our own, in which git shows a conflict for a person to resolve.

use std::path::Path;
use std::time::Duration;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::process::ProgramOutput;

/// How long git may take to lay out or remove a worktree.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

/// No hook of the repository runs there.
const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

impl Repo {
    fn run_without_hooks(&self, args: &[&str]) -> Result<ProgramOutput> {
        self.git_command(NO_HOOKS.into_iter().chain(args.iter().copied()))
            .run_with_timeout(LOCAL_TIMEOUT)
    }

    /// Makes a worktree with a detached HEAD at a commit.
    pub fn add_detached_worktree(&self, folder: &Path, commit: Id) -> Result<Repo> {
        let failed = |why: String| {
            Error::unable(format!("the worktree `{}` cannot be made", folder.display()))
                .with_detail(why)
        };
        let Some(place) = folder.to_str() else {
            return Err(failed("its name is not UTF-8".into()));
        };
        let commit = commit.to_string();
        let args = ["worktree", "add", "--quiet", "--force", "--detach", place, &commit];
        let made = self.run_without_hooks(&args)?;
        if !made.status.success() {
            return Err(failed(made.stderr));
        }
        self.open_worktree(folder)
    }

    /// Moves a worktree to another place; says no where git does not know it as one.
    pub fn move_worktree(&self, from: &Path, to: &Path) -> Result<bool> {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let moved =
            self.run_without_hooks(&["worktree", "move", "--force", "--force", &from, &to])?;
        Ok(moved.status.success())
    }

    /// Removes a worktree with all that is in it.
    pub fn remove_worktree(&self, folder: &Path) -> Result<()> {
        let place = folder.display().to_string();
        let removed =
            self.run_without_hooks(&["worktree", "remove", "--force", "--force", &place])?;
        if removed.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("the worktree `{place}` cannot be removed"))
            .with_detail(removed.stderr)
            .with_hint(format!("`git worktree remove --force '{place}'` says more")))
    }

    /// Applies a commit to the index and the files here, and leaves what conflicts to a person.
    pub fn cherry_pick_no_commit(&self, commit: Id) -> Result<()> {
        let args = [
            "-c",
            "rerere.enabled=false",
            "cherry-pick",
            "--no-commit",
            "--strategy=ort",
            "-Xno-renames",
            &commit.to_string(),
        ];
        let picked = self.run_without_hooks(&args)?;
        // Git ends with 1 where something conflicts.
        if picked.status.success() || self.read_index()?.has_conflicts() {
            return Ok(());
        }
        Err(Error::unable("git could not show the conflict").with_detail(picked.stderr))
    }

    /// Whether there are files here that git does not track, ignored or not.
    pub fn has_untracked_files(&self) -> Result<bool> {
        Ok(!self.list_paths(&["ls-files", "-z", "--others"])?.is_empty())
    }

    /// The tree of what is staged here.
    pub fn write_staged_tree(&self) -> Result<Id> {
        let written = self.run_without_hooks(&["write-tree"])?;
        let id = Id::from_hex(written.stdout.trim().as_bytes());
        id.map_err(|_| Error::unable("what is staged cannot be read").with_detail(written.stderr))
    }

    /// What differs between the files here and what is staged, a path each, and what is not tracked.
    pub fn list_unstaged(&self) -> Result<Vec<String>> {
        let files = self.list_paths(&[
            "ls-files",
            "-z",
            "--modified",
            "--deleted",
            "--others",
            "--exclude-standard",
        ])?;
        let mut names: Vec<String> = files.iter().map(ToString::to_string).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    fn list_paths(&self, args: &[&str]) -> Result<Vec<RepoPath>> {
        let listed =
            self.git_command(NO_HOOKS.into_iter().chain(args.iter().copied())).with_full_output();
        let listed = listed.run_with_timeout(LOCAL_TIMEOUT)?;
        if !listed.status.success() {
            return Err(
                Error::unable("git cannot list what has changed").with_detail(listed.stderr)
            );
        }
        let names = listed.stdout.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(|name| RepoPath::new(name.as_bytes())).collect())
    }
}
