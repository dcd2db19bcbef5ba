//! The copy of the toolkit in a repository: its files, its manifest, and upgrades to newer versions.
//!
//! ```text
//! Toolkit::read_commit  ->  plan_upgrade (three-way merge)  ->  UpgradePlan  ->  commit_upgrade
//! ```

// Recompiles this crate if its sources change, even in a target folder that several checkouts share.
const _: Option<&str> = option_env!("XTASK_SOURCES_UPGRADE");

mod base_finder;
pub mod cargo_alias;
pub mod cargo_entries;
pub mod conflict_files;
pub mod copy_spec;
pub mod copy_transform;
pub mod editor_tasks;
mod file_renames;
pub mod manifest;
pub mod merge_paths;
pub mod parts;
pub mod toml_edits;
pub mod toolkit;
pub mod upgrade;
pub mod version_status;
