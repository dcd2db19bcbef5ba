//! The processes that a run may have at once, and the spread of work over them.
//!
//! Guarantee: results come in the order of the work, whatever ended first; a run has never more than `jobs` processes.
//!
//! ```text
//! jobs = 4, one other check running, 6 parts  ->  3 at a time, results 0, 1, 2, 3, 4, 5
//! ```

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The free places for processes.
pub(super) struct JobSlots {
    free: AtomicUsize,
}

impl JobSlots {
    pub(super) fn new(jobs: usize) -> JobSlots {
        JobSlots { free: AtomicUsize::new(jobs) }
    }

    /// Takes a place if one is free.
    pub(super) fn try_take(&self) -> bool {
        let less = |free: usize| free.checked_sub(1);
        self.free.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    pub(super) fn release(&self) {
        self.free.fetch_add(1, Ordering::SeqCst);
    }

    /// Does the work `0..count`, in the place of the caller and in further ones that are free, or become free in the
    /// meantime, unless `is_serial`.
    pub(super) fn spread<T: Send>(
        &self,
        count: usize,
        is_serial: bool,
        work: &(dyn Fn(usize) -> T + Sync),
    ) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(count));
        let take_one = || {
            let at = next.fetch_add(1, Ordering::SeqCst);
            (at < count).then(|| {
                let result = work(at);
                done.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((at, result));
            })
        };
        std::thread::scope(|scope| {
            loop {
                while !is_serial && next.load(Ordering::SeqCst) + 1 < count && self.try_take() {
                    scope.spawn(|| {
                        while take_one().is_some() {}
                        self.release();
                    });
                }
                if take_one().is_none() {
                    return;
                }
            }
        });
        let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        done.sort_by_key(|(at, _)| *at);
        done.into_iter().map(|(_, result)| result).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_spread_within_the_limit_and_results_keep_their_order() {
        for (jobs, is_serial) in [(1, false), (4, false), (4, true)] {
            let slots = JobSlots::new(jobs);
            assert!(slots.try_take(), "the place of the caller");
            let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let done = slots.spread(50, is_serial, &|at| {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                now.fetch_sub(1, Ordering::SeqCst);
                at
            });
            assert_eq!(done, (0..50).collect::<Vec<_>>());
            assert!(most.into_inner() <= if is_serial { 1 } else { jobs });
            slots.release();
            assert_eq!(slots.free.into_inner(), jobs);
        }
    }
}
