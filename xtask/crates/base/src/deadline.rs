//! When something has to be over, by a clock that nobody can set.

use std::time::{Duration, Instant};

/// A moment from which on there is no more time.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    limit: Duration,
}

impl Deadline {
    /// So long from now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads this clock")]
    pub fn after(longest: Duration) -> Deadline {
        Deadline { start: Instant::now(), limit: longest }
    }

    /// How much time is left; nothing where it is over.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let left = self.limit.checked_sub(self.start.elapsed())?;
        (!left.is_zero()).then_some(left)
    }

    /// How much time there was in all.
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
