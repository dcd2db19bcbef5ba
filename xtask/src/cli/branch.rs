//! Arguments of `branch check`, `branch new` and `branch prune`.

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum BranchCommand {
    /// Check branches against the rules of `setup/branches.toml`
    #[command(long_about = "\
Check branches against the rules of `setup/branches.toml`.

For each branch: its name; its age; whether it was forked from its base, and how many commits the base is
ahead; whether merging it would conflict, computed on trees alone; and whether it is merged and can be
deleted. If a fact cannot be determined, the result is `unknown`, which is not a pass. Nothing is written
and nothing is fetched.")]
    Check(BranchCheckArgs),
    /// Create a branch from the latest state of its base and switch to it
    New(BranchNewArgs),
    /// List merged branches and delete the named or confirmed ones
    #[command(long_about = "\
List merged branches and delete the named or confirmed ones.

A branch is merged if its base has its commits, or all of its changes: after a squash or a rebase. A branch
with anything else of its own is never deleted, nor one that is checked out in a worktree, nor a protected
one. For each deleted branch the command to restore it is printed.")]
    Prune(BranchPruneArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask branch check                       the branch that is checked out
  cargo xtask branch check --all                 every branch of this clone
  cargo xtask branch check feature/x --at HEAD   check a commit as if it were that branch, as in CI

Exit codes: 0 all rules are met, 1 a rule is broken, 3 no rule is broken but a result is unknown")]
pub struct BranchCheckArgs {
    /// The branches [default: the current one]
    #[arg(value_name = "BRANCH", conflicts_with = "all")]
    pub branches: Vec<String>,
    /// Check every branch of this clone
    #[arg(long)]
    pub all: bool,
    /// Check this commit as if it were the tip of the named branch
    #[arg(long, value_name = "COMMIT", requires = "branches", conflicts_with = "all")]
    pub at: Option<String>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask branch new feature/login              from its base, fetched from the remote
  cargo xtask branch new feature/login --no-fetch   from its base as it was last fetched

Uncommitted changes come along, or prevent the switch, as with `git switch`.")]
pub struct BranchNewArgs {
    /// The name of the new branch
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Use the base as it was last fetched
    #[arg(long)]
    pub no_fetch: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask branch prune             list merged branches and ask
  cargo xtask branch prune feature/x   delete this branch if it is merged
  cargo xtask branch prune --dry-run   only list them")]
pub struct BranchPruneArgs {
    /// The branches to delete [default: all that are merged, after a prompt]
    #[arg(value_name = "BRANCH")]
    pub branches: Vec<String>,
    /// Only show what would be deleted; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}
