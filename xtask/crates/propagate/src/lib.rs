//! Updates of all branches at once: the canonical state on hundreds of branches, without checking
//! any out.
//!
//! The plan of `sync` is computed for each branch on trees alone, and the commit is the one that
//! `sync` would make. All objects are written before the first ref moves, and each ref moves only
//! from the commit at which it was read. A branch that is checked out is synced in its worktree,
//! and a protected one gets its commit on a side branch, for a pull request. For example:
//!
//! ```text
//! feature   ref moved
//! fix       synced in the worktree /home/ada/fix
//! main      protected: commit on orchestration-sync/main
//! ```

// Rebuilds this crate when `XTASK_SOURCES_PROPAGATE` changes: checkouts that share a build folder
// must not use each other's artifacts.
const _: Option<&str> = option_env!("XTASK_SOURCES_PROPAGATE");

pub mod apply;
pub mod decide;
pub mod push;
pub mod report;
pub mod rounds;
pub mod targets;
