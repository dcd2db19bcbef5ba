//! `diff`: how the managed files here differ from the canonical ones, in git's own words.

use super::session::Session;
use super::{DONE, Exit};
use crate::base::error::Error;
use crate::base::path::RepoPath;
use crate::cli::Diff;
use crate::sync::classify::Class;
use crate::sync::context;
use crate::sync::gather::Depth;
use crate::sync::run::{Looked, Wishes, look};

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
    let paths: Vec<RepoPath> = decided
        .plan
        .items
        .iter()
        .filter(|item| item.class != Class::InSync)
        .map(|item| item.path().clone())
        .collect();
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
