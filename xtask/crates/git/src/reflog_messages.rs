//! The reflog messages of our own moves of branches, by which commits made in this clone are known again.
//!
//! ```text
//! xtask: promote
//! xtask: reverse-sync from feature
//! ```

/// `promote` moved the canonical branch.
pub const PROMOTE: &str = "xtask: promote";

/// `reverse-sync` moved the canonical branch; ` from BRANCH` follows.
pub const REVERSE_SYNC: &str = "xtask: reverse-sync";

/// `upgrade` moved a branch; ` to VERSION` follows.
pub const UPGRADE: &str = "xtask: upgrade";

/// `propagate` moved a branch; ` from CANONICAL` follows.
pub const PROPAGATE: &str = "xtask: propagate";
