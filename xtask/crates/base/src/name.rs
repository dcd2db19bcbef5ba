//! The name of the toolkit in its repository: its folder, its package and its alias. Where a repository has an `xtask`
//! of its own, `vendor --name` writes another one into this file, and into each command that is told.

/// The name.
pub const NAME: &str = "xtask";

/// A path in the folder of the toolkit: `in_toolkit!("Cargo.toml")`.
#[macro_export]
macro_rules! in_toolkit {
    ($path:literal) => {
        concat!("xtask/", $path)
    };
}
