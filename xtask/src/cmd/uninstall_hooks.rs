//! `uninstall-hooks`: removes the shims and their program, and restores the previous hooks, e.g.
//! `pre-commit.pre-xtask` as `pre-commit`.

use super::session::{Session, build_hook_lines};
use super::{CommandResult, SUCCESS};
use xtask_hooks::installation::{Removal, uninstall_all};
use xtask_report::{self as report, hooks::render_uninstalled};
#[cfg(feature = "checks")]
use xtask_validate::staged_tree;

pub(super) fn run(session: &Session) -> CommandResult {
    let repo = session.open_repo()?;
    for Removal { folder, hooks } in uninstall_all(&session.hook_builder(&repo))? {
        report::print_output(&render_uninstalled(
            &folder,
            &build_hook_lines(&hooks),
            session.verbosity,
        ))?;
    }
    #[cfg(feature = "checks")]
    for tree in repo.list_worktrees()? {
        staged_tree::remove_export(&tree.root, &session.tools())?;
    }
    Ok(SUCCESS)
}
