//! The target repository of `vendor`, and the checks before anything is written there.
//!
//! For example, `VendorTarget::open("../shop", ..)` refuses a repository with uncommitted changes, a merge in
//! progress, or an existing `xtask/VENDORED.toml`.

use std::collections::BTreeSet;
use std::path::Path;

use super::install::has_pending_install;
use xtask_base::error::{Error, Result};
use xtask_base::path::RepoPath;
use xtask_base::words::join_names;
use xtask_config::SyncConfig;
use xtask_git::{FileMode, Id, Repo, Revision, TreeChange, TreeEntry, can_write_in};
use xtask_upgrade::manifest::MANIFEST_NAME;

/// A repository that has passed the checks of `open`.
pub struct VendorTarget {
    pub repo: Repo,
    /// Tree of HEAD; `None` if the repository has no commit yet.
    pub tree: Option<Id>,
    /// Name of the toolkit's folder and alias there, e.g. `xtask`.
    name: String,
    /// Descriptions of files in the place of the toolkit, so that all obstacles are reported at once.
    pub obstacles: Vec<String>,
}

impl VendorTarget {
    /// Opens the repository in `folder`, without writing anything.
    ///
    /// Returns an error if `folder` is not the root of a clean repository, or the toolkit is already vendored.
    pub fn open(folder: &Path, toolkit: &Repo, name: &str) -> Result<VendorTarget> {
        let place = folder.display();
        if !folder.is_dir() {
            return Err(Error::usage(format!("`{place}` is not a folder")));
        }
        let repo = Repo::discover_argument(folder).map_err(|cause| {
            let refused =
                Error::usage(format!("cannot vendor into `{place}`: {}", cause.message()));
            let refused = cause.causes().into_iter().fold(refused, Error::with_detail);
            let full = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
            let is_repository = full.ancestors().any(|above| above.join(".git").exists());
            if is_repository || folder.join("HEAD").is_file() {
                cause.hints().iter().fold(refused, Error::with_hint)
            } else {
                refused.with_hint("`git init` creates a repository")
            }
        })?;
        let root = repo.root().display().to_string();
        if folder.canonicalize().ok().as_deref() != Some(repo.root()) {
            return Err(Error::usage(format!(
                "`{place}` is a subfolder of the repository `{root}`"
            ))
            .with_hint(format!("the toolkit goes into its root: `cargo xtask vendor {root}`")));
        }
        if repo.common_folder() == toolkit.common_folder() {
            return Err(Error::usage(format!("`{place}` is the toolkit itself"))
                .with_hint("name the folder of another repository"));
        }
        if let Some(operation) = repo.current_operation() {
            return Err(Error::unable(format!("{} is in progress in `{place}`", operation.name))
                .with_hint("finish or abort it first"));
        }
        if repo.is_index_locked() {
            return Err(Error::unable(format!("another git process is running in `{place}`"))
                .with_hint(format!("if not, `rm '{}'`", repo.index_lock_file().display())));
        }
        if has_pending_install(&repo) {
            return Err(Error::unable(format!("an earlier `vendor` was interrupted in `{place}`"))
                .with_hint("without `--dry-run` it is rolled back first"));
        }
        let tree = repo.tree_of_head()?;
        let mut target = VendorTarget { repo, tree, name: name.to_owned(), obstacles: Vec::new() };
        target.check_folder()?;
        let changed = target.repo.list_uncommitted()?;
        if !changed.is_empty() {
            return Err(Error::unable(format!(
                "`{place}` has uncommitted changes: {}",
                join_names(&changed, 5)
            ))
            .with_hint("commit or stash them first, to keep them apart from the vendored files"));
        }
        Ok(target)
    }

    /// Checks that the toolkit is not vendored yet, and notes an existing path of its name as an obstacle.
    fn check_folder(&mut self) -> Result<()> {
        let folders = self.tree.map(|tree| self.repo.folders_in_root(tree)).transpose()?;
        for folder in folders.into_iter().flatten() {
            if self.find_entry(&format!("{folder}/{MANIFEST_NAME}"))?.is_some() {
                return Err(Error::negative(format!(
                    "the toolkit is already vendored in `{folder}/`"
                ))
                .with_hint(format!("`cargo {folder} upgrade` there brings it up to date")));
            }
        }
        let wanted = self.name.clone();
        let on_disk = std::fs::read_dir(self.repo.root())
            .into_iter()
            .flatten()
            .flatten()
            .map(|found| found.file_name().to_string_lossy().into_owned())
            .find(|name| name.eq_ignore_ascii_case(&wanted));
        let tracked = match self.tree {
            Some(tree) => {
                self.repo.find_in_tree(tree, &RepoPath::new(&wanted[..]))?.map(|_| wanted.clone())
            }
            None => None,
        };
        let other = on_disk.or(tracked);
        self.obstacles.extend(other.map(|name| format!("`{name}` already exists")));
        Ok(())
    }

    /// Returns the entry of HEAD at `path`, if any.
    pub fn find_entry(&self, path: &str) -> Result<Option<TreeEntry>> {
        self.tree.map_or(Ok(None), |tree| self.repo.entry_at(tree, &RepoPath::new(path)))
    }

    /// Reads a file of HEAD. Returns `None` if there is no file at `path`, or it is not UTF-8.
    pub fn read_text(&self, path: &str) -> Result<Option<String>> {
        let Some(entry) = self.find_entry(path)? else { return Ok(None) };
        if !matches!(entry.mode, FileMode::File | FileMode::Executable) {
            return Ok(None);
        }
        Ok(String::from_utf8(self.repo.read_blob(entry.id)?).ok())
    }

    /// Reads a file of the worktree, tracked or not. Returns `None` if there is no file at `path`.
    #[must_use]
    pub fn read_on_disk(&self, path: &str) -> Option<Vec<u8>> {
        let file = RepoPath::new(path).to_disk_path(self.repo.root());
        // Symlinks are followed within the repository only, and never into `.git`.
        let real = file.canonicalize().ok()?;
        let is_inside =
            real.strip_prefix(self.repo.root().canonicalize().ok()?).is_ok_and(|path| {
                !path.components().any(|part| part.as_os_str().eq_ignore_ascii_case(".git"))
            });
        if !is_inside || !real.is_file() {
            return None;
        }
        std::fs::read(real).ok()
    }

    /// Returns the mode of a file in HEAD, or that of a plain file if it is new.
    pub fn file_mode(&self, path: &str) -> Result<FileMode> {
        Ok(self.find_entry(path)?.map_or(FileMode::File, |entry| entry.mode))
    }

    /// Returns existing paths at, or on the way to, the `new` paths: untracked or ignored files, symlinks and nested
    /// repositories. They may be valuable, so they are never replaced.
    fn find_obstacles(&self, new: &BTreeSet<RepoPath>) -> Result<Vec<String>> {
        let root = self.repo.root();
        let mut tracked = BTreeSet::new();
        for above in new.iter().flat_map(RepoPath::ancestors).collect::<BTreeSet<_>>() {
            if let Some(tree) = self.tree
                && self.repo.entry_at(tree, &above)?.is_some()
            {
                tracked.insert(above);
            }
        }
        let mut found = BTreeSet::new();
        for path in new {
            for above in path.ancestors() {
                let folder = above.to_disk_path(root);
                let is_file = folder.symlink_metadata().is_ok_and(|meta| !meta.is_dir());
                let is_repository = folder.join(".git").symlink_metadata().is_ok();
                if is_file || is_repository || tracked.contains(&above) {
                    found.insert(above.to_string());
                }
            }
            if path.to_disk_path(root).symlink_metadata().is_ok() {
                found.insert(path.to_string());
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Checks that all changed paths can be written.
    ///
    /// Returns an error on obstacles, a sparse checkout without the toolkit's folder, or missing permissions.
    pub fn check_paths(&self, changes: &[TreeChange]) -> Result<()> {
        let (new, _) = self.split_new_and_changed(changes)?;
        let place = self.repo.root().display();
        let in_the_way = self.find_obstacles(&new)?;
        if !in_the_way.is_empty() {
            let refused = Error::unable(format!(
                "existing files are in the way in `{place}`; nothing was changed"
            ));
            return Err(in_the_way
                .into_iter()
                .fold(refused, Error::with_detail)
                .with_hint("commit untracked files, or move the paths away; then try again"));
        }
        if let Some(patterns) = self.repo.read_sparse_patterns()?
            && patterns.match_with_folders(format!("{}/Cargo.toml", self.name).as_bytes(), false)
                != Some(true)
        {
            return Err(Error::unable(format!(
                "the sparse checkout of `{place}` excludes `{}/`",
                self.name
            ))
            .with_hint(format!(
                "`git sparse-checkout add {} setup deployment .cargo .github` includes it",
                self.name
            )));
        }
        let root = self.repo.root();
        let folders: BTreeSet<_> = changes
            .iter()
            .map(|(path, _)| {
                path.parent().map_or(root.to_path_buf(), |above| above.to_disk_path(root))
            })
            .chain([self.repo.git_folder().to_path_buf()])
            .collect();
        let closed: Vec<String> = folders
            .iter()
            .filter(|folder| !can_write_in(folder))
            .map(|folder| folder.display().to_string())
            .collect();
        if closed.is_empty() {
            return Ok(());
        }
        Err(Error::unable(format!(
            "permission denied: cannot write in {}; nothing was changed",
            join_names(&closed, 3)
        ))
        .with_hint("ask whoever owns it, or work in a clone of your own"))
    }

    /// Returns a note if the canonical branch already exists and is not the current one.
    #[must_use]
    pub fn note_canonical_branch(&self) -> Option<String> {
        let branch = SyncConfig::default().branch;
        let head = self.repo.head().ok()?.branch;
        let remotes = self.repo.remote_names();
        let mut names = vec![format!("refs/heads/{branch}")];
        names.extend(remotes.iter().map(|remote| format!("refs/remotes/{remote}/{branch}")));
        let there = names
            .iter()
            .find(|name| matches!(self.repo.parse_revision(name), Ok(Revision::Commit(_))))?;
        if head.as_deref() == Some(&branch) {
            return None;
        }
        let there = there.strip_prefix("refs/heads/").or(there.strip_prefix("refs/remotes/"))?;
        Some(format!(
            "`{there}` already exists, and all other branches get the toolkit from it: add it there \
             (`git switch {branch}`, then vendor), and `cargo xtask propagate` brings it to this branch. On this branch \
             alone hooks cannot be installed"
        ))
    }

    /// Splits the paths of `changes` into new and existing ones.
    fn split_new_and_changed(
        &self,
        changes: &[TreeChange],
    ) -> Result<(BTreeSet<RepoPath>, Vec<RepoPath>)> {
        let (mut new, mut old) = (BTreeSet::new(), Vec::new());
        for (path, _) in changes {
            let is_there = match self.tree {
                Some(tree) => self.repo.entry_at(tree, path)?.is_some(),
                None => false,
            };
            if is_there {
                old.push(path.clone());
            } else {
                new.insert(path.clone());
            }
        }
        Ok((new, old))
    }
}
