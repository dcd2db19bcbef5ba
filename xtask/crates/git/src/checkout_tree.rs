//! A tree that builds on HEAD, put into the files and the index of a clean worktree, as git does it:
//! with filters, line ends and modes as that repository has them.

use std::path::Path;
use std::time::Duration;

use super::{Id, Repo};
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;

/// How long git may take to write some hundred files.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

impl Repo {
    /// The tree of HEAD; nothing where there is no commit yet.
    pub fn tree_of_head(&self) -> Result<Option<Id>> {
        let is_unborn = self.resolve_ref("HEAD").is_ok_and(|commit| commit.is_none());
        if is_unborn { Ok(None) } else { Ok(Some(self.head()?.tree)) }
    }

    /// The files that git tracks here and that are not as in HEAD, staged or not. Nothing is written,
    /// not even what git remembers of files that it has looked at.
    pub fn list_uncommitted(&self) -> Result<Vec<String>> {
        let args = ["--no-optional-locks", "status", "--porcelain", "-z", "--untracked-files=no"];
        let asked = self.git_command(args).with_full_output().run_with_timeout(LOCAL_TIMEOUT)?;
        if !asked.status.success() {
            return Err(Error::unable("git cannot say what has changed").with_detail(asked.stderr));
        }
        let mut parts = asked.stdout.split('\0').filter(|part| !part.is_empty());
        let mut found = Vec::new();
        while let Some(part) = parts.next() {
            let (state, name) = part.split_at_checked(3).unwrap_or(("", part));
            found.push(name.escape_debug().to_string());
            if state.contains(['R', 'C']) {
                // The name that it had comes by itself.
                parts.next();
            }
        }
        Ok(found)
    }

    /// The files that git neither tracks nor ignores. Nothing is written.
    pub fn list_untracked(&self) -> Result<Vec<String>> {
        let args = ["--no-optional-locks", "ls-files", "-z", "--others", "--exclude-standard"];
        let asked = self.git_command(args).with_full_output().run_with_timeout(LOCAL_TIMEOUT)?;
        if !asked.status.success() {
            return Err(
                Error::unable("git cannot list what it does not track").with_detail(asked.stderr)
            );
        }
        let names = asked.stdout.split('\0').filter(|name| !name.is_empty());
        Ok(names.map(ToOwned::to_owned).collect())
    }

    /// Stages a tree in the place of another one, and writes the files in which they differ. Where
    /// something is in the way git refuses before it writes. HEAD stays.
    pub fn checkout_tree(&self, old: Option<Id>, new: Id) -> Result<()> {
        // `read-tree` goes by size and times alone, so a file that was written anew with what it held
        // already would be in the way. What really differs is still refused by it.
        self.refresh_index()?;
        let old = old.unwrap_or_else(|| self.empty_tree());
        let (old, new) = (old.to_string(), new.to_string());
        let put = ["-c", "core.hooksPath=/dev/null", "read-tree", "-m", "-u", &old, &new];
        let done = self.git_command(put).run_with_timeout(LOCAL_TIMEOUT)?;
        if done.status.success() {
            return Ok(());
        }
        let why = match done.stderr.trim() {
            "" => format!("git ended with {}", done.status),
            told => told.to_owned(),
        };
        Err(Error::unable(format!("the files cannot be written in `{}`", self.root().display()))
            .with_detail(why))
    }

    /// Has git look at every file that is not known to be what is staged, as `git status` does by the way.
    pub fn refresh_index(&self) -> Result<()> {
        // It ends with 1 where something differs.
        self.git_command(["add", "--refresh", "--", "."]).run_with_timeout(LOCAL_TIMEOUT).map(drop)
    }

    /// Writes files again as they are staged, whatever lies there. The index knows them again afterwards.
    pub fn restore_staged(&self, paths: &[RepoPath]) -> Result<()> {
        let checkout = ["checkout-index", "--index", "--force", "-z", "--stdin"];
        let args = ["-c", "core.hooksPath=/dev/null"].into_iter().chain(checkout);
        let list: Vec<u8> =
            paths.iter().flat_map(|path| [path.as_bytes(), b"\0"].concat()).collect();
        let done = self.git_command(args).run_with_input(&list, LOCAL_TIMEOUT)?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable("files cannot be put back").with_detail(done.stderr))
    }
}

/// Whether the folder that would hold a path lets us write: the nearest that is there already.
#[must_use]
pub fn can_write_in(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    let nearest = folder.ancestors().find(|above| above.symlink_metadata().is_ok());
    nearest.is_some_and(|above| access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}
