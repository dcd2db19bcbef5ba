//! How long work tells that it is going on. Whoever does the work reports steps; `report` decides
//! whether and how a person sees them.

/// Receives the steps of long work. Calls may come from several threads.
pub trait Progress: Sync {
    /// Work begins: what it is, and of how many steps where that is known.
    fn begin(&self, what: &str, total: Option<u64>);
    /// So many more steps are done.
    fn step(&self, count: u64);
    /// The work that was begun last has ended.
    fn end(&self);
    /// Something came up that a person must know of, though all goes on.
    fn remark(&self, text: &str);
}

/// Nobody is watching.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _what: &str, _total: Option<u64>) {}
    fn step(&self, _count: u64) {}
    fn end(&self) {}
    fn remark(&self, _text: &str) {}
}
