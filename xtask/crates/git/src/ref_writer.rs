//! Ref updates by `git update-ref --stdin`, which supports every ref format.
//!
//! One process applies many updates, each in a transaction of its own. It runs in its own process
//! group, so that Ctrl-C does not reach it, and reads from our pipe: when we exit, even by SIGKILL,
//! it rolls back the open transaction and removes its locks. For example, one update:
//!
//! ```text
//! start NUL option no-deref NUL update refs/heads/main NUL NEW NUL OLD NUL prepare NUL
//! -> start: ok, prepare: ok
//! commit NUL -> commit: ok
//! ```
//!
//! A transaction with `commit` sent may finish after we were killed. The process therefore writes
//! its stderr to a file (`moving-refs`) on which both hold a shared lock until they exit; a
//! recovery after a killed run waits for that lock.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use super::git_cli::is_git;
use super::local_git::NO_HOOKS;
use super::{Id, Repo};
use xtask_base::error::{Error, Result, ResultExt as _};
use xtask_base::files::Disk;
use xtask_base::processes::{self, ProcessInfo};

/// Interval at which a held file is polled.
const POLL: Duration = Duration::from_millis(5);

/// Longest wait for a finishing update: ten seconds. Git needs a few milliseconds.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// How long a lock of a killed git is watched: one second, longer than a live git holds one.
const LOCK_WATCH_TIME: Duration = Duration::from_secs(1);

/// A compare-and-swap of one ref; `None` means that the ref does not exist.
#[derive(Clone, Debug)]
pub struct RefUpdate {
    /// The full name, or `HEAD` for the checked-out branch.
    pub name: String,
    /// The expected value.
    pub old: Option<Id>,
    /// The new value.
    pub new: Option<Id>,
}

/// A running `git update-ref --stdin`.
pub(super) struct RefWriter {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    /// The stderr of the process, positioned at the start of its own output.
    stderr_log: File,
    _log_lock: File,
}

impl RefWriter {
    /// Starts the process. Unless `is_patient`, git does not wait for ref locks.
    pub(super) fn start(repo: &Repo, message: &str, is_patient: bool) -> Result<RefWriter> {
        let path = stderr_log_file(repo);
        let failed = || format!("cannot write `{}`", path.display());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).with_context(failed)?;
        }
        let open = || OpenOptions::new().read(true).append(true).create(true).open(&path);
        let theirs = open().with_context(failed)?;
        theirs.lock_shared().with_context(failed)?;
        let held = theirs.try_clone().with_context(failed)?;
        let mut complaints = File::open(&path).with_context(failed)?;
        complaints.seek(SeekFrom::End(0)).with_context(failed)?;
        let (name, email) = repo.committer_name();
        let mut settings = NO_HOOKS.to_vec();
        if !is_patient {
            settings.extend(["-c", "core.packedRefsTimeout=0", "-c", "core.filesRefLockTimeout=0"]);
        }
        let git = repo.git_command(settings).args(["update-ref", "-m", message, "--stdin", "-z"]);
        let git = git
            .env("GIT_COMMITTER_NAME", OsStr::from_bytes(&name))
            .env("GIT_COMMITTER_EMAIL", OsStr::from_bytes(&email))
            .in_own_group();
        let mut child = git.spawn(Stdio::piped(), Stdio::piped(), Stdio::from(theirs))?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (Some(to), Some(from)) = (to, from) else {
            return Err(Error::unable("cannot open pipes to git"));
        };
        Ok(RefWriter {
            child,
            stdin: Some(to),
            stdout: BufReader::new(from),
            stderr_log: complaints,
            _log_lock: held,
        })
    }

    /// Applies one update. The error is git's message; the process has exited then.
    pub(super) fn apply_update(&mut self, repo: &Repo, change: &RefUpdate) -> Result<(), String> {
        let null = repo.null_id();
        let (name, old) = (&change.name, change.old.unwrap_or(null));
        let order = match (change.old, change.new) {
            (_, Some(new)) => format!("update {name}\0{new}\0{old}\0"),
            (Some(_), None) => format!("delete {name}\0{old}\0"),
            (None, None) => format!("verify {name}\0{old}\0"),
        };
        let direct = if name == "HEAD" { "" } else { "option no-deref\0" };
        let orders = format!("start\0{direct}{order}prepare\0");
        let free: Vec<PathBuf> =
            list_lock_files(repo, name).into_iter().filter(|lock| !lock.exists()).collect();
        let changed = self.commit_transaction(&orders);
        if changed.is_ok() || !self.was_killed() {
            return changed;
        }
        remove_stale_locks(repo, &free);
        // The process may have been killed after the commit and before its answer.
        match repo.resolve_ref(name) {
            Ok(now) if now == change.new => Ok(()),
            _ => changed,
        }
    }

    fn commit_transaction(&mut self, orders: &str) -> Result<(), String> {
        self.send_orders(orders.as_bytes(), &["start: ok", "prepare: ok"])?;
        self.send_orders(b"commit\0", &["commit: ok"])
    }

    fn send_orders(&mut self, orders: &[u8], answers: &[&str]) -> Result<(), String> {
        // A process that no longer reads has printed the reason.
        let sent = self.stdin.as_mut().is_some_and(|to| to.write_all(orders).is_ok());
        for answer in answers {
            let mut line = String::new();
            let heard = self.stdout.read_line(&mut line);
            if !sent || heard.is_err() || line.trim_end() != *answer {
                return Err(self.exit_reason());
            }
        }
        Ok(())
    }

    /// Returns whether the process was killed by a signal, and so could not remove its locks.
    fn was_killed(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|end| end.is_some_and(|status| status.signal().is_some()))
    }

    /// Waits for the process and returns its error message, or its exit status if stderr is empty.
    fn exit_reason(&mut self) -> String {
        drop(self.stdin.take());
        let status = self.child.wait();
        let mut text = Vec::new();
        self.stderr_log.read_to_end(&mut text).ok();
        let text = String::from_utf8_lossy(&text);
        // The lines after the first are general advice.
        let line = text.trim().lines().next().unwrap_or_default();
        match status {
            Ok(status) if line.is_empty() => format!("`git update-ref` failed ({status})"),
            _ => line.strip_prefix("fatal: ").unwrap_or(line).to_owned(),
        }
    }
}

impl Drop for RefWriter {
    fn drop(&mut self) {
        // End of input ends the process; it rolls back an open transaction.
        drop(self.stdin.take());
        self.child.wait().ok();
    }
}

/// Lists the lock files that git creates to update a ref.
fn list_lock_files(repo: &Repo, name: &str) -> Vec<PathBuf> {
    let (own, common) = (repo.git_folder(), repo.common_folder());
    let mut locks = vec![own.join("HEAD.lock"), common.join("packed-refs.lock")];
    locks.extend([own, common].map(|folder| folder.join("reftable/tables.list.lock")));
    match repo.current_branch() {
        Some(branch) if name == "HEAD" => {
            locks.push(common.join(format!("refs/heads/{branch}.lock")));
        }
        _ => locks.push(common.join(format!("{name}.lock"))),
    }
    locks
}

/// Removes locks (`free`: absent before our git began) that remain after it was killed, unless
/// another git is running here or the lock has changed, since another process may own it.
fn remove_stale_locks(repo: &Repo, free: &[PathBuf]) {
    let look = |lock: &PathBuf| Some((lock.clone(), lock.symlink_metadata().ok()?.ino()));
    let left: Vec<(PathBuf, u64)> = free.iter().filter_map(look).collect();
    if left.is_empty() {
        return;
    }
    std::thread::sleep(LOCK_WATCH_TIME);
    let is_here = |folder: &Path| {
        let ours = [repo.root(), repo.common_folder(), repo.git_folder()];
        ours.iter().any(|at| folder.starts_with(at))
    };
    let may_hold_it = |process: &ProcessInfo| {
        // An exited process holds no lock; one whose folder is unreadable may be running here.
        let of = |process: &ProcessInfo| {
            processes::describe_process(&processes::identify_process(process.pid)?)
        };
        is_git(&process.name)
            && of(process).is_some_and(|of| of.folder.is_none_or(|folder| is_here(&folder)))
    };
    let is_free = || processes::list_processes().is_ok_and(|all| !all.iter().any(may_hold_it));
    // The folder of an exiting process is unreadable for a moment.
    for _ in 0..LOCK_WATCH_TIME.as_millis() / POLL.as_millis() {
        if is_free() {
            for (lock, _) in left.iter().filter(|one| look(&one.0).as_ref() == Some(*one)) {
                // A lock that stays is reported by the next command that needs it.
                Disk::real().remove_file(lock).ok();
            }
            return;
        }
        std::thread::sleep(POLL);
    }
}

fn stderr_log_file(repo: &Repo) -> PathBuf {
    repo.state_folder().join("moving-refs")
}

/// Waits until no ref update of a killed command is running in this worktree, at most `MAX_WAIT`.
pub(super) fn wait_for_writers(repo: &Repo) -> Result<()> {
    let path = stderr_log_file(repo);
    let Ok(file) = OpenOptions::new().read(true).append(true).open(&path) else { return Ok(()) };
    let mut rounds = MAX_WAIT.as_millis() / POLL.as_millis();
    while file.try_lock().is_err() {
        if rounds == 0 {
            return Err(Error::unable(
                "timed out after 10 s waiting for the `git update-ref` of a killed command",
            )
            .with_detail(format!("it holds `{}`", path.display())));
        }
        rounds -= 1;
        std::thread::sleep(POLL);
    }
    // Old messages are of no use any more.
    if file.metadata().is_ok_and(|meta| meta.len() > 0) {
        file.set_len(0).ok();
    }
    Ok(())
}
