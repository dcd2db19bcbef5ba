//! The part of the command line that is about deploying.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::services::span;

/// The commands.
#[derive(Subcommand)]
pub enum DeployCommand {
    /// Deploy the current commit; roll back on failure
    Deploy(DeployArgs),
    /// Go back to a release that was verified before
    Rollback(RollbackArgs),
    /// Show what was deployed, when, and how it ended
    History(HistoryArgs),
}

/// `deploy`.
#[derive(Args)]
#[command(long_about = "\
Deploy the current commit; roll back on failure.

The layer's file says where and how, in `[deploy]`. The tree must be clean, the commit pushed, the branch
allowed, what the layer requires verified; all that stands in the way is reported together. The commit is
laid out as a release and built once, started beside what serves, and only when it is ready changed over
to and watched. If it is not well within that time, the release before serves again, as it was configured.

The engine is a folder of this machine (`directory`), one of another host (`ssh`), or a tool: `docker compose` or
`kubectl`, which have no spare ports: images are built, or the cluster checks the manifests, before the change.

A run that was cut short, at whatever point, is finished or taken back by the next one.")]
#[command(after_help = "\
Examples:
  cargo xtask deploy production --dry-run   what would happen, and what stands in the way
  cargo xtask deploy staging --watch 5m     watch the new release for longer
  cargo xtask deploy production --verify    whether what serves is whole and well; changes nothing

Exit codes: 0 the new release serves; 1 refused or failed, what served before serves; 4 the release before
serves again; 5 it does not, and the message says what there is.")]
pub struct DeployArgs {
    /// The layer
    #[arg(value_name = "LAYER")]
    pub layer: String,
    /// Only say what would happen and what stands in the way; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Only compare what serves with its manifest and ask it whether it is well; change nothing
    #[arg(long, conflicts_with_all = ["dry_run", "yes", "watch", "timeout"])]
    pub verify: bool,
    /// How long the new release is watched; else what the layer says
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub watch: Option<Duration>,
    /// How long each service may take to get ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Do not ask for the name of the layer
    #[arg(long)]
    pub yes: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `rollback`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask rollback production                                the verified release before
  cargo xtask rollback production 20260131T120000Z-0123456789ab  this one

With the release that serves it is started again, as after a boot. Without one it goes to the verified
release that was deployed before the one that serves; once more, to the one before that.

Exit codes as for `deploy`: 0 it serves; 1 refused or failed; 4, 5 it did not hold.")]
pub struct RollbackArgs {
    /// The layer
    #[arg(value_name = "LAYER")]
    pub layer: String,
    /// The release; the verified one before that which serves, if it is not given
    #[arg(value_name = "RELEASE")]
    pub release: Option<String>,
    /// How long it is watched; else what the layer says
    #[arg(long, value_name = "TIME", value_parser = span)]
    pub watch: Option<Duration>,
    /// How long each service may take to get ready
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = span)]
    pub timeout: Duration,
    /// Do not ask for the name of the layer
    #[arg(long)]
    pub yes: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `history`.
#[derive(Args)]
pub struct HistoryArgs {
    /// The layer
    #[arg(value_name = "LAYER")]
    pub layer: String,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}
