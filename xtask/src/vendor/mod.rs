//! The toolkit in other repositories: getting it in, and keeping the copies current.

pub mod delivery;
pub mod entries;
pub mod fit;
mod given;
mod insert;
mod kinds;
pub mod manifest;
mod node;
pub mod put;
mod python;
mod recipes;
pub mod resolved;
mod services;
mod setuptools;
pub mod standing;
pub mod starters;
pub mod target;
pub mod toolkit;
mod tree;
pub mod upgrade;
