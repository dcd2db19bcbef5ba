//! Progress of long operations. The code that does the work reports steps; the `report` crate
//! decides whether and how to show them. For example:
//!
//! ```text
//! begin_task("moving branches", Some(120)), advance(1) for each branch, end_task()
//! ```

/// A receiver of progress. Calls may come from several threads.
pub trait Progress: Sync {
    /// Starts a task: its description, and its number of steps if known.
    fn begin_task(&self, what: &str, total: Option<u64>);
    /// Adds `count` completed steps.
    fn advance(&self, count: u64);
    /// Ends the task that was started last.
    fn end_task(&self);
    /// Reports a problem that the user must know about, although the work continues.
    fn warn(&self, text: &str);
}

/// A [`Progress`] that shows no output.
pub struct SilentProgress;

impl Progress for SilentProgress {
    fn begin_task(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _count: u64) {}
    fn end_task(&self) {}
    fn warn(&self, _text: &str) {}
}
