//! The part of the command line that saves what git does not have, and brings it back.

use std::ffi::OsString;

#[cfg(feature = "services")]
use clap::ValueEnum;
use clap::{Args, Subcommand};

/// The commands.
#[derive(Subcommand)]
pub enum RecoveryCommand {
    /// Save what git would not bring back
    #[command(long_about = "\
Save what git would not bring back: what is staged, changed or not tracked, with modes, links and conflicts;
edits that git was told to overlook; what git is in the middle of; and the ignored files that `[backup]
ignored` in `setup/sync.toml` names (`.env` and `.env.*` if it says nothing).

It becomes one commit under `refs/xtask/backup/`, but for what those patterns name: that may be secret, and is
copied with mode 0600 under the git folder. Files, index and branches stay as they are. Backups are kept for
30 days, and the last 20 for ever.")]
    Backup(BackupArgs),
    /// Restore a backup, after saving what is there now
    #[command(long_about = "\
Restore a backup, after saving what is there now.

As a whole, a backup comes back on the branch on which it was made; single paths come back anywhere. What
`recover` has saved comes back with the branch that was checked out and what git was in the middle of; what was
changed since in tracked files is saved and goes. Other files that the backup does not hold stay as they are. What cannot come back is named, and the exit code is 1.")]
    Restore(RestoreArgs),
    #[cfg(feature = "services")]
    /// Back up everything, and reset the worktree to a known-good state
    #[command(long_about = "\
Back up everything, and reset the worktree to a known-good state.

  git          end a rebase, merge or the like where it stands; go to the default branch as its
               upstream is, or where --to says; commits that leave a branch stay on one of their own
  environment  files of variables that cannot be read get the newest copy that can; sync; validate
  ports        end what our own services have left on their ports; say who has the others
  services     end what runs here and start it anew, beside ports that somebody else has

Only what is wrong is put right, the plan is shown and asked for first, and all that is replaced is saved:
`restore` brings it back, with the branch and the operation. Nothing is ended for its name or its port.")]
    Recover(RecoverArgs),
}

/// `backup`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask backup --label 'before the new parser'
  cargo xtask backup --list                             all that can be brought back

Exit codes: 0 all is saved, or there was nothing to save; 1 something could not be saved, and is named")]
pub struct BackupArgs {
    /// What to call it
    #[arg(long, value_name = "TEXT", conflicts_with = "list")]
    pub label: Option<String>,
    /// List what can be brought back, by `restore`, `undo` and `validate --undo`
    #[arg(long)]
    pub list: bool,
    /// Answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `restore`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask restore 20260131T180000Z-1              all of it
  cargo xtask restore 20260131T180000Z-1 src/ .env    these alone, on whatever is checked out
  cargo xtask restore 20260131T180000Z-1 --dry-run    what it holds, and what would happen")]
pub struct RestoreArgs {
    /// The backup, as `backup --list` names it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Only these files and folders
    #[arg(value_name = "PATH")]
    pub paths: Vec<OsString>,
    /// Only say what would happen; change nothing
    #[arg(long)]
    pub dry_run: bool,
}

#[cfg(feature = "services")]
/// A part of a recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum RecoverStep {
    /// End what git is in the middle of, and go to a good state
    Git,
    /// Files of variables, sync, validate
    Environment,
    /// What is left on the ports of the services
    Ports,
    /// End the services and start them anew
    Services,
}

#[cfg(feature = "services")]
/// `recover`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  cargo xtask recover --dry-run          what is wrong, and what would be done
  cargo xtask recover                    all of it
  cargo xtask recover services           only the services
  cargo xtask recover git --to main~3    to another commit

Exit codes: 0 recovered, or nothing was wrong; 1 something is still wrong, and is named")]
pub struct RecoverArgs {
    /// Only these parts
    #[arg(value_name = "STEP", value_enum)]
    pub steps: Vec<RecoverStep>,
    /// The branch or commit to go to; the upstream of the default branch if it is not given
    #[arg(long, value_name = "REF")]
    pub to: Option<String>,
    /// The layer of services; the one that runs or ran, or else `local`
    #[arg(long, value_name = "NAME")]
    pub layer: Option<String>,
    /// Only say what is wrong and what would be done; change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask first
    #[arg(long)]
    pub yes: bool,
}
