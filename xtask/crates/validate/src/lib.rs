//! Checks: selection, execution, caching of passes, and fixes of failures.
//!
//! [`session::run_validation`] is the entry point; `plan` selects, `runner` executes, `input_snapshot`
//! computes the cache key, `result_cache` keeps passes and `fix_backup` makes fixes undoable. For example:
//!
//! ```text
//! [[check]] name = "lint", run = "ruff check src", inputs = ["src/**/*.py"]
//!   -> InputSnapshot { key: "5e884898…" } -> CheckResult { outcome: Passed, exit_code: Some(0), .. }
//! ```

// Rebuilds the crate if `XTASK_SOURCES_VALIDATE` changes: checkouts that share a build folder must not reuse
// artifacts compiled from the sources of another one.
const _: Option<&str> = option_env!("XTASK_SOURCES_VALIDATE");

pub mod affected;
mod autofix;
pub mod builtin_checks;
pub mod cache_key;
pub mod cacheability;
mod check_command;
mod check_work;
mod file_passes;
mod file_rules;
pub mod file_scope;
pub mod fix_backup;
mod fix_snapshot;
pub mod fix_undo;
mod given_files;
pub mod history;
pub mod hook_selection;
pub mod input_files;
mod input_set;
pub mod input_snapshot;
pub mod inspector;
mod job_slots;
pub mod load_checks;
pub mod log;
pub mod outcome;
mod pass_reuse;
pub mod plan;
pub mod programs;
pub mod report;
pub mod result_cache;
pub mod runner;
pub mod session;
pub mod shard;
pub mod shared_key;
mod shared_passes;
pub mod shared_results;
pub mod staged_fixes;
pub mod staged_tree;
pub mod stat_cache;
pub mod undo_run;
pub mod watch;
pub mod webhook;
