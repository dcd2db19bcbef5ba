//! Checkout of a tree into files and index of a clean worktree, with the repository's filters, line
//! ends and modes.
//!
//! ```text
//! git read-tree -m -u OLD NEW     -> files that differ are written, HEAD stays
//! ```

use std::path::Path;

use super::local_git::{require_success, split_at_nul};
use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;

impl Repo {
    /// Returns the tree of HEAD; `None` if HEAD is unborn.
    pub fn tree_of_head(&self) -> Result<Option<Id>> {
        let is_unborn = self.resolve_ref("HEAD").is_ok_and(|commit| commit.is_none());
        if is_unborn { Ok(None) } else { Ok(Some(self.head()?.tree)) }
    }

    /// Lists the tracked files that differ from HEAD, staged or not. No file is written, not even
    /// the index.
    pub fn list_uncommitted(&self) -> Result<Vec<String>> {
        let args = ["--no-optional-locks", "status", "--porcelain", "-z", "--untracked-files=no"];
        let asked = self.local_git(args).list("`git status` failed")?;
        let mut parts = split_at_nul(&asked.stdout_bytes).map(String::from_utf8_lossy);
        let mut found = Vec::new();
        while let Some(part) = parts.next() {
            let (state, name) = part.split_at_checked(3).unwrap_or(("", &part));
            found.push(name.escape_debug().to_string());
            if state.contains(['R', 'C']) {
                // The old name of a rename or copy follows as a part of its own.
                parts.next();
            }
        }
        Ok(found)
    }

    /// Lists the files that git neither tracks nor ignores.
    pub fn list_untracked(&self) -> Result<Vec<String>> {
        let args = ["--no-optional-locks", "ls-files", "-z", "--others", "--exclude-standard"];
        let asked = self.local_git(args).list("cannot list the untracked files")?;
        let names = split_at_nul(&asked.stdout_bytes);
        Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
    }

    /// Replaces the staged tree `old` by `new`, and writes the files that differ. Git refuses
    /// before it writes if a local change is in the way. HEAD stays.
    pub fn checkout_tree(&self, old: Option<Id>, new: Id) -> Result<()> {
        // `read-tree` compares by size and times alone, and would refuse a file that was rewritten
        // with equal content. Real changes are still refused.
        self.refresh_index()?;
        let old = old.unwrap_or_else(|| self.empty_tree());
        let (old, new) = (old.to_string(), new.to_string());
        let done = self.local_git(["read-tree", "-m", "-u", &old, &new]).run()?;
        if done.status.success() {
            return Ok(());
        }
        let why = match done.stderr.trim() {
            "" => format!("`git read-tree` failed ({})", done.status),
            told => told.to_owned(),
        };
        Err(Error::unable(format!("cannot check out the files in `{}`", self.root().display()))
            .with_detail(why))
    }

    /// Refreshes the stat data of the index, as `git status` does.
    pub fn refresh_index(&self) -> Result<()> {
        // The exit code is 1 if a file differs.
        self.local_git(["add", "--refresh", "--", "."]).run().map(drop)
    }

    /// Overwrites files with their staged content, and updates their stat data in the index.
    pub fn restore_staged(&self, paths: &[RepoPath]) -> Result<()> {
        let args = ["checkout-index", "--index", "--force", "-z", "--stdin"];
        let list: Vec<u8> =
            paths.iter().flat_map(|path| [path.as_bytes(), b"\0"].concat()).collect();
        let done = self.local_git(args).run_with_input(&list)?;
        require_success(done, "cannot restore the files").map(drop)
    }
}

/// Returns whether the nearest existing parent folder is writable.
#[must_use]
pub fn can_write_in(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    let nearest = folder.ancestors().find(|above| above.symlink_metadata().is_ok());
    nearest.is_some_and(|above| access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}
