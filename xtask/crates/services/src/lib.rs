//! Local services: what a layer says is started in the order of need, watched, started again, and
//! ended without a trace. Nobody's process is ever signalled who was not started here.

// Where checkouts share a build folder, none of them takes what another has compiled from other sources.
const _: Option<&str> = option_env!("XTASK_SOURCES_SERVICES");

pub mod adopt;
pub mod client;
pub mod control;
pub mod embedded;
pub mod ending;
pub mod endpoint;
pub mod env_files;
pub mod launch;
pub mod log_writer;
pub mod logs;
pub mod machine;
pub mod page;
pub mod plan;
pub mod port_plan;
pub mod probe;
pub mod reach;
pub mod spec;
pub mod stack;
pub mod supervisor;
pub mod unit;
pub mod usage;
