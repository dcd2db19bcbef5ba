//! `unpin`: ends pins, so that sync follows the canonical branch at their paths again.
//!
//! ```text
//! feature/a: 1 pin removed, commit 1a2b3c4d5e
//! ```

use super::session::{Session, print_pin_report};
use super::{CommandResult, SUCCESS};
use crate::cli::UnpinArgs;
use xtask_sync::pin_commit::{PinRequest, change_pins};

pub(super) fn run(session: &Session, args: &UnpinArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let request = match args.lapsed {
        true => PinRequest::RemoveLapsed,
        false => PinRequest::Unpin {
            paths: session.repo_paths(&repo, &args.paths)?,
            branch: args.branch.clone(),
        },
    };
    let changed = change_pins(&repo, &request, args.dry_run, &session.tools())?;
    if changed.removed.is_empty() && !args.json {
        session.print_info(match args.lapsed {
            true => "no pin has lapsed; nothing to do",
            false => "it has lapsed, and is only at the upstream; nothing to do",
        });
    }
    print_pin_report(session, &repo, &changed, args.json)?;
    if changed.commit.is_some() && !changed.is_still_covered && !args.json {
        session.print_info("sync decides about these paths as about all others again; `cargo xtask sync --dry-run` shows it");
    }
    Ok(SUCCESS)
}
