//! Pull requests for pushed branches, from a branch to the canonical one.
//!
//! There is one pull request per branch, opened as a draft and updated by every push. Text that a
//! person has written in it stays. A pull request that cannot be opened never fails a push, and is
//! never silent: every answer includes the URL of the page on which a person can open it. For
//! example:
//!
//! ```text
//! draft pull request opened for `fix`: https://github.com/ada/app/pull/7
//! ```

// Rebuilds this crate when `XTASK_SOURCES_REVIEW` changes: checkouts that share a build folder must
// not use each other's artifacts.
const _: Option<&str> = option_env!("XTASK_SOURCES_REVIEW");

pub mod after_push;
pub mod forge;
pub mod gh;
pub mod pull_request;
pub mod queue;
