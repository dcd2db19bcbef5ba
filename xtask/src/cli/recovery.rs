//! Arguments of `backup`, `restore` and `recover`.

use std::ffi::OsString;

#[cfg(feature = "services")]
use clap::ValueEnum;
use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub enum RecoveryCommand {
    /// Back up uncommitted work, including untracked and `.env` files
    #[command(long_about = "\
Back up what git does not have: staged, changed and untracked files with modes, symlinks and conflicts; edits
hidden from git (`assume-unchanged`, `skip-worktree`); a rebase, merge or the like in progress; and the
ignored files that `[backup] ignored` in `setup/sync.toml` names (default: `.env` and `.env.*`).

It becomes one commit under `refs/xtask/backup/`, except for files that match those patterns: they may hold
secrets, and are copied with mode 0600 under the git folder. Files, index and branches are not changed. Backups
are kept for 30 days, and the last 20 forever.")]
    Backup(BackupArgs),
    /// Restore a backup, after backing up the current state
    #[command(long_about = "\
Restore a backup, after backing up the current state.

A complete restore needs the branch on which the backup was made; single paths can be restored on any branch.
A backup of `recover` also restores the branch that was checked out and the operation that was in progress;
later changes of tracked files are backed up and removed. Other files that the backup does not hold are kept.
Paths that cannot be restored are listed, and the exit code is 1.")]
    Restore(RestoreArgs),
    #[cfg(feature = "services")]
    /// Back up everything and reset the worktree to a known-good state
    #[command(long_about = "\
Back up everything and reset the worktree to a known-good state.

  git          end a rebase, merge or the like; check out the default branch as its upstream has it, or the
               commit of --to; commits that would be lost are kept on a branch of their own
  environment  replace unreadable env files with the newest readable copy; sync; validate
  ports        stop stale processes of our services on their ports; report the owners of the others
  services     stop the running services and start them again; if a port is in use, on another port

Only problems are fixed, the plan is shown first and needs a confirmation, and everything that is replaced is
backed up: `restore` brings it back, with the branch and the operation. No process is stopped just because of
its name or its port.")]
    Recover(RecoverArgs),
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask backup --label 'before the new parser'
  cargo xtask backup --list                             list everything that can be restored

Exit codes: 0 all is saved, or nothing to save; 1 some files could not be saved (they are listed)")]
pub struct BackupArgs {
    /// A label for the list of backups
    #[arg(long, value_name = "TEXT", conflicts_with = "list")]
    pub label: Option<String>,
    /// List everything that `restore`, `undo` and `validate --undo` can restore
    #[arg(long)]
    pub list: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask restore 20260131T180000Z-1              restore everything
  cargo xtask restore 20260131T180000Z-1 src/ .env    only these, on whatever is checked out
  cargo xtask restore 20260131T180000Z-1 --dry-run    show the content and what would happen")]
pub struct RestoreArgs {
    /// The ID of the backup, as listed by `backup --list`
    #[arg(value_name = "ID")]
    pub id: String,
    /// Only these files and folders
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Only show what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(feature = "services")]
/// A step of `recover`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum RecoverStep {
    /// End the git operation in progress and go to a known-good commit
    Git,
    /// Repair env files, sync, validate
    Environment,
    /// Free the ports of the services
    Ports,
    /// Stop the services and start them again
    Services,
}

#[cfg(feature = "services")]
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask recover --dry-run          show the problems and the plan
  cargo xtask recover                    all steps
  cargo xtask recover services           only the services
  cargo xtask recover git --to main~3    go to another commit

Exit codes: 0 recovered, or no problem found; 1 problems remain (they are listed)")]
pub struct RecoverArgs {
    /// Only these steps
    #[arg(value_name = "STEP", value_enum)]
    pub steps: Vec<RecoverStep>,
    /// The branch or commit to go to [default: the upstream of the default branch]
    #[arg(long, value_name = "REF")]
    pub to: Option<String>,
    /// The layer of services [default: the one that runs or ran, else `local`]
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Only show the problems and the plan; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask for confirmation
    #[arg(long)]
    pub yes: bool,
}
