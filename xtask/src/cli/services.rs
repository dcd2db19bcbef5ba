//! The part of the command line that is about services.

use std::time::Duration;

use clap::{Args, ValueEnum};

use xtask_base::environment::parse_duration;

/// `start`.
#[derive(Args)]
#[command(long_about = "\
Start services, and wait until they are ready.

A layer is a file in `deployment/`, `local` where none is named. Services start as soon as what they
need is ready, side by side. What runs already is left as it is. If one does not get ready, what this
command has started is ended again, and the exit code is 1.

Before anything is started, the configuration, the programs and the ports are checked. A port that
somebody else uses is refused with who it is; nothing is ended for it unless `--take-over` says so.

A layer whose `[deploy]` has the engine `compose` or `kubernetes` goes to that tool instead.")]
#[command(after_help = "\
Examples:
  cargo xtask start                       all of deployment/local.toml
  cargo xtask start api                   the API and what it needs
  cargo xtask start --layer integration   another layer
  cargo xtask start --port api=8100       the API on another port
  cargo xtask start --clean --foreground  anew, with the logs, until Ctrl-C (exit code 0)")]
pub struct StartArgs {
    /// Which; all of the layer where none is named. What they need is started with them
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// End what runs and clear its logs first
    #[arg(long)]
    pub clean: bool,
    /// Only say whether the ports are free
    #[arg(long, conflicts_with_all = ["verify", "clean", "take_over", "foreground", "dry_run"])]
    pub check_ports: bool,
    /// Only ask the services that run whether they are well, and check the environment
    #[arg(long, conflicts_with_all = ["clean", "take_over", "foreground", "dry_run", "json"])]
    pub verify: bool,
    /// Another port for a service; `status` stands for the status page
    #[arg(long, value_name = "NAME=N", value_parser = named_port)]
    pub port: Vec<(String, u16)>,
    /// End whoever uses this port, if it is a process of yours
    #[arg(long, value_name = "PORT")]
    pub take_over: Vec<u16>,
    /// Start what has a rule for it as if this service were missing
    #[arg(long, value_name = "SERVICE")]
    pub fallback: Vec<String>,
    /// How long each service may take to get ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Stay, show the logs, and end the services with Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub foreground: bool,
    /// Only say what would be started, with every value and where it comes from
    #[arg(long)]
    pub dry_run: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `stop`.
#[derive(Args)]
#[command(long_about = "\
Stop services, and verify that nothing is left running.

Those that need a service are ended before it. Every process that belongs to one is asked to end, also
one that has left its group or session, and killed if it has not after the timeout. What survives that
is named, and the exit code is 1. A process that was not started here is never touched.

Without a layer, all that runs in this worktree is ended. Nothing running is no failure.")]
#[command(after_help = "\
Examples:
  cargo xtask stop           everything in this worktree
  cargo xtask stop api       the API and what cannot do without it")]
pub struct StopArgs {
    /// Which; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// How long each may take before it is killed; else what its configuration says
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub timeout: Option<Duration>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `restart`.
#[derive(Args)]
pub struct RestartArgs {
    /// Which; all that run where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// How long each service may take to get ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `ps`.
#[derive(Args)]
pub struct PsArgs {
    /// The layer; all of this worktree where none is named
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Draw it anew every second, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `logs`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask logs -f api            the last 200 lines of the API, and what comes
  cargo xtask logs --since 10m -t    everybody, ten minutes, with times

Without a layer: the one that runs, or else `local`.")]
pub struct LogsArgs {
    /// Which; all of the layer where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// What earlier runs have written as well, which `start` and `restart` begin
    #[arg(short, long)]
    pub all: bool,
    /// How many lines, of all services together
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    pub lines: usize,
    /// Only what was written in this time before now, in whichever run
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub since: Option<Duration>,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
}

/// `serve`.
#[derive(Args)]
pub struct ServeArgs {
    /// Which one
    #[arg(value_enum)]
    pub what: ServeTarget,
    /// The port; the variable XTASK_PORT if it is not given
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// The port of the supervisor's status; the variable XTASK_STATUS_PORT if it is not given
    #[arg(long, value_name = "N")]
    pub status: Option<u16>,
}

/// The small services that come with the toolkit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServeTarget {
    /// A page with the state of the stack
    Page,
    /// An API with a health route
    Api,
}

/// `NAME=N`, with N a port.
fn named_port(text: &str) -> Result<(String, u16), String> {
    let parts = text.split_once('=').and_then(|(name, port)| Some((name, port.parse().ok()?)));
    match parts {
        Some((name, port)) if !name.is_empty() && port > 0 => Ok((name.to_owned(), port)),
        _ => Err("it must be a service and a port, as in `api=8100`".to_owned()),
    }
}

/// A time as people write it.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "it must be a time, as in `30s` or `1m 30s`".to_owned())
}
