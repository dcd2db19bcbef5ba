//! The copy of the toolkit in a repository: what came, how it lies there, and a newer one merged into it.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_UPGRADE");

pub mod entries;
pub mod given;
mod insert;
pub mod manifest;
mod moves;
pub mod parts;
pub mod resolved;
pub mod shape;
pub mod standing;
pub mod toolkit;
pub mod upgrade;
