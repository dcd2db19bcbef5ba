//! The task toolkit that lives inside a repository. `ARCHITECTURE.md` is the map.

pub mod base;
pub mod branches;
pub mod cli;
pub mod cmd;
pub mod config;
pub mod demo;
pub mod deploy;
pub mod fleet;
pub mod hooks;
pub mod intake;
pub mod recovery;
pub mod repo;
pub mod report;
pub mod review;
pub mod services;
pub mod sync;
pub mod validate;
pub mod vendor;
