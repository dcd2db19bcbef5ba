//! The state that is about to be committed, for the checks that run before a commit.
//!
//! Where the worktree holds just that, they run in it. Otherwise it is laid out in a folder of its own
//! under the git folder: what is changed and not staged, or not added at all, neither helps nor harms.
//! The worktree and the index are never touched.

use std::path::Path;
use std::time::Duration;

use super::perform::Place;
use crate::base::error::Result;
use crate::base::lock::Lock;
use crate::repo::Repo;
use crate::sync::run::Tools;

/// How long another commit in this worktree may take to be checked: half a minute.
const WAIT: Duration = Duration::from_secs(30);

/// Where the checks of a commit run, and what keeps others from laying out another one there.
pub fn place(repo: &Repo, index: &Path, tools: &Tools<'_>) -> Result<(Place, Option<Lock>)> {
    if repo.is_as_staged(index)? {
        return Ok((Place::Worktree, None));
    }
    let folder = repo.state_folder().join("staged");
    let who = format!("pid {}", std::process::id());
    let lock = Lock::acquire(&folder.join("lock"), &who, WAIT, |holder| (tools.waiting)(holder))?;
    let files = repo.lay_out(tools.disk, index, &folder)?;
    Ok((Place::Laid(folder.join("tree"), files), Some(lock)))
}
