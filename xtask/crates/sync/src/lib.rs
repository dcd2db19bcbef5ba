//! Bringing the managed files of a branch to the canonical state without ever losing anybody's
//! work.
//!
//! The flow is the same for every command: `context` reads the canonical commit and its
//! configuration, `gather` looks at each path in HEAD, index, working tree and canonical commit,
//! `classify` and `plan` decide without touching anything, and `apply` makes the plan true in one
//! transaction that a crash at any point leaves undone or done. Commands that only look stop after
//! the plan.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_SYNC");

pub mod apply;
mod apply_context;
pub mod backup;
pub mod branch_overview;
pub mod classify;
pub mod commit;
pub mod commit_message;
pub mod context;
pub mod deletions;
pub mod export;
pub mod fast_forward;
pub mod fingerprint;
pub mod hook_policy;
pub mod journal;
pub mod managed;
pub mod merge;
pub mod obstacles;
pub mod overlay;
pub mod overlay_removal;
pub mod path_conflicts;
pub mod plan;
mod prepare;
pub mod rollback;
pub mod run;
pub mod scan;
pub mod transaction;
pub mod undo;
pub mod upstream;
pub mod worktree_lock;
