//! Deploys of a layer: a commit becomes a release in its own folder, is tested as a candidate next to the
//! running release, replaces it, is watched, and is rolled back if it fails.
//!
//! ```text
//! commit 4cfd10e... -> TO/releases/20250310T101500Z-4cfd10e1a2b3 -> TO/current -> a line in TO/history
//! ```
//!
//! - [`pipeline`] defines the order of the steps and the recovery from a crash within each of them.
//! - [`executor`] runs the steps and writes each into the [`journal`] before it begins; [`recover`] completes
//!   or rolls back an interrupted run.
//! - [`workflow`] is what the commands call; `remote_workflow` the same for another host.
//! - [`engine::Engine`] performs the steps. [`directory`] serves on this machine; every engine shares the
//!   steps, journal, history and rollback.
//! - The engine `ssh` is `directory` on another host: this program is uploaded and receives requests there
//!   ([`wire_protocol`]). [`remote`] is the local side, [`host_agent`] the remote side, [`ssh`] the connection.
//! - [`compose`] and [`kubernetes`] run `docker compose` and `kubectl` ([`tool`]); their target is a folder of
//!   this clone.

// Checkouts that share a target directory must not reuse code compiled from the sources of another checkout.
const _: Option<&str> = option_env!("XTASK_SOURCES_DEPLOY");

pub mod build;
mod command_exit;
pub mod compose;
pub mod current_link;
pub mod deployment;
pub mod directory;
pub mod engine;
pub mod engine_commands;
mod engine_settings;
pub mod executor;
pub mod gates;
pub mod health;
pub mod history;
pub mod host_agent;
pub mod journal;
pub mod kubernetes;
pub mod last_known_state;
pub mod layer_location;
pub mod local_gates;
pub mod persistent_state;
pub mod pipeline;
pub mod recover;
pub mod release;
pub mod remote;
mod remote_workflow;
pub mod report;
pub mod required_variables;
pub mod rollback;
mod run_end;
pub mod run_history;
pub mod ssh;
pub mod stacks;
pub mod status;
pub mod target;
pub mod target_gates;
pub mod tool;
pub mod verify;
pub mod wire_protocol;
pub mod workflow;

use std::time::Duration;

use xtask_base::environment::Environment;
use xtask_base::files::Disk;
use xtask_base::signals::Interrupts;

/// Environment of a deploy command: process state, disk, signals and output.
#[derive(Clone, Copy)]
pub struct DeployContext<'a> {
    /// Working directory, variables and clock.
    pub world: &'a Environment,
    /// Disk access; every write passes `Disk::check_gate` first.
    pub disk: &'a Disk<'a>,
    /// Signals of this process, such as Ctrl-C.
    pub interrupts: &'a Interrupts,
    /// Callback for progress messages.
    pub tell: &'a dyn Fn(&str),
    /// Name of the deploying user, for the lock, the journal and the history.
    pub by: &'a str,
    /// Time limit for each service to become ready.
    pub ready_within: Duration,
}

/// Returns a duration in milliseconds, for records and the protocol.
fn to_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
