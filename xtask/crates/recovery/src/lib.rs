//! A way back from anything: what git would not bring back is saved, brought back, and saved first before
//! somebody leaves a worktree that is in no good state.
//!
//! A backup (`save.rs`) is a commit in the same store as those of `sync` and `undo`; what may be secret is
//! copied beside it (`copies.rs`) and never becomes an object of git. A restore (`put_back.rs`) saves what is
//! there now before it replaces anything. `leave.rs` goes from any state to a clean one at a named commit
//! (`goal.rs`), and back. `variables.rs` finds files of variables that cannot be read, and copies that can.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_RECOVERY");

pub mod create_backup;
pub mod env_files;
pub mod reset;
pub mod restore;
pub mod secret_files;
pub mod target;
