//! Results of checks shared between machines.
//!
//! CI signs a [`bundle::ResultBundle`] of the passes of one run and stores it on a ref of the remote ([`git_store`]) or
//! in a cache that speaks Bazel's HTTP protocol ([`http_store`]). A reader believes a pass only if the bundle verifies
//! against a signer whom the canonical commit names, and the pass was not revoked.
//!
//! ```text
//! CI: [lint key=9f86…, unit key=60303…] -> signed bundle -> refs/xtask/results or PUT /cas/DIGEST, /ac/KEY
//! developer: key=9f86… -> GET /ac/9f86… -> GET /cas/DIGEST -> signature good -> "passed 3 h ago, says ci@example.com"
//! ```

// Rebuilds the crate if `XTASK_SOURCES_SHARE` changes: checkouts that share a build folder must not reuse
// artifacts compiled from the sources of another one.
const _: Option<&str> = option_env!("XTASK_SOURCES_SHARE");

pub mod action_result;
pub mod bundle;
pub mod bundle_cache;
pub mod git_store;
pub mod http_store;
pub mod signature;
