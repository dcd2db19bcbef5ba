//! What a repository is: its languages and tools, the checks that fit them, and the services that it seems to have. Text to
//! values; nothing here reads a file by itself.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_DETECT");

pub mod defaults;
pub mod fit;
mod found;
pub mod inner;
mod kinds;
mod node;
pub mod packaging;
mod python;
mod services;
mod setuptools;
pub mod tree;
mod versions;
