//! The worktrees of this repository: those that git has registered, and no others.

use std::path::{Path, PathBuf};

use super::Repo;
use crate::base::error::{Context, Error, Result};

/// A registered worktree.
#[derive(Clone, Debug)]
pub struct Worktree {
    /// Where its files are.
    pub root: PathBuf,
    /// The checked-out branch without `refs/heads/`; nothing where HEAD is detached or unreadable.
    pub branch: Option<String>,
    /// Whether its folder is there.
    pub is_there: bool,
}

impl Repo {
    /// The name that git has for this worktree; empty for the main one.
    #[must_use]
    pub fn worktree_name(&self) -> String {
        let own = self.git_folder();
        let is_linked = own.canonicalize().is_ok_and(|own| own != self.common_folder());
        let name = self.git_folder().file_name().filter(|_| is_linked);
        name.map_or(String::new(), |name| name.to_string_lossy().into_owned())
    }

    /// Opens a registered worktree. What lies at its folder now must still be it: another clone may
    /// have taken the place.
    pub fn open_worktree(&self, root: &Path) -> Result<Repo> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let found = Repo::discover(root)?;
        if found.root() == real(root) && real(found.common_folder()) == real(self.common_folder()) {
            return Ok(found);
        }
        Err(Error::unable(format!(
            "`{}` is not a worktree of this repository any more",
            root.display()
        ))
        .hint("`git worktree prune` forgets those that are gone"))
    }

    /// All worktrees, the main one first, the others by path.
    pub fn worktrees(&self) -> Result<Vec<Worktree>> {
        let mut all = Vec::new();
        let main = self.git.main_repo().unable(|| "the main worktree cannot be opened")?;
        if let Some(root) = main.workdir() {
            all.push(describe(root.to_path_buf(), Some(&main)));
        }
        let mut linked = Vec::new();
        for proxy in self.git.worktrees().unable(|| "the worktrees cannot be listed")? {
            let Ok(root) = proxy.base() else { continue };
            let opened = proxy.into_repo_with_possibly_inaccessible_worktree().ok();
            linked.push(describe(root, opened.as_ref()));
        }
        linked.sort_by(|one, two| one.root.cmp(&two.root));
        all.extend(linked);
        Ok(all)
    }
}

fn describe(root: PathBuf, repo: Option<&gix::Repository>) -> Worktree {
    let branch = repo.and_then(|repo| repo.head_name().ok().flatten()).map(|name| {
        let name = name.as_bstr().to_string();
        name.strip_prefix("refs/heads/").map_or(name.clone(), str::to_owned)
    });
    let is_there = root.is_dir();
    let root = root.canonicalize().unwrap_or(root);
    Worktree { root, branch, is_there }
}
