//! A plain sync as a part of something else, of `setup` and of `recover`: what the rules do not allow is said
//! and is no failure.

use super::session::{Session, describe};
use super::{DONE, Exit};
use xtask_base::error::Kind;
use xtask_git::Repo;
use xtask_report as report;
use xtask_report::sync::{Manner, SyncReport};
use xtask_sync::context::Context;
use xtask_sync::run::{Looked, Wishes, look_to_write, write};

/// Syncs the branch that is checked out. The caller holds the lock of the worktree.
pub(super) fn as_far_as_allowed(session: &Session, repo: &Repo, context: Context) -> Exit {
    let tools = session.tools();
    let wishes = Wishes::plain();
    let (looked, _) = look_to_write(repo, context, &wishes, &tools)?;
    let decided = match looked {
        Looked::OnCanonical(_) => return Ok(DONE),
        Looked::Decided(decided) => decided,
    };
    let mut shown = describe(repo, &decided.head, &decided.context, &decided.plan, &[], Vec::new());
    match write(repo, *decided, &wishes, &tools) {
        Ok(done) => {
            shown.commit = done.commit.map(|id| id.to_string());
            shown.undo = done.undo;
            report::answer(&shown.text(Manner::Real, session.loudness))?;
        }
        // On a protected branch setup has done what it may; the rest is the user's to decide.
        Err(refused) if refused.kind() == Kind::No => {
            let shown = SyncReport { warnings: Vec::new(), ..shown };
            report::answer(&shown.text(Manner::Check, session.loudness))?;
            report::warn(refused.what());
            for hint in refused.hints() {
                session.story(&hint.replace("`--", "`cargo xtask sync --"));
            }
        }
        Err(failure) => return Err(failure),
    }
    Ok(DONE)
}
