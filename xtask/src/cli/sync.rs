//! Arguments of `sync`, `status`, `diff`, `why`, `undo`, `switch` and `run`, e.g. `sync --check setup/`.

use std::ffi::OsString;

use clap::Args;

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask sync                     sync this branch, as one commit
  cargo xtask sync --check             exit 1 if a path is behind; change nothing
  cargo xtask sync --dry-run -v        show every managed path and what would happen to it
  cargo xtask sync --force setup/      replace customised and edited files below setup/
  cargo xtask sync --no-commit         write the files only, until `switch` or `undo`
  cargo xtask sync --all-worktrees     every worktree of this repository, in parallel")]
pub struct SyncArgs {
    /// Only these files and folders
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Only check whether a path is behind (exit code 1); change nothing
    #[arg(long, conflicts_with_all = ["force", "merge", "no_commit", "yes"])]
    pub check: bool,
    /// With --check: also fail on customised, edited and untracked paths
    #[arg(long, requires = "check")]
    pub strict: bool,
    /// Only show what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Back up and replace customised, edited and untracked files, too
    #[arg(long, conflicts_with = "merge")]
    pub force: bool,
    /// Merge the canonical changes into customised files
    #[arg(long)]
    pub merge: bool,
    /// Write the files only, not the index or the branch
    #[arg(long)]
    pub no_commit: bool,
    /// Commit even on a protected branch
    #[arg(long)]
    pub allow_protected: bool,
    /// Sync every worktree of this repository
    #[arg(long, conflicts_with = "paths")]
    pub all_worktrees: bool,
    /// First fetch the canonical branch and this branch's upstream
    #[arg(long)]
    pub fetch: bool,
    /// Allow deleting more than half of the managed files
    #[arg(long)]
    pub yes: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct StatusArgs {
    /// Show every worktree and every branch
    #[arg(long)]
    pub all: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct DiffArgs {
    /// Only these files and folders
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
}

#[derive(Args)]
pub struct WhyArgs {
    /// The file or folder
    #[arg(value_name = "PATH")]
    pub path: OsString,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask undo                     undo the last run in this worktree
  cargo xtask undo --list              list all backups
  cargo xtask undo 20260131T120000Z-1  restore this backup")]
pub struct UndoArgs {
    /// The backup [default: the newest of this worktree]
    #[arg(value_name = "ID", conflicts_with = "list")]
    pub id: Option<String>,
    /// List the backups; restore nothing
    #[arg(long)]
    pub list: bool,
}

#[derive(Args)]
pub struct SwitchArgs {
    /// The branch to switch to
    #[arg(value_name = "BRANCH")]
    pub branch: String,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask run scripts/ci            the script of the canonical branch, on the files of this one
  cargo xtask run setup/check.sh -v -C  all that follows the script belongs to it")]
pub struct RunArgs {
    /// The script, as a path from the root of the repository, and its arguments
    #[arg(
        value_names = ["SCRIPT", "ARG"], num_args = 1.., required = true,
        trailing_var_arg = true, allow_hyphen_values = true
    )]
    pub command: Vec<OsString>,
}
