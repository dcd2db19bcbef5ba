//! Vendoring: installs a copy of the toolkit into a repository that does not have it yet.
//!
//! [`target`] checks the repository, [`install_plan`] computes the changes with files rendered by [`templates`], and
//! [`install`] writes and stages them, or rolls back. For example, `cargo xtask vendor ../shop` stages `xtask/`,
//! `setup/sync.toml` and an alias in `.cargo/config.toml`, and leaves the commit to the user.

// Checkouts that share a target directory must not reuse code compiled from the sources of another checkout.
const _: Option<&str> = option_env!("XTASK_SOURCES_VENDORING");

pub mod install;
pub mod install_plan;
pub mod protected_branches;
mod recipes;
mod report;
mod sync_config;
pub mod target;
pub mod templates;
mod validate_config;
