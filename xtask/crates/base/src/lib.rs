//! The floor that everything stands on: paths, errors, files, locks, the clock. It knows neither
//! git nor any feature, and nothing here decides anything.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_BASE");

pub mod conflict_markers;
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
