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

use std::path::Path;
use std::time::Duration;

use gix::index::entry::Flags;

use super::Repo;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::process::{Program, ProgramOutput};

/// Timeout of git for exporting or comparing a worktree: ten minutes.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

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
        let listing = self.git_command(options).env("GIT_OPTIONAL_LOCKS", "0").with_full_output();
        let listed = listing.env("GIT_INDEX_FILE", index).run_with_timeout(LOCAL_TIMEOUT)?;
        if !listed.status.success() {
            return Err(Error::unable("cannot compare the worktree with the index")
                .with_detail(listed.stderr));
        }
        Ok(listed.stdout.is_empty())
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
        // `write-tree` stores cached trees in the index: use a copy, not the index of the commit.
        let copy = folder.join("index-of-commit");
        let content = std::fs::read(index)
            .with_context(|| format!("cannot read the index `{}`", index.display()))?;
        disk.write_atomically(&copy, &content)
            .with_context(|| format!("cannot write `{}`", copy.display()))?;
        let written = self.git_command(["write-tree"]).env("GIT_INDEX_FILE", &copy);
        let staged = require_success(
            written.run_with_timeout(LOCAL_TIMEOUT)?,
            "cannot write the staged tree",
        )?;
        let staged = staged.trim().to_owned();
        let there = |args: &[&str]| -> Program {
            let program = Program::new("git", &tree).args(["-c", "core.hooksPath=/dev/null"]);
            // Monitors of the real worktree do not know this one.
            let off = ["core.sparseCheckout", "core.fsmonitor", "core.untrackedCache"];
            let off = off.iter().flat_map(|name| ["-c".to_owned(), format!("{name}=false")]);
            let program = program.args(off).args(args);
            program
                .env("GIT_DIR", self.git_folder())
                .env("GIT_WORK_TREE", &tree)
                .env("GIT_INDEX_FILE", &own)
        };
        let failed = "cannot export the staged files";
        if own.is_file() {
            // Files that a command has changed since are written again.
            there(&["update-index", "-q", "--refresh"]).run_with_timeout(LOCAL_TIMEOUT)?;
        }
        require_success(
            there(&["read-tree", "--reset", "-u", &staged]).run_with_timeout(LOCAL_TIMEOUT)?,
            failed,
        )?;
        let again = ["checkout-index", "--all", "--force", "--index", "--quiet"];
        require_success(there(&again).run_with_timeout(LOCAL_TIMEOUT)?, failed)?;
        let others = ["ls-files", "-z", "--others", "--exclude-standard"];
        let others = there(&others).with_full_output().run_with_timeout(LOCAL_TIMEOUT)?;
        let others = require_success(others, failed)?;
        if others.contains('\u{fffd}') {
            // Names that are not UTF-8 cannot be told apart here: export everything again.
            for gone in [&tree, &own] {
                let removed =
                    if gone.is_dir() { disk.remove_folder(gone) } else { disk.remove_file(gone) };
                removed.with_context(|| format!("cannot remove `{}`", gone.display()))?;
            }
            return self.export_staged(disk, index, folder);
        }
        for path in parse_paths(&others) {
            let on_disk = path.to_disk_path(&tree);
            disk.remove_file(&on_disk)
                .with_context(|| format!("cannot remove the stale file `{}`", on_disk.display()))?;
        }
        let laid = gix::index::File::at(&own, self.git.object_hash(), true, Default::default())
            .with_context(|| format!("cannot read the index `{}`", own.display()))?;
        let paths = laid.entries().iter().map(|entry| RepoPath::new(entry.path(&laid).to_vec()));
        Ok(paths.collect())
    }
}

fn require_success(output: ProgramOutput, what: &str) -> Result<String> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Error::unable(what).with_detail(output.stderr))
}

fn parse_paths(listed: &str) -> Vec<RepoPath> {
    let names = listed.split('\0').filter(|name| !name.is_empty() && !name.ends_with('/'));
    names.map(|name| RepoPath::new(name.as_bytes())).collect()
}
