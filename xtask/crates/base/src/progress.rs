//! How long work tells that it is going on. Whoever does the work reports steps; `report` decides
//! whether and how a person sees them.

/// Receives the steps of long work. Calls may come from several threads.
pub trait Progress: Sync {
    /// Work begins: what it is, and of how many steps where that is known.
    fn begin_task(&self, what: &str, total: Option<u64>);
    /// So many more steps are done.
    fn advance(&self, count: u64);
    /// The work that was begun last has ended.
    fn end_task(&self);
    /// Something came up that a person must know of, though all goes on.
    fn warn(&self, text: &str);
}

/// Nobody is watching.
pub struct SilentProgress;

impl Progress for SilentProgress {
    fn begin_task(&self, _what: &str, _total: Option<u64>) {}
    fn advance(&self, _count: u64) {}
    fn end_task(&self) {}
    fn warn(&self, _text: &str) {}
}
