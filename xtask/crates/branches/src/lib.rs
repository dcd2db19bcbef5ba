//! Branch rules: the rules for a branch, the facts about it, and the findings.
//!
//! `facts.rs` collects facts, `rules.rs` evaluates them, and all callers (the command, `pre-push`,
//! `validate`, `status`, CI) use `check.rs`, so that they report the same. Unknown facts are
//! reported as such, with the reason, and never count as passed.
//!
//! ```text
//! rule { match = "feature/*", max-age = "14d" } + facts { age: 15 days } -> finding TooOld
//! ```

// Makes cargo rebuild this crate if checkouts that share a target folder have different sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_BRANCHES");

pub mod check;
pub mod created_at;
pub mod facts;
pub mod merge_status;
pub mod names;
pub mod prune;
pub mod report;
pub mod rules;
pub mod selection;
