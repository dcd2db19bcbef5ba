//! Leaving what git is in the middle of, and coming back to it.
//!
//! Git keeps an operation as files in the git folder of a worktree, and a bisect as refs besides. They are
//! taken from there as they are and put back as they were; nothing here changes a file of the worktree but
//! `switch_to`, which goes by git's own rules and overwrites nothing that git does not have.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Entry, Id, Operation, Repo};
use crate::base::error::{Context, Error, Result};
use crate::base::files::Disk;
use crate::base::path::RepoPath;

/// How long git may take for something on this machine.
const LOCAL: Duration = Duration::from_secs(600);

/// No hook of the repository runs for what is done here.
const NO_HOOKS: [&str; 2] = ["-c", "core.hooksPath=/dev/null"];

/// What says in the git folder of a worktree that something is under way: files, and folders with all
/// that is in them.
const TRACES: [&str; 16] = [
    "AUTO_MERGE",
    "BISECT_ANCESTORS_OK",
    "BISECT_EXPECTED_REV",
    "BISECT_LOG",
    "BISECT_NAMES",
    "BISECT_START",
    "BISECT_TERMS",
    "CHERRY_PICK_HEAD",
    "MERGE_AUTOSTASH",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "REVERT_HEAD",
    "rebase-apply",
    "rebase-merge",
    "sequencer",
];

/// The largest file of an operation that is kept: 16 MiB, above a list of a hundred thousand commits.
const LARGEST: u64 = 16 << 20;

/// The most files of an operation: `am` keeps one for each patch.
const MOST: usize = 20_000;

/// What an operation has left in the git folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// The files, by their path below the git folder.
    pub files: BTreeMap<RepoPath, Vec<u8>>,
    /// The refs of a bisect.
    pub refs: BTreeMap<String, Id>,
}

impl Repo {
    /// The files and refs of what git is in the middle of.
    pub fn traces(&self) -> Result<Traces> {
        let mut traces = Traces::default();
        let mut open: Vec<RepoPath> = TRACES.into_iter().map(RepoPath::new).collect();
        while let Some(path) = open.pop() {
            let on_disk = path.on_disk(self.git_folder());
            let failed = || format!("`{}` cannot be read", on_disk.display());
            let Ok(meta) = on_disk.symlink_metadata() else { continue };
            if meta.is_dir() {
                for entry in std::fs::read_dir(&on_disk).unable(failed)? {
                    use std::os::unix::ffi::OsStrExt;
                    let name = entry.unable(failed)?.file_name();
                    open.push(RepoPath::new([path.as_bytes(), b"/", name.as_bytes()].concat()));
                }
                continue;
            }
            if !meta.is_file() || meta.len() > LARGEST || traces.files.len() >= MOST {
                return Err(Error::unable(failed()).detail("it is no file of a usual size"));
            }
            let content = std::fs::read(&on_disk).unable(failed)?;
            traces.files.insert(path, content);
        }
        traces.refs.extend(self.refs_below("refs/bisect/")?);
        Ok(traces)
    }

    /// Puts files and refs of an operation back where none is under way.
    pub fn put_traces_back(&self, traces: &Traces, disk: &Disk<'_>, now: i64) -> Result<()> {
        for (name, id) in &traces.refs {
            if !self.swap_ref(name, None, Some(*id), "xtask: restore", now)? {
                return Err(Error::unable(format!("the ref `{name}` is there already")));
            }
        }
        for (path, content) in &traces.files {
            let on_disk = path.on_disk(self.git_folder());
            disk.write_whole(&on_disk, content)
                .unable(|| format!("`{}` cannot be written", on_disk.display()))?;
        }
        Ok(())
    }

    /// Forgets what git is in the middle of: HEAD, index and files stay as they are. What was put aside
    /// for it (`--autostash`) is in the list of stashes afterwards.
    pub fn quit(&self, operation: &Operation) -> Result<()> {
        let command = match operation.aborts_with {
            "git bisect reset" => "bisect reset HEAD".to_owned(),
            other => other.trim_start_matches("git ").replace("--abort", "--quit"),
        };
        let done = self.git(NO_HOOKS.into_iter().chain(command.split(' '))).run_within(LOCAL)?;
        if done.status.success() && self.operation().is_none() {
            return Ok(());
        }
        Err(Error::unable(format!("{} cannot be ended", operation.name))
            .detail(format!("git {command}: {}", done.stderr))
            .hint(format!("`{}` is git's way", operation.aborts_with)))
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
        let done = self.git(NO_HOOKS.into_iter().chain(args)).run_within(LOCAL)?;
        if done.status.success() {
            return Ok(());
        }
        let to = branch.map_or_else(|| self.short(commit), ToOwned::to_owned);
        Err(Error::unable(format!("git cannot switch to `{to}`")).detail(done.stderr))
    }

    /// Makes a branch that follows a remote one, at its commit. Nothing is checked out.
    pub fn make_tracking_branch(&self, branch: &str, remote: &str) -> Result<()> {
        let args = ["branch", "--quiet", "--track", branch, remote];
        let done = self.git(NO_HOOKS.into_iter().chain(args)).run_within(LOCAL)?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable(format!("the branch `{branch}` cannot be made")).detail(done.stderr))
    }

    /// Records a conflict in the index again: base, ours, theirs of each path.
    pub fn stage_conflicts(&self, conflicts: &[(RepoPath, [Option<Entry>; 3])]) -> Result<()> {
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
        let done = self.git(NO_HOOKS.into_iter().chain(args)).run_with_input(&input, LOCAL)?;
        if done.status.success() {
            return Ok(());
        }
        Err(Error::unable("the conflicts cannot be put back into the index").detail(done.stderr))
    }
}
