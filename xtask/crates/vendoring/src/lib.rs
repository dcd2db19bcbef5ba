//! The toolkit in a repository that does not have it yet.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_VENDORING");

pub mod install;
pub mod install_plan;
mod recipes;
pub mod target;
pub mod templates;
