//! Arguments of `push`, `reverse-sync`, `extract`, `promote` and `propagate`, e.g. `extract feature/ci --push`.

use std::ffi::OsString;

use clap::Args;

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask push                      as `git push`
  cargo xtask push -u origin feature    this branch, for the first time
  cargo xtask push --force-with-lease   after a rebase")]
pub struct PushArgs {
    /// The arguments of `git push`
    #[arg(value_name = "GIT-PUSH-ARG", trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask reverse-sync feature/ci abc1234            one commit of that branch
  cargo xtask reverse-sync feature/ci main..feature/ci   all its commits with managed files
  cargo xtask reverse-sync feature/ci abc1234 --resolve  resolve its conflict in a separate worktree
  cargo xtask reverse-sync --continue                    continue after resolving the conflict")]
pub struct ReverseSyncArgs {
    /// The branch that has the commits
    #[arg(value_name = "BRANCH", required_unless_present_any = ["continue_", "abort"])]
    pub branch: Option<String>,
    /// The commits, or ranges (`A..B`); if none is given, the candidates are listed
    #[arg(value_name = "COMMIT")]
    pub commits: Vec<String>,
    /// Take the changes of a merge commit relative to this parent (1 is the branch merged into)
    #[arg(long, value_name = "PARENT")]
    pub mainline: Option<usize>,
    /// If there is a conflict, check it out in a separate worktree to resolve it
    #[arg(long)]
    pub resolve: bool,
    /// Continue after resolving the conflict
    #[arg(long = "continue", conflicts_with_all = ["branch", "commits", "mainline", "resolve", "abort", "dry_run"])]
    pub continue_: bool,
    /// Abort the resolution; the canonical branch stays as it was
    #[arg(long, conflicts_with_all = ["branch", "commits", "mainline", "resolve", "dry_run"])]
    pub abort: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Only show what would be copied; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask extract                       the current branch
  cargo xtask extract feature/ci --dry-run  show what would be collected
  cargo xtask extract feature/ci --push --comment   as CI runs it on every push")]
pub struct ExtractArgs {
    /// The branch [default: the current one]
    #[arg(value_name = "BRANCH")]
    pub branch: Option<String>,
    /// Compare with this commit instead of the canonical commit that the branch started from
    #[arg(long, value_name = "COMMIT")]
    pub base: Option<String>,
    /// Push the collected changes, unless the remote branch has moved
    #[arg(long)]
    pub push: bool,
    /// Create or update one comment on the branch's pull request (through `gh`)
    #[arg(long)]
    pub comment: bool,
    /// Only show what would be collected; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask promote --dry-run    show what is collected
  cargo xtask promote feature/ci   apply the changes of that branch
  cargo xtask promote              apply all of them")]
pub struct PromoteArgs {
    /// The source branches [default: all]
    #[arg(value_name = "BRANCH")]
    pub branches: Vec<String>,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
    /// Only show what would be applied; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask propagate --dry-run -v         show every branch and what would happen to it
  cargo xtask propagate 'feature/*'          the local branches that match
  cargo xtask propagate --push               the local branches; push those with only sync commits
  cargo xtask propagate --remote --push      the branches of the remote
  cargo xtask propagate --remote --push --pr and pull requests for the protected ones")]
pub struct PropagateArgs {
    /// Only branches whose name matches, as in `git branch --list`
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,
    /// Use the branches of the remote instead of the local ones
    #[arg(long)]
    pub remote: bool,
    /// Push in one go: each branch only if the remote has not moved, and only sync commits
    #[arg(long)]
    pub push: bool,
    /// Open, update or close the pull requests of protected branches (through `gh`)
    #[arg(long, requires_all = ["remote", "push"])]
    pub pr: bool,
    /// Allow deleting more than half of a branch's managed files
    #[arg(long)]
    pub yes: bool,
    /// Only show what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON: every branch, and every path that is not in sync
    #[arg(long)]
    pub json: bool,
}
