//! Rounds of work on a branch that others may move meanwhile.

use std::time::Duration;

/// How often the canonical branch may move while this runs.
pub(super) const MAX_ATTEMPTS: u32 = 8;

/// Waits a little before another round, longer each time, so that several who try do not keep each
/// other from it.
pub(super) fn back_off(round: u32) {
    if round > 0 {
        let own = u64::from(std::process::id() % 16);
        std::thread::sleep(Duration::from_millis((10 + own) << round.min(6)));
    }
}
