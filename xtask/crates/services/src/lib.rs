//! Local services: starts the services of a layer in dependency order, probes them, restarts them
//! on failure, and stops them with all their descendants.
//!
//! Guarantee: only processes that this toolkit started are signalled (`teardown`), except the
//! owner of a port that the user names with `--take-over` (`port_plan::take_over_port`).
//!
//! ```text
//! deployment/local.toml -> plan::build_specs -> [ServiceSpec] -> ControlCommand::Start
//!   -> StateMachine -> Effect::Spawn -> process with XTASK_SERVICE=TOKEN/api/1
//! ```

// Read at build time, so that checkouts that share a build folder never reuse each other's objects.
const _: Option<&str> = option_env!("XTASK_SOURCES_SERVICES");

pub mod builtin_services;
pub mod client;
pub mod control_socket;
pub mod env_files;
mod env_parser;
pub mod events;
pub mod follow;
pub mod launch;
pub mod layers;
pub mod listeners;
pub mod log_rotator;
pub mod log_view;
pub mod log_writer;
pub mod logs;
pub mod marker;
pub mod members;
pub mod metrics;
pub mod observe;
pub mod plan;
pub mod port_check;
pub mod port_plan;
pub mod probe;
pub mod reattach;
pub mod report;
pub mod service_state;
pub mod spec;
pub mod stack;
pub mod start;
pub mod state_machine;
pub mod status;
pub mod status_server;
pub mod stop;
pub mod supervisor;
pub mod teardown;
pub mod usage_trend;
