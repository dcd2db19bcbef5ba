//! Detection of a repository's languages, tools, fitting checks and probable services.
//!
//! Converts text to values; no module reads a file itself. For example:
//!
//! ```text
//! ["package.json", "pnpm-lock.yaml"] -> RepoFacts { node: Some(NodeProject { manager: Pnpm, .. }), .. }
//! ```

// Rebuilds the crate if `XTASK_SOURCES_DETECT` changes: checkouts that share a build folder must not reuse
// artifacts compiled from the sources of another one.
const _: Option<&str> = option_env!("XTASK_SOURCES_DETECT");

mod check_templates;
pub mod default_checks;
mod detected;
mod node;
mod node_commands;
pub mod packaging;
mod python;
pub mod repo_facts;
mod services;
mod setuptools;
pub mod subfolder_checks;
mod tool_versions;
pub mod tree;
mod unchecked_tools;
