//! Retries for a branch that others may move concurrently.

use std::time::Duration;

/// Maximum number of attempts, one per move of the canonical branch.
pub(super) const MAX_ATTEMPTS: u32 = 8;

/// Sleeps before attempt number `round`, with exponential back-off (10 to 25 ms, doubled each round
/// up to the sixth), so that several processes do not keep blocking each other.
pub(super) fn back_off(round: u32) {
    if round > 0 {
        let own = u64::from(std::process::id() % 16);
        std::thread::sleep(Duration::from_millis((10 + own) << round.min(6)));
    }
}
