//! The task toolkit that lives inside a repository. `ARCHITECTURE.md` is the map.

pub mod cli;
pub mod cmd;
#[cfg(feature = "vendoring")]
pub mod demo;
