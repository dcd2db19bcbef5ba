//! `diff`: runs `git diff` between the canonical commit and the managed files of the worktree.

use super::session::Session;
use super::{CommandResult, SUCCESS};
use crate::cli::DiffArgs;
use xtask_base::error::Error;
use xtask_base::path::RepoPath;
use xtask_sync::classify::PathClass;
use xtask_sync::context;
use xtask_sync::run::{SyncInspection, SyncOptions, inspect_checkout};
use xtask_sync::scan::ScanDepth;

pub(super) fn run(session: &Session, args: &DiffArgs) -> CommandResult {
    let repo = session.open_repo()?;
    let context = context::read_context(&repo)?;
    let canonical = context.canonical.commit.to_string();
    let sync_options =
        SyncOptions { only: session.repo_paths(&repo, &args.paths)?, ..SyncOptions::plain() };
    let tools = session.tools();
    let decided =
        match inspect_checkout(&repo, context, &sync_options, ScanDepth::Everything, &tools)? {
            SyncInspection::Planned(decided) => decided,
            SyncInspection::OnCanonical(context) => {
                session.print_info(&format!(
                    "`{}` is the canonical branch itself",
                    context.config.branch
                ));
                return Ok(SUCCESS);
            }
        };
    let mut paths: Vec<RepoPath> = Vec::new();
    let mut untracked: Vec<RepoPath> = Vec::new();
    for item in decided.plan.items.iter().filter(|item| item.class != PathClass::InSync) {
        let file = item.state.work.file().map(|found| found.entry);
        if file == item.state.canonical {
            continue;
        }
        // For git an untracked file does not exist, so the diff would show it as deleted.
        let is_tracked = item.state.index.entry().is_some() || file.is_none();
        if is_tracked { &mut paths } else { &mut untracked }.push(item.path().clone());
    }
    for path in &untracked {
        session
            .print_info(&format!("`{path}` is untracked, and differs from the canonical version"));
    }
    if paths.is_empty() {
        return Ok(SUCCESS);
    }
    let status = repo.diff_attached(&canonical, &paths, session.color)?;
    // A pager that was closed early ends git with SIGPIPE, which is no failure.
    match status.code() {
        Some(0) | None => Ok(SUCCESS),
        Some(code) => Err(Error::unable(format!("`git diff` exited with code {code}"))),
    }
}
