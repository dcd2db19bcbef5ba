//! Lock of a worktree for writing, with recovery from an interrupted run.

use std::path::PathBuf;
use std::time::Duration;

use super::apply::ApplyContext;
use super::rollback;
use xtask_base::error::Result;
use xtask_base::files::sweep_temp_files;
use xtask_base::lock::{self, Lock};
use xtask_git::{Repo, Tools};

/// Time to wait for another xtask in the same worktree.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// Entry points of commands that write in a worktree.
pub trait LockWorktree {
    /// Returns the context of a transaction, with a new unique id.
    #[must_use]
    fn apply_context<'t>(&'t self, repo: &'t Repo) -> ApplyContext<'t>;

    /// Like `lock_worktree`, but returns `None` if another process holds the lock.
    fn try_lock_worktree(&self, repo: &Repo) -> Result<Option<(Lock, Option<String>)>>;

    /// Takes the lock of a worktree, waiting up to `LOCK_WAIT`, and recovers from an interrupted
    /// run. Returns the message about that run, if any.
    fn lock_worktree(&self, repo: &Repo) -> Result<(Lock, Option<String>)>;
}

impl LockWorktree for Tools<'_> {
    fn apply_context<'t>(&'t self, repo: &'t Repo) -> ApplyContext<'t> {
        let nanos = (self.world.clock)().as_nanos();
        ApplyContext {
            repo,
            disk: self.disk,
            interrupts: self.interrupts,
            progress: self.progress,
            ending: self.finishing_operation,
            now: self.world.now_seconds(),
            id: format!("{nanos:x}-{:x}", std::process::id()),
        }
    }

    fn try_lock_worktree(&self, repo: &Repo) -> Result<Option<(Lock, Option<String>)>> {
        let who = format!("pid {}", std::process::id());
        let Some(lock) = lock::try_acquire(&worktree_lock_path(repo), &who)? else {
            return Ok(None);
        };
        repo.wait_for_ref_changes()?;
        let mended = rollback::recover_transaction(repo, self.disk)?;
        Ok(Some((lock, mended)))
    }

    fn lock_worktree(&self, repo: &Repo) -> Result<(Lock, Option<String>)> {
        let who = format!("pid {}", std::process::id());
        let path = worktree_lock_path(repo);
        repo.check_git_version()?;
        let lock = Lock::acquire(&path, &who, LOCK_WAIT, |holder| (self.on_wait)(holder))?;
        repo.allow_fetch();
        repo.schedule_sharing();
        repo.wait_for_ref_changes()?;
        repo.forget_refs();
        let mended = rollback::recover_transaction(repo, self.disk)?;
        for folder in [repo.state_folder(), repo.shared_state_folder()] {
            sweep_temp_files(self.disk, &folder);
        }
        Ok((lock, mended))
    }
}

fn worktree_lock_path(repo: &Repo) -> PathBuf {
    repo.state_folder().join("lock")
}
