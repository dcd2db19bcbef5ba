//! From a branch to the canonical one: pull requests for what was pushed.
//!
//! There is one request for each branch, made as a draft and brought up to date by every push. What
//! a person has written in it stays. A request that cannot be made never fails a push, and is never
//! silent: the address of the page on which a person can make it is part of every answer.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_REVIEW");

pub mod after_push;
pub mod forge;
pub mod gh;
pub mod pull_request;
pub mod queue;
