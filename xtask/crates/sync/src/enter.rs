//! Entering a worktree to write in it: its lock, and the mending of what an earlier run left.

use std::path::PathBuf;
use std::time::Duration;

use super::apply::Applier;
use super::recover;
use xtask_base::error::Result;
use xtask_base::files::sweep;
use xtask_base::lock::{self, Lock};
use xtask_git::{Repo, Tools};

/// How long another xtask in the same worktree is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(30);

/// What those do who write in a worktree.
pub trait Enter {
    /// Something that makes transactions, with a name of its own.
    #[must_use]
    fn applier<'t>(&'t self, repo: &'t Repo) -> Applier<'t>;

    /// The same as `enter`, if nobody else is at work there; nothing where somebody is.
    fn enter_if_free(&self, repo: &Repo) -> Result<Option<(Lock, Option<String>)>>;

    /// Takes the lock of a worktree and mends what an earlier run left. Says what that was for.
    fn enter(&self, repo: &Repo) -> Result<(Lock, Option<String>)>;
}

impl Enter for Tools<'_> {
    fn applier<'t>(&'t self, repo: &'t Repo) -> Applier<'t> {
        let nanos = (self.world.clock)().as_nanos();
        Applier {
            repo,
            disk: self.disk,
            interrupts: self.interrupts,
            progress: self.progress,
            ending: self.ending,
            now: self.world.now_seconds(),
            id: format!("{nanos:x}-{:x}", std::process::id()),
        }
    }

    fn enter_if_free(&self, repo: &Repo) -> Result<Option<(Lock, Option<String>)>> {
        let who = format!("pid {}", std::process::id());
        let Some(lock) = lock::attempt(&worktree_lock(repo), &who)? else { return Ok(None) };
        repo.wait_for_ref_changes()?;
        let mended = recover::recover(repo, self.disk)?;
        Ok(Some((lock, mended)))
    }

    fn enter(&self, repo: &Repo) -> Result<(Lock, Option<String>)> {
        let who = format!("pid {}", std::process::id());
        let path = worktree_lock(repo);
        repo.check_git()?;
        let lock = Lock::acquire(&path, &who, LOCK_WAIT, |holder| (self.waiting)(holder))?;
        repo.allow_fetch();
        repo.share_at_the_end();
        repo.wait_for_ref_changes()?;
        repo.forget_refs();
        let mended = recover::recover(repo, self.disk)?;
        for folder in [repo.state_folder(), repo.shared_state_folder()] {
            sweep(self.disk, &folder);
        }
        Ok((lock, mended))
    }
}

fn worktree_lock(repo: &Repo) -> PathBuf {
    repo.state_folder().join("lock")
}
