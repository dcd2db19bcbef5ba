//! Registered worktrees of a repository, and the branches in use there.
//!
//! A branch that any worktree has checked out, or is rebasing or bisecting, must not be moved from
//! outside.
//!
//! ```text
//! refs/heads/topic rebased in /work/app-2
//! -> BranchInUse { branch: "topic", root: "/work/app-2", operation: Some("a rebase") }
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reftable::HeadState;
use super::{Id, Repo, branch_of_ref};
use xtask_base::error::{Error, Result, ResultExt};

/// Interval at which `index.lock` is polled.
const SWITCH_POLL: Duration = Duration::from_millis(10);

/// Number of polls: two seconds in all. A stale lock must not delay a command for long.
const SWITCH_ROUNDS: u32 = 200;

/// Files in a worktree's git folder that name branches in use, with the operation.
const BRANCH_FILES: [(&str, Option<&str>); 5] = [
    ("HEAD", None),
    ("rebase-merge/head-name", Some("a rebase")),
    ("rebase-apply/head-name", Some("a rebase")),
    ("rebase-merge/update-refs", Some("a rebase")),
    ("BISECT_START", Some("a bisect")),
];

/// A registered worktree.
#[derive(Clone, Debug)]
pub struct Worktree {
    pub root: PathBuf,
    /// The checked-out branch without `refs/heads/`; `None` if HEAD is detached or unreadable.
    pub branch: Option<String>,
    /// Whether the folder exists.
    pub is_there: bool,
    /// Whether it is locked (`git worktree lock`), e.g. on a removable disk.
    pub is_locked: bool,
}

/// A branch in use by a worktree: its ref must not be moved from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BranchInUse {
    /// The branch without `refs/heads/`.
    pub branch: String,
    /// The root of the worktree.
    pub root: PathBuf,
    /// Whether the folder exists.
    pub is_there: bool,
    /// The last commit in the reflog of the worktree's HEAD.
    pub commit: Option<Id>,
    /// The operation on this branch, e.g. `a rebase`; `None` if checked out.
    pub operation: Option<&'static str>,
}

impl Repo {
    /// Waits, at most two seconds, while git holds an `index.lock` in any worktree: a running `git
    /// switch` has already read its branch and has not yet written HEAD.
    pub fn wait_for_switches(&self) -> Result<()> {
        let common = self.common_folder();
        let mut folders = vec![common.to_path_buf()];
        for proxy in self.git.worktrees().with_context(|| "cannot list the worktrees")? {
            folders.push(proxy.git_dir().to_path_buf());
        }
        for _ in 0..SWITCH_ROUNDS {
            if !folders.iter().any(|folder| folder.join("index.lock").exists()) {
                break;
            }
            std::thread::sleep(SWITCH_POLL);
        }
        Ok(())
    }

    /// Lists the branches that worktrees have checked out, or are rebasing or bisecting.
    pub fn branches_in_use(&self) -> Result<Vec<BranchInUse>> {
        let mut places = Vec::new();
        let main = self.git.main_repo().with_context(|| "cannot open the main worktree")?;
        if let Some(root) = main.workdir() {
            places.push((root.to_path_buf(), main.git_dir().to_path_buf()));
        }
        for proxy in self.git.worktrees().with_context(|| "cannot list the worktrees")? {
            let folder = proxy.git_dir().to_path_buf();
            places.push((proxy.base().unwrap_or_else(|_| folder.clone()), folder));
        }
        let mut found = Vec::new();
        let heads = if self.has_reftable() { self.heads_by_git()? } else { BTreeMap::new() };
        for (root, folder) in places {
            let root = root.canonicalize().unwrap_or(root);
            let is_there = root.is_dir();
            if let Some(HeadState { branch: Some(branch), commit }) = heads.get(&root).cloned() {
                let branch = self.follow_symref(branch);
                let branch = branch_of_ref(&branch).unwrap_or(&branch).to_owned();
                let root = root.clone();
                found.push(BranchInUse { branch, root, is_there, commit, operation: None });
            }
            let log = std::fs::read_to_string(folder.join("logs/HEAD")).unwrap_or_default();
            let last = log.lines().last().and_then(|line| line.split(' ').nth(1));
            let commit = last.and_then(|id| Id::from_hex(id.as_bytes()).ok());
            for (file, operation) in BRANCH_FILES {
                let Some(text) = read_ref_names(&folder.join(file)) else { continue };
                let names = text.lines().filter_map(|line| {
                    let line = line.trim();
                    let line = line.strip_prefix("ref:").unwrap_or(line).trim();
                    // A bisect records the branch by its short name.
                    let is_short = file == "BISECT_START";
                    branch_of_ref(line).or(is_short.then_some(line))
                });
                for name in names.filter(|name| *name != ".invalid") {
                    let full = self.follow_symref(format!("refs/heads/{name}"));
                    let branch = branch_of_ref(&full).unwrap_or(name).to_owned();
                    let root = root.clone();
                    found.push(BranchInUse { branch, root, is_there, commit, operation });
                }
            }
        }
        Ok(found)
    }

    /// Returns the root of another worktree that has `branch` in use.
    #[must_use]
    pub fn find_other_worktree(&self, branch: &str) -> Option<PathBuf> {
        let in_use = self.branches_in_use().unwrap_or_default();
        let other =
            in_use.into_iter().find(|held| held.branch == branch && held.root != self.root());
        other.map(|held| held.root)
    }

    /// Returns git's name of this worktree; empty for the main one.
    #[must_use]
    pub fn worktree_name(&self) -> String {
        let own = self.git_folder();
        let is_linked = own.canonicalize().is_ok_and(|own| own != self.common_folder());
        let name = self.git_folder().file_name().filter(|_| is_linked);
        name.map_or(String::new(), |name| name.to_string_lossy().into_owned())
    }

    /// Opens a registered worktree. Returns an error if its folder now contains another clone.
    pub fn open_worktree(&self, root: &Path) -> Result<Repo> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if self.needs_git_dir && real(root) == self.root() {
            return Ok(self.clone_handle());
        }
        let found = Repo::discover(root)?;
        if found.root() == real(root) && real(found.common_folder()) == real(self.common_folder()) {
            if self.may_fetch() {
                found.allow_fetch();
            }
            return Ok(found);
        }
        Err(Error::unable(format!(
            "`{}` is no longer a worktree of this repository",
            root.display()
        ))
        .with_hint("`git worktree prune` removes entries of deleted worktrees"))
    }

    /// Lists all worktrees, the main one first, the others by path, without the temporary ones in
    /// `shared_state_folder`.
    pub fn list_worktrees(&self) -> Result<Vec<Worktree>> {
        let mut all = Vec::new();
        let main = self.git.main_repo().with_context(|| "cannot open the main worktree")?;
        let heads = if self.has_reftable() { Some(self.heads_by_git()?) } else { None };
        let describe = |root: PathBuf, folder: Option<&Path>| -> Worktree {
            let is_there = root.is_dir();
            let root = root.canonicalize().unwrap_or(root);
            let branch = match &heads {
                Some(heads) => heads.get(&root).and_then(|head| head.branch.clone()),
                None => folder.and_then(|folder| {
                    let text = read_ref_names(&folder.join("HEAD"))?;
                    let name = text.trim().strip_prefix("ref:").unwrap_or(text.trim()).trim();
                    name.starts_with("refs/").then(|| name.to_owned())
                }),
            };
            let branch = branch.map(|name| self.follow_symref(name));
            let branch = branch.map(|name| branch_of_ref(&name).unwrap_or(&name).to_owned());
            let is_locked = folder.is_some_and(|folder| folder.join("locked").exists());
            Worktree { root, branch, is_there, is_locked }
        };
        if let Some(root) = main.workdir() {
            all.push(describe(root.to_path_buf(), Some(main.git_dir())));
        }
        let mut linked = Vec::new();
        for proxy in self.git.worktrees().with_context(|| "cannot list the worktrees")? {
            let Ok(root) = proxy.base() else { continue };
            if root.starts_with(self.shared_state_folder()) {
                continue;
            }
            linked.push(describe(root, Some(proxy.git_dir())));
        }
        linked.sort_by(|one, two| one.root.cmp(&two.root));
        all.extend(linked);
        Ok(all)
    }
}

/// Reads a file that names refs, or the target of a symlink, as HEAD can be one.
fn read_ref_names(file: &Path) -> Option<String> {
    if let Ok(target) = std::fs::read_link(file) {
        return Some(target.to_string_lossy().into_owned());
    }
    Some(String::from_utf8_lossy(&std::fs::read(file).ok()?).into_owned())
}
