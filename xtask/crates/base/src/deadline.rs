//! A time limit on the monotonic clock, which is unaffected by changes of the system time. For
//! example, `Deadline::after(Duration::from_secs(5)).remaining()` is `Some(…)` for five seconds and
//! `None` from then on.

use std::time::{Duration, Instant};

/// A point in time after which an operation must stop.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    limit: Duration,
}

impl Deadline {
    /// Creates a deadline `longest` from now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads this clock")]
    pub fn after(longest: Duration) -> Deadline {
        Deadline { start: Instant::now(), limit: longest }
    }

    /// Returns the time left, or `None` once the deadline has passed.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.limit.checked_sub(self.start.elapsed())?;
        (!left.is_zero()).then_some(left)
    }

    /// Returns the full duration that was passed to [`Deadline::after`].
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_over_stays_over_and_what_never_ends_does_not() {
        assert_eq!(Deadline::after(Duration::ZERO).remaining(), None);
        assert!(Deadline::after(Duration::MAX).remaining().is_some());
    }
}
