//! Command-line arguments of every command, as clap types; the code that runs them is in `cmd`.
//!
//! The doc comments of fields and variants are the help texts, so they are written for users. For example,
//! `cargo xtask sync --check setup/` parses to
//!
//! ```text
//! Command::Sync(SyncArgs { check: true, paths: ["setup/"], .. })
//! ```

mod branch;
mod changes;
#[cfg(feature = "checks")]
mod checks;
mod dashboard;
#[cfg(feature = "deploy")]
mod deploy;
mod groups;
mod hooks;
mod pins;
mod read_only;
mod recovery;
#[cfg(feature = "services")]
mod services;
mod sync;
mod vendoring;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

pub use self::branch::{BranchCheckArgs, BranchCommand, BranchNewArgs, BranchPruneArgs};
pub use self::changes::{ExtractArgs, PromoteArgs, PropagateArgs, PushArgs, ReverseSyncArgs};
#[cfg(feature = "checks")]
pub use self::checks::ValidateArgs;
pub use self::dashboard::DashboardArgs;
#[cfg(feature = "deploy")]
pub use self::deploy::{DeployArgs, DeployCommand, HistoryArgs, RollbackArgs};
pub use self::groups::build_command;
pub use self::hooks::{HooksCommand, InstallHooksArgs};
pub use self::pins::{PinArgs, UnpinArgs};
pub use self::recovery::{BackupArgs, RecoveryCommand, RestoreArgs};
#[cfg(feature = "services")]
pub use self::recovery::{RecoverArgs, RecoverStep};
#[cfg(feature = "services")]
pub use self::services::{
    LogsArgs, PsArgs, RestartArgs, ServeArgs, ServeTarget, StartArgs, StopArgs,
};
pub use self::sync::{DiffArgs, RunArgs, StatusArgs, SwitchArgs, SyncArgs, UndoArgs, WhyArgs};
pub use self::vendoring::UpgradeArgs;
#[cfg(feature = "vendoring")]
pub use self::vendoring::VendorArgs;

const EXIT_CODES: &str = "\
Exit codes:
  0    success, or nothing to do
  1    the answer is no: drift under --check, a conflict, a failed check
  2    wrong usage or configuration
  3    failure of git, the disk, a lock or a permission
  4    deploy: failed, and rolled back to the previous release
  5    deploy: failed, and the previous release is unhealthy, too
  130  interrupted";

/// The task toolkit of this repository
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_long_help = EXIT_CODES)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    /// Options that every command accepts.
    #[command(flatten)]
    pub global: GlobalArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Options that every command accepts.
#[derive(Args)]
pub struct GlobalArgs {
    /// Run as if started in this folder
    #[arg(short = 'C', value_name = "DIR", global = true, help_heading = "Global options")]
    pub directory: Option<PathBuf>,
    /// When to use colours
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t = Color::Auto,
        global = true,
        help_heading = "Global options"
    )]
    pub color: Color,
    /// Only print results and errors
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub quiet: bool,
    /// Print more: details, and unchanged items
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The commands. Their order here is the order of `Cli::command()`; `build_command` groups them for the help.
#[derive(Subcommand)]
pub enum Command {
    /// Set up a fresh clone: hooks, shared files, checks
    ///
    /// Creates the canonical branch from the current commit if neither a local nor a remote one exists,
    /// syncs, installs the hooks, and reports whether the environment is healthy: it runs the gate phases
    /// of `validate --fast`. Running it again changes nothing.
    Setup(SetupArgs),
    /// Update this branch's managed files from the canonical branch
    #[command(long_about = "\
Update this branch's managed files from the canonical branch.

What happens to a path depends on HEAD, the index, the file and the canonical commit:
  behind      holds an earlier canonical version, unchanged      updated
  customised  the branch has committed a version of its own      kept (--merge, --force)
  edited      has uncommitted changes                            kept (--force)
  untracked   git does not track the file at this path           kept (--force)
  pinned      differs, and the branch has pinned the path        kept (--force)
Content is only replaced if git's history has it, or a backup that `undo` restores.

By default sync makes one commit on this branch, with the managed paths only. Whatever else is staged
or changed stays exactly as it is.")]
    Sync(SyncArgs),
    /// Show the state of this branch
    Status(StatusArgs),
    /// Show drift, checks, services and more on one page in a browser
    #[command(long_about = "\
Show drift, checks, services and more on one page in a browser.

The page has every branch with the paths at which it differs from the canonical branch, what the checks
cost and catch, the services as they are, what is deployed, broken branch rules, hooks and backups. It only
shows: whatever changes something is a command to copy.

It is served on this machine only, under an address that stays the same for a worktree, until Ctrl-C, the
end of the terminal, or an hour without a visitor. `--html FILE` writes the page to one file instead, which
needs no server and no network.")]
    Dashboard(DashboardArgs),
    /// Show how managed files differ from the canonical ones
    ///
    /// Runs `git diff` of the working tree against the canonical commit, for the managed files that
    /// differ. `-` is the canonical side, `+` the working tree.
    Diff(DiffArgs),
    /// Explain what sync decides about a path, and why
    Why(WhyArgs),
    /// Keep this branch's content at a path for a time, on purpose
    #[command(long_about = "\
Keep this branch's content at a path for a time, on purpose.

Sync, hooks, propagate and all other commands leave a pinned path as it is, and do not count it as drift;
only `sync --force` and `restore` replace it. From a week before its end, `status`, `sync` and the hooks
announce the end; after its last day, sync follows the canonical branch there again.

A pin is a small file in `.sync-pins/`, committed alone on this branch. It holds the name of the branch, so
it has no effect where the branch is merged. On a protected branch only pins on the canonical branch apply:
pin there with `--branch`.")]
    Pin(PinArgs),
    /// End pins, so that sync updates their paths again
    Unpin(UnpinArgs),
    /// Restore the files that a sync or an undo replaced
    ///
    /// A hook syncs the same files again at the next checkout; `cargo xtask hooks disable`, or a rule for
    /// the branch in `setup/sync.toml`, prevents that.
    Undo(UndoArgs),
    /// Switch branches when `sync --no-commit` has written files
    ///
    /// An overlay is the set of files that `sync --no-commit` wrote without a commit; it would block a
    /// plain `git switch`. This command removes the overlay, switches, and syncs the new branch.
    Switch(SwitchArgs),
    /// Check, create and prune branches by their rules
    #[command(subcommand)]
    Branch(BranchCommand),
    /// Run the canonical version of a managed script
    ///
    /// The managed files of the canonical commit are exported under the git folder, so that the script
    /// finds the files it needs next to it. It runs in the current folder, and its exit code is that of
    /// the command. XTASK_ROOT holds the root of this worktree.
    Run(RunArgs),
    /// Push, then open or update the pull request
    #[command(long_about = "\
Run `git push`, then open or update the pull requests for the pushed branches.

All arguments are passed to `git push`. A branch that changes managed files gets one draft pull request
into the canonical branch; `gh` opens it, or updates the open one. The push succeeds even if the pull
request cannot be made. A push to a protected branch is refused.")]
    Push(PushArgs),
    /// Copy approved commits of a branch into the canonical branch
    #[command(long_about = "\
Copy approved commits of a branch into the canonical branch.

Only managed paths are copied, as a three-way merge that keeps author, date and message and adds two
trailers with the origin. Several commits succeed together or not at all. Changes that the canonical
branch already has are skipped. It works wherever that branch is checked out, and keeps local changes
there.")]
    ReverseSync(ReverseSyncArgs),
    /// Collect a branch's changes of managed files for review
    #[command(long_about = "\
Collect a branch's changes of managed files as one commit on `orchestration-tools-changes`.

That branch is the canonical commit plus one commit for each source branch. Extracting a branch again
replaces its own commit and keeps the others. Your branch, index and files are not touched.")]
    Extract(ExtractArgs),
    /// Apply collected changes to the canonical branch
    #[command(long_about = "\
Apply collected changes from `orchestration-tools-changes` to the canonical branch.

Only managed paths are applied, and the chosen changes succeed together or not at all. The others stay
collected, on top of the new canonical commit.")]
    Promote(PromoteArgs),
    /// Sync every branch without checking it out
    #[command(long_about = "\
Sync every branch without checking it out.

Each branch gets the commit that `sync` would make on it; customised files stay. A branch that is checked
out in a worktree is synced there, by the rules of `sync`. A protected branch is not touched: its commit
goes to the side branch `orchestration-sync/BRANCH`, to be merged through a pull request. Branches with
`mode = \"notify\"` in their rules are skipped unless they are named in full.")]
    Propagate(PropagateArgs),
    /// Install git hooks that keep branches up to date
    #[command(long_about = "\
Install git hooks that keep branches up to date.

  post-checkout, post-merge, post-rewrite  sync the branch, by the rules of `sync`
  post-commit                              on the canonical branch: report the branches that are behind
  pre-commit                               refuse conflict markers, huge files, invalid TOML and JSON,
                                           commits on protected branches
  pre-push                                 refuse pushes to protected branches; open pull requests for
                                           changes of managed files

Existing hooks keep working: each runs first, as NAME.pre-xtask. The program that the hooks run is built
from the canonical branch and kept under the git folder, so no other branch can change it. Run this
command again to update outdated hooks.")]
    InstallHooks(InstallHooksArgs),
    /// Remove the hooks and restore the previous ones
    UninstallHooks,
    /// Enable or disable the hooks, or show their state
    #[command(subcommand)]
    Hooks(HooksCommand),
    #[cfg(feature = "checks")]
    /// Run the checks of this checkout and apply safe fixes
    #[command(long_about = "\
Run the checks of this checkout and apply safe fixes.

The checks are configured in `setup/validate.toml`; without that file a default set runs. Phases run one
after the other, the checks of a phase in parallel; if a check of a gate phase fails, later phases do not
run.

With --fast a check is skipped if it has passed before in the same state: the same command, the same
inputs (files and variables), the same programs, and the same state of the checks that it needs. A check
without `inputs` and `tools` always runs. Only passes are cached, and only if no input changed during the
run.

A failed check may have a fix. Safe fixes run by default, unless CI is set; the files that a fix may write
are backed up first, and restored if the check still fails.")]
    Validate(ValidateArgs),
    #[cfg(feature = "services")]
    /// Start services and wait until they are ready
    #[command(long_about = "\
Start services and wait until they are ready.

A layer is a file in `deployment/`; the default is `local`. Each service starts as soon as its dependencies
are ready, in parallel. Running services are left as they are. If a service does not become ready, the ones
that this command has started are stopped again, and the exit code is 1.

Before anything is started, the configuration, the programs and the ports are checked. If a port is in use,
the command fails and names the process; only `--take-over` stops that process.

For a layer whose `[deploy]` has the engine `compose` or `kubernetes`, the command is passed to that tool.")]
    Start(StartArgs),
    #[cfg(feature = "services")]
    /// Stop services and verify that no process is left running
    #[command(long_about = "\
Stop services and verify that no process is left running.

Dependent services are stopped first. Every process of a service is asked to exit, even one that has left its
process group or session, and killed after the timeout. If a process survives that, it is listed, and the exit
code is 1. A process that was not started here is never touched.

Without --layer, everything that runs in this worktree is stopped. It is no error if nothing runs.")]
    Stop(StopArgs),
    #[cfg(feature = "services")]
    /// Restart services with their current configuration
    ///
    /// Services that depend on them keep running.
    Restart(RestartArgs),
    #[cfg(feature = "services")]
    /// Show services: state, health, process, port, usage
    ///
    /// With `--layer`, also the services of a layer that is deployed to this machine. Exits with 1 if a
    /// required service has failed.
    Ps(PsArgs),
    #[cfg(feature = "services")]
    /// Show the logs of services, merged by time
    Logs(LogsArgs),
    /// `backup`, `restore` and `recover`.
    #[command(flatten)]
    Recovery(RecoveryCommand),
    #[cfg(feature = "deploy")]
    /// `deploy`, `rollback` and `history`.
    #[command(flatten)]
    Deploy(DeployCommand),
    #[cfg(feature = "vendoring")]
    /// Copy the toolkit into another repository
    #[command(long_about = "\
Copy the toolkit into another repository.

The repository gets `xtask/`, the entries for `cargo xtask` in `.cargo/config.toml` and in the workspace,
and initial files that fit it: setup/*.toml, deployment/local.toml, justfile, and a CI workflow for its
forge. Existing files are never replaced: lines are added, or printed for you to add. Everything is staged
and nothing is committed; the repository must have no uncommitted changes, so that the diff shows only
what this command added.")]
    Vendor(VendorArgs),
    /// Update the vendored toolkit, keeping local changes
    #[command(long_about = "\
Update the vendored toolkit, keeping local changes.

A three-way merge between the vendored version, the state of the canonical branch, and the new version:
untouched files are replaced, changed ones are merged. The result is built first, and becomes one commit on
the canonical branch; sync and propagate bring it to every other branch.

If a file conflicts, nothing is changed. Its text with conflict markers is written under the git folder:
edit it there until no marker is left, and run the command again. --ours and --theirs resolve a conflict
without editing.")]
    Upgrade(UpgradeArgs),
    #[cfg(feature = "vendoring")]
    /// Run a scripted tutorial in a temporary folder and check each result
    ///
    /// Two people, each with a clone of one repository, change files that all branches share: directly,
    /// and through a feature branch. Every command is shown as typed, with its output. The tutorial works
    /// anywhere, and neither reads nor writes your repository or your git configuration. At the first
    /// unexpected result it exits with 1 and keeps its folder for inspection.
    Demo(DemoArgs),
    /// Print shell completions
    ///
    /// To complete `cargo xtask …` itself, bind them to a shell function or alias named `xtask` for
    /// `cargo xtask`.
    Completions(CompletionsArgs),
    #[cfg(feature = "services")]
    /// Run one of the small built-in services until it is stopped
    #[command(hide = true)]
    Serve(ServeArgs),
}

#[derive(Args)]
pub struct SetupArgs {
    /// Do not install the git hooks
    #[arg(long)]
    pub no_hooks: bool,
}

#[cfg(feature = "vendoring")]
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask demo | less             read it page by page
  cargo xtask demo --keep /tmp/demo   keep its folder, to try more commands there")]
pub struct DemoArgs {
    /// Keep the tutorial's folder here; DIR must be empty or not exist yet
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell to generate completions for
    #[arg(value_enum)]
    pub shell: Shell,
}
