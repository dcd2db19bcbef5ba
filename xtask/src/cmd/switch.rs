//! `switch`: take an overlay away, `git switch`, sync.

use super::session::{Session, describe};
use super::{DONE, Exit};
use crate::cli::Switch;
use xtask_base::error::{Error, Kind, Result};
use xtask_config::Mode;
use xtask_git::Repo;
use xtask_git::Tools;
use xtask_report::sync::{Manner, SyncReport};
use xtask_report::{self as report, count};
use xtask_sync::enter::Enter as _;
use xtask_sync::gather::Depth;
use xtask_sync::lift::drop_overlay;
use xtask_sync::manner::manner;
use xtask_sync::overlay;
use xtask_sync::plan::WriteMode;
use xtask_sync::run::{Looked, Wishes, check_gates, look, read_context, write};
use xtask_sync::undo::{find, undo};

pub(super) fn run(session: &Session, args: &Switch) -> Exit {
    let repo = session.repo()?;
    let tools = session.tools();
    if args.branch.starts_with('-') && args.branch != "-" {
        return Err(Error::usage(format!("`{}` is not a branch", args.branch)));
    }
    let (lock, mended) = tools.enter(&repo)?;
    session.tell_mended(mended);
    session.tell_requests(&repo);
    check_gates(&repo, &tools)?;
    check_branch(&repo, &args.branch)?;
    let had_overlay = !overlay::read(&repo)?.paths.is_empty();
    let dropped = drop_overlay(&repo, &tools)?;
    for path in &dropped.kept {
        report::warn(&format!("`{path}` was changed since sync wrote it, and stays"));
    }
    let switched = repo.switch_attached(&args.branch)?;
    if !switched.success() {
        // Git has said why. What was laid over the files is laid there again.
        if let Some(id) = &dropped.undo {
            let backup = find(&repo, Some(id))?;
            undo(&tools.applier(&repo), &repo.head()?, backup)?;
            session.story("nothing was switched, and the overlay is as it was");
        }
        return Ok(Kind::Unable.code());
    }
    if dropped.count > 0 {
        session.story(&format!("the overlay of {} was taken away", count(dropped.count, "file")));
    }
    drop(lock);
    // The repository is opened again: its HEAD is another one now.
    let repo = session.repo()?;
    let (_lock, _) = tools.enter(&repo)?;
    sync_after(session, &repo, &tools, had_overlay)
}

/// A branch must be there, here or on a remote, before anything is done for it.
fn check_branch(repo: &Repo, branch: &str) -> Result<()> {
    let is_there = branch == "-"
        || repo.resolve(&format!("refs/heads/{branch}"))?.is_some()
        || repo
            .refs_below("refs/remotes/")?
            .iter()
            .any(|(name, _)| name.splitn(4, '/').nth(3) == Some(branch));
    if is_there {
        return Ok(());
    }
    Err(Error::usage(format!("there is no branch `{branch}`"))
        .hint(format!("`git branch -a` lists them; `git switch -c {branch}` makes it")))
}

/// Syncs the branch that was switched to, in the way in which the last one was.
fn sync_after(session: &Session, repo: &Repo, tools: &Tools<'_>, had_overlay: bool) -> Exit {
    let context = read_context(repo, false)?;
    for warning in &context.warnings {
        report::warn(warning);
    }
    let mode = match (had_overlay, manner(repo, &repo.head()?, &context)?.mode) {
        (true, _) | (_, Mode::Worktree) => Some(WriteMode::Worktree),
        (_, Mode::Commit) => Some(WriteMode::Commit),
        (_, Mode::Notify) => None,
    };
    let wishes = Wishes {
        mode: mode.unwrap_or(WriteMode::Commit),
        allow_protected: true,
        ..Wishes::plain()
    };
    let Looked::Decided(decided) = look(repo, context, &wishes, Depth::Differences, tools)? else {
        return Ok(DONE);
    };
    let described = describe(repo, &decided.head, &decided.context, &decided.plan, &[], Vec::new());
    let mut shown = SyncReport { mode: wishes.mode.name(), ..described };
    if mode.is_none() {
        report::answer(&shown.text(Manner::Check, session.loudness))?;
        return Ok(DONE);
    }
    let done: Result<_> = write(repo, *decided, &wishes, tools);
    let done = done?;
    shown.commit = done.commit.map(|id| id.to_string());
    shown.undo = done.undo;
    report::answer(&shown.text(Manner::Real, session.loudness))?;
    for step in shown.next_steps(Manner::Real, "") {
        session.story(&step);
    }
    Ok(DONE)
}
