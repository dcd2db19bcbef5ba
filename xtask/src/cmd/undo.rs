//! `undo`: bring back what a run replaced.

use super::checks::undo_fixes;
use super::session::Session;
use super::{DONE, Exit};
use crate::base::error::{Kind, Result};
use crate::base::world::ago;
use crate::cli::Undo;
use crate::hooks::Hook;
use crate::hooks::health::health;
use crate::hooks::program::Care;
use crate::repo::Repo;
use crate::report::backups::{self, BackupLine};
use crate::report::{self, count};
use crate::sync::backup::Unread;
use crate::sync::run::check_gates;
use crate::sync::undo::{find, undo};
use crate::sync::{backup, context};
use crate::validate::fix::{Fixes, Phase, Record};
use crate::validate::perform::fixes_folder;

pub(super) fn run(session: &Session, args: &Undo) -> Exit {
    let repo = session.repo()?;
    if args.list {
        return list(session);
    }
    if let Some(run) = &args.id
        && fixes(session, &repo).iter().any(|fix| fix.run == *run)
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

/// What fixes of `validate` have changed here.
fn fixes(session: &Session, repo: &Repo) -> Vec<Record> {
    let disk = session.tools().disk;
    Fixes { folder: fixes_folder(repo), root: repo.root(), disk }.all()
}

fn list(session: &Session) -> Exit {
    let repo = session.repo()?;
    let now = session.world.now_seconds();
    let mut lines: Vec<BackupLine> = backup::list(&repo)?
        .into_iter()
        .map(|found| {
            let when = ago(now, found.seconds);
            match found.record {
                Ok(record) => BackupLine {
                    id: found.id,
                    when,
                    purpose: record.purpose,
                    paths: record.paths.len(),
                    branch: record.branch.unwrap_or_else(|| "detached HEAD".to_owned()),
                    worktree: record.worktree,
                },
                Err(unread) => BackupLine {
                    id: found.id,
                    when,
                    purpose: match unread {
                        Unread::Newer => "written by a newer xtask".to_owned(),
                        Unread::Broken => "unreadable record".to_owned(),
                    },
                    paths: 0,
                    branch: "unknown".to_owned(),
                    worktree: String::new(),
                },
            }
        })
        .collect();
    for fix in fixes(session, &repo)
        .into_iter()
        .filter(|fix| fix.phase != Phase::Undone && fix.has_something_to_take_back())
    {
        lines.push(BackupLine {
            paths: fix.paths().len(),
            when: ago(now, fix.at),
            purpose: format!("fix of `{}`", fix.check),
            branch: fix.branch.unwrap_or_else(|| "detached HEAD".to_owned()),
            worktree: fix.worktree,
            id: fix.run,
        });
    }
    if lines.is_empty() {
        session.story("there are no backups");
    }
    report::answer(&backups::list(&lines))?;
    Ok(DONE)
}
