//! What every run has at hand: the clock, the disk, the signals, and who is told.

use xtask_base::environment::Environment;
use xtask_base::files::Disk;
use xtask_base::progress::Progress;
use xtask_base::signals::Interrupts;

use super::OperationKind;

/// What a run works with.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// The clock and the environment.
    pub world: &'a Environment,
    /// The disk.
    pub disk: &'a Disk<'a>,
    /// The signals.
    pub interrupts: &'a Interrupts,
    /// Who is told how far it is.
    pub progress: &'a dyn Progress,
    /// Who is told that another process is waited for.
    pub on_wait: &'a (dyn Fn(&str) + Sync),
    /// The operation of git's that is at its very end, and so not in the way.
    pub finishing_operation: Option<OperationKind>,
}

impl Tools<'_> {
    /// Nanoseconds since the epoch.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        i64::try_from((self.world.clock)().as_nanos()).unwrap_or(i64::MAX)
    }
}
