//! `diff`: how the managed files here differ from the canonical ones, in git's own words.

use super::session::Session;
use super::{DONE, Exit};
use crate::cli::Diff;
use xtask_base::error::Error;
use xtask_base::path::RepoPath;
use xtask_git::Work;
use xtask_sync::classify::Class;
use xtask_sync::context;
use xtask_sync::gather::Depth;
use xtask_sync::run::{Looked, Wishes, look};

pub(super) fn run(session: &Session, args: &Diff) -> Exit {
    let repo = session.repo()?;
    let context = context::read(&repo)?;
    let canonical = context.canonical.commit.to_string();
    let wishes = Wishes { only: session.repo_paths(&repo, &args.paths)?, ..Wishes::plain() };
    let tools = session.tools();
    let decided = match look(&repo, context, &wishes, Depth::Everything, &tools)? {
        Looked::Decided(decided) => decided,
        Looked::OnCanonical(context) => {
            session.story(&format!("`{}` is the canonical branch itself", context.config.branch));
            return Ok(DONE);
        }
    };
    let mut paths: Vec<RepoPath> = Vec::new();
    let mut untracked: Vec<RepoPath> = Vec::new();
    for item in decided.plan.items.iter().filter(|item| item.class != Class::InSync) {
        let file = match &item.state.work {
            Work::Present(found) => Some(found.entry),
            _ => None,
        };
        if file == item.state.canonical {
            continue;
        }
        // For git a file that it does not track is not there; it would be shown as deleted.
        let is_tracked = item.state.index.entry().is_some() || file.is_none();
        if is_tracked { &mut paths } else { &mut untracked }.push(item.path().clone());
    }
    for path in &untracked {
        session
            .story(&format!("`{path}` is not tracked by git, and differs from the canonical one"));
    }
    if paths.is_empty() {
        return Ok(DONE);
    }
    let status = repo.diff_attached(&canonical, &paths, session.color)?;
    // A pager that was closed early ends git by a signal, which is no failure.
    match status.code() {
        Some(0) | None => Ok(DONE),
        Some(code) => Err(Error::unable(format!("`git diff` ended with exit code {code}"))),
    }
}
