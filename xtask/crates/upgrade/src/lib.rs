//! The copy of the toolkit in a repository: what came, how it lies there, and a newer one merged into it.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_UPGRADE");

pub mod cargo_entries;
pub mod conflict_files;
pub mod copy_spec;
pub mod copy_transform;
mod file_renames;
pub mod manifest;
pub mod parts;
mod toml_edits;
pub mod toolkit;
pub mod upgrade;
pub mod version_status;
