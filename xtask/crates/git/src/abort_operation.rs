//! Leaving what git is in the middle of, and coming back to it.
//!
//! Git keeps an operation as files in the git folder of a worktree, and a bisect as refs besides. They are
//! taken from there as they are and put back as they were; nothing here changes a file of the worktree but
//! `switch_to`, which goes by git's own rules and overwrites nothing that git does not have.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use super::{Id, Operation, Repo, TreeEntry};
use xtask_base::error::{Error, Result, ResultExt};
use xtask_base::files::Disk;
use xtask_base::path::RepoPath;

/// How long git may take for something on this machine.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(600);

/// No hook of the repository runs for what is done here.
const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

/// What says in the git folder of a worktree that something is under way: files, and folders with all
/// that is in them; and whatever begins with `BISECT_`.
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

/// What belongs to an operation alone: without one it is left as it is.
const OPERATION_ONLY_FILES: [&str; 3] = ["AUTO_MERGE", "ORIG_HEAD", "REBASE_HEAD"];

/// The refs of a bisect, and those by which a rebase that keeps merges knows what it has made.
const STATE_REFS: [&str; 2] = ["refs/bisect/", "refs/rewritten/"];

/// The largest file of an operation that is kept: 16 MiB, above a list of a hundred thousand commits.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The most files of an operation: `am` keeps one for each patch.
const MAX_FILES: usize = 20_000;

/// What an operation has left in the git folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperationSnapshot {
    /// The files, by their path below the git folder.
    pub files: BTreeMap<RepoPath, Vec<u8>>,
    /// The refs that belong to it.
    pub refs: BTreeMap<String, Id>,
}

impl Repo {
    /// The files and refs of what git is in the middle of.
    pub fn read_operation_snapshot(&self) -> Result<OperationSnapshot> {
        let mut traces = OperationSnapshot::default();
        let mut open: Vec<RepoPath> = STATE_FILES.into_iter().map(RepoPath::new).collect();
        let names = std::fs::read_dir(self.git_folder()).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().as_bytes().to_vec());
        open.extend(names.filter(|name| name.starts_with(b"BISECT_")).map(RepoPath::new));
        while let Some(path) = open.pop() {
            let on_disk = path.to_disk_path(self.git_folder());
            let failed = || format!("`{}` cannot be read", on_disk.display());
            let Ok(meta) = on_disk.symlink_metadata() else { continue };
            if meta.is_dir() {
                for entry in std::fs::read_dir(&on_disk).with_context(failed)? {
                    let name = entry.with_context(failed)?.file_name();
                    open.push(RepoPath::new([path.as_bytes(), b"/", name.as_bytes()].concat()));
                }
                continue;
            }
            if !meta.is_file() || meta.len() > MAX_FILE_BYTES || traces.files.len() >= MAX_FILES {
                return Err(Error::unable(failed()).with_detail("it is no file of a usual size"));
            }
            let content = std::fs::read(&on_disk).with_context(failed)?;
            traces.files.insert(path, content);
        }
        for prefix in STATE_REFS {
            traces.refs.extend(self.refs_below(prefix)?);
        }
        Ok(traces)
    }

    /// Puts files and refs of an operation back where none is under way; without an operation only the notes
    /// for the next commit.
    pub fn restore_operation_snapshot(
        &self,
        traces: &OperationSnapshot,
        is_operation: bool,
        disk: &Disk<'_>,
    ) -> Result<()> {
        for (name, id) in &traces.refs {
            if !self.swap_ref(name, None, Some(*id), "xtask: restore")? {
                return Err(Error::unable(format!("the ref `{name}` is there already")));
            }
        }
        // Half a file is never where git looks, and what a crash leaves lies among our own.
        let beside = self.state_folder().join("trace.new");
        let is_meant = |path: &RepoPath| {
            is_operation || !OPERATION_ONLY_FILES.iter().any(|n| n.as_bytes() == path.as_bytes())
        };
        for (path, content) in traces.files.iter().filter(|(path, _)| is_meant(path)) {
            let on_disk = path.to_disk_path(self.git_folder());
            let failed = || format!("`{}` cannot be written", on_disk.display());
            if let Some(folder) = on_disk.parent() {
                std::fs::create_dir_all(folder).with_context(failed)?;
            }
            disk.write_atomically(&beside, content).with_context(failed)?;
            disk.replace_file(&beside, &on_disk).with_context(failed)?;
        }
        Ok(())
    }

    /// Removes what is left of an operation that has ended: the caller has kept it.
    pub fn remove_operation_files(
        &self,
        traces: &OperationSnapshot,
        disk: &Disk<'_>,
    ) -> Result<()> {
        let is_note = |path: &&RepoPath| path.parent().is_none() && path.as_bytes() != b"ORIG_HEAD";
        for path in traces.files.keys().filter(is_note) {
            let on_disk = path.to_disk_path(self.git_folder());
            disk.remove_file(&on_disk)
                .with_context(|| format!("`{}` cannot be removed", on_disk.display()))?;
        }
        for (name, id) in &traces.refs {
            self.swap_ref(name, Some(*id), None, "xtask: recover")?;
        }
        Ok(())
    }

    /// Forgets what git is in the middle of: HEAD, index and files stay as they are. What was put aside
    /// for it (`--autostash`) is in the list of stashes afterwards.
    pub fn quit_operation(&self, operation: &Operation) -> Result<()> {
        let command = match operation.abort_command {
            "git bisect reset" => "bisect reset HEAD".to_owned(),
            other => other.trim_start_matches("git ").replace("--abort", "--quit"),
        };
        let done = self
            .git_command(NO_HOOKS.into_iter().chain(command.split(' ')))
            .run_with_timeout(LOCAL_TIMEOUT)?;
        if done.status.success() && self.current_operation().as_ref() != Some(operation) {
            return Ok(());
        }
        Err(Error::unable(format!("{} cannot be ended", operation.name))
            .with_detail(format!("git {command}: {}", done.stderr))
            .with_hint(format!("`{}` is git's way", operation.abort_command)))
    }

    /// Checks out a branch, or a commit with a detached HEAD, as `git switch` does: nothing that git does
    /// not have is overwritten, what it ignores neither.
    pub fn switch_to(&self, branch: Option<&str>, commit: Id) -> Result<()> {
        let id = commit.to_string();
        let mut args = vec!["-c", "submodule.recurse=false", "switch", "--quiet"];
        args.push("--no-overwrite-ignore");
        match branch {
            Some(branch) => args.extend(["--no-guess", branch]),
            None => args.extend(["--detach", &id]),
        }
        let done =
            self.git_command(NO_HOOKS.into_iter().chain(args)).run_with_timeout(LOCAL_TIMEOUT)?;
        if done.status.success() {
            return Ok(());
        }
        let to = branch.map_or_else(|| self.short_id(commit), ToOwned::to_owned);
        Err(Error::unable(format!("git cannot switch to `{to}`")).with_detail(done.stderr))
    }

    /// Makes a branch that follows a remote one, at its commit. Nothing is checked out.
    pub fn create_tracking_branch(&self, branch: &str, remote: &str) -> Result<()> {
        let args = ["branch", "--quiet", "--track", branch, remote];
        let done =
            self.git_command(NO_HOOKS.into_iter().chain(args)).run_with_timeout(LOCAL_TIMEOUT)?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("the branch `{branch}` cannot be made")).with_detail(done.stderr))
    }

    /// Records a conflict in the index again: base, ours, theirs of each path.
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
        let done = self
            .git_command(NO_HOOKS.into_iter().chain(args))
            .run_with_input(&input, LOCAL_TIMEOUT)?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable("the conflicts cannot be put back into the index")
            .with_detail(done.stderr))
    }
}
