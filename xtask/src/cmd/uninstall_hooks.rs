//! `uninstall-hooks`: the hooks as they were before.

use super::session::{Session, hook_lines};
use super::{DONE, Exit};
use xtask_hooks::set_up::{Removal, uninstall_all};
use xtask_report::{self as report, hooks::uninstalled};
#[cfg(feature = "checks")]
use xtask_validate::staged;

pub(super) fn run(session: &Session) -> Exit {
    let repo = session.repo()?;
    for Removal { folder, hooks } in uninstall_all(&session.builder(&repo))? {
        report::answer(&uninstalled(&folder, &hook_lines(&hooks), session.loudness))?;
    }
    #[cfg(feature = "checks")]
    for tree in repo.worktrees()? {
        staged::remove(&tree.root, &session.tools())?;
    }
    Ok(DONE)
}
