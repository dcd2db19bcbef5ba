//! Arguments of `start`, `stop`, `restart`, `ps`, `logs` and `serve`.

use std::time::Duration;

use clap::{Args, ValueEnum};

use xtask_base::environment::parse_duration;

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask start                       all services of deployment/local.toml
  cargo xtask start api                   the API and its dependencies
  cargo xtask start --layer integration   another layer
  cargo xtask start --port api=8100       the API on another port
  cargo xtask start --clean --foreground  restart all and show the logs until Ctrl-C (exit code 0)")]
pub struct StartArgs {
    /// The services [default: all of the layer]; their dependencies are started, too
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer [default: `local`]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Stop the running services and clear their logs first
    #[arg(long)]
    pub clean: bool,
    /// Only check whether the ports are free
    #[arg(long, conflicts_with_all = ["verify", "clean", "take_over", "foreground", "dry_run"])]
    pub check_ports: bool,
    /// Only run the health checks of the running services and the environment checks
    #[arg(long, conflicts_with_all = ["clean", "take_over", "foreground", "dry_run", "json"])]
    pub verify: bool,
    /// Use another port for a service; the name `status` means the status page
    #[arg(long, value_name = "NAME=N", value_parser = named_port)]
    pub port: Vec<(String, u16)>,
    /// Stop the process that uses this port, if it is yours
    #[arg(long, value_name = "PORT")]
    pub take_over: Vec<u16>,
    /// Apply the fallback rules as if this service were missing
    #[arg(long, value_name = "SERVICE")]
    pub fallback: Vec<String>,
    /// How long each service may take to become ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Stay in the foreground, show the logs, and stop the services on Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub foreground: bool,
    /// Only show what would be started, with every value and its source
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask stop           all services of this worktree
  cargo xtask stop api       the API and the services that need it")]
pub struct StopArgs {
    /// The services [default: all]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer [default: every layer that runs here]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// How long each service may take before it is killed [default: its setting]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub timeout: Option<Duration>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct RestartArgs {
    /// The services [default: all that run]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer [default: the one that runs, else `local`]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// How long each service may take to become ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct PsArgs {
    /// The layer [default: every layer of this worktree]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Refresh every second until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask logs -f api            the last 200 lines of the API, then new ones as they come
  cargo xtask logs --since 10m -t    all services, the last ten minutes, with times

Without --layer: the layer that runs, else `local`.")]
pub struct LogsArgs {
    /// The services [default: all of the layer]
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The layer [default: the one that runs, else `local`]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Show new lines as they are written, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Also show earlier runs (`start` and `restart` begin a run)
    #[arg(short, long)]
    pub all: bool,
    /// How many lines to show, for all services together
    #[arg(short = 'n', long, value_name = "N", default_value_t = 200)]
    pub lines: usize,
    /// Only lines written within this time, of any run
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub since: Option<Duration>,
    /// Show the time of each line
    #[arg(short, long)]
    pub timestamps: bool,
}

#[derive(Args)]
pub struct ServeArgs {
    /// The built-in service
    #[arg(value_enum)]
    pub what: ServeTarget,
    /// The port to listen on [default: the variable XTASK_PORT]
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// The port of the supervisor's status page [default: the variable XTASK_STATUS_PORT]
    #[arg(long, value_name = "N")]
    pub status: Option<u16>,
}

/// The built-in services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServeTarget {
    /// A web page with the state of all services
    Page,
    /// An API with a health endpoint
    Api,
}

/// Parses `NAME=PORT`, e.g. `api=8100`.
fn named_port(text: &str) -> Result<(String, u16), String> {
    let parts = text.split_once('=').and_then(|(name, port)| Some((name, port.parse().ok()?)));
    match parts {
        Some((name, port)) if !name.is_empty() && port > 0 => Ok((name.to_owned(), port)),
        _ => Err("expected `NAME=PORT`, e.g. `api=8100`".to_owned()),
    }
}

/// Parses a duration, e.g. `30s` or `1m 30s`.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration, e.g. `30s` or `1m 30s`".to_owned())
}
