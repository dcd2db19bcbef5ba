//! Tools of a run: clock, disk, signals and progress, passed along as one argument.

use xtask_base::environment::Environment;
use xtask_base::files::Disk;
use xtask_base::progress::Progress;
use xtask_base::signals::Interrupts;

use super::OperationKind;

/// The tools of a run.
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    /// Clock and environment.
    pub world: &'a Environment,
    pub disk: &'a Disk<'a>,
    /// Pending signals, e.g. Ctrl-C.
    pub interrupts: &'a Interrupts,
    /// Receives the progress.
    pub progress: &'a dyn Progress,
    /// Called with a message before waiting for another process.
    pub on_wait: &'a (dyn Fn(&str) + Sync),
    /// The git operation that is about to end, and so does not block this run.
    pub finishing_operation: Option<OperationKind>,
}

impl Tools<'_> {
    /// Returns the time in nanoseconds since the epoch.
    #[must_use]
    pub fn now_ns(&self) -> i64 {
        i64::try_from((self.world.clock)().as_nanos()).unwrap_or(i64::MAX)
    }
}
