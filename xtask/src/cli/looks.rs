//! Which commands only look.

#[cfg(feature = "deploy")]
use super::Deploying;
use super::{Branch, Command, Hooks, Recovering};

impl Command {
    /// Whether nothing is to be written: then a partial clone brings no contents for it. `diff` shows
    /// contents, so it is not among them.
    #[must_use]
    pub fn only_looks(&self) -> bool {
        match self {
            Command::Status(_) | Command::Why(_) => true,
            #[cfg(feature = "services")]
            Command::Ps(_) | Command::Logs(_) => true,
            Command::Hooks(Hooks::Status { .. }) => true,
            #[cfg(feature = "deploy")]
            Command::Deploying(Deploying::History(_)) => true,
            Command::Sync(args) => args.check || args.dry_run,
            Command::Propagate(args) => args.dry_run,
            Command::Extract(args) => args.dry_run,
            Command::Promote(args) => args.dry_run,
            Command::ReverseSync(args) => args.dry_run,
            Command::InstallHooks(args) => args.dry_run,
            Command::Undo(args) => args.list,
            Command::Branch(Branch::Check(_)) => true,
            Command::Branch(Branch::Prune(args)) => args.dry_run,
            Command::Recovering(Recovering::Backup(args)) => args.list,
            #[cfg(feature = "services")]
            Command::Recovering(Recovering::Recover(args)) => args.dry_run,
            _ => false,
        }
    }
}
