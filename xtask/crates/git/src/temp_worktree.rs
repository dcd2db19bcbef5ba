//! Temporary worktrees, in which git shows a conflict for the user to resolve.
//!
//! ```text
//! git worktree add --detach FOLDER COMMIT; git cherry-pick --no-commit PICK; …; git write-tree -> tree id
//! ```

use std::path::Path;
use std::time::Duration;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::process::ProgramOutput;

/// Timeout of git for creating or removing a worktree.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

/// Options that keep hooks of the repository from running.
const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

impl Repo {
    fn run_without_hooks(&self, args: &[&str]) -> Result<ProgramOutput> {
        self.git_command(NO_HOOKS.into_iter().chain(args.iter().copied()))
            .run_with_timeout(LOCAL_TIMEOUT)
    }

    /// Adds a worktree with a detached HEAD at `commit`.
    pub fn add_detached_worktree(&self, folder: &Path, commit: Id) -> Result<Repo> {
        let failed = |why: String| {
            Error::unable(format!("cannot create the worktree `{}`", folder.display()))
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

    /// Moves a worktree; returns `false` if git refuses, e.g. for a folder that is no worktree.
    pub fn move_worktree(&self, from: &Path, to: &Path) -> Result<bool> {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let moved =
            self.run_without_hooks(&["worktree", "move", "--force", "--force", &from, &to])?;
        Ok(moved.status.success())
    }

    /// Removes a worktree with all files in it.
    pub fn remove_worktree(&self, folder: &Path) -> Result<()> {
        let place = folder.display().to_string();
        let removed =
            self.run_without_hooks(&["worktree", "remove", "--force", "--force", &place])?;
        if removed.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("cannot remove the worktree `{place}`"))
            .with_detail(removed.stderr)
            .with_hint(format!("`git worktree remove --force '{place}'` shows the cause")))
    }

    /// Applies a commit to index and files (`git cherry-pick --no-commit`), leaving conflicts to
    /// the user.
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
        // The exit code is 1 on conflicts.
        if picked.status.success() || self.read_index()?.has_conflicts() {
            return Ok(());
        }
        Err(Error::unable("`git cherry-pick` failed").with_detail(picked.stderr))
    }

    /// Returns whether the worktree has untracked files, ignored or not.
    pub fn has_untracked_files(&self) -> Result<bool> {
        Ok(!self.list_paths(&["ls-files", "-z", "--others"])?.is_empty())
    }

    /// Writes the staged content as a tree.
    pub fn write_staged_tree(&self) -> Result<Id> {
        let written = self.run_without_hooks(&["write-tree"])?;
        let id = Id::from_hex(written.stdout.trim().as_bytes());
        id.map_err(|_| Error::unable("cannot write the staged tree").with_detail(written.stderr))
    }

    /// Lists the paths with unstaged changes, and untracked files.
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
            return Err(Error::unable("cannot list the changed files").with_detail(listed.stderr));
        }
        let names = listed.stdout.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(|name| RepoPath::new(name.as_bytes())).collect())
    }
}
