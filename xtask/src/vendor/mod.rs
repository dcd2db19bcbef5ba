//! The toolkit in other repositories: getting it in, and keeping the copies current.

pub mod entries;
mod insert;
pub mod manifest;
pub mod resolved;
pub mod standing;
pub mod target;
pub mod toolkit;
pub mod upgrade;
