//! Sync of the managed files of a branch with the canonical branch, without losing anybody's work.
//!
//! All commands share one flow; a dry run stops after the plan:
//!
//! ```text
//! context     canonical commit and configuration
//! scan        each path in HEAD, index, working tree and canonical commit -> PathState
//! classify    PathState -> PathClass, e.g. setup/a: behind
//! plan        PathClass -> PathAction, e.g. setup/a: update
//! apply       SyncPlan as one Transaction, which a crash leaves undone or done
//! ```

// Rebuilds this crate if the digest of its sources differs: checkouts with a shared target folder
// must not reuse each other's builds.
const _: Option<&str> = option_env!("XTASK_SOURCES_SYNC");

pub mod apply;
mod apply_context;
pub mod backup;
pub mod behind_history;
pub mod branch_overview;
pub mod classify;
mod clean_record;
pub mod commit;
pub mod commit_message;
pub mod context;
pub mod deletions;
pub mod export;
pub mod fast_forward;
pub mod fingerprint;
pub mod hook_policy;
pub mod journal;
pub mod managed;
pub mod merge;
pub mod obstacles;
pub mod overlay;
pub mod overlay_removal;
pub mod path_conflicts;
pub mod pin_commit;
pub mod pin_edit;
pub mod pin_notes;
pub mod pin_reader;
pub mod pin_report;
pub mod pins;
pub mod plan;
mod prepare;
pub mod report;
pub mod rollback;
pub mod run;
pub mod scan;
pub mod sync_worktree;
pub mod transaction;
pub mod undo;
pub mod upstream;
pub mod why;
pub mod worktree_lock;
pub mod write_rules;
