//! Temporary worktrees, in which git shows a conflict for the user to resolve.
//!
//! ```text
//! git worktree add --detach FOLDER COMMIT; git cherry-pick --no-commit PICK; …; git write-tree -> tree id
//! ```

use std::path::Path;

use super::local_git::{require_success, split_at_nul};
use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;

impl Repo {
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
        let made = self.local_git(args).run()?;
        if !made.status.success() {
            return Err(failed(made.stderr));
        }
        self.open_worktree(folder)
    }

    /// Moves a worktree; returns `false` if git refuses, e.g. for a folder that is no worktree.
    pub fn move_worktree(&self, from: &Path, to: &Path) -> Result<bool> {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let args = ["worktree", "move", "--force", "--force", &from, &to];
        Ok(self.local_git(args).run()?.status.success())
    }

    /// Removes a worktree with all files in it.
    pub fn remove_worktree(&self, folder: &Path) -> Result<()> {
        let place = folder.display().to_string();
        self.local_git(["worktree", "remove", "--force", "--force", &place])
            .require(&format!("cannot remove the worktree `{place}`"))
            .map_err(|failure| {
                failure
                    .with_hint(format!("`git worktree remove --force '{place}'` shows the cause"))
            })
            .map(drop)
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
        let picked = self.local_git(args).run()?;
        // The exit code is 1 on conflicts.
        if !picked.status.success() && self.read_index()?.has_conflicts() {
            return Ok(());
        }
        require_success(picked, "`git cherry-pick` failed").map(drop)
    }

    /// Returns whether the worktree has untracked files, ignored or not.
    pub fn has_untracked_files(&self) -> Result<bool> {
        Ok(!self.list_paths(&["ls-files", "-z", "--others"])?.is_empty())
    }

    /// Writes the staged content as a tree.
    pub fn write_staged_tree(&self) -> Result<Id> {
        let written = self.local_git(["write-tree"]).run()?;
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
        let listed = self.local_git(args.iter().copied()).list("cannot list the changed files")?;
        Ok(split_at_nul(&listed.stdout_bytes).map(RepoPath::new).collect())
    }
}
