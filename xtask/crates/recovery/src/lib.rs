//! Recovery of worktrees: backups of everything that git cannot restore, their restoration, and a reset of a broken
//! worktree, which makes a backup first.
//!
//! - `create_backup`: writes a backup as a commit, in the same store as the backups of `sync` and `undo`.
//! - `secret_files`: copies files that may be secret; they never become git objects.
//! - `chosen_backup`: the backup to restore, or the part of it.
//! - `restore`: restores it, after saving the files that it replaces.
//! - `reset`: resets a worktree from any state to a clean one at a commit (`target`), and back.
//! - `env_files`: finds unreadable env files and readable copies of them.
//! - `diagnose`, `repair`: what is wrong with a worktree, and the steps that repair it.
//!
//! ```text
//! broken worktree -> backup `20260101T120000Z-1` -> clean worktree at `origin/main` -> `restore 20260101T120000Z-1`
//! ```

// Makes the sources part of the crate's fingerprint: checkouts that share a build folder must not take over what
// another checkout has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_RECOVERY");

pub mod backup_list;
pub mod chosen_backup;
pub mod create_backup;
#[cfg(feature = "services")]
pub mod diagnose;
#[cfg(feature = "services")]
pub mod env_files;
#[cfg(feature = "services")]
pub mod repair;
pub mod report;
pub mod reset;
pub mod restore;
pub mod secret_files;
pub mod target;
