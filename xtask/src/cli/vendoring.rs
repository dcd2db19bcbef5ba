//! The part of the command line that gives the toolkit to repositories, and brings copies up to date.

use std::ffi::OsString;
#[cfg(feature = "vendoring")]
use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "vendoring")]
/// `vendor`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask vendor ../shop             the toolkit as it is checked out here
  cargo xtask vendor ../shop --ref v2    as a tag has it
  cargo xtask vendor ../shop --dry-run   what would be written
  cargo xtask vendor ../shop --parts sync,hooks   without checks and services")]
pub struct VendorArgs {
    /// The root of the repository that is to have it
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The branch, tag or commit of the toolkit; otherwise what is checked out here
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Only these parts: sync and hooks always, checks, services, deploy, vendoring; or `all`. Otherwise those that fit
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub parts: Vec<String>,
    /// Another name than `xtask` for its folder, its package and `cargo NAME`
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The branches on which nothing is committed unasked, and to which no push goes past a request; `none` where
    /// people work on the trunk. Otherwise the default branch
    #[arg(long, value_name = "BRANCH", value_delimiter = ',')]
    pub protect: Vec<String>,
    /// Show what would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `upgrade`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask upgrade                           from where the toolkit came
  cargo xtask upgrade --from ../xtask --ref v2  from a checkout of the toolkit, at a tag
  cargo xtask upgrade --check                   exit 1 if there is a newer one; write nothing")]
pub struct UpgradeArgs {
    /// A checkout of the toolkit, or the address of its repository
    #[arg(long, value_name = "PATH|URL")]
    pub from: Option<String>,
    /// The branch, tag or commit of it; otherwise what is checked out there
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// Only these parts from now on, as for `vendor`. Otherwise those that are here
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub parts: Vec<String>,
    /// Exit 1 if there is something newer; write nothing
    #[arg(long, conflicts_with_all = ["ours", "theirs", "dry_run"])]
    pub check: bool,
    /// Show what would change, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Keep what is here at a path in conflict
    #[arg(long, value_name = "PATH")]
    pub ours: Vec<OsString>,
    /// Take what comes at a path in conflict
    #[arg(long, value_name = "PATH")]
    pub theirs: Vec<OsString>,
}
