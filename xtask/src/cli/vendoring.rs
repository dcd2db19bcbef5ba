//! Arguments of `vendor` and `upgrade`.

use std::ffi::OsString;
#[cfg(feature = "vendoring")]
use std::path::PathBuf;

use clap::Args;

#[cfg(feature = "vendoring")]
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask vendor ../shop             the toolkit as checked out here
  cargo xtask vendor ../shop --ref v2    the toolkit at a tag
  cargo xtask vendor ../shop --dry-run   only show what would be written
  cargo xtask vendor ../shop --parts sync,hooks   without checks and services")]
pub struct VendorArgs {
    /// The root of the target repository
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// The branch, tag or commit of the toolkit [default: HEAD]
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// The parts: sync, hooks (always included), checks, services, deploy, vendoring; or `all` [default: those that
    /// fit]
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub parts: Vec<String>,
    /// The name of the folder, the package and the `cargo NAME` command [default: xtask]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Branches where the hooks refuse commits and pushes; `none` for trunk-based work [default: the default branch]
    #[arg(long, value_name = "BRANCH", value_delimiter = ',')]
    pub protect: Vec<String>,
    /// Only show what would be written; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask upgrade                           from the recorded source
  cargo xtask upgrade --from ../xtask --ref v2  from a checkout of the toolkit, at a tag
  cargo xtask upgrade --check                   exit 1 if there is a newer version; change nothing")]
pub struct UpgradeArgs {
    /// A checkout of the toolkit, or its repository's URL [default: the recorded source]
    #[arg(long, value_name = "PATH|URL")]
    pub from: Option<String>,
    /// The branch, tag or commit of the toolkit [default: its HEAD]
    #[arg(long = "ref", value_name = "REF")]
    pub reference: Option<String>,
    /// The parts to have from now on, as for `vendor` [default: the present ones]
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    pub parts: Vec<String>,
    /// Exit 1 if there is a newer version; change nothing
    #[arg(long, conflicts_with_all = ["ours", "theirs", "dry_run"])]
    pub check: bool,
    /// Only show what would change; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Resolve a conflict at this path with the version here
    #[arg(long, value_name = "PATH")]
    pub ours: Vec<OsString>,
    /// Resolve a conflict at this path with the new version
    #[arg(long, value_name = "PATH")]
    pub theirs: Vec<OsString>,
}
