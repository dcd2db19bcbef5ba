//! Getting the toolkit into other repositories, and keeping the copies current.

pub mod manifest;
pub mod resolved;
pub mod standing;
pub mod target;
pub mod toolkit;
pub mod upgrade;
