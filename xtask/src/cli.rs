//! The whole command line on one page. Types only: what they do is in `cmd`.

mod branch;
#[cfg(feature = "deploy")]
mod deploy;
mod groups;
mod read_only;
mod recovery;
#[cfg(feature = "services")]
mod services;
mod vendoring;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::branch::{BranchCheckArgs, BranchCommand, BranchNewArgs, BranchPruneArgs};
#[cfg(feature = "deploy")]
pub use self::deploy::{DeployArgs, DeployCommand, HistoryArgs, RollbackArgs};
pub use self::groups::build_command;
pub use self::recovery::{BackupArgs, RecoveryCommand, RestoreArgs};
#[cfg(feature = "services")]
pub use self::recovery::{RecoverArgs, RecoverStep};
#[cfg(feature = "services")]
pub use self::services::{
    LogsArgs, PsArgs, RestartArgs, ServeArgs, ServeTarget, StartArgs, StopArgs,
};
pub use self::vendoring::UpgradeArgs;
#[cfg(feature = "vendoring")]
pub use self::vendoring::VendorArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0    done, or nothing to do
  1    the answer is no: drift under --check, a conflict
  2    wrong usage or wrong configuration
  3    could not do it: git, disk, lock, permission
  4    deploy: it did not hold, and the release before serves again
  5    deploy: the same, and the release before is not well either
  130  interrupted";

/// The task toolkit of this repository
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_long_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command understands.
#[derive(Args)]
pub struct GlobalArgs {
    /// Run as if started in this folder
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = Color::Auto, global = true)]
    pub color: Color,
    /// Only print results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more, also what is in sync
    #[arg(short, long, global = true)]
    pub verbose: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Set up a fresh clone: hooks, shared files, checks
    ///
    /// Makes the canonical branch from the current commit if neither a local nor a remote one
    /// exists, syncs, installs the hooks, and says whether the environment is healthy: the checks of
    /// `validate --fast` in phases that are gates. Running it again changes nothing.
    Setup(SetupArgs),
    /// Update this branch's managed files from the canonical branch
    #[command(long_about = "\
Update this branch's managed files from the canonical branch.

What happens to a path depends on what HEAD, the index, the file and the canonical commit hold:
  behind      it holds what once was canonical, and nothing else   brought up to date
  customised  the branch has a content of its own                   kept (--merge, --force)
  edited      there are changes that are not committed              kept (--force)
  untracked   a file that git does not track is in its place        kept (--force)
Nothing is replaced that is not in git's history, or in a backup that `undo` brings back.

By default one commit is made on this branch. It holds only the managed paths; whatever else is
staged or changed stays exactly as it is.")]
    Sync(SyncArgs),
    /// Show the state of this branch
    Status(StatusArgs),
    /// Show how managed files differ from the canonical ones
    ///
    /// This is `git diff` of the working tree against the canonical commit, for the managed files
    /// that differ. `-` is canonical, `+` is here.
    Diff(DiffArgs),
    /// Explain what sync decides about a path, and why
    Why(WhyArgs),
    /// Revert what a sync, a force or an undo replaced
    ///
    /// What a hook has brought up to date it brings up to date again at the next checkout; `cargo
    /// xtask hooks disable`, or a rule for the branch in `setup/sync.toml`, keeps it from that.
    Undo(UndoArgs),
    /// Switch branches, with the files that `sync --no-commit` wrote
    ///
    /// An overlay is what `sync --no-commit` has written: files without a commit, which would be in
    /// the way of a plain `git switch`.
    Switch(SwitchArgs),
    /// Check, create and prune branches by their rules
    #[command(subcommand)]
    Branch(BranchCommand),
    /// Run the canonical version of a managed script
    ///
    /// The managed files of the canonical commit are laid out under the git folder, so that the
    /// script finds those it needs beside it. It runs in the current folder, and its exit status
    /// is the command's. XTASK_ROOT names the root of this worktree.
    Run(RunArgs),
    /// Push, then open or update the pull request
    #[command(long_about = "\
`git push`, and then the pull requests of what it pushed.

All arguments are git's. A branch that holds managed files of its own gets one draft pull request
into the canonical branch, made through `gh`, or the one that is open is brought up to date. That it
cannot be made never fails the push. A push to a protected branch is refused.")]
    Push(PushArgs),
    /// Take approved commits into the canonical branch
    #[command(long_about = "\
Take approved commits into the canonical branch.

Only managed paths are taken, as a three-way merge, with author, date and message as they were and
two trailers that say where they came from. Several commits go through together or not at all. What
the canonical branch has already is skipped. It works wherever that branch is checked out, and leaves
local changes there alone.")]
    ReverseSync(ReverseSyncArgs),
    /// Collect what a branch changes at managed paths
    #[command(long_about = "\
Collect what a branch changes at managed paths as one commit on `orchestration-tools-changes`.

That branch is the canonical commit with one commit on top for each source branch. Extracting a branch
again replaces its own commit and leaves the others. Your branch, index and files are not touched.")]
    Extract(ExtractArgs),
    /// Take collected changes into the canonical branch
    #[command(long_about = "\
Take collected changes from `orchestration-tools-changes` into the canonical branch.

Only managed paths are taken, and all that is chosen or nothing. What is not chosen stays collected, on
top of the new canonical commit.")]
    Promote(PromoteArgs),
    /// Update every branch, without checking any out
    #[command(long_about = "\
Update every branch, without checking any out.

Each branch gets the commit that `sync` would make on it. What a branch has customised stays. A branch
that a worktree has checked out is synced there, by the rules of `sync`. A protected branch is not
touched: its commit goes on `orchestration-sync/BRANCH` beside it, to be merged by a pull request.
Branches for which the rules say `mode = \"notify\"` are left alone unless they are named in full.")]
    Propagate(PropagateArgs),
    /// Install git hooks that keep branches up to date
    #[command(long_about = "\
Install git hooks that keep branches up to date.

  post-checkout, post-merge, post-rewrite  sync the branch, by the rules of `sync`
  post-commit                              on the canonical branch: who is behind now
  pre-commit                               conflict markers, huge files, broken TOML and JSON,
                                           commits on protected branches
  pre-push                                 pushes to protected branches; pull requests for changes
                                           of managed files

Hooks that are there keep working: each runs first, as NAME.pre-xtask. The program that the hooks run
is built from the canonical branch and kept under the git folder, so no branch can change it. Running
this again renews what is old.")]
    InstallHooks(InstallHooksArgs),
    /// Remove the hooks, and restore those that were there before
    UninstallHooks,
    /// Enable or disable the hooks, or show their state
    #[command(subcommand)]
    Hooks(HooksCommand),
    #[cfg(feature = "checks")]
    /// Run the checks of this checkout, and fix what is safe to fix
    #[command(long_about = "\
Run the checks of this checkout, and fix what is safe to fix.

The checks are those of `setup/validate.toml`; without that file a usual set runs. Phases run one after
the other, the checks of a phase side by side; a gate that fails stops the phases after it.

With --fast a check is skipped if the very state in which it is now has passed before: its command, the
files and variables that it names, the programs it runs, and all of that for the checks that it needs.
Without inputs and tools a check always runs. Only passes are remembered, and only if nothing changed
while the check ran.

A check that fails may have a fix. Safe ones run by default, not where CI is set; what they may write is
backed up first, and put back where the check fails all the same.")]
    Validate(ValidateArgs),
    #[cfg(feature = "services")]
    /// Start services, and wait until they are ready
    Start(StartArgs),
    #[cfg(feature = "services")]
    /// Stop services, and verify that nothing is left running
    Stop(StopArgs),
    #[cfg(feature = "services")]
    /// Restart services with their current configuration
    ///
    /// What needs them goes on meanwhile.
    Restart(RestartArgs),
    #[cfg(feature = "services")]
    /// Show services: state, health, process, port, usage
    ///
    /// With `--layer` also those of a layer that is deployed to this machine. Ends with 1 where a required service
    /// has failed.
    Ps(PsArgs),
    #[cfg(feature = "services")]
    /// Show the logs of services, merged by time
    Logs(LogsArgs),
    /// What saves, and brings back.
    #[command(flatten)]
    Recovery(RecoveryCommand),
    #[cfg(feature = "deploy")]
    /// What puts layers where they serve.
    #[command(flatten)]
    Deploy(DeployCommand),
    #[cfg(feature = "vendoring")]
    /// Copy the toolkit into another repository
    #[command(long_about = "\
Copy the toolkit into another repository.

The repository gets `xtask/`, what `cargo xtask` needs in `.cargo/config.toml` and in the workspace, and
files to begin with, fitted to what it is: setup/*.toml, deployment/local.toml, justfile, and what its
forge runs. No file that is there is replaced: lines are added, or named for you to add. All is staged and
nothing is committed; the repository must have no uncommitted changes, so that you see what came.")]
    Vendor(VendorArgs),
    /// Update the vendored toolkit, keeping local changes
    #[command(long_about = "\
Update the vendored toolkit, keeping local changes.

A three-way merge between what was vendored, what the canonical branch has now, and the new version:
files that nobody touched are replaced, changed ones merged. The result is built before it counts, and
becomes one commit on the canonical branch; sync and propagate take it to every other one.

While a file is in conflict nothing changes. Its text with markers is put under the git folder: edit it
there until no marker is left, and run the command again. --ours and --theirs decide without editing.")]
    Upgrade(UpgradeArgs),
    #[cfg(feature = "vendoring")]
    /// Play a day with it in a temporary place, and check every outcome
    ///
    /// Two people, each with a clone of one repository, change what all branches share: directly,
    /// and by way of a branch. Every command is shown as it is typed, with what it says. It works
    /// anywhere, and neither reads nor writes your repository or your git configuration. At the
    /// first outcome that is not as told it exits 1, and leaves the scene there to be looked at.
    Demo(DemoArgs),
    /// Print shell completions
    ///
    /// For the word after `cargo xtask`, use them with a shell function or an alias named `xtask`
    /// for `cargo xtask`.
    Completions(CompletionsArgs),
    #[cfg(feature = "services")]
    /// Serve one of the small services that come with the toolkit, until it is told to end
    #[command(hide = true)]
    Serve(ServeArgs),
}

/// `setup`.
#[derive(Args)]
pub struct SetupArgs {
    /// Leave the git hooks alone
    #[arg(long)]
    pub no_hooks: bool,
}

/// `push`.
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

/// `reverse-sync`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask reverse-sync feature/ci abc1234            one commit of that branch
  cargo xtask reverse-sync feature/ci main..feature/ci   all of its commits that have managed files
  cargo xtask reverse-sync feature/ci abc1234 --resolve  open its conflict in a worktree of its own
  cargo xtask reverse-sync --continue                    go on with what was resolved there")]
pub struct ReverseSyncArgs {
    /// The branch from which the commits come
    #[arg(value_name = "BRANCH", required_unless_present_any = ["continue_", "abort"])]
    pub branch: Option<String>,
    /// The commits, or ranges of them (`A..B`); without one, those are listed that could be named
    #[arg(value_name = "COMMIT")]
    pub commits: Vec<String>,
    /// Take what a merge brought in, seen from this parent of it (1 is the branch merged into)
    #[arg(long, value_name = "PARENT")]
    pub mainline: Option<usize>,
    /// Open a conflict in a worktree of its own, to be resolved there
    #[arg(long)]
    pub resolve: bool,
    /// Go on with what was resolved
    #[arg(long = "continue", conflicts_with_all = ["branch", "commits", "mainline", "resolve", "abort", "dry_run"])]
    pub continue_: bool,
    /// Give up what is being resolved; the canonical branch stays as it was
    #[arg(long, conflicts_with_all = ["branch", "commits", "mainline", "resolve", "dry_run"])]
    pub abort: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Only show what would be taken; write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `extract`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask extract                       the branch that is checked out
  cargo xtask extract feature/ci --dry-run  what would be collected
  cargo xtask extract feature/ci --push --comment   as CI does it at every push")]
pub struct ExtractArgs {
    /// The branch; the one that is checked out if it is not given
    #[arg(value_name = "BRANCH")]
    pub branch: Option<String>,
    /// See its changes against this commit, not against the canonical content it came from
    #[arg(long, value_name = "COMMIT")]
    pub base: Option<String>,
    /// Push the branch of changes, if nobody else has moved it
    #[arg(long)]
    pub push: bool,
    /// Say it in one comment on the branch's pull request (through `gh`), renewed each time
    #[arg(long)]
    pub comment: bool,
    /// Only say what would be collected; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `promote`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask promote --dry-run    what is waiting
  cargo xtask promote feature/ci   what comes from that branch
  cargo xtask promote              all of it")]
pub struct PromoteArgs {
    /// The source branches; all if none is given
    #[arg(value_name = "BRANCH")]
    pub branches: Vec<String>,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Only show what would be taken; write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// `propagate`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask propagate --dry-run -v         every branch, and what would happen to it
  cargo xtask propagate 'feature/*'          the branches here that match
  cargo xtask propagate --push               the branches here, and push what is theirs alone
  cargo xtask propagate --remote --push      the branches of the remote
  cargo xtask propagate --remote --push --pr and pull requests for the protected ones")]
pub struct PropagateArgs {
    /// Only branches whose name matches, as in `git branch --list`
    #[arg(value_name = "GLOB")]
    pub globs: Vec<String>,
    /// The branches of the remote instead of those here
    #[arg(long)]
    pub remote: bool,
    /// Push: all in one push, each branch only if it has not moved, nothing of anybody else's
    #[arg(long)]
    pub push: bool,
    /// Open, update or close the pull requests of protected branches (through `gh`)
    #[arg(long, requires_all = ["remote", "push"])]
    pub pr: bool,
    /// Also delete more than half of the managed files of a branch
    #[arg(long)]
    pub yes: bool,
    /// Only say what would happen; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Answer as JSON: every branch, and every path that is not in sync
    #[arg(long)]
    pub json: bool,
}

/// `install-hooks`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask hooks status                    will they fire, and if not, why
  cargo xtask hooks disable --for 2h          leave me alone for a while
  DISABLE_ORCHESTRATION_CHECKS=1 git commit   leave this one command alone
  cargo xtask uninstall-hooks                 as if they had never been here")]
pub struct InstallHooksArgs {
    /// Also where git looks in a folder that is shared with other repositories or branches
    #[arg(long)]
    pub force: bool,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Install the program that runs now, for a canonical branch without `xtask/`
    #[arg(long)]
    pub this_program: bool,
}

/// `hooks`.
#[derive(Subcommand)]
pub enum HooksCommand {
    /// Switch the hooks on again in this worktree
    Enable {
        /// In every worktree
        #[arg(long)]
        all: bool,
    },
    /// Switch the hooks off in this worktree; no file is moved
    Disable {
        /// In every worktree
        #[arg(long)]
        all: bool,
        /// Only for so long, as in `90m` or `2h`
        #[arg(long = "for", value_name = "TIME")]
        span: Option<String>,
    },
    /// Say of every hook whether it fires here, with which program, and what stands in the way
    ///
    /// Exits 1 if one that should fire does not.
    Status {
        /// Answer as JSON
        #[arg(long)]
        json: bool,
    },
}

/// `sync`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask sync                     this branch, one commit
  cargo xtask sync --check             exit 1 if a path is behind; writes nothing
  cargo xtask sync --dry-run -v        every managed path, and what would happen to it
  cargo xtask sync --force setup/      replace what is customised or edited below setup/
  cargo xtask sync --no-commit         the files alone, until `switch` or `undo`
  cargo xtask sync --all-worktrees     every worktree of this repository, side by side")]
pub struct SyncArgs {
    /// Only these paths, and what is below them
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Only say whether something is behind (exit code 1); write nothing
    #[arg(long, conflicts_with_all = ["force", "merge", "no_commit", "yes"])]
    pub check: bool,
    /// With --check: customised, edited and untracked paths count, too
    #[arg(long, requires = "check")]
    pub strict: bool,
    /// Only say what would happen; write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Back up and replace customised, edited and untracked paths, too
    #[arg(long, conflicts_with = "merge")]
    pub force: bool,
    /// Merge the canonical changes into customised paths
    #[arg(long)]
    pub merge: bool,
    /// Write the files only, not the index or the branch
    #[arg(long)]
    pub no_commit: bool,
    /// Commit on a protected branch, too
    #[arg(long)]
    pub allow_protected: bool,
    /// Every worktree of this repository
    #[arg(long, conflicts_with = "paths")]
    pub all_worktrees: bool,
    /// Fetch the canonical branch (and this branch's upstream) first
    #[arg(long)]
    pub fetch: bool,
    /// Also delete more than half of the managed files at once
    #[arg(long)]
    pub yes: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `status`.
#[derive(Args)]
pub struct StatusArgs {
    /// Every worktree and every branch
    #[arg(long)]
    pub all: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `diff`.
#[derive(Args)]
pub struct DiffArgs {
    /// Only these paths, and what is below them
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
}

/// `why`.
#[derive(Args)]
pub struct WhyArgs {
    /// The path
    #[arg(value_name = "PATH")]
    pub path: OsString,
}

/// `undo`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask undo                     the last run in this worktree
  cargo xtask undo --list              all backups
  cargo xtask undo 20260131T120000Z-1  this one")]
pub struct UndoArgs {
    /// The backup; the newest of this worktree if it is not given
    #[arg(value_name = "ID", conflicts_with = "list")]
    pub id: Option<String>,
    /// List the backups, and bring nothing back
    #[arg(long)]
    pub list: bool,
}

/// `switch`.
#[derive(Args)]
pub struct SwitchArgs {
    /// The branch to switch to
    #[arg(value_name = "BRANCH")]
    pub branch: String,
}

/// `run`.
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

#[cfg(feature = "checks")]
/// `validate`. What is a yes or a no can also be said as `--fast=false`, against a variable or a
/// default that was kept.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask validate                 everything
  cargo xtask validate --fast          what has changed since it passed
  cargo xtask validate --fast --why    and why each check ran or was skipped
  cargo xtask validate --only lint     one check, phase or tag, and what it needs
  cargo xtask validate --undo last     take the last fixes back

Variables, which flags override: FAST_MODE=1, SKIP_TESTS=1, DRY_RUN=1, INTERACTIVE=1, AUTO_REMEDIATE=0
(--no-fix), LOG_REMEDIATION=0 (--no-log), PERSIST_CONFIG=1. Defaults that --persist keeps are in
`git config xtask.validate.*`.")]
pub struct ValidateArgs {
    /// Skip what has passed in this very state
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub fast: Option<bool>,
    /// Leave out checks that run tests
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub skip_tests: Option<bool>,
    /// Only these checks, phases or tags, and what they need
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub only: Vec<String>,
    /// Not these
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    pub skip: Vec<String>,
    /// Only say what would run; write nothing
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub dry_run: Option<bool>,
    /// Ask before each fix, also before risky ones
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub interactive: Option<bool>,
    /// Run risky fixes as well, without asking
    #[arg(long, conflicts_with = "interactive")]
    pub yes: bool,
    /// Run no fixes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_fix: Option<bool>,
    /// Keep no log
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub no_log: Option<bool>,
    /// Say why each check ran or was skipped
    #[arg(long)]
    pub why: bool,
    /// How many checks run side by side; as many as there are cores if it is not given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// Keep today's flags as defaults of this clone
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub persist: Option<bool>,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
    /// Write a JUnit report; `-` is the standard output
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write a SARIF report; `-` is the standard output
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Annotations and a summary for GitHub Actions
    #[arg(long, conflicts_with = "json")]
    pub github: bool,
    /// List the checks, and run none
    #[arg(long, conflicts_with_all = ["undo", "history"])]
    pub list: bool,
    /// Take back what the fixes of a run changed; `last` is the last run that had any
    #[arg(long, value_name = "RUN", conflicts_with = "history")]
    pub undo: Option<String>,
    /// For each check: runs, pass rate, times, and how often it was skipped
    #[arg(long)]
    pub history: bool,
}

#[cfg(feature = "vendoring")]
/// `demo`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask demo | less             read it
  cargo xtask demo --keep /tmp/demo   and go on by yourself where it ends")]
pub struct DemoArgs {
    /// Leave the scene in this folder, which must be empty or not be there yet
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// `completions`.
#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}
