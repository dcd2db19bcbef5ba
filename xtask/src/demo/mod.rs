//! The daily story, played from beginning to end: the tutorial, and a test of all commands together.
//!
//! It plays a person who types commands into a shell, so it knows the other rooms by what they do
//! alone. It works anywhere, and neither reads nor writes anybody's repository or configuration.

pub mod sandbox;
pub mod tutorial;
