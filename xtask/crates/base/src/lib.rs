//! Shared foundations of all crates: paths, errors, files, locks, processes, HTTP and the clock.
//! This crate knows neither git nor any feature, and decides nothing: for example, `record` reads a
//! state file, and its caller handles a corrupt one.

// Rebuilds this crate when `XTASK_SOURCES_BASE` changes: checkouts that share a build folder must
// not use each other's artifacts.
const _: Option<&str> = option_env!("XTASK_SOURCES_BASE");

pub mod conflict_markers;
pub mod date;
pub mod deadline;
pub mod digest;
pub mod environment;
pub mod error;
pub mod files;
pub mod http;
pub mod line_protocol;
pub mod lock;
pub mod name;
pub mod parallel;
pub mod path;
mod pipe_reader;
pub mod ports;
pub mod process;
pub mod process_group;
pub mod processes;
pub mod progress;
pub mod record;
pub mod signals;
pub mod temp_folder;
pub mod words;
pub mod worktree_paths;
