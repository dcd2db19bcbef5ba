//! What goes into the canonical branch: the managed part of commits of other branches, and nothing
//! else.
//!
//! A change is carried as a three-way merge on trees, so that conflicts are known before anything is
//! touched. Several commits go through together or not at all: their objects are written first, and
//! one ref moves at the end, from where it was seen.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_CHANGES");

pub mod carry;
pub mod collect;
pub mod extract;
pub mod land;
pub mod promote;
pub mod resolve;
pub mod reverse;
mod rounds;
pub mod series;
pub mod source;
pub mod words;
