//! Deploying a layer: a commit becomes a release in a folder of its own, is tried beside what serves,
//! takes its place, is watched, and gives way to the release before if it fails.
//!
//! What happens, and what is done about a crash within it, is decided in `steps.rs`. `run.rs` walks the
//! steps and writes each down before it begins; `recover.rs` ends what was cut short. What a step does is the
//! engine's (`engine.rs`): `directory.rs` does it on this machine. Another engine is another implementation
//! of that trait, with the same steps, journal, history and ways back.
//!
//! The engine `ssh` is `directory` on another host: this program is sent there and told what to do there
//! (`order.rs`). `remote.rs` is this side of it, `host.rs` that one, `ssh.rs` the way between them. `compose` and
//! `kubernetes` have a tool do the work (`tool.rs`); their target is a folder of this clone.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_DEPLOY");

pub mod build;
mod command_exit;
pub mod compose;
pub mod current_link;
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
pub mod persistent_state;
pub mod pipeline;
pub mod recover;
pub mod release;
pub mod remote;
pub mod run_history;
pub mod ssh;
pub mod stacks;
pub mod status;
pub mod target;
pub mod tool;
pub mod verify;
pub mod wire_protocol;

use std::time::Duration;

use xtask_base::environment::Environment;
use xtask_base::files::Disk;
use xtask_base::signals::Interrupts;

/// What a deploy needs from the outside.
#[derive(Clone, Copy)]
pub struct DeployContext<'a> {
    /// Where, with which variables and when.
    pub world: &'a Environment,
    /// The disk; everything that changes something asks its gate first.
    pub disk: &'a Disk<'a>,
    /// The signals of this process.
    pub interrupts: &'a Interrupts,
    /// Told what is going on.
    pub tell: &'a dyn Fn(&str),
    /// Who does it, for people.
    pub by: &'a str,
    /// How long each service may take to get ready.
    pub ready_within: Duration,
}
