//! The paths that a commit, a push or a branch changes, each with or without a file afterwards.
//!
//! Renames count as a removal and an addition. In a merge only what was resolved by hand counts: a path that differs
//! from all parents. For example:
//!
//! ```text
//! git mv a.py b.py  ->  ChangedPaths { present: {b.py}, removed: {a.py} }
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use gix::index::entry::Mode;

use super::local_git::split_at_nul;
use super::{Id, Repo, StagedChange};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::path::RepoPath;

/// How many symlinks one after the other a name may go through.
const MAX_LINKS_DEEP: usize = 4;

/// The most names behind symlinks: links that contain each other make any number of them.
const MAX_LINKED_NAMES: usize = 100_000;

/// Paths that were changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangedPaths {
    /// Those that exist afterwards.
    pub present: BTreeSet<RepoPath>,
    /// Those that were removed.
    pub removed: BTreeSet<RepoPath>,
}

impl ChangedPaths {
    fn from_changes(changes: &[StagedChange]) -> ChangedPaths {
        let mut paths = ChangedPaths::default();
        for change in changes {
            let set = if change.after.is_some() { &mut paths.present } else { &mut paths.removed };
            set.insert(change.path.clone());
        }
        paths
    }
}

impl Repo {
    /// Lists the paths that a commit of `index` would change.
    pub fn list_staged_paths(&self, index: &Path) -> Result<ChangedPaths> {
        self.list_committed_paths(index, &self.staged_changes(index, self.tree_of_head()?)?)
    }

    /// Like [`Repo::list_staged_paths`], with the changes against HEAD already known.
    pub fn list_committed_paths(
        &self,
        index: &Path,
        changes: &[StagedChange],
    ) -> Result<ChangedPaths> {
        let mut paths = ChangedPaths::from_changes(changes);
        if self.git_folder().join("MERGE_HEAD").is_file() {
            for merged in self.incoming_commits() {
                let other = self.list_paths_against(index, Some(self.tree_of(merged)?))?;
                paths.present.retain(|path| other.present.contains(path));
                paths.removed.retain(|path| other.removed.contains(path));
            }
        }
        Ok(paths)
    }

    fn list_paths_against(&self, index: &Path, tree: Option<Id>) -> Result<ChangedPaths> {
        Ok(ChangedPaths::from_changes(&self.staged_changes(index, tree)?))
    }

    /// Lists the paths of the worktree that differ from the merge base of `commit` and HEAD, untracked files included.
    pub fn list_paths_since(&self, commit: Id) -> Result<ChangedPaths> {
        let failed = "cannot list the changed files";
        let head = self.head()?.commit;
        let base = self.merge_base(commit, head)?.ok_or_else(|| {
            Error::usage(format!("HEAD and {commit} have no common ancestor"))
                .with_hint("in a shallow clone, fetch more: `git fetch --unshallow`")
        })?;
        let base = base.to_string();
        let mut args = vec!["diff", "--no-ext-diff", "--no-renames", "--ignore-submodules=none"];
        args.extend(["--name-only", "-z", &base, "--"]);
        let changed = self.local_git(args).env("GIT_OPTIONAL_LOCKS", "0").list(failed)?;
        let args = ["ls-files", "-z", "--others", "--exclude-standard"];
        let untracked = self.local_git(args).list(failed)?;
        let mut paths = ChangedPaths::default();
        for name in split_at_nul(&changed.stdout_bytes).chain(split_at_nul(&untracked.stdout_bytes))
        {
            let path = RepoPath::new(name);
            let is_there = path.to_disk_path(self.root()).symlink_metadata().is_ok();
            let set = if is_there { &mut paths.present } else { &mut paths.removed };
            set.insert(path);
        }
        Ok(paths)
    }

    /// Lists the other names of `paths`: those through symlinks that git tracks.
    pub fn list_names_behind_links<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p RepoPath>,
    ) -> Result<BTreeSet<RepoPath>> {
        let index = self.read_index()?;
        let tracked = index.state();
        let links = tracked.entries().iter().filter(|entry| entry.mode == Mode::SYMLINK);
        let links = links.map(|entry| RepoPath::new(entry.path(tracked).to_vec()));
        let links: Vec<(RepoPath, RepoPath)> =
            links.filter_map(|link| Some((self.end_of_link(&link)?, link))).collect();
        let mut names = BTreeSet::new();
        let mut open: Vec<RepoPath> = paths.into_iter().cloned().collect();
        for _ in 0..MAX_LINKS_DEEP {
            let pairs = open.iter().flat_map(|path| links.iter().map(move |link| (path, link)));
            let more = pairs.filter_map(|(path, (end, link))| {
                let is_behind = path == end || path.is_below(end);
                let rest = path.as_bytes().get(end.as_bytes().len()..).unwrap_or_default();
                is_behind.then(|| RepoPath::new([link.as_bytes(), rest].concat()))
            });
            let room = MAX_LINKED_NAMES.saturating_sub(names.len());
            let more: BTreeSet<RepoPath> =
                more.filter(|name| !names.contains(name)).take(room).collect();
            open = more.iter().cloned().collect();
            names.extend(more);
        }
        Ok(names)
    }

    /// Returns the path in the worktree to which a symlink points, whether or not something is there.
    fn end_of_link(&self, link: &RepoPath) -> Option<RepoPath> {
        use std::os::unix::ffi::OsStrExt as _;
        let on_disk = link.to_disk_path(self.root());
        let end = match on_disk.canonicalize() {
            Ok(end) => end,
            Err(_) => {
                let mut end = on_disk.parent()?.to_path_buf();
                for part in std::fs::read_link(&on_disk).ok()?.components() {
                    match part {
                        std::path::Component::ParentDir => drop(end.pop()),
                        std::path::Component::CurDir => {}
                        part => end.push(part),
                    }
                }
                end
            }
        };
        let inside = end.strip_prefix(self.root()).ok()?.as_os_str();
        (!inside.is_empty()).then(|| RepoPath::new(inside.as_bytes()))
    }

    /// Lists the files of the worktree below these folders, tracked or not, without ignored ones.
    pub fn list_files_below(&self, folders: &[RepoPath]) -> Result<BTreeSet<RepoPath>> {
        let args = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
        let listed = self.local_git(args).list("cannot list the files")?;
        let is_below = |path: &RepoPath| {
            folders.iter().any(|folder| folder.as_bytes().is_empty() || path.is_below(folder))
        };
        Ok(split_at_nul(&listed.stdout_bytes)
            .map(RepoPath::new)
            .filter(|path| is_below(path))
            .filter(|path| path.to_disk_path(self.root()).symlink_metadata().is_ok())
            .collect())
    }

    /// Lists the paths changed by the commits that a push of `new` gives to `remote`, which has `old` at this ref.
    pub fn list_pushed_paths(
        &self,
        remote: &str,
        old: Option<Id>,
        new: Id,
    ) -> Result<ChangedPaths> {
        let failed = "cannot list the files of the pushed commits";
        let new_text = new.to_string();
        let mut args = vec!["log", "--format=", "--name-only", "-z", "--no-renames", "-c"];
        args.extend(["--no-ext-diff", "--no-show-signature", &new_text, "--not"]);
        let old = old.filter(|old| self.has_object(*old)).map(|old| old.to_string());
        args.extend(old.as_deref());
        let refs = format!("--remotes={remote}");
        args.extend([refs.as_str(), "--"]);
        let listed = self.local_git(args).list(failed)?;
        let tree = self.tree_of(new).with_context(|| failed)?;
        let mut paths = ChangedPaths::default();
        for name in split_at_nul(&listed.stdout_bytes) {
            let name = name.strip_prefix(b"\n").unwrap_or(name);
            let path = RepoPath::new(name);
            let is_there = self.entry_at(tree, &path)?.is_some();
            let set = if is_there { &mut paths.present } else { &mut paths.removed };
            set.insert(path);
        }
        Ok(paths)
    }
}
