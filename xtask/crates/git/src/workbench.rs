//! A worktree of our own, in which git shows a conflict for a person to resolve.

use std::path::Path;
use std::time::Duration;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::process::Output;

/// How long git may take to lay out or remove a worktree.
const LOCAL: Duration = Duration::from_secs(600);

/// No hook of the repository runs there.
const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

impl Repo {
    fn git_in_ours(&self, args: &[&str]) -> Result<Output> {
        self.git(NO_HOOKS.into_iter().chain(args.iter().copied())).run_within(LOCAL)
    }

    /// Makes a worktree with a detached HEAD at a commit.
    pub fn detached_worktree(&self, folder: &Path, commit: Id) -> Result<Repo> {
        let failed = |why: String| {
            Error::unable(format!("the worktree `{}` cannot be made", folder.display())).detail(why)
        };
        let Some(place) = folder.to_str() else {
            return Err(failed("its name is not UTF-8".into()));
        };
        let commit = commit.to_string();
        let args = ["worktree", "add", "--quiet", "--force", "--detach", place, &commit];
        let made = self.git_in_ours(&args)?;
        if !made.status.success() {
            return Err(failed(made.stderr));
        }
        self.open_worktree(folder)
    }

    /// Moves a worktree to another place; says no where git does not know it as one.
    pub fn move_worktree(&self, from: &Path, to: &Path) -> Result<bool> {
        let (from, to) = (from.display().to_string(), to.display().to_string());
        let moved = self.git_in_ours(&["worktree", "move", "--force", "--force", &from, &to])?;
        Ok(moved.status.success())
    }

    /// Removes a worktree with all that is in it.
    pub fn remove_worktree(&self, folder: &Path) -> Result<()> {
        let place = folder.display().to_string();
        let removed = self.git_in_ours(&["worktree", "remove", "--force", "--force", &place])?;
        if removed.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("the worktree `{place}` cannot be removed"))
            .detail(removed.stderr)
            .hint(format!("`git worktree remove --force '{place}'` says more")))
    }

    /// Applies a commit to the index and the files here, and leaves what conflicts to a person.
    pub fn pick_without_commit(&self, commit: Id) -> Result<()> {
        let args = [
            "-c",
            "rerere.enabled=false",
            "cherry-pick",
            "--no-commit",
            "--strategy=ort",
            "-Xno-renames",
            &commit.to_string(),
        ];
        let picked = self.git_in_ours(&args)?;
        // Git ends with 1 where something conflicts.
        if picked.status.success() || self.index()?.has_conflicts() {
            return Ok(());
        }
        Err(Error::unable("git could not show the conflict").detail(picked.stderr))
    }

    /// Whether there are files here that git does not track, ignored or not.
    pub fn has_loose_files(&self) -> Result<bool> {
        Ok(!self.listed(&["ls-files", "-z", "--others"])?.is_empty())
    }

    /// The tree of what is staged here.
    pub fn staged_tree(&self) -> Result<Id> {
        let written = self.git_in_ours(&["write-tree"])?;
        let id = Id::from_hex(written.stdout.trim().as_bytes());
        id.map_err(|_| Error::unable("what is staged cannot be read").detail(written.stderr))
    }

    /// What differs between the files here and what is staged, a path each, and what is not tracked.
    pub fn unstaged(&self) -> Result<Vec<String>> {
        let files = self.listed(&[
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

    fn listed(&self, args: &[&str]) -> Result<Vec<RepoPath>> {
        let listed = self.git(NO_HOOKS.into_iter().chain(args.iter().copied())).that_lists();
        let listed = listed.run_within(LOCAL)?;
        if !listed.status.success() {
            return Err(Error::unable("git cannot list what has changed").detail(listed.stderr));
        }
        let names = listed.stdout.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(|name| RepoPath::new(name.as_bytes())).collect())
    }
}
