//! The demo: a scripted day of two users, as a tutorial and as a test of all commands together.
//!
//! It types commands into a shell like a person, so it depends on no other module's internals. It works anywhere,
//! and neither reads nor writes the user's repository or configuration. An excerpt:
//!
//! ```text
//! bob $ cargo xtask sync --fetch
//!   feature/menu: 1 managed file synced from origin/orchestration-tools
//!   ok: the shared file is new
//! ```

pub mod sandbox;
pub mod tutorial;
