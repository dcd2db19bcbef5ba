//! The task toolkit that lives inside a repository, e.g. for `cargo xtask sync`. `ARCHITECTURE.md` describes its parts.

mod canonical_checks;
pub mod cli;
pub mod cmd;
pub mod dashboard;
#[cfg(feature = "vendoring")]
pub mod demo;
pub mod status;
