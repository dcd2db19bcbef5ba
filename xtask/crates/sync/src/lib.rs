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

mod applier;
pub mod apply;
pub mod backup;
pub mod batch;
pub mod classify;
pub mod commit;
pub mod context;
pub mod deletions;
pub mod enter;
pub mod export;
pub mod forward;
pub mod gather;
pub mod journal;
pub mod lift;
pub mod managed;
pub mod manner;
pub mod merge;
pub mod message;
pub mod obstacles;
pub mod overlay;
pub mod plan;
mod prepare;
pub mod print;
pub mod recover;
pub mod run;
pub mod survey;
pub mod undo;
pub mod upstream;
pub mod way;
