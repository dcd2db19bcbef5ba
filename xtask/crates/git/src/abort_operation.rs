//! Operations in progress (merge, rebase, cherry-pick, bisect): saving their state, quitting, and
//! restoring.
//!
//! Git keeps an operation as files in the worktree's git folder, and a bisect also as refs. Both
//! are saved and restored byte for byte. No file of the worktree is changed except by `switch_to`,
//! which follows git's rules and overwrites only content that git has. For example, a merge in
//! conflict:
//!
//! ```text
//! OperationSnapshot { files: { "MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "AUTO_MERGE" }, refs: {} }
//! ```

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use super::local_git::require_success;
use super::{Id, Operation, OperationKind, Repo, TreeEntry};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;

/// State of an operation in the worktree's git folder: files, and folders with all files in them.
/// Names that begin with `BISECT_` belong to it as well.
const STATE_FILES: [&str; 14] = [
    "AUTO_MERGE",
    "CHERRY_PICK_HEAD",
    "MERGE_AUTOSTASH",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "ORIG_HEAD",
    "REBASE_HEAD",
    "REVERT_HEAD",
    "SQUASH_MSG",
    "rebase-apply",
    "rebase-merge",
    "sequencer",
];

/// Files that are restored only together with an operation.
const OPERATION_ONLY_FILES: [&str; 3] = ["AUTO_MERGE", "ORIG_HEAD", "REBASE_HEAD"];

/// Refs of a bisect, and of a rebase with `--rebase-merges`.
const STATE_REFS: [&str; 2] = ["refs/bisect/", "refs/rewritten/"];

/// The largest state file to save: 16 MiB, above a todo list of a hundred thousand commits.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The most state files to save: `git am` keeps one for each patch.
const MAX_FILES: usize = 20_000;

/// The saved state of an operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationSnapshot {
    /// Content of the files, by path below the git folder.
    pub files: BTreeMap<RepoPath, Vec<u8>>,
    pub refs: BTreeMap<String, Id>,
}

impl Repo {
    /// Reads files and refs of the operation in progress.
    pub fn read_operation_snapshot(&self) -> Result<OperationSnapshot> {
        let mut traces = OperationSnapshot::default();
        let mut open: Vec<RepoPath> = STATE_FILES.into_iter().map(RepoPath::new).collect();
        let names = std::fs::read_dir(self.git_folder()).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().as_bytes().to_vec());
        open.extend(names.filter(|name| name.starts_with(b"BISECT_")).map(RepoPath::new));
        while let Some(path) = open.pop() {
            let on_disk = path.to_disk_path(self.git_folder());
            let failed = || format!("cannot read `{}`", on_disk.display());
            let Ok(meta) = on_disk.symlink_metadata() else { continue };
            if meta.is_dir() {
                for entry in std::fs::read_dir(&on_disk).with_context(failed)? {
                    let name = entry.with_context(failed)?.file_name();
                    open.push(RepoPath::new([path.as_bytes(), b"/", name.as_bytes()].concat()));
                }
                continue;
            }
            if !meta.is_file() || meta.len() > MAX_FILE_BYTES || traces.files.len() >= MAX_FILES {
                return Err(Error::unable(failed())
                    .with_detail("not a regular file of at most 16 MiB, or too many files"));
            }
            let content = std::fs::read(&on_disk).with_context(failed)?;
            traces.files.insert(path, content);
        }
        for prefix in STATE_REFS {
            traces.refs.extend(self.refs_below(prefix)?);
        }
        Ok(traces)
    }

    /// Restores files and refs of an operation, provided that none is in progress. Unless
    /// `is_operation`, only messages for the next commit are restored.
    pub fn restore_operation_snapshot(
        &self,
        traces: &OperationSnapshot,
        is_operation: bool,
        disk: &Disk<'_>,
    ) -> Result<()> {
        for (name, id) in &traces.refs {
            if !self.swap_ref(name, None, Some(*id), "xtask: restore")? {
                return Err(Error::unable(format!("ref `{name}` already exists")));
            }
        }
        // Git never sees half a file, and after a crash the remainder is in our own folder.
        let beside = self.state_folder().join("trace.new");
        let is_meant = |path: &RepoPath| {
            is_operation || !OPERATION_ONLY_FILES.iter().any(|n| n.as_bytes() == path.as_bytes())
        };
        for (path, content) in traces.files.iter().filter(|(path, _)| is_meant(path)) {
            let on_disk = path.to_disk_path(self.git_folder());
            let failed = || format!("cannot write `{}`", on_disk.display());
            if let Some(folder) = on_disk.parent() {
                std::fs::create_dir_all(folder).with_context(failed)?;
            }
            disk.write_atomically(&beside, content).with_context(failed)?;
            disk.replace_file(&beside, &on_disk).with_context(failed)?;
        }
        Ok(())
    }

    /// Removes files and refs that an ended operation has left; the caller has saved them.
    pub fn remove_operation_files(
        &self,
        traces: &OperationSnapshot,
        disk: &Disk<'_>,
    ) -> Result<()> {
        let is_note = |path: &&RepoPath| path.parent().is_none() && path.as_bytes() != b"ORIG_HEAD";
        for path in traces.files.keys().filter(is_note) {
            let on_disk = path.to_disk_path(self.git_folder());
            disk.remove_file(&on_disk)
                .with_context(|| format!("cannot remove `{}`", on_disk.display()))?;
        }
        for (name, id) in &traces.refs {
            self.swap_ref(name, Some(*id), None, "xtask: recover")?;
        }
        Ok(())
    }

    /// Quits the operation (`--quit`): HEAD, index and files stay as they are. Changes stored by
    /// `--autostash` are moved to the list of stashes.
    pub fn quit_operation(&self, operation: &Operation) -> Result<()> {
        let command = match operation.kind {
            OperationKind::Bisect => "bisect reset HEAD",
            OperationKind::Am => "am --quit",
            OperationKind::CherryPick => "cherry-pick --quit",
            OperationKind::Merge => "merge --quit",
            OperationKind::Rebase => "rebase --quit",
            OperationKind::Revert => "revert --quit",
        };
        let done = self.local_git(command.split(' ')).run()?;
        if done.status.success() && self.current_operation().as_ref() != Some(operation) {
            return Ok(());
        }
        Err(Error::unable(format!("cannot quit {}", operation.name))
            .with_detail(format!("git {command}: {}", done.stderr))
            .with_hint(format!("`{}` ends it", operation.abort_command)))
    }

    /// Checks out a branch, or a commit with a detached HEAD, by `git switch`: files that git does
    /// not have, even ignored ones, are not overwritten.
    pub fn switch_to(&self, branch: Option<&str>, commit: Id) -> Result<()> {
        let id = commit.to_string();
        let mut args = vec!["-c", "submodule.recurse=false", "switch", "--quiet"];
        args.push("--no-overwrite-ignore");
        match branch {
            Some(branch) => args.extend(["--no-guess", branch]),
            None => args.extend(["--detach", &id]),
        }
        let to = branch.map_or_else(|| self.short_id(commit), ToOwned::to_owned);
        self.local_git(args).require(&format!("cannot switch to `{to}`")).map(drop)
    }

    /// Creates a branch at its remote counterpart, with that as upstream, without checking it out.
    pub fn create_tracking_branch(&self, branch: &str, remote: &str) -> Result<()> {
        let args = ["branch", "--quiet", "--track", branch, remote];
        self.local_git(args).require(&format!("cannot create branch `{branch}`")).map(drop)
    }

    /// Stages base, ours and theirs of each path as a conflict.
    pub fn stage_conflicts(&self, conflicts: &[(RepoPath, [Option<TreeEntry>; 3])]) -> Result<()> {
        let none = Id::null(self.git.object_hash());
        let mut input = Vec::new();
        for (path, stages) in conflicts {
            let mut add = |mode: &str, id: Id, stage: usize| {
                input.extend_from_slice(format!("{mode} {id} {stage}\t").as_bytes());
                input.extend_from_slice(path.as_bytes());
                input.push(0);
            };
            add("0", none, 0);
            for (at, entry) in stages.iter().enumerate() {
                if let Some(entry) = entry {
                    add(entry.mode.octal(), entry.id, at + 1);
                }
            }
        }
        let args = ["update-index", "-z", "--index-info"];
        let done = self.local_git(args).run_with_input(&input)?;
        require_success(done, "cannot restore the conflicts in the index").map(drop)
    }
}
