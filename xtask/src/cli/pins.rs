//! Arguments of `pin` and `unpin`, e.g. `pin setup/a --until 2w --reason "for the vendor"`.

use std::ffi::OsString;

use clap::Args;

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask pin setup/a --reason \"waiting for the vendor\"    for 30 days
  cargo xtask pin setup/ --until 2026-12-30 --reason TEXT      a folder, up to and with that day
  cargo xtask pin --list                                       the pins of this branch
  cargo xtask pin --list --all                                 those of every branch
  git switch orchestration-tools
  cargo xtask pin setup/a --branch main --reason TEXT          for a protected branch")]
pub struct PinArgs {
    /// The files and folders that keep the content of this branch
    #[arg(value_name = "PATH", required_unless_present = "list", conflicts_with = "list")]
    pub paths: Vec<OsString>,
    /// The last day: a number of days or weeks, or the date [default: 30d]
    #[arg(long, value_name = "30d|2w|DATE", conflicts_with = "list")]
    pub until: Option<String>,
    /// Why, in one line
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "list",
        conflicts_with = "list"
    )]
    pub reason: Option<String>,
    /// On the canonical branch: the branch that keeps its content
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    pub branch: Option<String>,
    /// List the pins; change nothing
    #[arg(long, conflicts_with = "dry_run")]
    pub list: bool,
    /// With --list: those of every local branch and of the canonical branch
    #[arg(long, requires = "list")]
    pub all: bool,
    /// Only show what would be committed; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask unpin setup/a                 sync follows the canonical branch there again
  cargo xtask unpin --lapsed                remove what has lapsed
  cargo xtask unpin setup/a --branch main   on the canonical branch: the pin of a protected branch")]
pub struct UnpinArgs {
    /// The pinned files and folders
    #[arg(value_name = "PATH", required_unless_present = "lapsed", conflicts_with = "lapsed")]
    pub paths: Vec<OsString>,
    /// Remove all pins that have lapsed, of whatever branch
    #[arg(long)]
    pub lapsed: bool,
    /// On the canonical branch: the branch that keeps its content
    #[arg(long, value_name = "NAME", conflicts_with = "lapsed")]
    pub branch: Option<String>,
    /// Only show what would be committed; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}
