//! Branch rules: what is asked of a branch, what is known of it, and what is to be said.
//!
//! `facts.rs` looks, `rules.rs` decides, and everybody who has something to say about a branch (the command,
//! `pre-push`, `validate`, `status`, CI) asks `check.rs`, so that all of them say the same. What cannot be
//! told is told as such, with its reason: it never passes for good.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_BRANCHES");

pub mod check;
pub mod created_at;
pub mod facts;
pub mod merge_status;
pub mod names;
pub mod prune;
pub mod rules;
