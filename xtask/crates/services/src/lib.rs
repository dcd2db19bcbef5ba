//! Local services: what a layer says is started in the order of need, watched, started again, and
//! ended without a trace. Nobody's process is ever signalled who was not started here.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_SERVICES");

pub mod builtin_services;
pub mod client;
pub mod control_socket;
pub mod env_files;
pub mod launch;
pub mod listeners;
pub mod log_writer;
pub mod logs;
pub mod metrics;
pub mod plan;
pub mod port_plan;
pub mod probe;
pub mod reattach;
pub mod service_state;
pub mod spec;
pub mod stack;
pub mod state_machine;
pub mod status;
pub mod status_server;
pub mod supervisor;
pub mod teardown;
