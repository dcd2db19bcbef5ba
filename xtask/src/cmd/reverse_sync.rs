//! `reverse-sync`: copies the managed part of approved commits into the canonical branch. For example, `reverse-sync
//! feature/ci abc1234` adds one commit to `orchestration-tools`.

use std::path::PathBuf;

use super::session::{Session, print_push_steps};
use super::{CommandResult, SUCCESS, landing};
use crate::cli::ReverseSyncArgs;
use xtask_base::error::{Error, ErrorKind};
use xtask_changes::cherry_pick_range::PickStatus;
use xtask_changes::report::render_conflicts;
use xtask_changes::resolve::{self, AbortOutcome, ResolveOutcome};
use xtask_changes::reverse_sync::{
    LandedCommits, ReverseSyncProposal, land_proposal, propose_commits, unnamed_commit_error,
};
use xtask_changes::source::{find_source_branch, read_source_pins, resolve_commits};
use xtask_git::Repo;
use xtask_report as report;
use xtask_sync::context;

pub(super) fn run(session: &Session, args: &ReverseSyncArgs) -> CommandResult {
    let repo = session.open_repo()?;
    if args.continue_ {
        return continue_resolving(session, &repo);
    }
    if args.abort {
        return abort_resolving(session, &repo);
    }
    let context = context::read_context(&repo)?;
    session.warn_about_context(&context);
    let Some(branch) = &args.branch else { return Err(Error::usage("no branch was named")) };
    let source = find_source_branch(&repo, &context, branch)?;
    let pins = read_source_pins(&repo, &context, &source, session.world.now_seconds())?;
    if args.commits.is_empty() {
        return Err(unnamed_commit_error(&repo, &context, &source, &pins)?);
    }
    let picks = resolve_commits(&repo, &context, &source, &args.commits, args.mainline, &pins)?;
    let proposal = propose_commits(&repo.in_memory(), source, picks, &session.tools())?;
    let ReverseSyncProposal { canonical_branch, selected, series, .. } = &proposal;
    let branch = &canonical_branch.branch;
    landing::show_commits(session, &repo, selected, series, &|_| Ok(None))?;
    if let Some((at, conflicts)) = series.first_conflict() {
        report::print_output(&render_conflicts(conflicts, branch))?;
        if args.resolve && !args.dry_run {
            return open_conflict(session, &repo, &proposal);
        }
        let id = repo.short_id(selected[at].commit.id);
        return Err(Error::negative(format!(
            "{id} conflicts with `{branch}`; nothing was changed"
        ))
        .with_hint("add `--resolve` to resolve the conflict in a separate worktree"));
    }
    let many = series.picked_count();
    if many == 0 {
        let is_changed = |status: &PickStatus| matches!(status, PickStatus::PickedBefore(_));
        let since = match series.statuses.iter().any(is_changed) {
            true => format!("`{branch}` already had all of it, and has changed it since"),
            false => format!("`{branch}` already has all of it"),
        };
        session.print_info(&format!("{since}; nothing to do"));
        return Ok(SUCCESS);
    }
    if !landing::confirm_commits(session, &repo, many, branch, (args.dry_run, args.yes))? {
        return Ok(SUCCESS);
    }
    let landed = land_proposal(&repo, proposal, &session.tools())?;
    landing::print_landed(&repo, &landed)?;
    print_push_steps(session, &repo, &landed.branch);
    Ok(SUCCESS)
}

fn open_conflict(session: &Session, repo: &Repo, proposal: &ReverseSyncProposal) -> CommandResult {
    repo.committer(session.world.now_seconds())?;
    // The proposal was built in memory; this one writes its objects to disk.
    let tools = session.tools();
    let real = propose_commits(repo, proposal.source.clone(), proposal.selected.clone(), &tools)?;
    let ReverseSyncProposal { canonical_branch: ground, source, selected: picks, series, .. } =
        &real;
    let before = resolve::list_kept_worktrees(repo);
    let went = resolve::open_conflict(repo, ground, &source.name, picks, series, &tools);
    print_kept_folders(session, repo, &before);
    let went = went?;
    print_outcome(session, repo, &ground.branch, went)
}

fn continue_resolving(session: &Session, repo: &Repo) -> CommandResult {
    let committer = repo.committer(session.world.now_seconds())?;
    let before = resolve::list_kept_worktrees(repo);
    let went = resolve::continue_resolution(repo, &committer, &session.tools());
    print_kept_folders(session, repo, &before);
    let went = went?;
    let branch = context::read_context(repo)?.config.branch;
    print_outcome(session, repo, &branch, went)
}

fn print_outcome(
    session: &Session,
    repo: &Repo,
    branch: &str,
    went: ResolveOutcome,
) -> CommandResult {
    match went {
        ResolveOutcome::Landed { commits, tip } => {
            let landed = LandedCommits { branch: branch.to_owned(), commits, tip };
            landing::print_landed(repo, &landed)?;
            print_push_steps(session, repo, branch);
            Ok(SUCCESS)
        }
        ResolveOutcome::NothingLeft => {
            session.print_info(&format!("no changes are left: `{branch}` is unchanged"));
            Ok(SUCCESS)
        }
        ResolveOutcome::Conflict { commit, folder, descriptions: lines } => {
            let place = folder.display();
            session.print_info(&format!(
                "{} has conflicts; resolve them in {place}",
                repo.short_id(commit)
            ));
            for line in lines {
                session.print_info(&format!("  {line}"));
            }
            session.print_info(&format!(
                "  cd '{place}'       edit the files, and `git add` the resolved ones"
            ));
            session.print_info(
                "  cargo xtask reverse-sync --continue   from any worktree; or `--abort`",
            );
            session.print_info(&format!("`{branch}` is unchanged until then"));
            Ok(ErrorKind::Negative.exit_code())
        }
    }
}

/// Prints the folders to which earlier resolve worktrees were moved, because they were in the way or had untracked
/// files.
fn print_kept_folders(session: &Session, repo: &Repo, before: &[PathBuf]) {
    for folder in resolve::list_kept_worktrees(repo).iter().filter(|one| !before.contains(one)) {
        session.print_info(&format!("the previous folder is kept in {}", folder.display()));
    }
}

fn abort_resolving(session: &Session, repo: &Repo) -> CommandResult {
    let AbortOutcome { kept, settled } = resolve::abort_resolution(repo, &session.tools())?;
    session.print_info("aborted; the canonical branch is unchanged");
    if let Some(settled) = settled {
        session.print_info(&format!("the commits that were already resolved end with {settled}"));
    }
    if let Some(kept) = kept {
        let place = kept.display();
        session.print_info(&format!("your work there is kept in {place}"));
        session.print_info(&format!(
            "  git worktree remove --force '{place}'   once you no longer need it"
        ));
    }
    Ok(SUCCESS)
}
