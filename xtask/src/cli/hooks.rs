//! Arguments of `install-hooks` and `hooks`, e.g. `hooks disable --for 2h`.

use clap::{Args, Subcommand};

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask hooks status                    do they run here, and if not, why
  cargo xtask hooks disable --for 2h          disable them for two hours
  DISABLE_ORCHESTRATION_CHECKS=1 git commit   disable them for one command
  cargo xtask uninstall-hooks                 remove them completely")]
pub struct InstallHooksArgs {
    /// Install even into a hooks folder that other repositories or branches share
    #[arg(long)]
    pub force: bool,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Install the running program, for a canonical branch without `xtask/`
    #[arg(long)]
    pub this_program: bool,
}

#[derive(Subcommand)]
pub enum HooksCommand {
    /// Enable the hooks again in this worktree
    Enable {
        /// In every worktree
        #[arg(long)]
        all: bool,
    },
    /// Disable the hooks in this worktree; no file is moved
    Disable {
        /// In every worktree
        #[arg(long)]
        all: bool,
        /// For this long only, such as `90m` or `2h`
        #[arg(long = "for", value_name = "TIME")]
        span: Option<String>,
    },
    /// Show for each hook whether it runs here, with which program, or why not
    ///
    /// Exits with 1 if a hook that should run does not.
    Status {
        /// Print the result as JSON
        #[arg(long)]
        json: bool,
    },
}
