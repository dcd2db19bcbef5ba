//! `uninstall-hooks`: the hooks as they were before.

use super::session::{Session, hook_lines};
use super::{DONE, Exit};
use crate::hooks::program::Builder;
use crate::hooks::set_up::{Removal, uninstall_all};
use crate::report::{self, hooks::uninstalled};

pub(super) fn run(session: &Session) -> Exit {
    let repo = session.repo()?;
    let tools = session.tools();
    let builder = Builder { repo: &repo, world: &session.world, disk: tools.disk, is_quiet: true };
    for Removal { folder, hooks } in uninstall_all(&builder)? {
        report::answer(&uninstalled(&folder, &hook_lines(&hooks), session.loudness))?;
    }
    Ok(DONE)
}
