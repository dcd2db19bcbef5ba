//! Parallel mapping of many small items on two threads.

use std::thread;

/// The number of items from which a second thread is worth its start.
pub const MIN_PARALLEL_ITEMS: usize = 64;

/// Calls `work` on both halves of `items` in parallel, or once on all of them if there are fewer
/// than `MIN_PARALLEL_ITEMS`. Returns the results in the order of `items`. For example, with
/// `|half|` doubling each item, `[1, 2]` becomes `[2, 4]`.
pub fn map_halves<T: Sync, R: Send>(items: &[T], work: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    if items.len() < MIN_PARALLEL_ITEMS {
        return work(items);
    }
    let (one, two) = items.split_at(items.len() / 2);
    thread::scope(|scope| {
        let other = scope.spawn(|| work(two));
        let mut done = work(one);
        match other.join() {
            Ok(rest) => done.extend(rest),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use super::map_halves;

    #[test]
    fn answers_come_in_the_order_of_the_items() {
        for count in [0, 1, 63, 64, 65, 1000] {
            let items: Vec<usize> = (0..count).collect();
            let done = map_halves(&items, |half| half.iter().map(|item| item * 2).collect());
            assert_eq!(done, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        }
    }
}
