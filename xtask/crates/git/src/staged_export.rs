//! Export of the staged content into a folder of our own: the state that a commit would create,
//! without unstaged changes.
//!
//! The folder is reused, so that only changed files are written and ignored build output stays. It
//! is not a git worktree, appears in no list, and must not be below a git folder, or git would find
//! a repository from inside it.
//!
//! ```text
//! FOLDER/tree/…    the files        FOLDER/index    their index
//! ```

use std::collections::BTreeSet;
use std::path::Path;

use gix::index::entry::Flags;

use super::local_git::{LocalGit, NO_HOOKS, require_success, split_at_nul};
use super::{GIT, Id, Repo};
use xtask_base::error::{Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::process::Program;

impl Repo {
    /// Returns whether the worktree equals the index: no changed, deleted or untracked file, except
    /// ignored ones. Returns `false` if entries with `assume-unchanged` or `skip-worktree` leave
    /// that open.
    pub fn is_worktree_as_staged(&self, index: &Path) -> Result<bool> {
        let read = gix::index::File::at(index, self.git.object_hash(), true, Default::default())
            .with_context(|| format!("cannot read the index `{}`", index.display()))?;
        let is_unseen = |entry: &gix::index::Entry| {
            entry.flags.intersects(Flags::ASSUME_VALID | Flags::SKIP_WORKTREE)
        };
        if read.is_sparse() || read.entries().iter().any(is_unseen) {
            return Ok(false);
        }
        let options =
            ["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"];
        // A comparison writes no file, not even refreshed times to the index.
        let listing = self.local_git(options).env("GIT_OPTIONAL_LOCKS", "0");
        let listing = listing.env("GIT_INDEX_FILE", index);
        let listed = listing.list("cannot compare the worktree with the index")?;
        Ok(listed.stdout.is_empty())
    }

    /// Writes an index with the content of `commit` to `file`, which no worktree uses.
    pub fn write_index_of_commit(&self, disk: &Disk<'_>, commit: Id, file: &Path) -> Result<()> {
        let failed = || format!("cannot write the index `{}`", file.display());
        let mut lock = file.as_os_str().to_owned();
        lock.push(".lock");
        // A killed run has left them.
        disk.remove_file(Path::new(&lock)).with_context(failed)?;
        disk.remove_file(file).with_context(failed)?;
        let read = self.local_git(["read-tree", &commit.to_string()]).env("GIT_INDEX_FILE", file);
        read.require("cannot read the pushed commit").map(drop)
    }

    /// Exports the content of `index` to `FOLDER/tree`, with its own index next to it, and returns
    /// the paths. Other files there are removed, except ignored ones.
    pub fn export_staged(
        &self,
        disk: &Disk<'_>,
        index: &Path,
        folder: &Path,
    ) -> Result<Vec<RepoPath>> {
        let tree = folder.join("tree");
        std::fs::create_dir_all(&tree)
            .with_context(|| format!("cannot create the folder `{}`", tree.display()))?;
        let own = folder.join("index");
        // A killed run has left git's locks; the caller excludes concurrent runs.
        for lock in ["index.lock", "index-of-commit.lock"] {
            let lock = folder.join(lock);
            disk.remove_file(&lock)
                .with_context(|| format!("cannot remove `{}`", lock.display()))?;
        }
        let staged = self.write_tree_of(disk, index, &folder.join("index-of-commit"))?;
        let failed = "cannot export the staged files";
        let git = |args: &[&str]| self.export_git(&tree, &own, args);
        if own.is_file() {
            // Files that a command has changed since are written again.
            git(&["update-index", "-q", "--refresh"]).run()?;
        }
        git(&["read-tree", "--reset", "-u", &staged]).require(failed)?;
        git(&["checkout-index", "--all", "--force", "--index", "--quiet"]).require(failed)?;
        let others = git(&["ls-files", "-z", "--others", "--exclude-standard"]).list(failed)?;
        for name in split_at_nul(&others.stdout_bytes).filter(|name| !name.ends_with(b"/")) {
            let stale = RepoPath::new(name).to_disk_path(&tree);
            disk.remove_file(&stale)
                .with_context(|| format!("cannot remove the stale file `{}`", stale.display()))?;
        }
        let exported = gix::index::File::at(&own, self.git.object_hash(), true, Default::default())
            .with_context(|| format!("cannot read the index `{}`", own.display()))?;
        let entries = exported.entries().iter();
        Ok(entries.map(|entry| RepoPath::new(entry.path(&exported).to_vec())).collect())
    }

    /// Whether these files of the worktree are as `index` has them, by their stat data. One that is as new as the index
    /// is not known to be.
    pub fn are_files_as_staged<'p>(
        &self,
        index: &Path,
        paths: impl IntoIterator<Item = &'p RepoPath>,
    ) -> Result<bool> {
        let index = self.read_index_at(index)?;
        let is_same = |path: &RepoPath| {
            let meta = path.to_disk_path(self.root()).symlink_metadata();
            meta.is_ok_and(|meta| index.is_up_to_date(path, &meta))
        };
        Ok(!index.is_sparse() && paths.into_iter().all(is_same))
    }

    /// Exports some files of `index` to `FOLDER/tree`, in which nothing else is then. Returns all paths of the index.
    pub fn export_some(
        &self,
        disk: &Disk<'_>,
        index: &Path,
        folder: &Path,
        paths: &BTreeSet<RepoPath>,
    ) -> Result<Vec<RepoPath>> {
        let tree = folder.join("tree");
        let failed = || format!("cannot make the folder `{}` anew", tree.display());
        disk.remove_folder(&tree).with_context(failed)?;
        std::fs::create_dir_all(&tree).with_context(failed)?;
        let list: Vec<u8> =
            paths.iter().flat_map(|path| [path.as_bytes(), b"\0"].concat()).collect();
        let checkout = [
            "checkout-index",
            "--force",
            "--ignore-skip-worktree-bits",
            "--quiet",
            "-z",
            "--stdin",
        ];
        let written = self.export_git(&tree, index, &checkout).run_with_input(&list)?;
        require_success(written, "cannot export the staged files")?;
        Ok(self.read_index_at(index)?.list_paths())
    }

    /// Lists the files of `FOLDER/tree` that are not as they were exported, apart from files that did not come from there.
    pub fn list_export_changes(&self, folder: &Path) -> Result<Vec<RepoPath>> {
        let failed = "cannot compare the exported files with the staged ones";
        let (tree, index) = (folder.join("tree"), folder.join("index"));
        self.export_git(&tree, &index, &["update-index", "-q", "--refresh"]).run()?;
        let args = ["diff-files", "--name-only", "-z", "--no-ext-diff"];
        let changed = self.export_git(&tree, &index, &args).list(failed)?;
        Ok(split_at_nul(&changed.stdout_bytes).map(RepoPath::new).collect())
    }

    /// Writes the content of `index` as a tree. `write-tree` stores cached trees in the index, so it gets the copy.
    fn write_tree_of(&self, disk: &Disk<'_>, index: &Path, copy: &Path) -> Result<String> {
        let content = std::fs::read(index)
            .with_context(|| format!("cannot read the index `{}`", index.display()))?;
        disk.write_atomically(copy, &content)
            .with_context(|| format!("cannot write `{}`", copy.display()))?;
        let written = self.local_git(["write-tree"]).env("GIT_INDEX_FILE", copy);
        Ok(written.require("cannot write the staged tree")?.stdout.trim().to_owned())
    }

    /// Builds a command of git for the exported files in `tree`.
    fn export_git(&self, tree: &Path, index: &Path, args: &[&str]) -> LocalGit {
        // Monitors of the real worktree do not know this one; half of a split index would be in the git folder.
        let off =
            ["core.sparseCheckout", "core.fsmonitor", "core.untrackedCache", "core.splitIndex"];
        let off = off.iter().flat_map(|name| ["-c".to_owned(), format!("{name}=false")]);
        let program = Program::new(GIT, tree).args(NO_HOOKS).args(off).args(args);
        LocalGit(program)
            .env("GIT_DIR", self.git_folder())
            .env("GIT_WORK_TREE", tree)
            .env("GIT_INDEX_FILE", index)
    }
}
