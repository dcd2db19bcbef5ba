//! Which commands write nothing, e.g. `status`, `why` and `sync --check`.

#[cfg(feature = "deploy")]
use super::DeployCommand;
use super::{BranchCommand, Command, HooksCommand, RecoveryCommand};

impl Command {
    /// Returns whether the command writes nothing: then a partial clone fetches no blobs for it. `diff` shows
    /// contents, so it is not read-only in this sense.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        match self {
            Command::Status(_) | Command::Why(_) | Command::Dashboard(_) => true,
            #[cfg(feature = "services")]
            Command::Ps(_) | Command::Logs(_) => true,
            Command::Hooks(HooksCommand::Status { .. }) => true,
            #[cfg(feature = "deploy")]
            Command::Deploy(DeployCommand::History(_)) => true,
            Command::Sync(args) => args.check || args.dry_run,
            Command::Pin(args) => args.list || args.dry_run,
            Command::Unpin(args) => args.dry_run,
            Command::Propagate(args) => args.dry_run,
            Command::Extract(args) => args.dry_run,
            Command::Promote(args) => args.dry_run,
            Command::ReverseSync(args) => args.dry_run,
            Command::InstallHooks(args) => args.dry_run,
            Command::Undo(args) => args.list,
            Command::Branch(BranchCommand::Check(_)) => true,
            Command::Branch(BranchCommand::Prune(args)) => args.dry_run,
            Command::Recovery(RecoveryCommand::Backup(args)) => args.list,
            #[cfg(feature = "services")]
            Command::Recovery(RecoveryCommand::Recover(args)) => args.dry_run,
            _ => false,
        }
    }
}
