//! Arguments of `deploy`, `rollback` and `history`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::services::span;

#[derive(Subcommand)]
pub enum DeployCommand {
    /// Deploy the current commit; roll back on failure
    #[command(long_about = "\
Deploy the current commit; roll back on failure.

`[deploy]` in the layer's file says where and how. The working tree must be clean, the commit pushed, the
branch allowed, and the required layers verified; all failed conditions are reported together. The commit is
exported as a release, built once, and started next to the serving release; once it is ready, traffic is
switched to it and it is watched. If it becomes unhealthy in that time, the previous release serves again,
with its own configuration.

The engine is a folder on this machine (`directory`) or on another host (`ssh`), or a tool: `docker compose`
or `kubectl`. The tools have no spare ports: images are built, or the cluster checks the manifests, before the
switch.

An interrupted run is completed or rolled back by the next one.")]
    Deploy(DeployArgs),
    /// Roll back to an earlier verified release
    Rollback(RollbackArgs),
    /// Show past deployments: release, time, result
    History(HistoryArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask deploy production --dry-run   show the plan and the conditions that are not met
  cargo xtask deploy staging --watch 5m     watch the new release for longer
  cargo xtask deploy production --verify    check that the serving release is intact and healthy

Exit codes: 0 the new release serves; 1 refused or failed, the previous release still serves; 4 rolled back,
the previous release serves again; 5 rollback failed, the message says what runs now.")]
pub struct DeployArgs {
    /// The layer
    #[arg(value_name = "LAYER")]
    pub layer: String,
    /// Only show the plan and the conditions that are not met; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only compare the serving release with its manifest and run its health checks; change nothing
    #[arg(long, conflicts_with_all = ["dry_run", "yes", "watch", "timeout"])]
    pub verify: bool,
    /// How long to watch the new release [default: the layer's setting]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub watch: Option<Duration>,
    /// How long each service may take to become ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Do not ask for the layer's name
    #[arg(long)]
    pub yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask rollback production                                the previous verified release
  cargo xtask rollback production 20260131T120000Z-0123456789ab  this release

Naming the release that serves starts it again, as after a reboot. Without RELEASE, the verified release
that was deployed before the serving one is taken; run it again to go back one more.

Exit codes as for `deploy`: 0 it serves; 1 refused or failed; 4, 5 it was started and failed.")]
pub struct RollbackArgs {
    /// The layer
    #[arg(value_name = "LAYER")]
    pub layer: String,
    /// The release [default: the verified one before the serving one]
    #[arg(value_name = "RELEASE")]
    pub release: Option<String>,
    /// How long to watch it [default: the layer's setting]
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub watch: Option<Duration>,
    /// How long each service may take to become ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Do not ask for the layer's name
    #[arg(long)]
    pub yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct HistoryArgs {
    /// The layer
    #[arg(value_name = "LAYER")]
    pub layer: String,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
