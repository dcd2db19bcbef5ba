//! What goes into the canonical branch: the managed part of commits of other branches, and nothing
//! else.
//!
//! A change is carried as a three-way merge on trees, so that conflicts are known before anything is
//! touched. Several commits go through together or not at all: their objects are written first, and
//! one ref moves at the end, from where it was seen.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_CHANGES");

pub mod changes_branch;
pub mod cherry_pick;
pub mod cherry_pick_range;
pub mod commit_messages;
pub mod extract;
pub mod fast_forward_branch;
pub mod promote;
pub mod resolve;
mod retry;
pub mod reverse_sync;
pub mod source;
