//! What those have at hand who make a transaction.

use xtask_base::error::{Error, ErrorKind};
use xtask_base::files::Disk;
use xtask_base::progress::Progress;
use xtask_base::signals::Interrupts;
use xtask_git::{OperationKind, Repo};

/// What a transaction works with.
pub struct ApplyContext<'a> {
    /// The repository.
    pub repo: &'a Repo,
    /// The disk.
    pub disk: &'a Disk<'a>,
    /// The signals, which are held off.
    pub interrupts: &'a Interrupts,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
    /// The operation of git's that is at its very end, and so not in the way.
    pub ending: Option<OperationKind>,
    /// Seconds since the epoch, for reflogs.
    pub now: i64,
    /// Tells this transaction from others.
    pub id: String,
}

pub(super) fn interrupted_error() -> Error {
    Error::new(ErrorKind::Interrupted, "interrupted; nothing was changed")
}
