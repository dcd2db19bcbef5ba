//! `uninstall-hooks`: removes the shims and their program, and restores the previous hooks, e.g.
//! `pre-commit.pre-xtask` as `pre-commit`.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use xtask_hooks::installation::uninstall_all;
use xtask_hooks::report::render_uninstalled;
use xtask_report as report;
#[cfg(feature = "checks")]
use xtask_validate::staged_tree;

pub(super) fn run(session: &Session) -> CommandResult {
    let repo = session.open_repo()?;
    for removal in uninstall_all(&session.hook_builder(&repo))? {
        report::print_output(&render_uninstalled(&removal, session.verbosity))?;
    }
    #[cfg(feature = "checks")]
    for tree in repo.list_worktrees()? {
        staged_tree::remove_export(&tree.root, &session.tools())?;
    }
    Ok(SUCCESS)
}
