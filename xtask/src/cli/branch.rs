//! The command line of `branch`.

use clap::{Args, Subcommand};

/// `branch`.
#[derive(Subcommand)]
pub enum BranchCommand {
    /// Say whether branches keep to the rules of `setup/branches.toml`
    #[command(long_about = "\
Say whether branches keep to the rules of `setup/branches.toml`.

Of each branch: its name; its age; whether it was forked from its base, and how far that has gone ahead;
whether a merge with it would conflict, found out on trees alone; and whether it is merged and left over.
What cannot be told is told as such, and never passes. Nothing is written and nothing is fetched.")]
    Check(BranchCheckArgs),
    /// Make a branch from the newest state of its base, and switch to it
    New(BranchNewArgs),
    /// List the branches whose work has arrived, and delete those that are named or confirmed
    #[command(long_about = "\
List the branches whose work has arrived, and delete those that are named or confirmed.

A branch has arrived if its base has its commits, or has all that it changes: after a squash or a rebase.
One with anything else of its own is never deleted, nor one that a worktree is on, nor a protected one.
Every deletion says the line that brings the branch back.")]
    Prune(BranchPruneArgs),
}

/// `branch check`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask branch check                       the branch that is checked out
  cargo xtask branch check --all                 every branch of this clone
  cargo xtask branch check feature/x --at HEAD   a commit, as if it were that branch: for CI

Exit codes: 0 all good, 1 a rule is broken, 3 none is broken but something could not be told")]
pub struct BranchCheckArgs {
    /// The branches; the one that is checked out if none is given
    #[arg(value_name = "BRANCH", conflicts_with = "all")]
    pub branches: Vec<String>,
    /// Every branch of this clone
    #[arg(long)]
    pub all: bool,
    /// Take this commit for the branch that is named
    #[arg(long, value_name = "COMMIT", requires = "branches", conflicts_with = "all")]
    pub at: Option<String>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `branch new`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask branch new feature/login              from its base, as the remote has it now
  cargo xtask branch new feature/login --no-fetch   as it was last fetched

What you have not committed comes along, or keeps git from switching: by the rules of `git switch`.")]
pub struct BranchNewArgs {
    /// The name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Take the base as it was last fetched
    #[arg(long)]
    pub no_fetch: bool,
}

/// `branch prune`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask branch prune             list them, and ask
  cargo xtask branch prune feature/x   delete this one, if its work has arrived
  cargo xtask branch prune --dry-run   only list them")]
pub struct BranchPruneArgs {
    /// The branches to delete; all that can go, after a question, if none is given
    #[arg(value_name = "BRANCH")]
    pub branches: Vec<String>,
    /// Only say what would be deleted; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}
