//! What is staged, laid out in a folder of our own: the state that a commit would make, without what is
//! only in the worktree.
//!
//! The folder is kept from one time to the next, so that only what differs is written and what builds
//! have left there stays. It is no worktree of git's, nobody sees it in a list, and git finds no repository
//! from within it: it must not lie below a git folder.

use std::path::Path;
use std::time::Duration;

use gix::index::entry::Flags;

use super::Repo;
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;
use xtask_base::process::{Program, ProgramOutput};

/// How long git may take to lay out or to compare a worktree: ten minutes.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

impl Repo {
    /// Whether the worktree holds just what is staged in an index: nothing changed, nothing gone, and
    /// no file beside it but what git ignores. Where git was told not to look at a file, nobody knows.
    pub fn is_worktree_as_staged(&self, index: &Path) -> Result<bool> {
        let read = gix::index::File::at(index, self.git.object_hash(), true, Default::default())
            .with_context(|| format!("the index `{}` cannot be read", index.display()))?;
        let is_unseen = |entry: &gix::index::Entry| {
            entry.flags.intersects(Flags::ASSUME_VALID | Flags::SKIP_WORKTREE)
        };
        if read.is_sparse() || read.entries().iter().any(is_unseen) {
            return Ok(false);
        }
        let options =
            ["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"];
        // Looking writes nothing, not even fresher times into the index.
        let listing = self.git_command(options).env("GIT_OPTIONAL_LOCKS", "0").with_full_output();
        let listed = listing.env("GIT_INDEX_FILE", index).run_with_timeout(LOCAL_TIMEOUT)?;
        if !listed.status.success() {
            return Err(Error::unable("git cannot compare the worktree").with_detail(listed.stderr));
        }
        Ok(listed.stdout.is_empty())
    }

    /// Lays out what is staged in `index` below `folder`, in `tree`, with an index of its own beside
    /// it. Answers with the paths. What is there besides goes, but for what git ignores.
    pub fn export_staged(
        &self,
        disk: &Disk<'_>,
        index: &Path,
        folder: &Path,
    ) -> Result<Vec<RepoPath>> {
        let tree = folder.join("tree");
        std::fs::create_dir_all(&tree)
            .with_context(|| format!("the folder `{}` cannot be made", tree.display()))?;
        let own = folder.join("index");
        // Who was killed here has left git's locks behind; nobody else is here now.
        for lock in ["index.lock", "index-of-commit.lock"] {
            let lock = folder.join(lock);
            disk.remove_file(&lock)
                .with_context(|| format!("`{}` cannot be removed", lock.display()))?;
        }
        // Git writes what it has computed into the index: into a copy, not into that of the commit.
        let copy = folder.join("index-of-commit");
        let content = std::fs::read(index)
            .with_context(|| format!("the index `{}` cannot be read", index.display()))?;
        disk.write_atomically(&copy, &content)
            .with_context(|| format!("`{}` cannot be written", copy.display()))?;
        let written = self.git_command(["write-tree"]).env("GIT_INDEX_FILE", &copy);
        let staged = require_success(
            written.run_with_timeout(LOCAL_TIMEOUT)?,
            "what is staged cannot be written",
        )?;
        let staged = staged.trim().to_owned();
        let there = |args: &[&str]| -> Program {
            let program = Program::new("git", &tree).args(["-c", "core.hooksPath=/dev/null"]);
            // Who watches the worktree knows nothing of this one.
            let off = ["core.sparseCheckout", "core.fsmonitor", "core.untrackedCache"];
            let off = off.iter().flat_map(|name| ["-c".to_owned(), format!("{name}=false")]);
            let program = program.args(off).args(args);
            program
                .env("GIT_DIR", self.git_folder())
                .env("GIT_WORK_TREE", &tree)
                .env("GIT_INDEX_FILE", &own)
        };
        let failed = "what is staged cannot be laid out";
        if own.is_file() {
            // What a command has changed there since is written again.
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
            // A name that is not text cannot be told apart here: all of it is laid out anew.
            for gone in [&tree, &own] {
                let removed =
                    if gone.is_dir() { disk.remove_folder(gone) } else { disk.remove_file(gone) };
                removed.with_context(|| format!("`{}` cannot be removed", gone.display()))?;
            }
            return self.export_staged(disk, index, folder);
        }
        for path in parse_paths(&others) {
            let on_disk = path.to_disk_path(&tree);
            disk.remove_file(&on_disk).with_context(|| {
                format!("the leftover `{}` cannot be removed", on_disk.display())
            })?;
        }
        let laid = gix::index::File::at(&own, self.git.object_hash(), true, Default::default())
            .with_context(|| format!("the index `{}` cannot be read", own.display()))?;
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
