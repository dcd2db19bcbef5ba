//! Dependencies of a transaction: repository, disk, signals, clock.

use xtask_base::error::{Error, ErrorKind};
use xtask_base::files::Disk;
use xtask_base::progress::Progress;
use xtask_base::signals::Interrupts;
use xtask_git::{OperationKind, Repo};

/// Dependencies of a transaction, as passed to `apply_transaction`.
pub struct ApplyContext<'a> {
    pub repo: &'a Repo,
    pub disk: &'a Disk<'a>,
    /// Signals, which are deferred while a transaction runs.
    pub interrupts: &'a Interrupts,
    pub progress: &'a dyn Progress,
    /// A git operation that is just ending and so does not block, e.g. in a `post-merge` hook.
    pub ending: Option<OperationKind>,
    /// Current time in seconds since the epoch, for reflogs.
    pub now: i64,
    /// Unique id of the transaction: clock in nanoseconds and process id, both in hex, e.g.
    /// `18f2a…-2b0`.
    pub id: String,
}

pub(super) fn interrupted_error() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted; nothing was changed")
}
