//! The name of the toolkit in its repository: its folder, its package and its cargo alias. For a
//! repository that already has an `xtask`, `vendor --name` writes another name into this file and
//! into the commands in messages.

pub const NAME: &str = "xtask";

/// Expands to a path in the folder of the toolkit: `in_toolkit!("Cargo.toml")`.
#[macro_export]
macro_rules! in_toolkit {
    ($path:literal) => {
        concat!("xtask/", $path)
    };
}
