//! Arguments of `dashboard`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(after_long_help = "\
Examples:
  cargo xtask dashboard --open               look at it in a browser
  cargo xtask dashboard --html drift.html    one file, for a CI artifact or a mail
  cargo xtask dashboard --remote --html -    the branches of the remote, on stdout")]
pub struct DashboardArgs {
    /// Open the page in a browser
    #[arg(long, conflicts_with = "html")]
    pub open: bool,
    /// Write the page to this file instead of serving it; `-` for stdout
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Serve on this port; 0 for any free one
    #[arg(long, value_name = "N", conflicts_with = "html")]
    pub port: Option<u16>,
    /// Show the branches of the remote, as last fetched
    #[arg(long)]
    pub remote: bool,
    /// End after this time without a visitor
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_idle, conflicts_with = "html")]
    pub idle: std::time::Duration,
    /// Print the page at this path, for the server
    #[arg(long, value_name = "TARGET", hide = true)]
    pub render: Option<String>,
}

fn parse_idle(text: &str) -> Result<std::time::Duration, String> {
    xtask_base::environment::parse_duration(text)
        .ok_or_else(|| "expected a duration such as `30m` or `2h`".to_owned())
}
