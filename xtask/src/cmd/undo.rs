//! `undo`: bring back what a run replaced.

#[cfg(feature = "checks")]
use super::checks::undo_fixes;
use super::session::Session;
use super::{DONE, Exit, saved};
use crate::cli::Undo;
use xtask_base::error::{Kind, Result};
use xtask_base::world::ago;
use xtask_git::Repo;
use xtask_hooks::Hook;
use xtask_hooks::health::health;
use xtask_hooks::program::Care;
use xtask_report::{self as report, count};
use xtask_sync::enter::Enter as _;
use xtask_sync::run::check_gates;
use xtask_sync::undo::{find, undo};
use xtask_sync::{backup, context};

pub(super) fn run(session: &Session, args: &Undo) -> Exit {
    let repo = session.repo()?;
    if args.list {
        return saved::list(session, false);
    }
    #[cfg(feature = "checks")]
    if let Some(run) = &args.id
        && saved::fixes(session, &repo).iter().any(|fix| fix.run == *run)
    {
        return undo_fixes(session, &repo, run, false);
    }
    let tools = session.tools();
    let (_lock, mended) = tools.enter(&repo)?;
    session.tell_mended(mended);
    session.tell_requests(&repo);
    let backup = find(&repo, args.id.as_deref())?;
    check_gates(&repo, &tools)?;
    let head = repo.head()?;
    let undone = undo(&tools.applier(&repo), &head, backup)?;
    let purpose = undone.backup.record.as_ref().map_or("", |record| record.purpose.as_str());
    if !undone.restored.is_empty() || undone.moved_branch {
        let branch = match (undone.moved_branch, undone.left_branch) {
            (true, _) => ", and the branch went back",
            (_, true) => "; the branch has moved on and stays, so they are staged as changes",
            _ => "",
        };
        session.story(&format!(
            "`{purpose}` of {} undone: {} brought back{branch}",
            ago(session.world.now_seconds(), undone.backup.seconds),
            count(undone.restored.len(), "path")
        ));
    }
    // What was forced or merged, no hook does unasked.
    if undone.moved_branch && purpose == "sync" && hooks_fire(session, &repo)? {
        session.story(
            "the hooks do it again at the next checkout; `cargo xtask hooks disable`, or a rule for \
             the branch in `setup/sync.toml`, keeps them from it",
        );
    }
    if let Some(own) = &undone.undo {
        session.story(&format!("`cargo xtask undo {own}` takes this back in turn"));
    }
    if undone.kept.is_empty() {
        return Ok(DONE);
    }
    report::warn(&format!("{} changed since and left alone:", count(undone.kept.len(), "path")));
    for path in &undone.kept {
        report::answer(&format!("{path}\n"))?;
    }
    let name = &undone.backup.id;
    session.story(&format!(
        "what they held before: `git show {}{name}:worktree/PATH`",
        backup::PREFIX
    ));
    Ok(Kind::No.code())
}

fn hooks_fire(session: &Session, repo: &Repo) -> Result<bool> {
    let context = context::of_canonical(repo)?;
    let health = health(repo, &session.world, context.as_ref(), Care::Look)?;
    Ok(health.hooks.iter().any(|hook| hook.hook == Hook::PostCheckout && health.fires(hook)))
}
