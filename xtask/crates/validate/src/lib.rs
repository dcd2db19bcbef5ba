//! Checks: which run, when a result counts again, and what is done about a failure.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_VALIDATE");

pub mod fix;
pub mod history;
pub mod key;
pub mod kinds;
pub mod log;
pub mod looks;
pub mod outcome;
pub mod perform;
pub mod plan;
pub mod programs;
mod remedy;
pub mod run;
pub mod sets;
pub mod staged;
pub mod state;
pub mod store;
pub mod view;
pub mod webhook;
