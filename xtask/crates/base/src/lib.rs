//! The floor that everything stands on: paths, errors, files, locks, the clock. It knows neither
//! git nor any feature, and nothing here decides anything.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_BASE");

pub mod deadline;
pub mod digest;
pub mod error;
pub mod files;
pub mod folders;
pub mod group;
pub mod halves;
pub mod http;
pub mod lock;
pub mod markers;
pub mod name;
pub mod path;
pub mod ports;
pub mod process;
pub mod processes;
pub mod progress;
pub mod record;
pub mod scratch;
pub mod signals;
pub mod talk;
pub mod words;
pub mod world;
