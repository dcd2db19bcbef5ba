//! Every branch at once: the canonical state on hundreds of branches, without checking any out.
//!
//! For each branch the plan of `sync` is made on trees alone, and the commit is the one that `sync`
//! would make there. All objects are written before the first ref moves; each ref moves only from
//! where it was seen. A branch that a worktree has checked out is synced in that worktree, and a
//! protected one gets its commit on a branch of ours beside it, for a pull request.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_PROPAGATE");

pub mod apply;
pub mod decide;
pub mod rounds;
pub mod targets;
