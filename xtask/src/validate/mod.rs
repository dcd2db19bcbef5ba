//! Checks: which run, when a result counts again, and what is done about a failure.

pub mod defaults;
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
