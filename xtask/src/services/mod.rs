//! The services of a stack: what runs on this machine while one works.

pub mod embedded;
