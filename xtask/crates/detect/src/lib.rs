//! What a repository is: its languages and tools, the checks that fit them, and the services that it seems to have. Text to
//! values; nothing here reads a file by itself.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_DETECT");

pub mod default_checks;
mod detected;
mod node;
pub mod packaging;
mod python;
pub mod repo_facts;
mod services;
mod setuptools;
pub mod subfolder_checks;
mod tool_versions;
pub mod tree;
mod unchecked_tools;
