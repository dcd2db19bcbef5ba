//! Checks of single files: their text, their syntax, their names and modes.
//!
//! Guarantee: a check reads nothing and writes nothing by itself. The caller hands in the bytes, and a fix returns new
//! bytes, which another check of the same rule accepts.
//!
//! ```text
//! ("src/a.py", b"x = 1  \n") -> TrailingWhitespace -> "line 1: trailing whitespace"; fixed: b"x = 1\n"
//! ```

// Where checkouts share a build folder, none of them takes the crate as another has compiled it from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_FILE_CHECKS");

#[cfg(feature = "checks")]
pub mod names;
#[cfg(feature = "checks")]
pub mod rules;
pub mod syntax;
#[cfg(feature = "checks")]
pub mod text;
