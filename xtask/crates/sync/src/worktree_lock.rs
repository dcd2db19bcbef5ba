//! Entering a worktree to write in it: its lock, and the mending of what an earlier run left.

use std::path::PathBuf;
use std::time::Duration;

use super::apply::ApplyContext;
use super::rollback;
use xtask_base::error::Result;
use xtask_base::files::sweep_temp_files;
use xtask_base::lock::{self, Lock};
use xtask_git::{Repo, Tools};

/// How long another xtask in the same worktree is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// What those do who write in a worktree.
pub trait LockWorktree {
    /// Something that makes transactions, with a name of its own.
    #[must_use]
    fn apply_context<'t>(&'t self, repo: &'t Repo) -> ApplyContext<'t>;

    /// The same as `enter`, if nobody else is at work there; nothing where somebody is.
    fn try_lock_worktree(&self, repo: &Repo) -> Result<Option<(Lock, Option<String>)>>;

    /// Takes the lock of a worktree and mends what an earlier run left. Says what that was for.
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
