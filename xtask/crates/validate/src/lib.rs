//! Checks: which run, when a result counts again, and what is done about a failure.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_VALIDATE");

mod autofix;
pub mod builtin_checks;
pub mod cache_key;
pub mod cacheability;
pub mod fix_backup;
pub mod history;
pub mod input_files;
pub mod input_snapshot;
pub mod log;
pub mod outcome;
pub mod plan;
pub mod programs;
pub mod result_cache;
pub mod runner;
pub mod session;
pub mod staged_tree;
pub mod stat_cache;
pub mod webhook;
