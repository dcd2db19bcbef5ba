//! Operations in progress: detecting an unfinished merge, rebase, cherry-pick, revert, bisect or
//! `git am`.
//!
//! Sync refuses to change a repository in such a state.
//!
//! ```text
//! .git/MERGE_HEAD -> Operation { name: "a merge", abort_command: "git merge --abort", kind: Merge }
//! ```

use super::{Id, PathPatterns, Repo};
use xtask_base::error::{Error, Result};

/// An unfinished git operation, and the commands that end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The name with article: `a rebase`.
    pub name: &'static str,
    /// The command that finishes it, e.g. `git rebase --continue`.
    pub continue_command: &'static str,
    /// The command that undoes it, e.g. `git rebase --abort`.
    pub abort_command: &'static str,
    pub kind: OperationKind,
}

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationKind {
    Am,
    Bisect,
    CherryPick,
    Merge,
    /// A rebase by either backend, merge or apply.
    Rebase,
    Revert,
}

impl OperationKind {
    /// Returns the name without article: `rebase`.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            OperationKind::Am => "`am`",
            OperationKind::Bisect => "bisect",
            OperationKind::CherryPick => "cherry-pick",
            OperationKind::Merge => "merge",
            OperationKind::Rebase => "rebase",
            OperationKind::Revert => "revert",
        }
    }
}

impl Operation {
    fn new(kind: OperationKind) -> Operation {
        let (name, continue_command, abort_command) = match kind {
            OperationKind::Am => ("an `am`", "git am --continue", "git am --abort"),
            OperationKind::Bisect => ("a bisect", "git bisect reset", "git bisect reset"),
            OperationKind::CherryPick => {
                ("a cherry-pick", "git cherry-pick --continue", "git cherry-pick --abort")
            }
            OperationKind::Merge => ("a merge", "git merge --continue", "git merge --abort"),
            OperationKind::Rebase => ("a rebase", "git rebase --continue", "git rebase --abort"),
            OperationKind::Revert => ("a revert", "git revert --continue", "git revert --abort"),
        };
        Operation { name, continue_command, abort_command, kind }
    }
}

impl Repo {
    /// Returns the operation in progress in this worktree.
    #[must_use]
    pub fn current_operation(&self) -> Option<Operation> {
        use gix::state::InProgress as Is;
        let Some(state) = self.git.state().or_else(|| self.find_pick_ref()) else {
            return self.read_sequencer();
        };
        let kind = match state {
            Is::ApplyMailbox | Is::ApplyMailboxRebase => OperationKind::Am,
            Is::Bisect => OperationKind::Bisect,
            Is::CherryPick | Is::CherryPickSequence => OperationKind::CherryPick,
            Is::Merge => OperationKind::Merge,
            Is::Rebase | Is::RebaseInteractive => OperationKind::Rebase,
            Is::Revert | Is::RevertSequence => OperationKind::Revert,
        };
        Some(Operation::new(kind))
    }

    /// Detects a cherry-pick or revert by its pseudo-ref, which a `reftable` does not store as a
    /// file.
    fn find_pick_ref(&self) -> Option<gix::state::InProgress> {
        use gix::state::InProgress as Is;
        if !self.has_reftable() {
            return None;
        }
        let picks = || self.read_root_ref("CHERRY_PICK_HEAD").map(|_| Is::CherryPick);
        picks().or_else(|| self.read_root_ref("REVERT_HEAD").map(|_| Is::Revert))
    }

    /// Detects a sequence of cherry-picks or reverts between two commits, when git has only
    /// `sequencer/todo`.
    fn read_sequencer(&self) -> Option<Operation> {
        let todo = std::fs::read_to_string(self.git_folder().join("sequencer/todo")).ok()?;
        let is_revert = todo.lines().any(|line| line.starts_with("revert "));
        Some(Operation::new(match is_revert {
            true => OperationKind::Revert,
            false => OperationKind::CherryPick,
        }))
    }

    /// Returns whether git has stashed local changes (`--autostash`) until the operation ends.
    #[must_use]
    pub fn has_autostash(&self) -> bool {
        ["rebase-merge/autostash", "rebase-apply/autostash", "MERGE_AUTOSTASH"]
            .into_iter()
            .any(|name| self.git_folder().join(name).symlink_metadata().is_ok())
    }

    /// Lists the commits that are being merged or picked into HEAD.
    #[must_use]
    pub fn incoming_commits(&self) -> Vec<Id> {
        let read = |name| std::fs::read_to_string(self.git_folder().join(name));
        // An octopus merge has several lines. `MERGE_HEAD` is a file in every ref format.
        let merged = read("MERGE_HEAD").unwrap_or_default();
        let merged = merged.lines().filter_map(|line| Id::from_hex(line.trim().as_bytes()).ok());
        let mut ids: Vec<Id> = merged.chain(self.read_root_ref("CHERRY_PICK_HEAD")).collect();
        // A revert brings in the parent of the commit that it reverts.
        let reverted = self.read_root_ref("REVERT_HEAD");
        let reverted = reverted.and_then(|id| self.read_commit(id).ok()?.parents.first().copied());
        ids.extend(reverted);
        ids
    }

    /// Returns whether `index.lock` exists in this worktree.
    #[must_use]
    pub fn is_index_locked(&self) -> bool {
        self.index_lock_file().symlink_metadata().is_ok()
    }
}

impl Repo {
    /// Reads the patterns of sparse checkout, which select the files to check out; `None` if it is
    /// off.
    pub fn read_sparse_patterns(&self) -> Result<Option<PathPatterns>> {
        if !self.config_bool("core.sparseCheckout", false) {
            return Ok(None);
        }
        let file = self.git_folder().join("info/sparse-checkout");
        let text = match std::fs::read_to_string(&file) {
            Ok(text) => text,
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => {
                let what = format!("cannot read `{}`", file.display());
                return Err(Error::unable(what).with_cause(cause));
            }
        };
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Ok(Some(PathPatterns::new(lines)))
    }
}
