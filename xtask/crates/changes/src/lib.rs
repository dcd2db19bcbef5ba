//! Changes from other branches to the canonical branch: the managed part of their commits only.
//!
//! A change is applied as a three-way merge of trees, so conflicts are known before any ref or file
//! is touched. Several commits land together or not at all: first all objects are written, then one
//! ref is moved from its expected value. The commands:
//!
//! ```text
//! extract        managed changes of a branch -> one commit on the changes branch
//! promote        commits of the changes branch -> canonical branch
//! reverse-sync   approved commits of a branch -> canonical branch
//! ```

// Rebuilds this crate if the digest of its sources differs: checkouts with a shared target folder
// must not reuse each other's builds.
const _: Option<&str> = option_env!("XTASK_SOURCES_CHANGES");

pub mod build_branch;
pub mod changes_branch;
pub mod cherry_pick;
pub mod cherry_pick_range;
pub mod commit_messages;
pub mod extract;
pub mod fast_forward_branch;
pub mod promote;
pub mod report;
pub mod resolution_state;
pub mod resolve;
mod retry;
pub mod reverse_sync;
pub mod source;
pub mod source_changes;
